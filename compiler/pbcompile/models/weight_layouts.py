"""How each Keras laid out the weights of a layer, and what today's layer wants instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pbcompile.models.era import Era
from pbcompile.models.network import LayerSpec
from pbcompile.models.repairs import Repairs

if TYPE_CHECKING:
    import keras

Array = npt.NDArray[Any]
CONVOLUTIONS = ("Conv1D", "Conv2D", "Conv3D", "Conv2DTranspose", "FixedSizeDeconvolution", "ConvLSTM2D")
"""Layers whose kernels Theano turns around; all that it had."""
GATES = {"LSTM": 12, "GRU": 9, "ConvLSTM2D": 12}
"""Arrays that Keras 1 saved for a recurrent layer: input, recurrent and bias per gate."""


def weights_of(layer: Any) -> list[Any]:
    """The variables of a layer, none for an operation."""
    return list(getattr(layer, "weights", ()))


def saved_count(spec: LayerSpec, layer: keras.Layer, era: Era) -> tuple[int, int]:
    """How many arrays the file should have for a layer: trainable, and others."""
    fixed = sum(1 for variable in layer.weights if _is_statistic(variable))
    inner = spec.parts.get("layer")
    if era.keras1 and isinstance(inner, LayerSpec) and spec.class_name == "Bidirectional":
        return 2 * _keras1_gates(inner, len(layer.weights) // 2), 0
    return _keras1_gates(spec, len(layer.weights) - fixed) if era.keras1 else len(layer.weights) - fixed, fixed


def _keras1_gates(spec: LayerSpec, count: int) -> int:
    """Keras 1 saved each gate by itself, but for `consume_less="gpu"`."""
    is_joined = spec.saved_config.get("consume_less") == "gpu" and spec.class_name != "ConvLSTM2D"
    return count if is_joined else GATES.get(spec.class_name, count)


def converted(
    spec: LayerSpec, arrays: Sequence[Array], shapes: Sequence[tuple[int, ...]], era: Era, repairs: Repairs
) -> list[Array]:
    """`arrays` as the file has them, in the layout of today's layer, whose weights have `shapes`."""
    made = list(arrays)
    inner = spec.parts.get("layer")
    if spec.class_name == "Bidirectional" and isinstance(inner, LayerSpec):
        half, middle = len(made) // 2, len(shapes) // 2
        backward = spec.parts.get("backward_layer")
        second = backward if isinstance(backward, LayerSpec) else inner
        return [
            *converted(inner, made[:half], shapes[:middle], era, repairs),
            *converted(second, made[half:], shapes[middle:], era, repairs),
        ]
    if spec.class_name == "TimeDistributed" and isinstance(inner, LayerSpec):
        return converted(inner, made, shapes, era, repairs)
    if era.keras1:
        made = _from_keras1(spec, made, shapes)
    if era.backend == "theano" and spec.class_name in CONVOLUTIONS:
        repairs.note("kernels flipped, as Theano convolves", spec.name)
        if spec.config.get("padding") == "same" and set(np.ravel(spec.config.get("strides", 1))) != {1}:
            repairs.note("padding same with strides as TensorFlow has it, and Theano pads evenly", spec.name)
        count = 2 if spec.class_name == "ConvLSTM2D" else 1
        made = [flipped(array) if i < count else array for i, array in enumerate(made)]
    if spec.class_name in ("LSTM", "GRU") and made:
        made = _from_cudnn(spec, made, shapes, repairs)
    if spec.class_name in ("BatchStatisticsNormalization", "SampleNormalization"):
        made = made[: len(shapes)]
    if "saved_epsilon" in spec.config and len(made) == 4:
        # Keras 1.0.0 to 1.0.5 divided by (running_std + epsilon); today's layer by sqrt(variance), its epsilon 0.
        made[3] = np.square(made[3] + np.asarray(spec.config["saved_epsilon"], made[3].dtype))
    if spec.class_name == "LocallyConnected2D" and spec.config.get("channels_first"):
        made = _locally_connected(spec, made, shapes)
    return made


