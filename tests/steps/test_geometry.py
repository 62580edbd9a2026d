"""Crops, borders, flips and turns against NumPy and OpenCV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from pbcompile.errors import SpecError
from pbcompile.reference.geometry import REFERENCE
from pbcompile.steps.geometry import CenterCrop, Crop, Flip, Pad, Rotate90
from pbcompile.tensor_type import TensorType
from tests.steps.differential import Differential, picture

differential = Differential(REFERENCE)
DTYPES = ("uint8", "float32")
quick = settings(max_examples=40, deadline=None, derandomize=True)


def image(*size: int | None) -> TensorType:
    return TensorType("uint8", (None, *size, 3), "NHWC", "RGB", (0, 255))


@pytest.mark.parametrize(
    ("step", "size"),
    [
        (Crop(top=2, left=3, height=4, width=5), (4, 5)),
        (Crop(top=-4, left=-5), (4, 5)),
        (Crop(top=-4, height=2), (2, 13)),
        (Crop(height=-3, width=-1), (8, 12)),
        (Crop(top=1, left=2), (10, 11)),
        (Crop(), (11, 13)),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_crop_is_numpy_slicing(step: Crop, size: tuple[int, int], dtype: str) -> None:
    x = picture("noise", (2, 11, 13, 3), dtype)
    assert differential.reference(step, x).shape[1:3] == size
    differential.check(step, x)


@pytest.mark.parametrize(
    "step", [Crop(top=8, height=4), Crop(top=-12), Crop(height=-11), Crop(left=13), Crop(width=14)]
)
def test_a_crop_outside_of_the_image_is_refused_when_checked_and_when_fed(step: Crop) -> None:
    with pytest.raises(SpecError, match="the crop goes from"):
        step.check(image(11, 13))
    open_image = image(None, None)
    step.check(open_image)
    fed = tf.function(
        lambda x: step.emit(x, open_image), input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)]
    )
    with pytest.raises(tf.errors.InvalidArgumentError):
        fed(np.zeros((1, 11, 13, 3), np.uint8))


@pytest.mark.parametrize("like", ["opencv", "pillow", "tensorflow"])
@quick
@given(height=st.integers(5, 30), width=st.integers(5, 30))
def test_center_crop_rounds_as_its_library(like: str, height: int, width: int) -> None:
    differential.check(CenterCrop(size=(4, 5), like=like), picture("noise", (1, height, width, 3)))


@quick
@given(height=st.integers(1, 60), width=st.integers(1, 60), fraction=st.sampled_from((1.0, 0.875, 0.5, 0.33, 0.1)))
def test_center_crop_by_fraction_is_central_crop(height: int, width: int, fraction: float) -> None:
    step = CenterCrop(fraction=fraction)
    x = picture("noise", (1, height, width, 1))
    differential.check(step, x)
    np.testing.assert_array_equal(tf.image.central_crop(x, fraction), differential.reference(step, x))


def test_center_crop_wants_like_only_where_a_pixel_is_odd() -> None:
    assert CenterCrop(size=(224, 224)).check(image(256, 300)).size == (224, 224)
    for size in ((257, 300), (None, None)):
        with pytest.raises(SpecError, match="odd pixel"):
            CenterCrop(size=(224, 224)).check(image(*size))


def test_center_crop_says_what_does_not_fit() -> None:
    with pytest.raises(SpecError, match="a width of 200, less than the 224"):
        CenterCrop(size=(224, 224), pointer="/inputs/image/preprocess/0").check(image(256, 200))
    with pytest.raises(SpecError, match="either"):
        CenterCrop().check(image(8, 8))
    with pytest.raises(SpecError, match="only tensorflow"):
        CenterCrop(fraction=0.5, like="opencv").check(image(8, 8))


@pytest.mark.parametrize("mode", ["constant", "reflect", "symmetric", "edge"])
@pytest.mark.parametrize("dtype", DTYPES)
@quick
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    sides=st.sampled_from(((0, 0, 0, 0), (1, 2, 3, 4), (0, 5, 0, 0), (20, 0, 7, 31))),
    batch=st.integers(1, 2),
)
def test_pad_shows_the_border_of_opencv(
    mode: str, dtype: str, height: int, width: int, sides: tuple[int, ...], batch: int
) -> None:
    top, bottom, left, right = sides
    step = Pad(top=top, bottom=bottom, left=left, right=right, mode=mode, value=7 if mode == "constant" else 0)
    differential.check(step, picture("noise", (batch, height, width, 3), dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["constant", "edge"])
@pytest.mark.parametrize("align", ["center", "top-left"])
@pytest.mark.parametrize("size", [(10, 12), (9, 12), (6, 7)])
def test_pad_to_a_size(size: tuple[int, int], align: str, mode: str, dtype: str) -> None:
    step = Pad(size=(10, 12), align=align, mode=mode, value=(1, 20, 255) if mode == "constant" else 0)
    differential.check(step, picture("noise", (2, *size, 3), dtype))


def test_pad_to_a_size_lies_where_tensorflow_puts_it() -> None:
    x = picture("noise", (1, 6, 7, 3))
    want = tf.image.resize_with_crop_or_pad(x, 11, 12).numpy()
    np.testing.assert_array_equal(differential.emitted(Pad(size=(11, 12)), x, is_open=True), want)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Pad(value=(1, 2)), "2 numbers"),
        (Pad(value=256), "256 is no value of uint8"),
        (Pad(value=0.5), "0.5 is no value"),
        (Pad(size=(4, 40)), "a height of 11, more than the 4"),
        (Pad(size=(40, 40), top=1), "either"),
    ],
)
def test_pad_says_what_is_wrong(step: Pad, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        step.check(image(11, 13))


@pytest.mark.parametrize(
    "step", [Flip(axis=axis) for axis in ("horizontal", "vertical", "both")] + [Rotate90(turns=n) for n in range(-3, 6)]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_flips_and_turns(step: Flip | Rotate90, dtype: str) -> None:
    differential.check(step, picture("noise", (2, 5, 8, 3), dtype))


def test_image_steps_refuse_what_is_no_image() -> None:
    for step in (Crop(), CenterCrop(size=(2, 2)), Pad(), Flip(), Rotate90()):
        with pytest.raises(SpecError, match=f'"{step.op}" takes an image'):
            step.check(TensorType("float32", (None, 10)))
        with pytest.raises(SpecError, match="transpose to NHWC"):
            step.check(TensorType("uint8", (None, 3, 8, 8), "NCHW"))


def test_steps_read_their_json() -> None:
    step = Pad.from_json({"size": [8, 9], "value": [1, 2, 3]}, "/p/0", Path())
    assert step == Pad(size=(8, 9), value=(1, 2, 3))
    assert step.pointer == "/p/0"
