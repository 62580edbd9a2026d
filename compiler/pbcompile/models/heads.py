"""How a network ends: how many classes, under which activation; and whether it takes its image on its side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pbcompile.models.network import LayerSpec, Network, Ref, end_names, references

SAME_VALUES = frozenset({"Dropout", "Identity", "Cast"})
FLAT = ("Flatten", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "GlobalAveragePooling1D", "GlobalMaxPooling1D")
RECURRENT = ("LSTM", "GRU", "SimpleRNN", "Bidirectional")


@dataclass(frozen=True)
class Head:
    """The end of one output.

    activation: "softmax", "sigmoid", "linear", …, "" where it cannot be told.
    classes:    size of the last axis, None where it is not known.
    is_vector:  whether it is known to be [batch, classes].
    """

    activation: str
    classes: int | None
    is_vector: bool


def read_heads(network: Network) -> Mapping[str, Head]:
    """The head behind each output, by the output's name."""
    names = end_names(network.outputs)
    return {name: _head(network, ref) for name, ref in zip(names, references(network.outputs), strict=True)}


def activations_of(network: Network) -> dict[str, str]:
    """The activation behind each output, by the output's name; "" where it cannot be told."""
    return {name: head.activation for name, head in read_heads(network).items()}


def _head(network: Network, ref: Ref) -> Head:
    by_name = {spec.name: spec for spec in network.layers}
    activation, classes, is_vector = "", None, False
    here: Ref | None = ref
    for _ in range(len(by_name) + 1):
        spec = by_name.get(here.layer) if here is not None else None
        if spec is None:
            break
        if spec.network is not None:
            inner = next(iter(references(spec.network.outputs)), None)
            found = _head(spec.network, inner) if inner is not None else Head("", None, False)
            return Head(activation or found.activation, classes or found.classes, is_vector or found.is_vector)
        said = _activation(spec)
        if spec.class_name == "InputLayer":
            shape = spec.config.get("batch_shape")
            return Head(activation, classes, isinstance(shape, (list, tuple)) and len(shape) == 2)
        if spec.class_name in FLAT:
            is_vector = True
            if classes is not None:
                break
            here = _before(network, spec)
            continue
        if spec.class_name == "Dense":
            activation = activation or said
            units = spec.config.get("units")
            classes = units if classes is None and isinstance(units, int) else classes
        elif spec.class_name in RECURRENT:
            inner_layer = spec.parts.get("layer")
            config = inner_layer.config if isinstance(inner_layer, LayerSpec) else spec.config
            return Head(activation, classes, is_vector or not config.get("return_sequences"))
        elif (
            spec.class_name in ("Activation", "Softmax", "ReLU", "BatchNormalization") or spec.class_name in SAME_VALUES
        ):
            activation = activation or said
        elif spec.class_name == "Reshape":
            sizes = spec.config.get("target_shape") or ()
            last = sizes[-1] if sizes and isinstance(sizes[-1], int) and sizes[-1] > 0 else None
            return Head(activation, classes or last, is_vector or len(sizes) == 1)
        else:
            filters = spec.config.get("filters")
            return Head(activation or said, classes or (filters if isinstance(filters, int) else None), is_vector)
        here = _before(network, spec)
    return Head(activation, classes, is_vector)


def _before(network: Network, spec: LayerSpec) -> Ref | None:
    """The first tensor that a layer is called with."""
    calls = network.calls.get(spec.name)
    return next(references([list(calls[0].args), dict(calls[0].kwargs)]), None) if calls else None


def _activation(spec: LayerSpec) -> str:
    if spec.class_name == "Softmax":
        return "softmax"
    value = spec.config.get("activation")
    return value if isinstance(value, str) and value != "linear" else ""


def is_width_first(network: Network) -> bool:
    """Whether a picture goes in on its side: a recurrent layer reads along axis 1, and that is the longer one.

    Readers of text take [batch, width, height, 1], so that time runs along the line.
    """
    shape = next((s.config.get("batch_shape") for s in network.layers if s.class_name == "InputLayer"), None)
    if not isinstance(shape, (list, tuple)) or len(shape) != 4 or None in shape[1:]:
        return False
    recurrent = any(spec.class_name in RECURRENT for spec in network.layers)
    folded = [spec.config.get("target_shape") for spec in network.layers if spec.class_name == "Reshape"]
    along = any(
        isinstance(t, (list, tuple)) and len(t) == 2 and isinstance(t[0], int) and t[0] > 0 and shape[1] % t[0] == 0
        for t in folded
    )
    return recurrent and along and shape[1] > 1.5 * shape[2]
