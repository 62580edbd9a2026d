"""TensorFlow functions and ops that Keras 2 wrote into configs as layers: `TFOpLambda`, `SlicingOpLambda`,
`TensorFlowOpLayer`.

A config only names a function; it is looked up in the lists below, which hold pure array functions and nothing that
reads files, keeps state, draws random numbers or takes Python code.
"""

# ruff: noqa: D102  (`build`, `call` and `compute_output_shape` are Keras's hooks; the class says the formula)

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PLAIN = _words(
    """
    abs acos add add_n argmax argmin asin atan atan2 batch_to_space bitcast boolean_mask broadcast_to cast
    ceil clip_by_norm clip_by_value concat constant convert_to_tensor cos cosh cumsum depth_to_space divide
    einsum ensure_shape equal exp expand_dims expand_dims_v2 eye fill floor floor_div floordiv floormod gather
    gather_nd greater greater_equal identity less less_equal linspace log logical_and logical_not logical_or
    matmul maximum meshgrid minimum multiply negative norm not_equal one_hot ones ones_like pad pow range rank
    real realdiv reciprocal reduce_all reduce_any reduce_logsumexp reduce_max reduce_mean reduce_min
    reduce_prod reduce_sum repeat reshape reverse roll round rsqrt scatter_nd searchsorted sequence_mask shape
    sigmoid sign sin sinh size slice sort space_to_batch space_to_depth split sqrt square squeeze stack
    stop_gradient strided_slice subtract tan tanh tensor_scatter_nd_update tensordot tile to_float to_int32
    transpose truediv unstack where where_v2 zeros zeros_like
    """
)
"""Functions of `tf` itself, and of `tf.compat.v1`."""
MODULES = frozenset({"math", "nn", "image", "linalg", "signal", "keras.activations", "keras.backend"})
"""Modules of `tf` whose array functions may be named."""
BACKEND = _words(
    """
    abs all any arange argmax argmin batch_dot batch_flatten bias_add cast clip concatenate constant cos cumprod cumsum
    dot elu epsilon equal exp expand_dims eye flatten gather greater greater_equal hard_sigmoid int_shape l2_normalize
    less less_equal log logsumexp max maximum mean min minimum ndim not_equal one_hot ones ones_like permute_dimensions
    pool2d pow prod relu repeat repeat_elements reshape resize_images reverse round shape sigmoid sign sin softmax
    softplus softsign spatial_2d_padding sqrt square squeeze stack std sum switch tanh temporal_padding tile transpose
    var zeros zeros_like
    """
)
"""Functions of `keras.backend` that Keras 2 models call; today's Keras keeps them for old code."""
NOT_PURE = ("random", "dropout", "candidate", "sample", "while_loop", "map_fn", "decode", "py_func", "raw_rnn", "jpeg")
"""Parts of the names of functions that draw numbers, take Python functions, or read files."""

OPS = _words(
    """
    Abs Acos Add AddN AddV2 All Any ArgMax ArgMin Asin Atan Atan2 AvgPool AvgPool3D BatchMatMul BatchMatMulV2
    BatchToSpaceND BiasAdd BroadcastTo Cast Ceil ClipByValue Concat ConcatV2 Conv2D Conv2DBackpropInput Conv3D
    Cos Cosh CropAndResize Cumsum DepthToSpace DepthwiseConv2dNative Div DivNoNan Einsum Elu Equal Erf Exp
    ExpandDims Expm1 ExtractImagePatches Fill Floor FloorDiv FloorMod FusedBatchNorm FusedBatchNormV3 Gather
    GatherNd GatherV2 Greater GreaterEqual Identity LRN LeakyRelu Less LessEqual Log Log1p LogSoftmax
    LogicalAnd LogicalNot LogicalOr MatMul Max MaxPool MaxPoolV2 Maximum Mean Min Minimum MirrorPad Mod Mul
    Neg NotEqual OneHot OnesLike Pack Pad PadV2 Pow Prod Range Rank RealDiv Reciprocal Relu Relu6 Reshape
    ResizeArea ResizeBicubic ResizeBilinear ResizeNearestNeighbor ReverseV2 Round Rsqrt Select SelectV2 Selu
    Shape Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToBatchND SpaceToDepth Split SplitV
    Sqrt Square SquaredDifference Squeeze StopGradient StridedSlice Sub Sum Tan Tanh Tile TopKV2 Transpose
    Unpack Where Xdivy ZerosLike
    """
)
"""Ops that a `TensorFlowOpLayer` may be."""