def flipped(kernel: Array) -> Array:
    """A kernel [..., in, out] turned around in every spatial direction."""
    return np.ascontiguousarray(kernel[tuple(slice(None, None, -1) for _ in range(kernel.ndim - 2))])


def _from_keras1(spec: LayerSpec, made: list[Array], shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    channels_first = spec.saved_config.get("dim_ordering") == "th"
    name = spec.class_name
    if name == "Conv1D" and made and made[0].ndim == 4:
        # Keras 1.1 and older: [filters, channels, length, 1]; 1.2: [length, 1, channels, filters].
        kernel = made[0]
        if kernel.shape[1] != 1 or kernel.shape[2:] != shapes[0][1:]:
            kernel = np.transpose(kernel, (2, 3, 1, 0))
        made[0] = kernel[:, 0, :, :]
    elif name == "Conv2D" and channels_first:
        made[0] = np.transpose(made[0], (2, 3, 1, 0))
    elif name == "Conv3D" and channels_first:
        made[0] = np.transpose(made[0], (2, 3, 4, 1, 0))
    elif name in ("Conv2DTranspose", "FixedSizeDeconvolution"):
        made[0] = np.transpose(made[0], (2, 3, 0, 1) if channels_first else (0, 1, 3, 2))
    elif name == "SeparableConv2D" and channels_first:
        made[0] = np.transpose(made[0], (2, 3, 1, 0))
        made[1] = np.transpose(made[1], (2, 3, 1, 0))
    elif name == "GRU" and len(made) == 9:
        made = [np.concatenate([made[i] for i in range(start, 9, 3)], axis=-1) for start in range(3)]
    elif name in ("LSTM", "ConvLSTM2D") and len(made) == 12:
        if name == "ConvLSTM2D" and channels_first:
            made = [np.transpose(array, (2, 3, 1, 0)) if array.ndim == 4 else array for array in made]
        # gates i, c, f, o in the file; i, f, c, o today
        made = [np.concatenate([made[i] for i in (k, k + 6, k + 3, k + 9)], axis=-1) for k in range(3)]
    return made


def _from_cudnn(spec: LayerSpec, made: list[Array], shapes: Sequence[tuple[int, ...]], repairs: Repairs) -> list[Array]:
    """CuDNNLSTM and CuDNNGRU store each gate transposed, and two biases."""
    gates = 4 if spec.class_name == "LSTM" else 3
    units = made[1].shape[0] if len(made) == 3 else 0
    if len(made) != 3 or made[2].shape != (2 * units * gates,):
        return made
    if not spec.saved_class.startswith("CuDNN"):
        repairs.note(f"weights of a CuDNN{spec.class_name} read into {spec.class_name}", spec.name)
    kernel = np.hstack([k.T.reshape(k.shape, order="F") for k in np.hsplit(made[0], gates)])
    recurrent = np.hstack([k.T for k in np.hsplit(made[1], gates)])
    bias = made[2].reshape((2, -1)) if spec.class_name == "GRU" else np.sum(np.split(made[2], 2), axis=0)
    return [kernel, recurrent, bias]


def _locally_connected(spec: LayerSpec, made: list[Array], shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Windows were flattened channels first; the bias was read as [filters, rows, columns] whatever its shape."""
    positions, window, filters = made[0].shape
    rows, columns = spec.config["kernel_size"]
    kernel = made[0].reshape(positions, window // (rows * columns), rows, columns, filters)
    made[0] = np.transpose(kernel, (0, 2, 3, 1, 4)).reshape(positions, window, filters)
    if len(made) > 1:
        height, width, _ = shapes[1]
        made[1] = np.transpose(made[1].reshape(filters, height, width), (1, 2, 0))
    return made


def _is_statistic(variable: Any) -> bool:
    return str(variable.name).startswith(("moving_", "mean", "variance", "count", "seed_generator"))
