"""From the plain description of a network to Keras 3 layers on TensorFlow, without Keras's own deserialiser."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from collections.abc import Mapping
from typing import Any

import keras

from pbcompile.errors import ModelError, Problem, SpecError
from pbcompile.models.architecture import check_shape
from pbcompile.models.era import Era
from pbcompile.models.formula_layer import FormulaLayer, functions_of
from pbcompile.models.lambda_code import expression
from pbcompile.models.lambdas import formula_of, stored_code
from pbcompile.models.legacy import RECURRENT
from pbcompile.models.loaded import ModelSource
from pbcompile.models.marshal_reader import Code
from pbcompile.models.network import LayerSpec, Network, Ref, references
from pbcompile.models.repairs import Repairs
from pbcompile.models.replacements import REPLACEMENTS, ChannelsFirst, StepsLayer
from pbcompile.models.tensorflow_calls import OPS, FunctionLayer, OpLayer, find_function, parse_node_def
from pbcompile.spec.formula import Formula
from pbcompile.spec.text import escape

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

OPERATIONS = ("numpy", "nn", "image", "math", "core", "linalg", "einops")
"""Modules of `keras.src.ops` whose operations a functional model of Keras 3 may hold."""
WITH_CODE = frozenset({"Map", "Scan", "AssociativeScan", "WhileLoop", "ForiLoop", "Cond", "VectorizedMap", "Switch"})
"""Operations that take Python functions."""

POINTWISE = frozenset(
    {"ELU", "ReLU", "LeakyReLU", "ThresholdedReLU", "Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout",
     "Identity", "Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"}
)  # fmt: skip
"""Layers that give the same numbers in any order of axes."""


APPLICATION_LAYERS = {
    "CustomScaleLayer": "inception_resnet_v2",
    "LayerScale": "convnext",
    "StochasticDepth": "convnext",
}
"""Layers that Keras itself defines beside a network of `keras.applications`, and the module that does."""


def _of_applications(class_name: str) -> Any:
    module = APPLICATION_LAYERS.get(class_name.split(">")[-1])
    return module and getattr(
        importlib.import_module(f"keras.src.applications.{module}"), class_name.split(">")[-1], None
    )


class Builder:
    """Builds the layers of one file.  `layers` gives, for each `LayerSpec` by identity, the layer made from it."""

    def __init__(self, source: ModelSource, era: Era, repairs: Repairs, custom: Mapping[str, Any]) -> None:
        self.source = source
        self.era = era
        self.repairs = repairs
        self.custom = custom
        self.layers: dict[int, keras.Layer] = {}
        self._channels_first: set[int] = set()
        self._channels_last: dict[int, tuple[Any, Any]] = {}

    def model(self, network: Network) -> keras.Model:
        """The network as a Keras model; nested networks become models inside it."""
        made = {spec.name: self.layer(spec) for spec in network.layers if spec.class_name != "InputLayer"}
        has_input = any(spec.class_name == "InputLayer" for spec in network.layers)
        turned = any(id(spec) in self._channels_first for spec in network.layers)
        if network.sequential and not (turned and has_input):
            return self._sequential(network, made)
        tensors: dict[tuple[str, int], Any] = {}
        for spec in network.layers:
            if spec.class_name == "InputLayer":
                tensors[spec.name, 0] = self._input(spec)
        by_name = {spec.name: spec for spec in network.layers}
        waiting = [(spec.name, i) for spec in network.layers for i in range(len(network.calls.get(spec.name, ())))]
        while waiting:
            later = []
            for name, index in waiting:
                call = network.calls[name][index]
                if all((ref.layer, ref.call) in tensors for ref in references([list(call.args), dict(call.kwargs)])):
                    args, kwargs = self._filled(list(call.args), tensors), self._filled(dict(call.kwargs), tensors)
                    tensors[name, index] = self._called(by_name[name], made[name], args, kwargs, index)
                else:
                    later.append((name, index))
            if len(later) == len(waiting):
                raise self.refuse(f"the layers {', '.join(sorted({n for n, _ in later})[:5])} wait for each other")
            waiting = later
        inputs, outputs = self._filled(network.inputs, tensors), self._filled(network.outputs, tensors)
        try:
            return keras.Model(inputs=inputs, outputs=outputs, name=safe(network.name))
        except (TypeError, ValueError) as error:
            raise self.refuse(f"the model {network.name} cannot be made: {first_line(error)}") from error

    def problems(self, network: Network) -> list[Problem]:
        """Why layers of a network, or of networks inside it, cannot be made: one Problem for each of them."""
        found: list[Problem] = []
        for spec in network.layers:
            if spec.network is not None:
                found += self.problems(spec.network)
            elif spec.class_name != "InputLayer":
                try:
                    self._plain(spec)
                except ModelError as error:
                    found += error.problems
        return found

    def layer(self, spec: LayerSpec) -> keras.Layer:
        """The Keras layer of `spec`, or a model where it is a network."""
        made = self.model(spec.network) if spec.network is not None else self._plain(spec)
        self.layers[id(spec)] = made
        return made

    def refuse(self, message: str, hint: str = "") -> ModelError:
        """A ModelError about this file."""
        return self.source.refuse(f"{self.source.path.name}: {message}", hint, "model-unsupported")

    # -- layers

    def _plain(self, spec: LayerSpec) -> keras.Layer:
        if spec.class_name == "Lambda":
            return self._lambda(spec)
        if spec.class_name in ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer"):
            return self._tensorflow(spec)
        if spec.module:
            return self._made(self._operation(spec), dict(spec.config), spec)
        custom = self._custom(spec)
        if custom is not None:
            return custom
        cls = self._class(spec)
        config = dict(spec.config)
        config["name"] = safe(spec.name)
        config.pop("saved_epsilon", None)
        for key in ("activation", "recurrent_activation"):
            if key in config:
                config[key] = self._activation(config[key], spec)
        for key, part in spec.parts.items():
            made = [self._part(p) for p in part] if isinstance(part, tuple) else self._part(part)
            config[key] = made
        if config.pop("channels_first", False) or config.get("data_format") == "channels_first":
            self._channels_first.add(id(spec))
            if "data_format" in config:
                config["data_format"] = "channels_last"
        if spec.class_name == "BatchNormalization" and config.get("axis") == 1:
            self._channels_first.add(id(spec))
            config["axis"] = -1
        unknown = sorted(set(config) - _arguments(cls))
        if unknown:
            raise self.refuse(
                f"the layer {spec.name} ({spec.class_name}) has the argument {unknown[0]}, unknown to this Keras"
            )
        return self._made(cls, config, spec)

    def _made(self, cls: type[Any], config: dict[str, Any], spec: LayerSpec) -> Any:
        try:
            return cls(**config)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            what = f"the layer {spec.name} ({spec.class_name})"
            raise self.refuse(f"{what} cannot be made: {first_line(error)}") from error

    def _part(self, spec: LayerSpec) -> keras.Layer:
        """A layer inside another one, which cannot be turned from outside."""
        made = self.layer(spec)
        if id(spec) not in self._channels_first:
            return made
        self._channels_first.discard(id(spec))
        self.layers[id(spec)] = ChannelsFirst(made, name=f"{safe(spec.name)}_channels_first")
        return self.layers[id(spec)]

    def _class(self, spec: LayerSpec) -> type[keras.Layer]:
        is_grouped = spec.class_name in ("Conv1D", "Conv2D", "Conv3D") and spec.config.get("groups", 1) != 1
        name = f"Grouped{spec.class_name}" if is_grouped else spec.class_name
        if name in REPLACEMENTS:
            return REPLACEMENTS[name]
        if spec.class_name in NEVER_BUILT:
            raise self.refuse(f"the layer {spec.name} is a {spec.class_name}: {NEVER_BUILT[spec.class_name]}")
        cls = getattr(keras.layers, spec.class_name, None) or _of_applications(spec.class_name)
        if not (inspect.isclass(cls) and issubclass(cls, keras.layers.Layer)):
            name = spec.class_name.split(">")[-1]
            raise self.refuse(
                f"the layer {spec.name} is of the class {spec.class_name}, which is not one of Keras's",
                f'give it: "custom_objects": {{"{name}": "module:attribute"}} with "trust_code": true',
            )
        return cls

    def _operation(self, spec: LayerSpec) -> type[Any]:
        name = spec.module.removeprefix("keras.src.ops").removeprefix("keras.ops").strip(".")
        found = None
        if name in ("", *OPERATIONS) and spec.class_name not in WITH_CODE:
            for module in (name,) if name else OPERATIONS:
                found = found or getattr(importlib.import_module(f"keras.src.ops.{module}"), spec.class_name, None)
        if not (inspect.isclass(found) and issubclass(found, keras.Operation)):
            raise self.refuse(f"the operation {spec.name} is {spec.module}.{spec.class_name}, unknown to this Keras")
        return found

    def _custom(self, spec: LayerSpec) -> keras.Layer | None:
        """A layer of the user's own class; only there under `trust_code`."""
        cls = self.custom.get(spec.class_name) or self.custom.get(spec.class_name.split(">")[-1])
        if cls is None:
            return None
        with keras.saving.custom_object_scope(dict(self.custom)):
            return cls.from_config({**spec.saved_config, "name": safe(spec.name)})

    def _activation(self, value: object, spec: LayerSpec) -> Any:
        if value == "hard_sigmoid_of_keras2":
            return hard_sigmoid_of_keras2
        if isinstance(value, str):
            if value in self.custom:
                return self.custom[value]
            if value in ACTIVATIONS:
                return keras.activations.get(value)
        if isinstance(value, LayerSpec):
            return self.layer(value)
        if isinstance(value, str) and value.endswith("<lambda>"):
            raise self.refuse(
                f"the activation of the layer {spec.name} is a lambda of its author's, which the file does not hold",
                "save the model with a function that has a name, or as a SavedModel",
            )
        code = stored_code({"function": value["value"] if isinstance(value, dict) and "value" in value else value})
        if code is not None:
            body = expression(code)
            said = f"it computes {body}" if body is not None else "only its author knows what it computes"
            raise self.refuse(
                f"the activation of the layer {spec.name} is stored Python code, which is never run; {said}",
                "save the model with a function that has a name, or as a SavedModel",
            )
        name = value.get("class_name") if isinstance(value, dict) else value
        raise self.refuse(
            f"the layer {spec.name} has the activation {name!s:.60}, which is not one of Keras's",
            f'give it: "custom_objects": {{"{name!s:.60}": "module:attribute"}} with "trust_code": true',
        )

    def _lambda(self, spec: LayerSpec) -> keras.Layer:
        steps = self.source.lambdas.get(spec.name)
        if isinstance(steps, Formula):
            functions, unknown = functions_of(steps.body)
            if unknown:
                raise SpecError(formula_problem(self.source, spec.name, unknown[0]))
            self.repairs.note(f"Lambda replaced by the spec's formula: {steps.text}", spec.name)
            return FormulaLayer(steps.body, functions, name=safe(spec.name), dtype="float32")
        if steps is not None or not self.source.trust_code:
            steps = steps or ()
            words = ", ".join(step.op for step in steps)
            self.repairs.note(f"Lambda replaced by the spec's steps: {words or 'none'}", spec.name)
            return StepsLayer(steps, name=safe(spec.name), dtype="float32")
        body = formula_of(spec.saved_config, self.era)
        if body is not None:
            functions, unknown = functions_of(body)
            if not unknown:
                self.repairs.note(f"Lambda's stored code read as {body}", spec.name)
                return FormulaLayer(body, functions, name=safe(spec.name), dtype="float32")
        code = stored_code(spec.saved_config)
        if code is not None and not runs_here(code):
            raise self.refuse(
                f"the code stored in the Lambda {spec.name} is of another Python, which this one cannot run",
                'replace it: "lambda": {' + json.dumps(spec.name) + ": [steps] or a formula}",
            )
        self.repairs.note("Lambda's stored code run, as the spec trusts it", spec.name)
        with keras.saving.custom_object_scope(dict(self.custom)):
            return trusted_lambda(self, spec)

    def _tensorflow(self, spec: LayerSpec) -> keras.Layer:
        name = safe(spec.name)
        if spec.class_name == "TensorFlowOpLayer":
            node = parse_node_def(spec.config.get("node_def"))
            if node is None or node.op not in OPS:
                op = node.op if node is not None else "?"
                raise self.refuse(f"the layer {spec.name} is the TensorFlow op {op}, which a config may not name")
            constants = spec.config.get("constants") or {}
            return OpLayer(node, {int(k): v for k, v in constants.items()}, name=name, dtype="float32")
        named = str(spec.config.get("function", "__operators__.getitem"))
        function = find_function(named)
        if function is None:
            raise self.refuse(
                f"the layer {spec.name} calls {named}, which is no TensorFlow function that a config may name"
            )
        return FunctionLayer(function, name=name, dtype="float32", autocast=False)

    # -- networks

    def _sequential(self, network: Network, made: Mapping[str, keras.Layer]) -> keras.Model:
        model = keras.Sequential(name=safe(network.name))
        for spec in network.layers:
            try:
                if spec.class_name == "InputLayer":
                    model.add(keras.layers.InputLayer(**self._input_config(spec)))
                else:
                    layer = made[spec.name]
                    if id(spec) in self._channels_first:
                        layer = ChannelsFirst(layer, name=f"{safe(spec.name)}_channels_first")
                    model.add(layer)
            except (TypeError, ValueError, NotImplementedError) as error:
                raise self.refuse(f"the layer {spec.name} does not fit here: {first_line(error)}") from error
        return model

    def _input(self, spec: LayerSpec) -> Any:
        config = self._input_config(spec)
        return keras.Input(batch_shape=config["batch_shape"], dtype=config["dtype"], name=config["name"])

    def _input_config(self, spec: LayerSpec) -> dict[str, Any]:
        shape = spec.config.get("batch_shape")
        if not isinstance(shape, (list, tuple)):
            raise self.refuse(f"the input {spec.name} has no shape")
        if spec.config.get("sparse") or spec.config.get("ragged"):
            raise self.refuse(f"the input {spec.name} is a sparse or ragged tensor, which no frozen graph can take")
        shape = tuple(check_shape(self.source, shape, spec.name))
        return {"batch_shape": shape, "dtype": spec.config["dtype"], "name": safe(spec.name)}

    def _filled(self, value: Any, tensors: Mapping[tuple[str, int], Any]) -> Any:
        """`value` with a tensor for every reference."""
        if isinstance(value, Ref):
            made = tensors.get((value.layer, value.call))
            if not isinstance(made, list):
                if made is None:
                    raise self.refuse(f"the layer {value.layer} is never called, and its output is asked for")
                return made
            if not 0 <= value.index < len(made):
                count = len(made)
                raise self.refuse(f"the layer {value.layer} has {count} outputs, and number {value.index} is asked for")
            return made[value.index]
        if isinstance(value, dict):
            return {k: self._filled(v, tensors) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._filled(v, tensors) for v in value]
        return value

    def _called(self, spec: LayerSpec, layer: keras.Layer, args: Any, kwargs: Any, index: int) -> list[Any]:
        kwargs = {k: v for k, v in kwargs.items() if k != "training" and not (k == "mask" and v is None)}
        if spec.module and spec.class_name == "GetItem" and len(args) == 2 and isinstance(args[1], list):
            args = [args[0], tuple(args[1])]
        if spec.class_name in ("Attention", "AdditiveAttention") and spec.saved_config.get("causal"):
            kwargs = {**kwargs, "use_causal_mask": True}
        if spec.class_name in RECURRENT and args and isinstance(args[0], list) and len(args[0]) > 1:
            # Keras 2 wrote a recurrent layer's initial state behind its input.
            args, kwargs = [args[0][0]], {**kwargs, "initial_state": args[0][1:]}
        if isinstance(layer, StepsLayer) and args and isinstance(args[0], list):
            raise self.refuse(
                f"the Lambda {spec.name} takes {len(args[0])} tensors, and steps take one",
                'give a formula: "lambda": {' + json.dumps(spec.name) + ': "x[0] + x[1]"}',
            )
        try:
            if isinstance(layer, FunctionLayer):
                return self._called_function(spec, layer, args, kwargs, index)
            if id(spec) in self._channels_first and len(args) == 1 and len(args[0].shape) > 2:
                return [self._turned(spec, layer, args[0], index)]
            if self._is_pointwise(spec) and len(args) == 1 and not kwargs:
                given = keras.tree.flatten(args)
                if given and all(id(tensor) in self._channels_last for tensor in given):
                    twins = [self._channels_last[id(tensor)][1] for tensor in given]
                    return [self._turned_back(spec, layer(twins if isinstance(args[0], list) else twins[0]), index)]
            return list(keras.tree.flatten(layer(*args, **kwargs)))
        except (TypeError, ValueError, IndexError, AttributeError, NotImplementedError) as error:
            raise self.refuse(f"the layer {spec.name} does not take what it is fed: {first_line(error)}") from error

    def _called_function(self, spec: LayerSpec, layer: FunctionLayer, args: Any, kwargs: Any, index: int) -> list[Any]:
        one, tensors = layer.for_call(args, kwargs, index)
        if not tensors:
            raise self.refuse(
                f"the file does not say which tensors the layer {spec.name} takes: Keras 2 lost them as it saved",
                "give the SavedModel, or save the model again with the op inside a layer of Keras",
            )
        return list(keras.tree.flatten(one(tensors)))

    # -- channels-first layers: TensorFlow's CPU kernels take channels last, so each runs between two transposes;
    #    where the tensor before it was turned too, the turned one is used and the transposes between them fall away

    def _turned(self, spec: LayerSpec, layer: keras.Layer, x: Any, index: int) -> Any:
        self.repairs.note("channels_first computed with channels last", spec.name)
        if id(x) in self._channels_last:
            twin = self._channels_last[id(x)][1]
        else:
            rank, axis = len(x.shape), _channel_axis(spec, len(x.shape))
            axes = [a for a in range(1, rank) if a != axis] + [axis]
            twin = keras.layers.Permute(axes, name=f"{safe(spec.name)}_to_last_{index}")(x)
        y = layer(twin)
        return self._turned_back(spec, y, index) if len(y.shape) > 2 else y

    def _turned_back(self, spec: LayerSpec, y: Any, index: int) -> Any:
        rank, axis = len(y.shape), _channel_axis(spec, len(y.shape))
        axes = list(range(1, rank - 1))
        axes.insert(axis - 1, rank - 1)
        x = keras.layers.Permute(axes, name=f"{safe(spec.name)}_to_first_{index}")(y)
        self._channels_last[id(x)] = (x, y)
        return x

    def _is_pointwise(self, spec: LayerSpec) -> bool:
        return spec.class_name in POINTWISE or (
            spec.class_name == "Activation" and "softmax" not in str(spec.config.get("activation"))
        )


