"""Weights in the layout of `.keras` and `.weights.h5` files: one HDF5 group per object, `…/vars/0`, `…/vars/1`, ….

Groups are named after classes (`conv2d`, `conv2d_1`, …) in the order of the layers.  Keras 2.12 to 2.15 counted every
layer with weights twice (`conv2d`, `conv2d_2`, …), so only the order of the numbers is taken, never the numbers.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbcompile.models.files import open_archive, open_h5
from pbcompile.models.loaded import ModelSource
from pbcompile.models.network import LayerSpec, Network
from pbcompile.models.probe import fault_of_h5
from pbcompile.models.weights import read_array, require_inside

if TYPE_CHECKING:
    import h5py
    import keras

WEIGHTS_MEMBER = "model.weights.h5"
CONTAINERS = ("layers", "_layer_checkpoint_dependencies")
SEEDS = ("seed_generator", "random_generator", "_random_generator")


def load_object_weights(source: ModelSource, path: Path, network: Network, layers: Mapping[int, keras.Layer]) -> None:
    """Put the weights of a `.keras` archive or a `.weights.h5` file into the built layers of `network`.

    Raises ModelError when a shape differs or a weight is left over on either side.
    """
    import h5py

    if not zipfile.is_zipfile(path):
        with open_h5(source, path) as file:
            _Loader(source, path.name, layers).network(network, file, "")
        return
    with open_archive(source, path) as archive:
        names = archive.namelist()
        if WEIGHTS_MEMBER not in names:
            other = ", ".join(name for name in names if "weights" in name) or "none"
            raise source.refuse(f"{path.name} holds no {WEIGHTS_MEMBER}; weights in it: {other}", "save it as one file")
        weights = io.BytesIO(archive.read(WEIGHTS_MEMBER))
        fault = fault_of_h5(weights)
        if fault:
            raise source.refuse(f"the {WEIGHTS_MEMBER} of {path.name} is damaged: {fault}")
        with h5py.File(weights, "r") as file:
            _Loader(source, path.name, layers).network(network, file, "")


def is_object_layout(file: h5py.File) -> bool:
    """Whether an HDF5 file of weights has this layout, and not that of Keras 1 and 2."""
    return any(name in file for name in CONTAINERS) and "layer_names" not in file.attrs


class _Loader:
    def __init__(self, source: ModelSource, file_name: str, layers: Mapping[int, keras.Layer]) -> None:
        self.source = source
        self.file_name = file_name
        self.layers = layers

    def network(self, network: Network, group: h5py.Group, where: str) -> None:
        """Fill the layers of a network from the group that stands for it."""
        container = next((name for name in CONTAINERS if name in group), "")
        inner = self._child(group, container, where) if container else {}
        groups: dict[str, list[tuple[int, str]]] = {}
        for name in inner:
            child = self._child(inner, name, where)
            if _holds_weights(child):
                stem, number = _numbered(name)
                groups.setdefault(stem, []).append((number, name))
        specs: dict[str, list[LayerSpec]] = {}
        for spec in network.layers:
            if spec.class_name == "InputLayer":
                continue
            layer: Any = self.layers[id(spec)]
            if getattr(layer, "weights", None):  # an operation, such as x * 2, has none
                stem = snake_case(_class_in_file(spec))
                specs.setdefault(stem if stem in groups else self._stem(spec, stem), []).append(spec)
        for stem in sorted({*groups, *specs}):
            found, wanted = sorted(groups.get(stem, [])), specs.get(stem, [])
            if len(found) != len(wanted):
                raise self._refuse(
                    f"{self.file_name} has weights for {len(found)} layers of the kind {stem} in {network.name}, "
                    f"and the architecture {len(wanted)}"
                )
            for (_, name), spec in zip(found, wanted, strict=True):
                self._spec(spec, self._child(inner, name, where), f"{where}{name}/")

    def _stem(self, spec: LayerSpec, stem: str) -> str:
        """Some classes are exported under another name than their own, which is that of their group."""
        return stem if spec.network is not None else snake_case(type(self.layers[id(spec)]).__name__)

    def _spec(self, spec: LayerSpec, group: h5py.Group, where: str) -> None:
        if spec.network is not None:
            self.network(spec.network, group, where)
            return
        inner = spec.parts.get("layer")
        if isinstance(inner, LayerSpec) and inner.network is not None and "layer" in group:
            self.network(inner.network, self._child(group, "layer", where), f"{where}layer/")
            return
        layer = self.layers[id(spec)]
        layer = layer.layer if type(layer).__name__ == "ChannelsFirst" else layer
        filled = self._fill(spec.name, layer, group, where)
        if filled != len(layer.weights):
            raise self._refuse(f"{spec.name} takes {len(layer.weights)} weights, and {self.file_name} has {filled}")

    def _fill(self, name: str, holder: Any, group: h5py.Group, where: str) -> int:
        """Give `holder` and the objects inside it their variables; the number of variables given."""
        filled = 0
        for key in sorted(group):
            if key in SEEDS:
                continue
            child = self._child(group, key, where)
            if key == "vars":
                filled += self._give(name, holder, child, where)
            elif _holds_weights(child):
                inside = _inside(holder, key)
                if inside is None:
                    raise self._refuse(f"{self.file_name} has weights under {where}{key}, and {name} has no such part")
                filled += self._fill(name, inside, child, f"{where}{key}/")
        return filled

    def _give(self, name: str, holder: Any, group: h5py.Group, where: str) -> int:
        keys = list(group)
        if not keys:
            return 0
        store = {key: read_array(self.source, self.file_name, group, key) for key in keys}
        try:
            holder.load_own_variables(store)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            first = (str(error).splitlines() or [""])[0]
            raise self._refuse(f"the weights of {name} in {self.file_name} do not fit: {first}") from error
        return len(keys)

    def _child(self, group: Any, name: str, where: str) -> Any:
        return require_inside(self.source, self.file_name, group, name)

    def _refuse(self, message: str) -> Exception:
        return self.source.refuse(message, "the weights belong to another architecture, or the file is damaged")


def snake_case(name: str) -> str:
    """`Conv2DTranspose` as Keras names its group: `conv2d_transpose`."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _class_in_file(spec: LayerSpec) -> str:
    if spec.network is None:
        return spec.saved_class.split(">")[-1]
    return "Sequential" if spec.saved_class == "Sequential" else "Functional"


