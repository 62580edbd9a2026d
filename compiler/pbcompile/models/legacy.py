"""What layers were called, and what their arguments were called, in every Keras since 1.0.

`modernise` turns one layer's config into the class and arguments of Keras 3.  Training-only arguments
(initializers, regularizers, constraints, seeds, dropout inside recurrent cells) are left out: the inference graph
does not have them.  Every other change is noted in `Repairs`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pbcompile.models.era import Era


class Repairs:
    """Changes made to a file's config, counted by kind."""

    def __init__(self) -> None:
        self._layers: dict[str, list[str]] = {}

    def note(self, what: str, layer: str) -> None:
        """One more layer to which `what` was done."""
        layers = self._layers.setdefault(what, [])
        if layer not in layers:
            layers.append(layer)

    def sentences(self) -> tuple[str, ...]:
        """One sentence per kind of change: `DepthwiseConv2D.groups dropped (13 layers)`."""
        return tuple(
            f"{what} ({layers[0]})" if len(layers) == 1 else f"{what} ({len(layers)} layers)"
            for what, layers in self._layers.items()
        )


@dataclass(frozen=True)
class Modern:
    """A layer as Keras 3 writes it; `parts` are the still unread layers inside it."""

    class_name: str
    config: dict[str, Any]
    parts: dict[str, Any] = field(default_factory=dict)


RENAMED_CLASSES: Mapping[str, str] = {
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "AtrousConvolution1D": "Conv1D",
    "AtrousConvolution2D": "Conv2D",
    "AtrousConv1D": "Conv1D",
    "AtrousConv2D": "Conv2D",
    "Deconvolution2D": "Conv2DTranspose",
    "Deconvolution3D": "Conv3DTranspose",
    "Convolution2DTranspose": "Conv2DTranspose",
    "Convolution3DTranspose": "Conv3DTranspose",
    "Deconv2D": "Conv2DTranspose",
    "Deconv3D": "Conv3DTranspose",
    "SeparableConvolution1D": "SeparableConv1D",
    "SeparableConvolution2D": "SeparableConv2D",
    "DepthwiseConvolution2D": "DepthwiseConv2D",
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
    "CuDNNLSTM": "LSTM",
    "CuDNNGRU": "GRU",
    "LSTMV2": "LSTM",
    "GRUV2": "GRU",
    "DenseFeatures": "DenseFeatures",
    "MaxPool1D": "MaxPooling1D",
    "MaxPool2D": "MaxPooling2D",
    "MaxPool3D": "MaxPooling3D",
    "AvgPool1D": "AveragePooling1D",
    "AvgPool2D": "AveragePooling2D",
    "AvgPool3D": "AveragePooling3D",
    "GlobalMaxPool1D": "GlobalMaxPooling1D",
    "GlobalMaxPool2D": "GlobalMaxPooling2D",
    "GlobalAvgPool1D": "GlobalAveragePooling1D",
    "GlobalAvgPool2D": "GlobalAveragePooling2D",
    "AlphaDropout": "Dropout",
    "FixedDropout": "Dropout",
    "Linear": "Identity",
    "GroupedQueryAttention": "GroupQueryAttention",
}
"""Other names of today's classes.  AlphaDropout is nothing at inference, nor is efficientnet's FixedDropout."""

TRAINING_ONLY = ("_initializer", "_regularizer", "_constraint", "_init")
TRAINING_KEYS = frozenset(
    {
        "init", "inner_init", "forget_bias_init", "W_regularizer", "U_regularizer", "b_regularizer", "W_constraint",
        "U_constraint", "b_constraint", "activity_regularizer", "gamma_regularizer", "beta_regularizer",
        "gamma_constraint", "beta_constraint", "weights", "seed", "unit_forget_bias", "beta_init", "gamma_init",
        "renorm_clipping", "renorm_momentum", "virtual_batch_size", "adjustment", "alpha_initializer", "loss_weights",
        "autocast", "trainable_initial_state", "quantization_config", "rng_type", "synchronized", "fused", "lora_rank",
        "lora_alpha", "shared_object_id", "trainable",
    }
)  # fmt: skip
"""Arguments that only training, or the file's writer, ever looks at."""
SHAPE_KEYS = ("batch_input_shape", "batch_shape", "input_shape", "input_dim", "input_length", "input_dtype")
"""Arguments that say a first layer's input; the reader has taken them before."""

