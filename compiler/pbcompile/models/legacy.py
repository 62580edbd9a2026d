"""What layers were called, and what their arguments were called, in every Keras since 1.0.

`modernise` turns one layer's config into the class and arguments of Keras 3.  Training-only arguments
(initializers, regularizers, constraints, seeds, dropout inside recurrent cells) are left out: the inference graph
does not have them.  Every other change is noted in `Repairs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pbcompile.models.era import Era
from pbcompile.models.layer_rules import RULES, Layer, leave_out
from pbcompile.models.repairs import Repairs


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
    "Addons>GroupNormalization": "GroupNormalization",
    "Addons>InstanceNormalization": "GroupNormalization",
    "InstanceNormalization": "InstanceNormalization of keras_contrib",
    "L2Normalization": "L2Normalization of ssd_keras",
}
"""Other names of today's classes.  AlphaDropout is nothing at inference, nor is efficientnet's FixedDropout."""
CONTRIBUTED: Mapping[str, frozenset[str]] = {
    "InstanceNormalization": frozenset({"axis", "epsilon", "center", "scale"}),
    "L2Normalization": frozenset({"gamma_init"}),
}
"""Layers of packages that whole families of files have, known by the arguments that they save and no others do."""

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
    class_name: str,
    config: dict[str, Any],
    era: Era,
    repairs: Repairs,
    name: str,
    registered: str = "",
    module: str = "",
) -> Modern:
    """The layer `class_name(**config)` of `era` in the words of Keras 3."""
    plain = _plain_class(class_name, registered, module)
    modern_class = RENAMED_CLASSES.get(plain, plain)
    if plain in CONTRIBUTED and CONTRIBUTED[plain] != {k for k in config if _says_something(k)}:
        modern_class = plain
    if modern_class != class_name:
        repairs.note(f"{class_name} read as {modern_class}", name)
    for key in [k for k in config if k in TRAINING_KEYS or k.endswith(TRAINING_ONLY)]:
        del config[key]
    _keras1_arguments(plain, modern_class, config, repairs, name)
    if modern_class != "InputLayer":
        _drop_input_shape(modern_class, config)
        _policy(config, repairs, name)
    layer = Layer(plain, modern_class, name, config, era, repairs)
    if modern_class.startswith("Random") and modern_class != "RandomCrop":
        leave_out(layer)
    for rule in RULES.get(modern_class, ()):
        rule(layer)
    modern_class, config = layer.class_name, layer.config
    if modern_class in WITH_DATA_FORMAT and config.get("data_format") is None:
        config["data_format"] = "channels_last" if modern_class == "Flatten" else era.data_format
    if modern_class in RECURRENT:
        if plain.startswith("CuDNN"):
            config.update(recurrent_activation="sigmoid", activation="tanh")
            if modern_class == "GRU":
                config["reset_after"] = True
        _recurrent(modern_class, config, era, repairs, name)
    _activations(config, era, repairs, name)
    words: tuple[str, ...] = ("layer", "backward_layer", "cell", "cells", "layers")
    parts: dict[str, Any] = {key: config.pop(key) for key in words if config.get(key) is not None}
    if plain == "TimeDistributedDense":
        parts, modern_class, config = _time_distributed_dense(config, name)
    return Modern(modern_class, {k: _plain_value(v) for k, v in config.items()}, parts)


def _says_something(key: str) -> bool:
    """Whether an argument is the class's own: neither every layer's, nor training's, nor a first layer's shape."""
    shared = {"name", "trainable", "dtype", *SHAPE_KEYS} - {"input_dim"}
    is_training = key in TRAINING_KEYS or key.endswith(TRAINING_ONLY)
    return key == "gamma_init" or (key not in shared and not is_training)


def _plain_class(class_name: str, registered: str, module: str) -> str:
    """The class without its package (`Custom>Name`); a foreign class keeps a mark that nothing built in has."""
    if class_name in RENAMED_CLASSES:
        return class_name
    if ">" in class_name:
        return class_name.split(">")[-1] if class_name.split(">")[-1] in KNOWN_CUSTOM else class_name
    if registered in RENAMED_CLASSES:
        return registered
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
            repairs.note("hard_sigmoid kept as Keras 1 and 2 had it: clip(0.2 x + 0.5, 0, 1)", name, departs=True)
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
        # TensorFlow Addons' gelu is the approximate one or not, as its release says, which the file does not.
        return value if value == "Addons>gelu" or value.endswith("<lambda>") else value.split(">")[-1]
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
