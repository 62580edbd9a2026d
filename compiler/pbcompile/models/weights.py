"""Weights from `.h5` files into built layers: by name where names say it, else in order, and every shape checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pbcompile.models.era import Era
from pbcompile.models.files import open_h5, text_attribute
from pbcompile.models.loaded import ModelSource
from pbcompile.models.network import LayerSpec, Network
from pbcompile.models.repairs import Repairs
from pbcompile.models.weight_layouts import converted, saved_count, weights_of

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
        group = _weights_group(source, path, file)
        if "nb_layers" in group.attrs:
            return _numbered_layers(source, path, group)
        if "layer_names" not in group.attrs and "layer_names0" not in group.attrs:
            raise source.refuse(f"{path.name} has no list of layers, so no Keras weights")
        saved = []
        for name in _names(group, "layer_names"):
            layer = require_inside(source, path.name, group, name)
            names = _names(layer, "weight_names") if hasattr(layer, "attrs") else []
            arrays = tuple(read_array(source, path.name, layer, weight) for weight in names)
            if arrays:
                saved.append(SavedLayer(name, tuple(names), arrays))
        if "top_level_model_weights" in group and len(_names(group["top_level_model_weights"], "weight_names")):
            raise source.refuse(f"{path.name} has weights outside of any layer, which only a class of its author's has")
        return saved


def _numbered_layers(source: ModelSource, path: Path, group: h5py.Group) -> list[SavedLayer]:
    """The form of Keras 0.3 and older, in which `vgg16_weights.h5` is: `layer_0/param_0`, ….  Kept until Keras 1.2."""
    saved = []
    for index in range(int(group.attrs["nb_layers"])):
        layer = require_inside(source, path.name, group, f"layer_{index}")
        names = tuple(f"param_{i}" for i in range(int(layer.attrs.get("nb_params", 0))))
        arrays = tuple(read_array(source, path.name, layer, name) for name in names)
        if arrays:
            saved.append(SavedLayer(f"layer_{index}", names, arrays))
    return saved


def keras1_backend(saved: Sequence[SavedLayer], channels_first: bool) -> str:
    """Which backend a Keras 1 file was written on, which it does not say: TensorFlow's variables end in ":0"."""
    names = [name for entry in saved for name in entry.names]
    if any(name.endswith(":0") for name in names):
        return "tensorflow"
    if any(not name.startswith("param_") for name in names):
        return "theano"
    return "theano" if channels_first else "tensorflow"


def version_in(source: ModelSource, path: Path) -> tuple[str, str]:
    """`keras_version` and `backend` of a weights file, "" where it does not say."""
    with open_h5(source, path) as file:
        group = _weights_group(source, path, file)
        return (
            text_attribute(file, "keras_version") or text_attribute(group, "keras_version"),
            text_attribute(file, "backend") or text_attribute(group, "backend"),
        )


def load_saved_layers(
    source: ModelSource,
    network: Network,
    layers: Mapping[int, keras.Layer],
    saved: Sequence[SavedLayer],
    era: Era,
    repairs: Repairs,
) -> None:
    """Put `saved` into the built layers of `network`; ModelError when a weight is left over on either side."""
    named = {spec.name: spec for spec in network.layers}
    saved = [entry for entry in saved if not _is_seed(entry, named.get(entry.name))]
    whole = [spec for spec in network.layers if any(weights_of(layers[id(leaf)]) for leaf in leaves(spec))]
    flat = [leaf for spec in network.layers for leaf in leaves(spec) if weights_of(layers[id(leaf)])]
    names = {entry.name for entry in saved}
    specs = next((s for s in (whole, flat) if {spec.name for spec in s} == names and len(s) == len(saved)), None)
    if specs is not None:
        by_name = {entry.name: entry for entry in saved}
        pairs = [(spec, by_name[spec.name]) for spec in specs]
    else:
        specs = next((s for s in (whole, flat) if len(s) == len(saved)), None)
        if specs is None:
            expected = {spec.name for spec in whole}
            missing = [spec.name for spec in whole if spec.name not in names]
            surplus = [entry.name for entry in saved if entry.name not in expected]
            raise source.refuse(_left_over(source, missing, surplus), "the weights belong to another architecture")
        pairs = list(zip(specs, saved, strict=True))
        repairs.note("weights matched by order, as the file names the layers otherwise", network.name)
    for spec, entry in pairs:
        for leaf, arrays in _dealt(source, spec, layers, entry, era):
            _assign(source, leaf, layers[id(leaf)], arrays, era, repairs)


def leaves(spec: LayerSpec) -> Iterator[LayerSpec]:
    """The layers of `spec` that hold weights themselves: those of a nested model, in order, or `spec` alone."""
    if spec.network is not None:
        for inner in spec.network.layers:
            yield from leaves(inner)
        return
    wrapped = spec.parts.get("layer")
    if isinstance(wrapped, LayerSpec) and wrapped.network is not None:
        yield from leaves(wrapped)
    elif spec.class_name != "InputLayer":
        yield spec


