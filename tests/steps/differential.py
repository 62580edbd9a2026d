"""A step against the library it names: the same numbers, at fixed and at open sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
import tensorflow as tf

from pbcompile.steps.base import Step
from pbcompile.tensor_type import TensorType

HAS_AVX2 = "*AVX2" in cv2.getCPUFeaturesLine()
"""Where OpenCV and Intel IPP inside of it round by the width of a CPU's vectors, we match this one."""

CONTENTS = ("noise", "photo", "gradient", "checkerboard", "constant", "extremes")


def picture(kind: str, shape: tuple[int, ...], dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    """[N, H, W, C] of a kind of content, in 0 … 255."""
    rng = np.random.default_rng([seed, *shape])
    _, h, w, c = shape
    rows, columns = np.mgrid[:h, :w].astype(np.float64)
    if kind == "noise":
        x = rng.uniform(0, 255, shape)
    elif kind == "photo":  # smooth shapes, edges and a little grain
        waves = 127 + 80 * np.sin(rows / 7 + rng.uniform(0, 6))[..., None] * np.cos(
            columns / 11 + rng.uniform(0, 6, c)[:, None, None]
        ).transpose(1, 2, 0)
        edge = 60 * ((columns - w / 2) ** 2 + (rows - h / 2) ** 2 < (min(h, w) / 3) ** 2)[..., None]
        x = waves + edge + rng.normal(0, 3, shape)
    elif kind == "gradient":
        x = np.broadcast_to(((rows * 3 + columns * 2) % 256)[None, ..., None] + np.arange(c), shape)
    elif kind == "checkerboard":
        x = np.broadcast_to((255 * ((rows + columns) % 2))[None, ..., None], shape)
    elif kind == "constant":
        x = np.full(shape, rng.integers(0, 256))
    else:
        x = rng.choice([0, 1, 254, 255], shape)
    x = np.clip(x, 0, 255)
    return np.round(x).astype(dtype) if np.dtype(dtype).kind in "ui" else x.astype(dtype)


class Differential:
    """Runs a step's emitter at fixed and open sizes, and its reference; traces each step once for open sizes."""

    def __init__(self, references: Mapping[type[Step], Callable[[Any, np.ndarray, TensorType], np.ndarray]]) -> None:
        self.references = references
        self.traced: dict[Any, Any] = {}

    def given(self, x: np.ndarray, channels: str = "", *, is_open: bool) -> TensorType:
        shape = (None, None, None, x.shape[3]) if is_open else x.shape
        return TensorType(str(x.dtype), shape, "NHWC", channels, (0, 255))

    def emitted(self, step: Step, x: np.ndarray, channels: str = "", *, is_open: bool) -> np.ndarray:
        given = self.given(x, channels, is_open=is_open)
        promised = step.check(given)
        if is_open:
            key = (step, given)
            if key not in self.traced:
                spec = tf.TensorSpec(given.shape, given.dtype)
                self.traced[key] = tf.function(lambda t: step.emit(t, given), input_signature=[spec])
            result = self.traced[key](x).numpy()
        else:
            result = step.emit(tf.constant(x), given).numpy()
        assert str(result.dtype) == promised.dtype
        for have, want in zip(result.shape, promised.shape, strict=True):
            assert want is None or have == want, (result.shape, promised)
        return result

    def reference(self, step: Step, x: np.ndarray, channels: str = "") -> np.ndarray:
        return self.references[type(step)](step, x, self.given(x, channels, is_open=False))

    def check(
        self, step: Step, x: np.ndarray, channels: str = "", ulps: int = 0, stray: int = 0, *, both: bool = True
    ) -> None:
        """0 differing values, at fixed and, where `both`, at open sizes.

        Or values within `ulps` float32 steps of the largest one; or one level in 1 of 10000 values, `stray` of fewer.
        """
        want = self.reference(step, x, channels)
        for is_open in (False, True) if both else (False,):
            have = self.emitted(step, x, channels, is_open=is_open)
            assert have.shape == want.shape
            assert have.dtype == want.dtype
            if (have != want).any():
                worst = np.abs(have.astype(np.float64) - want).max()
                if ulps and worst <= ulps * np.spacing(np.float32(np.abs(x).max())):
                    continue
                if stray and worst <= 1 and (have != want).sum() <= max(stray, want.size / 10000):
                    continue
                where = np.argwhere(have != want)
                raise AssertionError(
                    f"{step} on {x.shape}, open={is_open}: {len(where)} of {want.size} differ, by up to {worst}, "
                    f"first at {where[0]}"
                )