def _numbered(name: str) -> tuple[str, int]:
    match = re.fullmatch(r"(.+?)_(\d+)", name)
    return (match[1], int(match[2])) if match else (name, 0)


def _holds_weights(group: Any) -> bool:
    """Whether any `vars` below the group is not empty, seeds of random generators apart."""
    level = [group]
    for _ in range(64):
        below = []
        for item in level:
            if not hasattr(item, "keys"):
                continue
            for key in item:
                link = item.get(key, getlink=True)
                if key in SEEDS or type(link).__name__ == "ExternalLink":
                    if key not in SEEDS:
                        return True
                    continue
                child = item[key]
                if key == "vars" and len(child):
                    return True
                below.append(child)
        if not below:
            return False
        level = below
    return False


def _inside(holder: Any, key: str) -> Any:
    """The part of a layer that a group stands for: an attribute, or the n-th of a class in a list."""
    if isinstance(holder, (list, tuple)):
        return _of_class(holder, key)
    for name in (key, f"_{key}", key.removeprefix("_")):
        found = getattr(holder, name, None)
        if found is not None:
            return found
    return None


def _of_class(holders: Sequence[Any], key: str) -> Any:
    seen: dict[str, int] = {}
    for holder in holders:
        stem = snake_case(type(holder).__name__)
        number = seen.get(stem, 0)
        seen[stem] = number + 1
        if key == (f"{stem}_{number}" if number else stem):
            return holder
    return None