CONVOLUTIONS = frozenset(
    {"Conv1D", "Conv2D", "Conv3D", "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose", "SeparableConv1D",
     "SeparableConv2D", "DepthwiseConv1D", "DepthwiseConv2D", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D",
     "LocallyConnected1D", "LocallyConnected2D"}
)  # fmt: skip
RECURRENT = frozenset({"LSTM", "GRU", "SimpleRNN", "LSTMCell", "GRUCell", "SimpleRNNCell", "ConvLSTM1D", "ConvLSTM2D",
                       "ConvLSTM3D", "RNN", "Bidirectional"})  # fmt: skip
WITH_DATA_FORMAT = (CONVOLUTIONS - {"LocallyConnected1D", "LocallyConnected2D"}) | {
    "MaxPooling1D", "MaxPooling2D", "MaxPooling3D", "AveragePooling1D", "AveragePooling2D", "AveragePooling3D",
    "GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D", "GlobalAveragePooling1D",
    "GlobalAveragePooling2D", "GlobalAveragePooling3D", "ZeroPadding2D", "ZeroPadding3D", "Cropping2D", "Cropping3D",
    "UpSampling2D", "UpSampling3D", "Flatten", "SpatialDropout2D", "SpatialDropout3D", "Resizing", "CenterCrop",
}  # fmt: skip

RENAMED_ARGUMENTS: Mapping[str, str] = {
    "nb_filter": "filters",
    "subsample": "strides",
    "subsample_length": "strides",
    "border_mode": "padding",
    "filter_length": "kernel_size",
    "dim_ordering": "data_format",
    "bias": "use_bias",
    "atrous_rate": "dilation_rate",
    "pool_length": "pool_size",
    "stride": "strides",
    "inner_activation": "recurrent_activation",
    "dropout_W": "dropout",
    "dropout_U": "recurrent_dropout",
}
"""Keras 1 argument to today's, where the value stays as it is."""


def modernise(
    class_name: str, config: dict[str, Any], era: Era, repairs: Repairs, name: str, registered: str = "", module: str = ""
) -> Modern:
    """The layer `class_name(**config)` of `era` in the words of Keras 3."""
    plain = _plain_class(class_name, registered, module)
    modern_class = RENAMED_CLASSES.get(plain, plain)
    if modern_class != class_name:
        repairs.note(f"{class_name} read as {modern_class}", name)
    for key in [k for k in config if k in TRAINING_KEYS or k.endswith(TRAINING_ONLY)]:
        del config[key]
    _keras1_arguments(plain, modern_class, config, repairs, name)
    if modern_class != "InputLayer":
        _drop_input_shape(modern_class, config)
        _policy(config, repairs, name)
    layer = _Layer(plain, modern_class, name, config, era, repairs)
    if modern_class.startswith("Random") and modern_class != "RandomCrop":
        _random(layer)
    for rule in RULES.get(modern_class, ()):
        rule(layer)
    modern_class, config = layer.class_name, layer.config
    if modern_class in WITH_DATA_FORMAT and config.get("data_format") is None:
        config["data_format"] = "channels_last" if modern_class == "Flatten" else era.data_format
    if modern_class in RECURRENT:
        _recurrent(modern_class, config, era, repairs, name)
    _activations(config, era, repairs, name)
    words: tuple[str, ...] = ("layer", "backward_layer", "cell", "cells", "layers")
    parts: dict[str, Any] = {key: config.pop(key) for key in words if config.get(key) is not None}
    if plain == "TimeDistributedDense":
        parts, modern_class, config = _time_distributed_dense(config, name)
    return Modern(modern_class, {k: _plain_value(v) for k, v in config.items()}, parts)