def find_function(name: str) -> Callable[..., Any] | None:
    """The TensorFlow function that a `TFOpLambda` names (`math.truediv`), or None where it is not one of the lists'."""
    path = name.removeprefix("tf.").removeprefix("tensorflow.").removeprefix("compat.v1.").removeprefix("compat.v2.")
    module, _, last = path.rpartition(".")
    if any(word in path for word in NOT_PURE) or last.startswith("_"):
        return None
    if module == "__operators__":
        return _OPERATORS.get(last)
    home: Any = tf.compat.v1 if ".compat.v1." in f".{name}" else tf
    if not module:
        found = getattr(home, last, None) if last in PLAIN else None
        return found if callable(found) else None
    if module == "keras.backend":
        from keras.src.legacy import backend

        found = getattr(backend, last, None) if last in BACKEND else None
        return found if callable(found) else None
    if module == "keras.activations":
        found = getattr(keras.activations, last, None)
        return found if callable(found) else None
    if module not in MODULES:
        return None
    found = getattr(getattr(home, module), last, None)
    return found if callable(found) and not isinstance(found, type) else None


@dataclass(frozen=True)
class Slot:
    """The place of tensor number `index` among the arguments of a call."""

    index: int


class FunctionLayer(keras.layers.Layer):  # type: ignore[misc]
    """One TensorFlow function, called with what the config's node says.

    arguments: positional and keyword arguments with a `Slot` for each tensor, since Keras takes no mixture of both.
    """

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, Any] = ((), {}), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.function = function
        self.arguments = Wrapped(arguments)

    def for_call(self, args: Any, kwargs: Any, index: int) -> tuple[FunctionLayer, list[Any]]:
        """The layer of one call, and the tensors that it takes."""
        tensors: list[Any] = []
        arguments = (_slotted(list(args), tensors), _slotted(dict(kwargs), tensors))
        name = f"{self.name}_{index}" if index else self.name
        return FunctionLayer(self.function, arguments, name=name, dtype="float32", autocast=False), tensors

    def call(self, tensors: Any) -> Any:
        args, kwargs = self.arguments.value
        kwargs = {key: _filled(value, tensors) for key, value in kwargs.items() if key != "name"}
        return self.function(*(_filled(a, tensors) for a in args), **kwargs)


class Wrapped:
    """Plain data that Keras is not to track: it would turn the lists and dicts of a layer into its own."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _slotted(value: Any, tensors: list[Any]) -> Any:
    if isinstance(value, keras.KerasTensor):
        tensors.append(value)
        return Slot(len(tensors) - 1)
    if isinstance(value, Mapping):
        return {k: _slotted(v, tensors) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_slotted(v, tensors) for v in value]
    return value


def _filled(value: Any, tensors: Any) -> Any:
    """`value` decoded, with its tensors in their places."""
    if isinstance(value, Slot):
        return tensors[value.index]
    if isinstance(value, Mapping):
        if value.get("class_name") in ("TensorShape", "__tuple__") and isinstance(value.get("items"), list):
            return [_filled(v, tensors) for v in value["items"]]
        return {k: _filled(v, tensors) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_filled(v, tensors) for v in value]
    return value


class OpLayer(keras.layers.Layer):  # type: ignore[misc]
    """One TensorFlow op given by its NodeDef, with constants for some of its inputs."""

    def __init__(self, node_def: Any, constants: Mapping[int, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.node = node_def
        self.constants = dict(constants)
        self.run = tf.function(self._run, autograph=False)

    def call(self, inputs: Any) -> Any:
        values = iter(inputs if isinstance(inputs, (list, tuple)) else [inputs])
        count = sum(1 for name in self.node.input if not name.startswith("^"))
        given = [self.constants[i] if i in self.constants else next(values) for i in range(count)]
        return self.run(*given)

    def _run(self, *given: Any) -> Any:
        graph_def = tf.compat.v1.GraphDef()
        feeds = {}
        node = graph_def.node.add()
        node.CopyFrom(self.node)
        node.name = "op"
        node.device = ""
        del node.input[:]
        for i, value in enumerate(given):
            tensor = tf.convert_to_tensor(value, self._dtype(i, value))
            source = graph_def.node.add(name=f"given_{i}", op="Placeholder")
            source.attr["dtype"].type = tensor.dtype.as_datatype_enum
            node.input.append(f"given_{i}")
            feeds[f"given_{i}:0"] = tensor
        (made,) = tf.graph_util.import_graph_def(graph_def, input_map=feeds, return_elements=["op"], name="")
        return made.outputs[0] if len(made.outputs) == 1 else list(made.outputs)

    def _dtype(self, index: int, value: Any) -> Any:
        """Constants come from JSON: a list of whole numbers is an index, any other number has the op's dtype `T`."""
        if index not in self.constants:
            return None
        flat = tf.nest.flatten(value)
        is_index = all(isinstance(item, int) for item in flat) and "T" in self.node.attr
        kind = tf.as_dtype(self.node.attr["T"].type) if "T" in self.node.attr else None
        if kind is not None and (kind.is_floating and not is_index):
            return kind
        if kind is not None and self.node.op in _ELEMENTWISE:
            return kind
        return tf.int32 if is_index else None