def formula_problem(source: ModelSource, layer: str, name: str) -> Problem:
    """A formula of the spec names something that is no array function of Keras or TensorFlow."""
    pointer = f"{source.pointer}/lambda/{escape(layer)}"
    hint = "it may call functions of K (keras.backend), tf and ops (keras.ops), and abs; x is what the layer is fed"
    return Problem(
        "formula-unknown-name", f'the formula names "{name}", which is no array function known here', pointer, hint
    )


def runs_here(code: Code) -> bool:
    """Whether this Python may run bytecode of that layout without crashing."""
    return code.layout == ("3.11+" if sys.version_info >= (3, 11) else "3.8")


def trusted_lambda(builder: Builder, spec: LayerSpec) -> keras.Layer:
    """A Lambda with its stored code, which the spec says may run."""
    from keras.src.utils import python_utils

    stored = spec.saved_config.get("function")
    code = stored.get("config") if isinstance(stored, dict) and stored.get("class_name") == "__lambda__" else stored
    name = safe(spec.name)
    arguments = spec.saved_config.get("arguments") or {}
    if isinstance(code, dict) and "code" in code:
        function = python_utils.func_load(code["code"], code.get("defaults"), code.get("closure"))
    elif isinstance(code, (list, tuple)):
        function = python_utils.func_load(list(code))
    else:
        word = str(code.get("config") if isinstance(code, dict) else code).split(">")[-1]
        if word not in builder.custom:
            raise builder.refuse(
                f"the Lambda {spec.name} calls {word}, which the file does not hold",
                f'give it: "custom_objects": {{"{word}": "module:attribute"}}',
            )
        function = builder.custom[word]
    return keras.layers.Lambda(function, arguments=arguments, name=name)


