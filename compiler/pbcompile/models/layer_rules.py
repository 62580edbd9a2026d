"""Rules for single layer classes: what each was in older releases, and what it is in Keras 3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pbcompile.models.era import Era
from pbcompile.models.repairs import Repairs


@dataclass
class Layer:
    """What a rule sees: the class as saved, the class to be, and the config to change in place."""

    saved: str
    class_name: str
    name: str
    config: dict[str, Any]
    era: Era
    repairs: Repairs

    def note(self, what: str, departs: bool = False) -> None:
        """Note a change to this layer; see `Repairs.note`."""
        self.repairs.note(what, self.name, departs)


def _groups(layer: Layer) -> None:
    groups = layer.config.get("groups")
    if groups is not None:
        del layer.config["groups"]
        layer.note(f"{layer.class_name}.groups dropped")


def _depthwise(layer: Layer) -> None:
    layer.config.pop("filters", None)


def _keras1_convolution(layer: Layer) -> None:
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


def _locally_connected(layer: Layer) -> None:
    config = layer.config
    for key in ("data_format", "implementation", "padding"):
        value = config.pop(key, None)
        if value == "channels_first":
            config["channels_first"] = True
    for key in ("kernel_size", "strides"):
        if isinstance(config.get(key), int):
            config[key] = [config[key]]


def _zero_padding(layer: Layer) -> None:
    padding = layer.config.get("padding")
    if isinstance(padding, dict):
        sides = [padding.get(f"{side}_pad", 0) for side in ("top", "bottom", "left", "right")]
        layer.config["padding"] = [sides[:2], sides[2:]] if layer.class_name == "ZeroPadding2D" else sides[2:]
        layer.note(f"{layer.class_name}.padding by side read as pairs")
    elif isinstance(padding, list) and len(padding) == 4:
        layer.config["padding"] = [padding[:2], padding[2:]]
        layer.note(f"{layer.class_name}.padding of four numbers read as pairs")


def _upsampling(layer: Layer) -> None:
    old = layer.era.version < (2, 4) and not layer.era.tf
    if old and layer.config.get("interpolation") == "bilinear":
        layer.class_name = "CornerBilinearUpSampling"
        size = layer.config.get("size", [2, 2])
        first = layer.config.pop("data_format", "") == "channels_first"
        layer.config.pop("interpolation")
        layer.config["size"] = [size, size] if isinstance(size, int) else size
        layer.config["channels_first"] = first
        layer.note("UpSampling2D bilinear kept as Keras before 2.4 had it: samples at corners", departs=True)

    if layer.config.get("interpolation") in ("gaussian", "mitchellcubic"):
        size = layer.config.get("size", [2, 2])
        layer.config = {
            "name": layer.name,
            "size": [size, size] if isinstance(size, int) else size,
            "method": layer.config["interpolation"],
            "channels_first": layer.config.get("data_format") == "channels_first",
        }
        layer.class_name = "SmoothUpSampling"


def _merge(layer: Layer) -> None:
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


def _embedding(layer: Layer) -> None:
    layer.config.pop("dropout", None)
    layer.config.pop("sparse", None)


def _maxout(layer: Layer) -> None:
    layer.config.pop("input_dim", None)


def leave_out(layer: Layer) -> None:
    """Augmentation does nothing at inference; RandomCrop alone still crops."""
    layer.config.clear()
    layer.config.update({"name": layer.name, "dtype": "float32"})
    layer.class_name = "Identity"
    layer.note(f"{layer.saved} left out: it only acts in training")


def _layer_normalization(layer: Layer) -> None:
    axis = layer.config.get("axis")
    if isinstance(axis, list) and len(axis) == 1:
        layer.config["axis"] = axis[0]
    if not layer.config.get("rms_scaling"):
        layer.config.pop("rms_scaling", None)


def _identity(layer: Layer) -> None:
    layer.config = {"name": layer.name, "dtype": layer.config.get("dtype", "float32")}
    layer.class_name = "Identity"


def _batch_normalization(layer: Layer) -> None:
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


def _leaky_relu(layer: Layer) -> None:
    if "alpha" in layer.config:
        layer.config["negative_slope"] = layer.config.pop("alpha")
        layer.note("LeakyReLU.alpha read as negative_slope")


def _relu(layer: Layer) -> None:
    for key in ("negative_slope", "threshold"):
        value = layer.config.get(key)
        layer.config[key] = 0.0 if value is None else value


def _input_layer(layer: Layer) -> None:
    config = layer.config
    if "batch_input_shape" in config:
        config["batch_shape"] = config.pop("batch_input_shape")
    if "batch_shape" not in config and "input_shape" in config:
        config["batch_shape"] = [None, *config.pop("input_shape")]
    dtype = config.pop("input_dtype", None) or config.get("dtype")
    config["dtype"] = dtype if isinstance(dtype, str) else "float32"


def _no_rate(layer: Layer) -> None:
    """A dropout layer is the identity at inference; at rate 0 it makes no seed either."""
    for key in ("rate", "stddev"):
        if key in layer.config:
            layer.config[key] = 0.0
    layer.config.pop("noise_shape", None)


def _attention(layer: Layer) -> None:
    for key in ("query_shape", "key_shape", "value_shape", "softmax_robust_masking", "causal"):
        layer.config.pop(key, None)  # `causal` is an argument of the call today, and given there
    if "dropout" in layer.config:
        layer.config["dropout"] = 0.0


def _random_crop(layer: Layer) -> None:
    """Keras 2 resizes at inference, after a crop to the aspect ratio (image_preprocessing.py of 2.6 to 2.15)."""
    if not layer.era.keras3:
        kept: dict[str, Any] = {k: layer.config[k] for k in ("name", "height", "width", "dtype") if k in layer.config}
        layer.config = {**kept, "crop_to_aspect_ratio": True, "data_format": "channels_last"}
        layer.class_name = "Resizing"
        layer.note("RandomCrop read as the resize that it is at inference", departs=True)


def _discretization(layer: Layer) -> None:
    """Keras 3 casts what it is fed to the dtype of the indices, before it compares."""
    if layer.config.get("output_mode", "int") == "int":
        layer.config = {"name": layer.name, "bin_boundaries": layer.config.get("bin_boundaries") or []}
        layer.class_name = "Bucketize"
        layer.note("Discretization compared before its numbers are made whole", departs=True)


def _group_normalization(layer: Layer) -> None:
    if layer.saved == "Addons>InstanceNormalization":
        layer.config["groups"] = -1


RULES: Mapping[str, tuple[Callable[[Layer], None], ...]] = {
    "DepthwiseConv1D": (_groups, _depthwise),
    "DepthwiseConv2D": (_groups, _depthwise),
    "SeparableConv1D": (_groups,),
    "SeparableConv2D": (_groups,),
    "Conv1D": (_keras1_convolution,),
    "Discretization": (_discretization,),
    "GroupNormalization": (_group_normalization,),
    "RandomCrop": (_random_crop,),
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