def parse_node_def(value: Any) -> Any:
    """The NodeDef in a config, written as JSON text or as an object; None where it is neither."""
    from google.protobuf import json_format

    node = tf.compat.v1.NodeDef()
    try:
        data = json.loads(value) if isinstance(value, str) else value
        json_format.ParseDict(data, node)
    except (ValueError, TypeError, json_format.ParseError):
        return None
    return node


_ELEMENTWISE = frozenset({"Add", "AddV2", "Sub", "Mul", "RealDiv", "Div", "Maximum", "Minimum", "Pow", "FloorDiv",
                          "FloorMod", "BiasAdd", "SquaredDifference", "Greater", "GreaterEqual", "Less", "LessEqual",
                          "Equal", "NotEqual", "MatMul", "AddN"})  # fmt: skip


def _getitem(tensor: Any, slice_spec: Any) -> Any:
    specs = slice_spec if isinstance(slice_spec, (list, tuple)) else [slice_spec]
    return tensor[tuple(_slice(item) for item in specs)]


def _slice(item: Any) -> Any:
    if isinstance(item, Mapping):
        if "value" in item:
            return Ellipsis if item["value"] in ("ellipsis", "Ellipsis") else item["value"]
        if item.get("class_name") == "__ellipsis__":
            return Ellipsis
        return slice(item.get("start"), item.get("stop"), item.get("step"))
    return Ellipsis if item in ("Ellipsis", "...") else item


_OPERATORS: Mapping[str, Callable[..., Any]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "radd": lambda x, y: y + x,
    "rsub": lambda x, y: y - x,
    "mul": lambda x, y: x * y,
    "rmul": lambda x, y: y * x,
    "truediv": lambda x, y: x / y,
    "rtruediv": lambda x, y: y / x,
    "matmul": lambda x, y: tf.matmul(x, y),
    "pow": lambda x, y: x**y,
    "rpow": lambda x, y: y**x,
    "mod": lambda x, y: x % y,
    "rmod": lambda x, y: y % x,
    "floordiv": lambda x, y: x // y,
    "rfloordiv": lambda x, y: y // x,
    "rmatmul": lambda x, y: tf.matmul(y, x),
    "neg": lambda x: -x,
    "abs": tf.abs,
    "lt": tf.less,
    "le": tf.less_equal,
    "gt": tf.greater,
    "ge": tf.greater_equal,
    "and": tf.logical_and,
    "or": tf.logical_or,
    "xor": tf.math.logical_xor,
    "invert": tf.logical_not,
    "eq": lambda x, y: tf.equal(x, y),
    "ne": lambda x, y: tf.not_equal(x, y),
    "getitem": _getitem,
}