@dataclass
class _Layer:
    """What a rule sees: the class as saved, the class to be, and the config to change in place."""

    saved: str
    class_name: str
    name: str
    config: dict[str, Any]
    era: Era
    repairs: Repairs

    def note(self, what: str) -> None:
        self.repairs.note(what, self.name)


def _plain_class(class_name: str, registered: str, module: str) -> str:
    """The class without its package (`Custom>Name`); a foreign module's class keeps a mark that nothing built in has."""
    if ">" in class_name:
        return class_name.split(">")[-1] if class_name.split(">")[-1] in KNOWN_CUSTOM else class_name
    foreign = bool(module) and module.split(".")[0] not in ("keras", "tf_keras", "tensorflow", "keras_core", "builtins")
    if foreign or (">" in registered and not registered.startswith("keras")):
        return class_name if class_name in KNOWN_CUSTOM else registered or f"{module}>{class_name}"
    return class_name


KNOWN_CUSTOM = frozenset({"FixedDropout"})
"""Classes of well-known packages that mean the same as a built-in one at inference."""


def _keras1_arguments(plain: str, modern: str, config: dict[str, Any], repairs: Repairs, name: str) -> None:
    for old, new in RENAMED_ARGUMENTS.items():
        if old not in config or new in config:
            continue
        if old == "stride" and "Pooling" not in modern:
            continue
        value = config.pop(old)
        if old in ("dropout_W", "dropout_U"):
            continue
        if old == "dim_ordering":
            value = {"tf": "channels_last", "th": "channels_first"}.get(value, "channels_last")
        config[new] = value
        repairs.note(f"{plain}.{old} read as {new}", name)
    if {"nb_row", "nb_col"} <= config.keys():
        depth = [config.pop(k) for k in ("kernel_dim1", "kernel_dim2", "kernel_dim3") if k in config]
        config["kernel_size"] = depth or [config.pop("nb_row"), config.pop("nb_col")]
        repairs.note(f"{plain}.nb_row and nb_col read as kernel_size", name)
    if "kernel_dim1" in config:
        config["kernel_size"] = [config.pop(k) for k in ("kernel_dim1", "kernel_dim2", "kernel_dim3")]
        repairs.note(f"{plain}.kernel_dim1, 2, 3 read as kernel_size", name)
    if "output_dim" in config and modern != "Embedding":
        config["units"] = config.pop("output_dim")
        repairs.note(f"{plain}.output_dim read as units", name)
    if "p" in config and "Dropout" in modern:
        config["rate"] = config.pop("p")
        repairs.note(f"{plain}.p read as rate", name)
    if modern == "GaussianNoise" and "sigma" in config:
        config["stddev"] = config.pop("sigma")
    if config.get("padding") == "half":
        config["padding"] = "same"
    if modern in ("UpSampling1D", "RepeatVector") and "length" in config:
        config["size"] = config.pop("length")


def _drop_input_shape(class_name: str, config: dict[str, Any]) -> None:
    for key in SHAPE_KEYS:
        if not (class_name == "Embedding" and key == "input_dim"):
            config.pop(key, None)


def _policy(config: dict[str, Any], repairs: Repairs, name: str) -> None:
    """Dtype policies of Keras 2 (`Policy`, `PolicyV1`) and 3 (`DTypePolicy`) become their name."""
    policy = config.get("dtype")
    if isinstance(policy, dict):
        inner = policy.get("config") if isinstance(policy.get("config"), dict) else {}
        class_name = policy.get("class_name")
        if class_name in ("Policy", "PolicyV1", "DTypePolicy", "FloatDTypePolicy"):
            config["dtype"] = (inner or {}).get("name") or "float32"
            if class_name != "DTypePolicy":
                repairs.note(f"dtype {class_name} read as its name", name)
    if config.get("dtype") is None:
        config["dtype"] = "float32"