def _dealt(
    source: ModelSource, spec: LayerSpec, layers: Mapping[int, keras.Layer], entry: SavedLayer, era: Era
) -> list[tuple[LayerSpec, list[Array]]]:
    """The saved arrays of one entry, dealt to the layers that they belong to: by name, else in Keras's order."""
    found = [leaf for leaf in leaves(spec) if weights_of(layers[id(leaf)])]
    if len(found) == 1 and spec.network is None:
        return [(found[0], list(entry.arrays))]
    expected = {leaf.name: saved_count(leaf, layers[id(leaf)], era) for leaf in found}
    dealt: dict[str, list[Array]] = {leaf.name: [] for leaf in found}
    for name, array in zip(entry.names, entry.arrays, strict=True):
        parts = [part for part in name.split("/") if part in dealt]
        if parts:
            dealt[parts[-1]].append(array)
    if len(dealt) == len(found) and all(len(dealt[name]) == sum(count) for name, count in expected.items()):
        return [(leaf, dealt[leaf.name]) for leaf in found]
    total = sum(sum(saved_count(leaf, layers[id(leaf)], era)) for leaf in found)
    if total != len(entry.arrays):
        raise source.refuse(
            f"{source.path.name}: the model {spec.name} has {total} weights, and the file {len(entry.arrays)}"
        )
    return _in_keras_order(found, layers, list(entry.arrays), era)


def _in_keras_order(
    found: Sequence[LayerSpec], layers: Mapping[int, keras.Layer], arrays: list[Array], era: Era
) -> list[tuple[LayerSpec, list[Array]]]:
    """Keras writes a nested model's trainable weights first, layer by layer, and then the others."""
    counts = []
    for leaf in found:
        trained, fixed = saved_count(leaf, layers[id(leaf)], era)
        is_frozen = leaf.saved_config.get("trainable") is False
        counts.append((0, trained + fixed) if is_frozen else (trained, fixed))
    rest = iter(arrays)
    dealt: list[list[Array]] = [[next(rest) for _ in range(trained)] for trained, _ in counts]
    for own, (_, fixed) in zip(dealt, counts, strict=True):
        own += [next(rest) for _ in range(fixed)]
    return list(zip(found, dealt, strict=True))


def _assign(
    source: ModelSource, spec: LayerSpec, layer: keras.Layer, saved: list[Array], era: Era, repairs: Repairs
) -> None:
    variables = weights_of(layer)
    shapes = [tuple(variable.shape) for variable in variables]
    try:
        arrays = converted(spec, saved, shapes, era, repairs)
    except (IndexError, ValueError) as error:
        raise source.refuse(f"{source.path.name}: the weights of {spec.name} cannot be read: {error}") from error
    if len(arrays) != len(variables):
        raise source.refuse(
            f"{source.path.name}: the layer {spec.name} takes {len(variables)} weights, and the file has {len(saved)}"
        )
    for variable, array in zip(variables, arrays, strict=True):
        if tuple(variable.shape) != array.shape:
            raise source.refuse(
                f"{source.path.name}: {variable.name} of the layer {spec.name} takes the shape "
                f"{list(variable.shape)}, and the file has {list(array.shape)}"
            )
        variable.assign(array)
    if hasattr(layer, "finalize_state"):
        layer.finalize_state()


def _is_seed(entry: SavedLayer, spec: LayerSpec | None) -> bool:
    """The state of a random generator, which some versions saved as if it were a weight."""
    is_random = spec is None or spec.class_name.startswith(("Random", "Dropout", "Gaussian", "Spatial", "Identity"))
    return is_random and all(array.dtype.kind in "iu" and array.size <= 3 for array in entry.arrays)


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


def _weights_group(source: ModelSource, path: Path, file: h5py.File) -> h5py.Group:
    return require_inside(source, path.name, file, "model_weights") if "model_weights" in file else file


def require_inside(source: ModelSource, file_name: str, group: Any, name: str) -> Any:
    """`group[name]`, never through a link into another file; ModelError where it is missing."""
    import h5py

    here: Any = group
    for part in name.split("/"):
        link = here.get(part, getlink=True) if isinstance(here, h5py.Group) else None
        if link is None:
            raise source.refuse(f"{file_name} lists {name}, and does not hold it", "fetch the file again")
        if isinstance(link, h5py.ExternalLink):
            raise source.refuse(f"{file_name} links {name} to another file, {link.filename}, which is never followed")
        try:
            here = here[part]
        except (KeyError, OSError) as error:
            raise source.refuse(f"{file_name} is damaged at {name}", "fetch the file again") from error
    return here


def read_array(source: ModelSource, file_name: str, group: Any, name: str) -> Array:
    """The numbers under `name`; ModelError for what is no array, lies in another file, or has an absurd size."""
    import h5py

    data = require_inside(source, file_name, group, name)
    if not isinstance(data, h5py.Dataset):
        raise source.refuse(f"{file_name} holds no numbers under {name}")
    if data.external or data.is_virtual:
        raise source.refuse(f"{file_name} keeps {name} in another file, which is never read")
    if data.size is None or data.size > 1 << 31:
        raise source.refuse(f"{file_name} has {data.size} numbers under {name}")
    try:
        return np.asarray(data[()])
    except (OSError, MemoryError) as error:
        raise source.refuse(f"{file_name} is damaged at {name}: {error}", "fetch the file again") from error
