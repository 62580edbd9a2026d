"""From the plain description of a network to Keras 3 layers on TensorFlow, without Keras's own deserialiser."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pbcompile.models.architecture import LayerSpec, Network, Ref, references
from pbcompile.models.loaded import ModelSource

if TYPE_CHECKING:
    import keras

ACTIVATIONS = frozenset(
    {"celu", "elu", "exponential", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh",
     "leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu",
     "soft_shrink", "softmax", "softplus", "softsign", "sparse_plus", "sparse_sigmoid", "sparsemax", "squareplus",
     "swish", "tanh", "tanh_shrink", "threshold"}
)  # fmt: skip
"""Activation functions that may be named in a config."""

NEVER_BUILT: Mapping[str, str] = {
    "TFSMLayer": "it loads another SavedModel from a path in the file",
    "TorchModuleWrapper": "it holds pickled PyTorch code",
    "JaxLayer": "it holds JAX code",
    "FlaxLayer": "it holds Flax code",
    "StringLookup": "its table cannot stand in a frozen graph",
    "IntegerLookup": "its table cannot stand in a frozen graph",
    "TextVectorization": "its table cannot stand in a frozen graph",
    "Hashing": "it works on strings, not on images",
    "HashedCrossing": "it works on strings, not on images",
    "Layer": "it does nothing by itself",
    "Wrapper": "it does nothing by itself",
}
"""Classes in `keras.layers` that are refused, and why."""


class Builder:
    """Builds the layers of one file.  `layers` gives, for each `LayerSpec` by identity, the layer made from it."""

    def __init__(self, source: ModelSource) -> None:
        self.source = source
        self.layers: dict[int, keras.Layer] = {}

    def model(self, network: Network) -> keras.Model:
        """The network as a Keras model; nested networks become models inside it."""
        import keras

        made = {spec.name: self.layer(spec) for spec in network.layers if spec.class_name != "InputLayer"}
        if network.sequential:
            return self._sequential(network, made)
        tensors: dict[tuple[str, int], Any] = {}
        for spec in network.layers:
            if spec.class_name == "InputLayer":
                tensors[spec.name, 0] = self._input(spec)
        waiting = [(spec.name, i, call) for spec in network.layers for i, call in enumerate(network.calls.get(spec.name, ()))]
        while waiting:
            later = []
            for name, index, call in waiting:
                needed = references([list(call.args), dict(call.kwargs)])
                if all((ref.layer, ref.call) in tensors for ref in needed):
                    args, kwargs = _filled(list(call.args), tensors), _filled(dict(call.kwargs), tensors)
                    tensors[name, index] = self._called(made[name], args, kwargs, name)
                else:
                    later.append((name, index, call))
            if len(later) == len(waiting):
                raise self.refuse(f"the layers {', '.join(sorted({n for n, _, _ in later})[:5])} feed on each other")
            waiting = later
        model = keras.Model(
            inputs=_filled(network.inputs, tensors), outputs=_filled(network.outputs, tensors), name=safe(network.name)
        )
        model.trainable = True
        return model

    def layer(self, spec: LayerSpec) -> keras.Layer:
        """The Keras layer of `spec`, or a model where it is a network."""
        made = self.model(spec.network) if spec.network is not None else self._plain(spec)
        self.layers[id(spec)] = made
        return made

    def refuse(self, message: str, hint: str = "") -> Exception:
        return self.source.refuse(f"{self.source.path.name}: {message}", hint, "model-unsupported")

    def _plain(self, spec: LayerSpec) -> keras.Layer:
        cls = self._class(spec)
        config = dict(spec.config)
        config["name"] = safe(spec.name)
        for key in ("activation", "recurrent_activation"):
            if key in config:
                config[key] = self._activation(config[key], spec)
        for key, part in spec.parts.items():
            config[key] = [self.layer(p) for p in part] if isinstance(part, tuple) else self.layer(part)
        unknown = sorted(set(config) - _arguments(cls))
        if unknown:
            raise self.refuse(f"{spec.class_name} {spec.name} has the argument {unknown[0]}, which this Keras does not know")
        try:
            return cls(**config)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            first = (str(error).splitlines() or [""])[0]
            raise self.refuse(f"{spec.class_name} {spec.name} cannot be made: {first}") from error

    def _class(self, spec: LayerSpec) -> type[keras.Layer]:
        import keras

        if spec.class_name in NEVER_BUILT:
            raise self.refuse(f"the layer {spec.name} is a {spec.class_name}: {NEVER_BUILT[spec.class_name]}")
        cls = getattr(keras.layers, spec.class_name, None)
        if not (inspect.isclass(cls) and issubclass(cls, keras.layers.Layer)):
            raise self.refuse(
                f"the layer {spec.name} is of the class {spec.class_name}, which is not one of Keras's",
                f'give it: "custom_objects": {{"{spec.class_name}": "module:attribute"}} with "trust_code": true',
            )
        return cls

    def _activation(self, value: object, spec: LayerSpec) -> Callable[..., Any]:
        import keras

        if value == "hard_sigmoid_of_keras2":
            return hard_sigmoid_of_keras2
        if isinstance(value, str) and value in ACTIVATIONS:
            found: Callable[..., Any] = keras.activations.get(value)
            return found
        raise self.refuse(f"the layer {spec.name} has the activation {value!r:.60}, which is not one of Keras's")

    def _sequential(self, network: Network, made: Mapping[str, keras.Layer]) -> keras.Model:
        import keras

        model = keras.Sequential(name=safe(network.name))
        for spec in network.layers:
            if spec.class_name == "InputLayer":
                model.add(keras.layers.InputLayer(**self._input_config(spec)))
            else:
                try:
                    model.add(made[spec.name])
                except (TypeError, ValueError) as error:
                    first = (str(error).splitlines() or [""])[0]
                    raise self.refuse(f"the layer {spec.name} does not fit behind the one before it: {first}") from error
        return model

    def _input(self, spec: LayerSpec) -> Any:
        import keras

        config = self._input_config(spec)
        return keras.Input(batch_shape=config["batch_shape"], dtype=config["dtype"], name=config["name"])

    def _input_config(self, spec: LayerSpec) -> dict[str, Any]:
        from pbcompile.models.architecture import check_shape

        shape = spec.config.get("batch_shape")
        if not isinstance(shape, (list, tuple)):
            raise self.refuse(f"the input {spec.name} has no shape")
        if spec.config.get("sparse") or spec.config.get("ragged"):
            raise self.refuse(f"the input {spec.name} is a sparse or ragged tensor, which no frozen graph can take")
        return {
            "batch_shape": tuple(check_shape(self.source, shape, spec.name)),
            "dtype": spec.config["dtype"],
            "name": safe(spec.name),
        }

    def _called(self, layer: keras.Layer, args: Any, kwargs: Any, name: str) -> list[Any]:
        import keras

        kwargs = {k: v for k, v in kwargs.items() if k not in ("training",)}
        try:
            result = layer(*args, **kwargs)
        except (TypeError, ValueError, IndexError, AttributeError) as error:
            first = (str(error).splitlines() or [""])[0]
            raise self.refuse(f"the layer {name} does not take what the file feeds it: {first}") from error
        return list(keras.tree.flatten(result))


def hard_sigmoid_of_keras2(x: Any) -> Any:
    """clip(0.2 x + 0.5, 0, 1), which Keras 3 calls by no name: its own hard_sigmoid has the slope 1/6."""
    from keras import ops

    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


def safe(name: str) -> str:
    """A name that Keras 3 takes: older ones allowed a slash."""
    return name.replace("/", "_")


def _filled(value: Any, tensors: Mapping[tuple[str, int], Any]) -> Any:
    if isinstance(value, Ref):
        made = tensors[value.layer, value.call]
        return made[value.index] if isinstance(made, list) else made
    if isinstance(value, dict):
        return {k: _filled(v, tensors) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_filled(v, tensors) for v in value]
    return value


def _arguments(cls: type) -> set[str]:
    """Names that the constructors of `cls` and its bases take."""
    names: set[str] = {"name", "dtype", "trainable"}
    for base in cls.__mro__:
        if base is object or "__init__" not in vars(base):
            continue
        parameters = inspect.signature(base.__init__).parameters.values()
        names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return names - {"self"}
