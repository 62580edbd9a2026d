"""Layers that Keras once had and no longer has, written with today's Keras; and what stands for a Lambda.

Each says which release its formula is taken from.
"""

# ruff: noqa: D102  (`build`, `call` and `compute_output_shape` are Keras's hooks; the class says the formula)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from pbcompile.steps.base import Step
from pbcompile.tensor_type import TensorType

_CHANNELS = {1: "GRAY", 3: "RGB", 4: "RGBA"}


class StepsLayer(keras.layers.Layer):  # type: ignore[misc]
    """Steps of the spec in place of a Lambda.  An image is taken as RGB, one channel as gray."""

    def __init__(self, steps: Sequence[Step], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.steps = tuple(steps)

    def call(self, x: Any) -> Any:
        given = TensorType(tf.as_dtype(x.dtype).name, tuple(x.shape))
        if given.rank == 4:
            channels = _CHANNELS.get(given.shape[3] or 0, "")
            given = TensorType(given.dtype, given.shape, "NHWC", channels)
        for step in self.steps:
            emitted = step.check(given)
            x = step.emit(x, given)
            given = emitted
        return x


class TimeDistributed(keras.layers.Layer):  # type: ignore[misc]
    """A layer at every time step: all steps of all samples as one batch.

    Keras runs it step by step; and Keras 3.15 takes the batch size for the number of steps where that is open.
    """

    def __init__(self, layer: keras.layers.Layer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.layer = layer
        self.supports_masking = True

    def build(self, input_shape: Sequence[int | None]) -> None:
        if not self.layer.built:
            self.layer.build((None, *input_shape[2:]))

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        shape = self.layer.compute_output_shape((None, *input_shape[2:]))
        return (input_shape[0], input_shape[1], *shape[1:])

    def call(self, x: Any) -> Any:
        flat = tf.reshape(x, tf.concat([[-1], tf.shape(x)[2:]], 0))
        y = self.layer(tf.ensure_shape(flat, [None, *x.shape[2:]]), training=False)
        y = tf.reshape(y, tf.concat([tf.shape(x)[:2], tf.shape(y)[1:]], 0))
        return tf.ensure_shape(y, self.compute_output_shape(x.shape))


class ThresholdedReLU(keras.layers.Layer):  # type: ignore[misc]
    """x where x > theta, else 0 (Keras 1.0 to 2.15)."""

    def __init__(self, theta: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.theta = float(theta)

    def call(self, x: Any) -> Any:
        return x * ops.cast(x > self.theta, x.dtype)


class SampleNormalization(keras.layers.Layer):  # type: ignore[misc]
    """`BatchNormalization(mode=1)` of Keras 1.0.6 to 1.2: each sample by itself, over the last axis."""

    def __init__(self, epsilon: float = 1e-3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.gamma = self.add_weight(shape=(input_shape[-1],), name="gamma")
        self.beta = self.add_weight(shape=(input_shape[-1],), name="beta")

    def call(self, x: Any) -> Any:
        mean = ops.mean(x, axis=-1, keepdims=True)
        deviation = ops.sqrt(ops.var(x, axis=-1, keepdims=True) + self.epsilon)
        return self.gamma * ((x - mean) / (deviation + self.epsilon)) + self.beta


class BatchStatisticsNormalization(keras.layers.Layer):  # type: ignore[misc]
    """`BatchNormalization(mode=2)` of Keras 1: by the statistics of the batch at hand, at inference too."""

    def __init__(self, axis: int = -1, epsilon: float = 1e-3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis
        self.epsilon = epsilon

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.shape = [1] * len(input_shape)
        self.shape[self.axis] = input_shape[self.axis] or 1
        self.gamma = self.add_weight(shape=(input_shape[self.axis],), name="gamma")
        self.beta = self.add_weight(shape=(input_shape[self.axis],), name="beta")

    def call(self, x: Any) -> Any:
        axes = [i for i in range(len(self.shape)) if i != self.axis % len(self.shape)]
        mean, variance = ops.mean(x, axis=axes, keepdims=True), ops.var(x, axis=axes, keepdims=True)
        normed = (x - mean) / ops.sqrt(variance + self.epsilon)
        return ops.reshape(self.gamma, self.shape) * normed + ops.reshape(self.beta, self.shape)


class MaxoutDense(keras.layers.Layer):  # type: ignore[misc]
    """The largest of `nb_feature` linear maps (Keras 1)."""

    def __init__(self, units: int, nb_feature: int = 4, use_bias: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units, self.features, self.use_bias = units, nb_feature, use_bias

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.kernel = self.add_weight(shape=(self.features, input_shape[-1], self.units), name="kernel")
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.features, self.units), name="bias")

    def call(self, x: Any) -> Any:
        mapped = ops.einsum("bi,fio->bfo", x, self.kernel)
        return ops.max(mapped + self.bias if self.use_bias else mapped, axis=1)


class Highway(keras.layers.Layer):  # type: ignore[misc]
    """t · activation(W x + b) + (1 − t) · x with t = sigmoid(W_carry x + b_carry) (Keras 1)."""

    def __init__(self, activation: Any = "linear", use_bias: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias

    def build(self, input_shape: Sequence[int | None]) -> None:
        size = input_shape[-1]
        self.kernel = self.add_weight(shape=(size, size), name="kernel")
        self.carry = self.add_weight(shape=(size, size), name="carry_kernel")
        if self.use_bias:
            self.bias = self.add_weight(shape=(size,), name="bias")
            self.carry_bias = self.add_weight(shape=(size,), name="carry_bias")

    def call(self, x: Any) -> Any:
        transform, mapped = ops.matmul(x, self.carry), ops.matmul(x, self.kernel)
        if self.use_bias:
            transform, mapped = transform + self.carry_bias, mapped + self.bias
        transform = ops.sigmoid(transform)
        return transform * self.activation(mapped) + (1 - transform) * x


class ParametricSoftplus(keras.layers.Layer):  # type: ignore[misc]
    """alpha · softplus(beta · x) (Keras 1)."""

    def __init__(self, shared_axes: Sequence[int | None] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shared_axes = [axis for axis in shared_axes or () if axis is not None]

    def build(self, input_shape: Sequence[int | None]) -> None:
        shape = _per_feature(input_shape, self.shared_axes)
        self.alphas = self.add_weight(shape=shape, name="alphas")
        self.betas = self.add_weight(shape=shape, name="betas")

    def call(self, x: Any) -> Any:
        return ops.softplus(self.betas * x) * self.alphas


class SReLU(keras.layers.Layer):  # type: ignore[misc]
    """Three straight lines that meet at two learned points (Keras 1)."""

    def __init__(self, shared_axes: Sequence[int | None] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shared_axes = [axis for axis in shared_axes or () if axis is not None]

    def build(self, input_shape: Sequence[int | None]) -> None:
        shape = _per_feature(input_shape, self.shared_axes)
        self.t_left = self.add_weight(shape=shape, name="t_left")
        self.a_left = self.add_weight(shape=shape, name="a_left")
        self.t_right = self.add_weight(shape=shape, name="t_right")
        self.a_right = self.add_weight(shape=shape, name="a_right")

    def call(self, x: Any) -> Any:
        right = self.t_left + ops.abs(self.t_right)
        shifted = x - self.t_left
        centre = ops.minimum(ops.relu(shifted), right - self.t_left) - self.a_left * ops.relu(-shifted)
        return self.t_left + centre + ops.relu(x - right) * self.a_right


class _Grouped:
    """A convolution in groups as one convolution per group, or one depthwise where every channel is a group.

    Keras compiles it by XLA into one op, which TensorFlow 1.15 refuses.
    """

    groups: int
    strides: tuple[int, ...]
    dilation_rate: tuple[int, ...]
    padding: str

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        kernel = tf.convert_to_tensor(kernel)
        if kernel.shape.rank == 4 and kernel.shape[2] == 1 and len(set(self.strides)) == 1:
            depthwise = tf.reshape(kernel, [*kernel.shape[:2], self.groups, kernel.shape[3] // self.groups])
            strides = [1, *self.strides, 1]
            rates = self.dilation_rate
            return tf.nn.depthwise_conv2d(inputs, depthwise, strides, self.padding.upper(), dilations=rates)
        parts = zip(tf.split(inputs, self.groups, -1), tf.split(kernel, self.groups, -1), strict=True)
        whole: Any = super()
        return tf.concat([whole.convolution_op(part, weights) for part, weights in parts], -1)


class GroupedConv1D(_Grouped, keras.layers.Conv1D):  # type: ignore[misc]
    """Conv1D with `groups` above 1, causal or not."""

    def call(self, inputs: Any) -> Any:
        padding, rate = self.padding, self.dilation_rate[0]
        if padding == "causal":
            inputs = tf.pad(inputs, [[0, 0], [rate * (self.kernel_size[0] - 1), 0], [0, 0]])
            padding = "valid"
        kernel = tf.convert_to_tensor(self.kernel)
        parts = zip(tf.split(inputs, self.groups, -1), tf.split(kernel, self.groups, -1), strict=True)
        made = [ops.conv(x, w, self.strides[0], padding, dilation_rate=rate) for x, w in parts]
        outputs = tf.concat(made, -1)
        if self.use_bias:
            outputs = outputs + self.bias
        return self.activation(outputs) if self.activation is not None else outputs


class GroupedConv2D(_Grouped, keras.layers.Conv2D):  # type: ignore[misc]
    """Conv2D with `groups` above 1."""


class GroupedConv3D(_Grouped, keras.layers.Conv3D):  # type: ignore[misc]
    """Conv3D with `groups` above 1."""


class LocallyConnected(keras.layers.Layer):  # type: ignore[misc]
    """LocallyConnected1D and 2D (Keras 1.0 to 2.15): a convolution with its own kernel at every position.

    The kernel is [positions, window · channels, filters], as `implementation=1` of Keras saves it.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Sequence[int],
        strides: Sequence[int] = (1, 1),
        activation: Any = "linear",
        use_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters, self.use_bias = filters, use_bias
        self.kernel_size, self.strides = tuple(kernel_size), tuple(strides)
        self.activation = keras.activations.get(activation)

    def build(self, input_shape: Sequence[int | None]) -> None:
        sizes = [int(size or 0) for size in input_shape[1:-1]]
        spans = zip(sizes, self.kernel_size, self.strides, strict=True)
        self.places = [(size - window) // stride + 1 for size, window, stride in spans]
        count, window = 1, int(input_shape[-1] or 0)
        for place in self.places:
            count *= place
        for size in self.kernel_size:
            window *= size
        self.kernel = self.add_weight(shape=(count, window, self.filters), name="kernel")
        if self.use_bias:
            self.bias = self.add_weight(shape=(*self.places, self.filters), name="bias")

    def call(self, x: Any) -> Any:
        if len(self.places) == 1:
            step, window = self.strides[0], self.kernel_size[0]
            starts = [i * step for i in range(self.places[0])]
            rows = [ops.reshape(x[:, start : start + window], (-1, 1, self.kernel.shape[1])) for start in starts]
            patches = ops.concatenate(rows, axis=1)
        else:
            sizes, strides = [1, *self.kernel_size, 1], [1, *self.strides, 1]
            patches = tf.image.extract_patches(x, sizes, strides, [1, 1, 1, 1], "VALID")
            patches = ops.reshape(patches, (-1, self.kernel.shape[0], self.kernel.shape[1]))
        mapped = ops.einsum("npw,pwf->npf", patches, self.kernel)
        mapped = ops.reshape(mapped, (-1, *self.places, self.filters))
        return self.activation(mapped + self.bias if self.use_bias else mapped)


class FixedSizeDeconvolution(keras.layers.Layer):  # type: ignore[misc]
    """`Deconvolution2D` of Keras 1, which names its output's height and width."""

    def __init__(
        self,
        filters: int,
        kernel_size: Sequence[int],
        size: Sequence[int],
        strides: Sequence[int] = (1, 1),
        padding: str = "valid",
        activation: Any = "linear",
        use_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters, self.use_bias, self.padding = filters, use_bias, padding
        self.kernel_size, self.strides, self.size = tuple(kernel_size), tuple(strides), tuple(size)
        self.activation = keras.activations.get(activation)

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.kernel = self.add_weight(shape=(*self.kernel_size, self.filters, input_shape[-1]), name="kernel")
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.filters,), name="bias")

    def call(self, x: Any) -> Any:
        shape = tf.stack([tf.shape(x)[0], *self.size, self.filters])
        y = tf.nn.conv2d_transpose(x, tf.convert_to_tensor(self.kernel), shape, self.strides, self.padding.upper())
        y = tf.ensure_shape(y, [x.shape[0], *self.size, self.filters])
        return self.activation(y + self.bias if self.use_bias else y)


class CornerBilinearUpSampling(keras.layers.Layer):  # type: ignore[misc]
    """`UpSampling2D(interpolation="bilinear")` of Keras 2.2 and 2.3: samples at corners, not at centres."""

    def __init__(self, size: Sequence[int] = (2, 2), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = tuple(size)

    def call(self, x: Any) -> Any:
        shape = tf.shape(x)
        wanted = tf.stack([shape[1] * self.size[0], shape[2] * self.size[1]])
        y = tf.compat.v1.image.resize_bilinear(x, wanted, align_corners=False, half_pixel_centers=False)
        sizes = [None if s is None else s * f for s, f in zip(x.shape[1:3], self.size, strict=True)]
        return tf.ensure_shape(y, [x.shape[0], *sizes, x.shape[3]])


class SmoothUpSampling(keras.layers.Layer):  # type: ignore[misc]
    """`UpSampling2D` with the kernels of `tf.image.resize` that Keras 3 no longer has: gaussian, mitchellcubic."""

    def __init__(self, size: Sequence[int], method: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size, self.method = tuple(size), method

    def call(self, x: Any) -> Any:
        shape = tf.shape(x)
        wanted = tf.stack([shape[1] * self.size[0], shape[2] * self.size[1]])
        sizes = [None if s is None else s * f for s, f in zip(x.shape[1:3], self.size, strict=True)]
        return tf.ensure_shape(tf.image.resize(x, wanted, self.method), [x.shape[0], *sizes, x.shape[3]])


class Bucketize(keras.layers.Layer):  # type: ignore[misc]
    """`Discretization(output_mode="int")`: how many of the boundaries each number has reached, int64."""

    def __init__(self, bin_boundaries: Sequence[float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.boundaries = [float(b) for b in bin_boundaries]

    def call(self, x: Any) -> Any:
        return tf.cast(tf.raw_ops.Bucketize(input=x, boundaries=list(self.boundaries)), tf.int64)


class ContributedInstanceNormalization(keras.layers.Layer):  # type: ignore[misc]
    """`InstanceNormalization` of keras_contrib 2.0: over all axes but batch and `axis`, epsilon on the deviation."""

    def __init__(
        self, axis: int | None = None, epsilon: float = 1e-3, center: bool = True, scale: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.axis, self.epsilon, self.center, self.scale = axis, epsilon, center, scale

    def build(self, input_shape: Sequence[int | None]) -> None:
        rank = len(input_shape)
        kept = None if self.axis is None else self.axis % rank
        self.reduced = [i for i in range(1, rank) if i != kept]
        size = 1 if self.axis is None else input_shape[self.axis]
        self.broadcast = [1 if i != kept else size for i in range(rank)]
        if self.scale:
            self.gamma = self.add_weight(shape=(size,), name="gamma")
        if self.center:
            self.beta = self.add_weight(shape=(size,), name="beta")

    def call(self, x: Any) -> Any:
        mean = ops.mean(x, axis=self.reduced, keepdims=True)
        x = (x - mean) / (ops.std(x, axis=self.reduced, keepdims=True) + self.epsilon)
        x = x * ops.reshape(self.gamma, self.broadcast) if self.scale else x
        return x + ops.reshape(self.beta, self.broadcast) if self.center else x


class ContributedL2Normalization(keras.layers.Layer):  # type: ignore[misc]
    """`L2Normalization` of ssd_keras: each pixel scaled to length 1 over its channels, then by a learned gamma."""

    def __init__(self, gamma_init: float = 20, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.gamma = self.add_weight(shape=(input_shape[-1],), name="gamma")

    def call(self, x: Any) -> Any:
        return tf.math.l2_normalize(x, -1) * self.gamma


class CosineMerge(keras.layers.Layer):  # type: ignore[misc]
    """`Merge(mode="cos")` of Keras 1: the dot product over the root of the product of both squares."""

    def __init__(self, axes: int | Sequence[int] = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dot = keras.layers.Dot(axes if isinstance(axes, int) else tuple(axes))

    def call(self, inputs: Sequence[Any]) -> Any:
        first, second = inputs
        scale = ops.sqrt(self.dot([first, first]) * self.dot([second, second]))
        return ops.expand_dims(self.dot([first, second]) / ops.maximum(scale, 1e-7), 1)


class ChannelsFirst(keras.layers.Layer):  # type: ignore[misc]
    """A channels-last layer used on channels-first tensors, which TensorFlow's CPU kernels mostly refuse."""

    def __init__(self, layer: keras.layers.Layer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.layer = layer

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.layer.build((input_shape[0], *input_shape[2:], input_shape[1]))

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        shape = tuple(self.layer.compute_output_shape((input_shape[0], *input_shape[2:], input_shape[1])))
        return shape if len(shape) != len(input_shape) else (shape[0], shape[-1], *shape[1:-1])

    def call(self, x: Any) -> Any:
        rank = len(x.shape)
        y = self.layer(ops.transpose(x, (0, *range(2, rank), 1)))
        if len(y.shape) != rank:
            return y
        return ops.transpose(y, (0, rank - 1, *range(1, rank - 1)))


REPLACEMENTS: Mapping[str, type[keras.layers.Layer]] = {
    "TimeDistributed": TimeDistributed,
    "GroupedConv1D": GroupedConv1D,
    "GroupedConv2D": GroupedConv2D,
    "GroupedConv3D": GroupedConv3D,
    "ThresholdedReLU": ThresholdedReLU,
    "SampleNormalization": SampleNormalization,
    "BatchStatisticsNormalization": BatchStatisticsNormalization,
    "MaxoutDense": MaxoutDense,
    "Highway": Highway,
    "ParametricSoftplus": ParametricSoftplus,
    "SReLU": SReLU,
    "LocallyConnected1D": LocallyConnected,
    "LocallyConnected2D": LocallyConnected,
    "CosineMerge": CosineMerge,
    "InstanceNormalization of keras_contrib": ContributedInstanceNormalization,
    "L2Normalization of ssd_keras": ContributedL2Normalization,
    "SmoothUpSampling": SmoothUpSampling,
    "Bucketize": Bucketize,
    "FixedSizeDeconvolution": FixedSizeDeconvolution,
    "CornerBilinearUpSampling": CornerBilinearUpSampling,
}
"""Classes that `build` takes from here and not from `keras.layers`."""


def _per_feature(input_shape: Sequence[int | None], shared_axes: Sequence[int]) -> list[int | None]:
    return [1 if axis in shared_axes else size for axis, size in enumerate(input_shape) if axis]
