"""The plain description of a network that a config is read into: layers, calls, ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Ref:
    """One tensor: output `index` of call number `call` of the layer named `layer`."""

    layer: str
    call: int
    index: int


@dataclass(frozen=True)
class Call:
    """One use of a layer.  `args` and `kwargs` are plain data with `Ref` where a tensor goes."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LayerSpec:
    """One layer as today's Keras writes it.

    config:  plain arguments of the class, without training-only ones.
    parts:   layers inside this one by argument name: what a wrapper wraps, the cells of an RNN.
    network: the inner network where this layer is a model itself.
    saved_class, saved_config: as the file has them; they decide how the weights are laid out.
    module:  the module that the file names; only looked at for the functional operations of Keras 3.
    """

    class_name: str
    name: str
    config: Mapping[str, Any]
    parts: Mapping[str, LayerSpec | tuple[LayerSpec, ...]] = field(default_factory=dict)
    network: Network | None = None
    saved_class: str = ""
    saved_config: Mapping[str, Any] = field(default_factory=dict)
    module: str = ""


@dataclass(frozen=True)
class Network:
    """A network of layers in the order of the file.

    calls:   by layer name, in the order of the file; an input layer has none.
    inputs, outputs: one `Ref`, or a list, tuple or dict of them, as the model was made.
    """

    name: str
    sequential: bool
    layers: tuple[LayerSpec, ...]
    calls: Mapping[str, tuple[Call, ...]]
    inputs: Any
    outputs: Any
    trainable: bool = True


def references(value: object) -> Iterator[Ref]:
    """Every `Ref` in a structure, in order."""
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from references(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from references(item)


def end_names(structure: object) -> list[str]:
    """Names of a model's inputs or outputs: the keys of a dict, else the layers' names, made unique with _1, _2, …"""
    if isinstance(structure, dict):
        names = []
        for key, value in structure.items():
            inner = end_names(value) if isinstance(value, (dict, list, tuple)) else [""]
            names += [key if len(inner) == 1 else f"{key}_{i}" for i in range(len(inner))]
    else:
        names = [ref.layer for ref in references(structure)]
    taken: dict[str, int] = {}
    unique: list[str] = []
    for name in names:
        candidate = name
        while candidate in unique:
            taken[name] = taken.get(name, 0) + 1
            candidate = f"{name}_{taken[name]}"
        unique.append(candidate)
    return unique