def _recurrent(class_name: str, config: dict[str, Any], era: Era, repairs: Repairs, name: str) -> None:
    for key in ("dropout", "recurrent_dropout"):
        config.pop(key, None)
    for key in ("consume_less", "implementation", "time_major", "enable_caching_device", "use_legacy_reset", "states"):
        config.pop(key, None)
    if config.get("stateful"):
        repairs.note("stateful dropped: every call starts from zero state", name)
    if class_name.startswith(("LSTM", "GRU", "SimpleRNN")) and not class_name.endswith("Cell"):
        config.pop("num_constants", None)
    config.pop("stateful", None)
    if class_name in ("LSTM", "GRU"):
        config["use_cudnn"] = False
    if class_name in ("LSTM", "GRU", "ConvLSTM2D", "LSTMCell", "GRUCell") and era.version < (2, 3):
        config.setdefault("recurrent_activation", "hard_sigmoid")
    if class_name in ("GRU", "GRUCell"):
        config.setdefault("reset_after", era.keras3)


def _time_distributed_dense(config: dict[str, Any], name: str) -> tuple[dict[str, Any], str, dict[str, Any]]:
    inner = {"class_name": "Dense", "config": {**config, "name": f"{name}_dense"}}
    return {"layer": inner}, "TimeDistributed", {"name": name, "dtype": config.get("dtype", "float32")}


def _activations(config: dict[str, Any], era: Era, repairs: Repairs, name: str) -> None:
    for key in ("activation", "recurrent_activation"):
        if key not in config:
            continue
        value = activation_name(config[key])
        if value == "hard_sigmoid" and not era.keras3:
            repairs.note("hard_sigmoid kept as Keras 1 and 2 had it: clip(0.2 x + 0.5, 0, 1)", name)
            value = "hard_sigmoid_of_keras2"
        config[key] = value


def activation_name(value: object) -> object:
    """An activation as a plain name where it is one: `relu6` for the ways in which files write functions."""
    if isinstance(value, dict):
        if value.get("class_name") == "function":
            inner = value.get("config")
            return activation_name(inner) if isinstance(inner, str) else value
        return value
    if isinstance(value, str):
        return value.split(">")[-1]
    return "linear" if value is None else value


