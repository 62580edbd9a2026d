"""The algebra of folding, in plain NumPy and float64: no graphs here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Weights = npt.NDArray[Any]
"""Float64, or float32 where they are large."""


@dataclass(frozen=True)
class PerChannel:
    """One number per channel along `axis` of some tensor; `axis` None means the same number everywhere."""

    values: Array
    axis: int | None

    def at(self, axis: int | None) -> PerChannel:
        """The same numbers along another axis (a uniform one stays uniform)."""
        return self if self.axis is None else replace(self, axis=axis)

    def vector(self, channels: int) -> Array:
        """The numbers as [channels]."""
        return np.broadcast_to(self.values, (channels,)).astype(np.float64)

    def part(self, start: int, stop: int) -> PerChannel:
        """The numbers of channels start … stop - 1."""
        return self if self.axis is None else replace(self, values=self.values[start:stop])

    def shaped(self, rank: int) -> Array:
        """The numbers in the shape that broadcasts against a tensor of `rank`: [C], [C, 1, 1], …, or a scalar."""
        if self.axis is None:
            return self.values.reshape(())
        return self.values.reshape((-1,) + (1,) * (rank - 1 - self.axis))

    @property
    def is_zero(self) -> bool:
        """Whether every number is 0."""
        return not self.values.any()

    @property
    def is_positive(self) -> bool:
        """Whether every number is above 0."""
        return bool((self.values > 0).all())


def read_per_channel(value: Array, shape: tuple[int | None, ...]) -> PerChannel | None:
    """`value`, broadcast against a tensor of `shape`, as one number per channel; None where it is anything else.

    None also where broadcasting would make the tensor larger.
    """
    if value.ndim > len(shape):
        return None
    wide = [i for i, size in enumerate(value.shape) if size != 1]
    if not wide:
        return PerChannel(value.reshape(1), None)
    if len(wide) > 1:
        return None
    axis = len(shape) - value.ndim + wide[0]
    if shape[axis] != value.shape[wide[0]]:
        return None
    return PerChannel(value.reshape(-1), axis)


def rounded(values: Array, dtype: str) -> Array:
    """`values` as float32 stores them; half precision is left to the one rounding at the end."""
    return values.astype(np.float32).astype(np.float64) if dtype == "float32" else values


def batch_norm_affine(
    gamma: Array | float, beta: Array | float, mean: Array, variance: Array, epsilon: float, dtype: str = "float64"
) -> tuple[Array, Array]:
    """The scale and shift that batch norm with fixed statistics is: s = γ/√(σ² + ε), rounded as `dtype`, and β − μ·s.

    With the stored s in both, y = x·s + (β − μ·s) has the rounding of s on x − μ alone.
    """
    scale = rounded(np.asarray(gamma / np.sqrt(variance + epsilon), dtype=np.float64), dtype)
    return scale, np.asarray(beta - mean * scale, dtype=np.float64)


def scale_outputs(op: str, weights: Weights, scale: Array, transposed: bool = False) -> Weights:
    """Weights W' with op(x, W') = op(x, W) · scale, one number per output channel.

    Conv [..., in, out]; depthwise [h, w, in, multiplier], output channel in·multiplier + m; transposed
    convolutions (…BackpropInput) [..., out, in]; MatMul [in, out], or [out, in] when `transposed`.
    """
    if op == "DepthwiseConv2dNative":
        return _times(weights, scale.reshape(weights.shape[2:]))
    if op in OUT_BEFORE_IN or transposed:
        return _times(weights, scale[:, None])
    return _times(weights, scale)


def scale_inputs(op: str, weights: Weights, scale: Array, transposed: bool = False) -> Weights:
    """Weights W' with op(x, W') = op(x · scale, W), one number per input channel.

    A grouped convolution has fewer input rows than channels: output block g reads the g-th slice of the inputs.
    """
    if op == "DepthwiseConv2dNative":
        return _times(weights, scale[:, None])
    if op in OUT_BEFORE_IN or transposed:
        return _times(weights, scale)
    rows, outs = weights.shape[-2:]
    groups = len(scale) // rows
    if groups > 1:
        return _times(weights, np.repeat(scale.reshape(groups, rows).T, outs // groups, axis=1))
    return _times(weights, scale[:, None])


def _times(weights: Weights, factors: Array) -> Weights:
    """The product in float64; of float32 weights rounded to float32 at once, without a float64 copy of them."""
    if weights.dtype != np.float32:
        return np.multiply(weights, factors)
    return np.multiply(weights, factors, out=np.empty_like(weights), casting="same_kind")


def response_to_shift(op: str, weights: Weights, shift: Array, transposed: bool = False) -> Array:
    """What op(x, W) gives for x = shift everywhere and no padding: one number per output channel.

    The whole kernel sees the shift, so this is exact only where no output reads padding.
    """
    rows, outs = weights.shape[-2:]
    summed = np.zeros((rows, outs))
    for tap in weights.reshape((-1, rows, outs)):
        summed += tap
    if op == "DepthwiseConv2dNative":
        return np.asarray((summed * shift[:, None]).reshape(-1))
    if transposed:
        return np.asarray(summed @ shift)
    groups = len(shift) // rows
    by_group = summed.reshape(rows, groups, outs // groups)
    return np.asarray(np.einsum("igo,gi->go", by_group, shift.reshape(groups, rows)).reshape(-1))


OUT_BEFORE_IN = frozenset({"Conv2DBackpropInput", "Conv3DBackpropInputV2"})
"""Ops whose weights have the output channels before the input channels."""
