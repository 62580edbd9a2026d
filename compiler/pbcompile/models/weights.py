"""Weights from `.h5` files into built layers: by name where names say it, else in order, and every shape checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pbcompile.models.architecture import LayerSpec, Network
from pbcompile.models.era import Era
from pbcompile.models.files import open_h5, text_attribute
from pbcompile.models.legacy import Repairs
from pbcompile.models.loaded import ModelSource

if TYPE_CHECKING:
    from pathlib import Path

    import h5py
    import keras

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class SavedLayer:
    """What the file holds for one layer: the names and arrays of its weights, in the file's order."""

    name: str
    names: tuple[str, ...]
    arrays: tuple[Array, ...]


def read_saved_layers(source: ModelSource, path: Path) -> list[SavedLayer]:
    """Every layer with weights in a Keras 1 or 2 style weights group, in the order of `layer_names`."""
    with open_h5(source, path) as file:
        group = file["model_weights"] if "model_weights" in file else file
        if "layer_names" not in group.attrs and "layer_names0" not in group.attrs:
            raise source.refuse(f"{path.name} has no list of layers, so no Keras weights")
        saved = []
        for name in _names(group, "layer_names"):
            layer = _member(source, path, group, name)
            names = _names(layer, "weight_names") if hasattr(layer, "attrs") else []
            arrays = tuple(_array(source, path, layer, weight) for weight in names)
            if arrays:
                saved.append(SavedLayer(name, tuple(names), arrays))
        if "top_level_model_weights" in group and len(_names(group["top_level_model_weights"], "weight_names")):
            raise source.refuse(f"{path.name} has weights outside of any layer, which only a class of its author's has")
        return saved


def version_in(source: ModelSource, path: Path) -> tuple[str, str]:
    """`keras_version` and `backend` of a weights file, "" where it does not say."""
    with open_h5(source, path) as file:
        group = file["model_weights"] if "model_weights" in file else file
        return (
            text_attribute(file, "keras_version") or text_attribute(group, "keras_version"),
            text_attribute(file, "backend") or text_attribute(group, "backend"),
        )


def load_saved_layers(
    source: ModelSource,
    network: Network,
    layers: dict[int, keras.Layer],
    saved: Sequence[SavedLayer],
    era: Era,
    repairs: Repairs,
) -> None:
    """Put `saved` into the built layers of `network`; ModelError when a weight is left over on either side."""
    specs = [spec for spec in network.layers if id(spec) in layers and layers[id(spec)].weights]
    by_name = {entry.name: entry for entry in saved}
    missing = [spec.name for spec in specs if spec.name not in by_name]
    surplus = [entry.name for entry in saved if entry.name not in {spec.name for spec in specs}]
    if missing or surplus:
        if len(specs) != len(saved):
            raise source.refuse(_left_over(source, missing, surplus), "the weights belong to another architecture")
        pairs = list(zip(specs, saved, strict=True))
        repairs.note("weights matched by order, as the file names the layers otherwise", network.name)
    else:
        pairs = [(spec, by_name[spec.name]) for spec in specs]
    for spec, entry in pairs:
        _load(source, spec, layers, entry, era, repairs)


def _load(
    source: ModelSource, spec: LayerSpec, layers: dict[int, keras.Layer], entry: SavedLayer, era: Era, repairs: Repairs
) -> None:
    variables = layers[id(spec)].weights
    arrays = list(entry.arrays)
    if len(arrays) != len(variables):
        raise source.refuse(
            f"{source.path.name}: the layer {spec.name} has {len(variables)} weights, and the file {len(arrays)}"
        )
    for variable, array, name in zip(variables, arrays, entry.names, strict=True):
        if tuple(variable.shape) != array.shape:
            raise source.refuse(
                f"{source.path.name}: {name} has the shape {list(array.shape)}, and the layer {spec.name} "
                f"takes {list(variable.shape)}"
            )
        variable.assign(array)


def _left_over(source: ModelSource, missing: list[str], surplus: list[str]) -> str:
    parts = []
    if missing:
        parts.append(f"no weights for {', '.join(missing[:4])}")
    if surplus:
        parts.append(f"weights for {', '.join(surplus[:4])}, which the architecture does not have")
    return f"{(source.weights or source.path).name} has " + " and ".join(parts)


def _names(group: h5py.Group, name: str) -> list[str]:
    """A list of names, which Keras splits into `name0`, `name1`, … where it is long."""
    if name in group.attrs:
        values = list(group.attrs[name])
    else:
        values = []
        chunk = 0
        while f"{name}{chunk}" in group.attrs:
            values += list(group.attrs[f"{name}{chunk}"])
            chunk += 1
    return [v.decode("utf8", "replace") if isinstance(v, bytes) else str(v) for v in values]


def _member(source: ModelSource, path: Path, group: h5py.Group, name: str) -> Any:
    """`group[name]`, never through a link into another file."""
    import h5py

    here: Any = group
    for part in name.split("/"):
        link = here.get(part, getlink=True) if isinstance(here, h5py.Group) else None
        if link is None:
            raise source.refuse(f"{path.name} lists {name}, and does not hold it", "the file is damaged: fetch it again")
        if isinstance(link, h5py.ExternalLink):
            raise source.refuse(f"{path.name} links {name} to another file, {link.filename}, which is never followed")
        here = here[part]
    return here


def _array(source: ModelSource, path: Path, group: h5py.Group, name: str) -> Array:
    import h5py

    data = _member(source, path, group, name)
    if not isinstance(data, h5py.Dataset):
        raise source.refuse(f"{path.name} holds no numbers under {name}")
    if data.external:
        raise source.refuse(f"{path.name} keeps {name} in another file, which is never read")
    if data.size > 1 << 31:
        raise source.refuse(f"{path.name} has {data.size} numbers under {name}")
    try:
        return np.asarray(data[()])
    except OSError as error:
        raise source.refuse(f"{path.name} is damaged at {name}: {error}", "fetch the file again") from error