def _plain_value(value: Any) -> Any:
    """NumPy arrays and tuples that Keras 3 wraps, as plain lists."""
    if isinstance(value, dict):
        if value.get("class_name") in ("__numpy__", "__tensor__"):
            return (value.get("config") or {}).get("value")
        if value.get("class_name") == "__tuple__":
            items = value.get("items")
            return [_plain_value(v) for v in items] if isinstance(items, list) else value
        return {k: _plain_value(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain_value(v) for v in value]
    return value


# -- rules for single classes


def _groups(layer: _Layer) -> None:
    groups = layer.config.get("groups")
    if groups is not None:
        del layer.config["groups"]
        layer.note(f"{layer.class_name}.groups dropped")


def _depthwise(layer: _Layer) -> None:
    layer.config.pop("filters", None)


def _keras1_convolution(layer: _Layer) -> None:
    config = layer.config
    if isinstance(config.get("kernel_size"), int) and layer.class_name == "Conv1D":
        config["kernel_size"] = [config["kernel_size"]]
    if layer.saved == "Deconvolution2D" and isinstance(config.get("output_shape"), list):
        shape = config.pop("output_shape")
        first = config.get("data_format") == "channels_first"
        config["size"] = shape[2:4] if first else shape[1:3]
        layer.class_name = "FixedSizeDeconvolution"
        for key in ("data_format", "dilation_rate"):
            config.pop(key, None)
        config["channels_first"] = first


def _locally_connected(layer: _Layer) -> None:
    config = layer.config
    for key in ("data_format", "implementation", "padding"):
        value = config.pop(key, None)
        if value == "channels_first":
            config["channels_first"] = True
    for key in ("kernel_size", "strides"):
        if isinstance(config.get(key), int):
            config[key] = [config[key]]


def _zero_padding(layer: _Layer) -> None:
    padding = layer.config.get("padding")
    if isinstance(padding, dict):
        sides = [padding.get(f"{side}_pad", 0) for side in ("top", "bottom", "left", "right")]
        layer.config["padding"] = [sides[:2], sides[2:]] if layer.class_name == "ZeroPadding2D" else sides[2:]
        layer.note(f"{layer.class_name}.padding by side read as pairs")
    elif isinstance(padding, list) and len(padding) == 4:
        layer.config["padding"] = [padding[:2], padding[2:]]
        layer.note(f"{layer.class_name}.padding of four numbers read as pairs")


def _upsampling(layer: _Layer) -> None:
    old = layer.era.version < (2, 4) and not layer.era.tf
    if old and layer.config.get("interpolation") == "bilinear":
        layer.class_name = "CornerBilinearUpSampling"
        size = layer.config.get("size", [2, 2])
        first = layer.config.pop("data_format", "") == "channels_first"
        layer.config.pop("interpolation")
        layer.config["size"] = [size, size] if isinstance(size, int) else size
        layer.config["channels_first"] = first
        layer.note("UpSampling2D bilinear kept as Keras before 2.4 had it: samples at corners")


def _merge(layer: _Layer) -> None:
    """Merge of Keras 1: one class for what are eight today."""
    config = layer.config
    mode = config.pop("mode", "sum")
    config.pop("mode_type", None)
    axis, dot_axes = config.pop("concat_axis", -1), config.pop("dot_axes", -1)
    for key in MERGE_KEYS:
        config.pop(key, None)
    layer.class_name = MERGE_MODES.get(mode if isinstance(mode, str) else "", "Merge of stored code")
    if mode == "concat":
        config["axis"] = axis
    if mode in ("dot", "cos"):
        config["axes"] = dot_axes
    layer.note(f"Merge read as {layer.class_name}")


MERGE_MODES = {"sum": "Add", "mul": "Multiply", "ave": "Average", "max": "Maximum", "concat": "Concatenate",
               "dot": "Dot", "cos": "CosineMerge"}  # fmt: skip
MERGE_KEYS = ("output_shape", "output_shape_type", "output_mask", "output_mask_type", "arguments", "node_indices",
              "tensor_indices")  # fmt: skip


def _embedding(layer: _Layer) -> None:
    layer.config.pop("dropout", None)
    layer.config.pop("sparse", None)


def _maxout(layer: _Layer) -> None:
    layer.config.pop("input_dim", None)


def _random(layer: _Layer) -> None:
    """Augmentation does nothing at inference; RandomCrop alone still crops."""
    layer.config.clear()
    layer.config.update({"name": layer.name, "dtype": "float32"})
    layer.class_name = "Identity"
    layer.note(f"{layer.saved} left out: it only acts in training")


def _layer_normalization(layer: _Layer) -> None:
    axis = layer.config.get("axis")
    if isinstance(axis, list) and len(axis) == 1:
        layer.config["axis"] = axis[0]
    if not layer.config.get("rms_scaling"):
        layer.config.pop("rms_scaling", None)


def _identity(layer: _Layer) -> None:
    layer.config = {"name": layer.name, "dtype": layer.config.get("dtype", "float32")}
    layer.class_name = "Identity"


def _batch_normalization(layer: _Layer) -> None:
    config = layer.config
    axis = config.get("axis")
    if isinstance(axis, (list, tuple)) and len(axis) == 1:
        config["axis"] = axis[0]
        layer.note("BatchNormalization.axis list read as its only axis")
    mode = config.pop("mode", 0)
    if mode == 1:
        layer.class_name = "SampleNormalization"
        for key in ("axis", "momentum"):
            config.pop(key, None)
        layer.note("BatchNormalization(mode=1) read as normalization of each sample")
    elif mode == 2:
        layer.class_name = "BatchStatisticsNormalization"
        config.pop("momentum", None)
        layer.note("BatchNormalization(mode=2) kept: it uses the statistics of the batch that is fed")
    elif layer.era.version < (1, 0, 6):
        # Keras 1.0.0 to 1.0.5: (x - mean) / (running_std + epsilon), with a standard deviation.
        config["saved_epsilon"] = config.get("epsilon", 1e-6)
        config["epsilon"] = 0.0
        layer.note("running_std of Keras 1.0 read as a standard deviation")


def _leaky_relu(layer: _Layer) -> None:
    if "alpha" in layer.config:
        layer.config["negative_slope"] = layer.config.pop("alpha")
        layer.note("LeakyReLU.alpha read as negative_slope")


def _relu(layer: _Layer) -> None:
    for key in ("negative_slope", "threshold"):
        value = layer.config.get(key)
        layer.config[key] = 0.0 if value is None else value


def _input_layer(layer: _Layer) -> None:
    config = layer.config
    if "batch_input_shape" in config:
        config["batch_shape"] = config.pop("batch_input_shape")
    if "batch_shape" not in config and "input_shape" in config:
        config["batch_shape"] = [None, *config.pop("input_shape")]
    dtype = config.pop("input_dtype", None) or config.get("dtype")
    config["dtype"] = dtype if isinstance(dtype, str) else "float32"


def _no_rate(layer: _Layer) -> None:
    """A dropout layer is the identity at inference; at rate 0 it makes no seed either."""
    for key in ("rate", "stddev"):
        if key in layer.config:
            layer.config[key] = 0.0
    layer.config.pop("noise_shape", None)


def _attention(layer: _Layer) -> None:
    for key in ("query_shape", "key_shape", "value_shape"):
        layer.config.pop(key, None)
    if "dropout" in layer.config:
        layer.config["dropout"] = 0.0


RULES: Mapping[str, tuple[Callable[[_Layer], None], ...]] = {
    "DepthwiseConv1D": (_groups, _depthwise),
    "DepthwiseConv2D": (_groups, _depthwise),
    "SeparableConv1D": (_groups,),
    "SeparableConv2D": (_groups,),
    "Conv1D": (_keras1_convolution,),
    "Conv2DTranspose": (_keras1_convolution, _groups),
    "Conv1DTranspose": (_groups,),
    "Conv3DTranspose": (_keras1_convolution, _groups),
    "BatchNormalization": (_batch_normalization,),
    "AtrousConv1D": (_keras1_convolution,),
    "LocallyConnected1D": (_locally_connected,),
    "LocallyConnected2D": (_locally_connected,),
    "ZeroPadding1D": (_zero_padding,),
    "ZeroPadding2D": (_zero_padding,),
    "UpSampling2D": (_upsampling,),
    "Merge": (_merge,),
    "MaxoutDense": (_maxout,),
    "Highway": (_maxout,),
    "Embedding": (_embedding,),
    "LayerNormalization": (_layer_normalization,),
    "ActivityRegularization": (_identity,),
    "LeakyReLU": (_leaky_relu,),
    "ReLU": (_relu,),
    "InputLayer": (_input_layer,),
    "Dropout": (_no_rate,),
    "SpatialDropout1D": (_no_rate,),
    "SpatialDropout2D": (_no_rate,),
    "SpatialDropout3D": (_no_rate,),
    "GaussianDropout": (_no_rate,),
    "GaussianNoise": (_no_rate,),
    "MultiHeadAttention": (_attention,),
    "Attention": (_attention,),
    "AdditiveAttention": (_attention,),
    "GroupQueryAttention": (_attention,),
}