@keras.saving.register_keras_serializable(package="pbcompile")  # type: ignore[untyped-decorator]
def hard_sigmoid_of_keras2(x: Any) -> Any:
    """clip(0.2 x + 0.5, 0, 1), which Keras 3 calls by no name: its own hard_sigmoid has the slope 1/6."""
    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


def safe(name: str) -> str:
    """A name that Keras 3 takes: older ones allowed a slash."""
    return name.replace("/", "_")


def first_line(error: BaseException) -> str:
    """The first line of what an error says, without what Keras puts in front of its reason; it paints that bold."""
    lines = [re.sub(r"\x1b\[\d*m", "", line).strip() for line in str(error).splitlines()]
    framing = ("Exception encountered when calling", "Could not automatically infer")
    lines = [line for line in lines if line and not line.startswith(framing)]
    return (lines or [type(error).__name__])[0]


def _channel_axis(spec: LayerSpec, rank: int) -> int:
    """ConvLSTM has time before the channels, as long as it gives sequences."""
    return 2 if spec.class_name.startswith("ConvLSTM") and rank > int(spec.class_name[8]) + 2 else 1


def _arguments(cls: type) -> set[str]:
    """Names that the constructors of `cls` and its bases take."""
    names: set[str] = {"name", "dtype", "trainable"}
    for base in cls.__mro__:
        if base is object or "__init__" not in vars(base):
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return names - {"self"}
