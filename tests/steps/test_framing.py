"""Fit and letterbox against ImageOps, Keras, tf.image and the letterbox of the YOLO families."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pbcompile.errors import SpecError
from pbcompile.reference import REFERENCE as ALL
from pbcompile.reference.framing import REFERENCE
from pbcompile.reference.resampling import IS_PILLOW_13
from pbcompile.steps.framing import Fit, Letterbox
from pbcompile.steps.geometry import Crop, Flip, Pad
from pbcompile.steps.resampling import Resize
from pbcompile.tensor_type import TensorType
from tests.steps.differential import CONTENTS, Differential, picture

differential = Differential(REFERENCE)
PILLOW = "pillow" if IS_PILLOW_13 else "pillow-12"
few = settings(max_examples=25, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
sides = {"height": st.integers(1, 120), "width": st.integers(1, 120), "content": st.sampled_from(CONTENTS)}


@pytest.mark.parametrize("like", [PILLOW, "opencv", "tensorflow"])
@pytest.mark.parametrize("method", ["nearest", "linear", "cubic"])
@few
@given(**sides, size=st.sampled_from(((48, 64), (40, 40))))
def test_fit(like: str, method: str, height: int, width: int, content: str, size: tuple[int, int]) -> None:
    x = picture(content, (1, height, width, 3))
    step = Fit(size=size, method=method, like=like)
    differential.check(step, x, stray=200 if (like, method) == ("opencv", "cubic") else 0)


@pytest.mark.parametrize(
    "options",
    [
        {"like": "opencv"},
        {"like": "opencv", "upscale": False, "fill": (1.0, 2.0, 3.0)},
        {"like": "opencv", "align": "top-left", "rounding": "down"},
        {"like": PILLOW},
        {"like": PILLOW, "fill": (9.0, 8.0, 7.0), "align": "top-left"},
        {"like": "tensorflow"},
        {"like": "tensorflow", "align": "top-left", "fill": 12.0},
        {"like": "tensorflow", "pad_first": True, "fill": 3.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["nearest", "linear"])
@few
@given(height=st.integers(4, 120), width=st.integers(4, 120), content=st.sampled_from(CONTENTS))
def test_letterbox(options: dict, method: str, height: int, width: int, content: str) -> None:
    step = Letterbox(size=(64, 80), method=method, **options)
    differential.check(step, picture(content, (1, height, width, 3)))


def test_letterbox_says_where_the_image_lies() -> None:
    step = Letterbox(size=(640, 640), method="linear", like="opencv")
    assert step.placement(480, 640) == (480, 640, 80, 0)
    assert step.placement(1080, 810) == (640, 480, 0, 80)
    assert step.placement(333, 501) == (425, 640, 107, 0)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Letterbox(size=(8, 8), method="linear"), '"like" is missing'),
        (Letterbox(size=(8, 8), method="linear", like="pillow", upscale=False), '"upscale" is a choice of opencv'),
        (Letterbox(size=(8, 8), method="linear", like="opencv", pad_first=True), '"pad_first" goes with'),
        (Letterbox(size=(8, 8), method="linear", like="opencv", fill=300), "300 is no value of uint8"),
        (Letterbox(size=(8, 8), method="linear", like="opencv", fill=(1, 2)), "2 numbers"),
        (Fit(size=(8, 8), method="area", like="pillow"), 'pillow has no method "area"'),
    ],
)
def test_what_is_wrong(step: Fit | Letterbox, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        step.check(TensorType("uint8", (None, 8, 8, 3), "NHWC", "RGB"))


@pytest.mark.parametrize("size", [(1, 200), (300, 2), (81, 1), (80, 1), (2, 1)])
def test_pillow_shows_no_image_that_is_too_thin_for_its_frame(size: tuple[int, int]) -> None:
    for method in ("nearest", "cubic"):
        step = Letterbox(size=(40, 40), method=method, like=PILLOW, fill=(1.0, 2.0, 3.0))
        differential.check(step, picture("noise", (2, *size, 3)))


def test_fit_of_nearest_pixels_measures_in_float() -> None:
    """The box's sides are numbers of single precision in Pillow, and so is their difference."""
    differential.check(Fit(size=(245, 120), method="nearest", like=PILLOW), picture("gradient", (1, 90, 20, 3)))


def test_an_enlarged_image_fills_its_frame() -> None:
    x = np.full((1, 10, 10, 3), 7, np.uint8)
    assert (differential.emitted(Letterbox(size=(64, 64), method="linear", like="opencv"), x, is_open=True) == 7).all()


def test_steps_after_one_another_keep_the_channels_in_sight() -> None:
    """A pad or crop of open size once hid the number of channels from the resize behind it."""
    import tensorflow as tf

    given = TensorType("uint8", (None, None, None, 3), "NHWC", "RGB", (0, 255))
    chain = [
        Pad(size=(50, 60)),
        Crop(top=1),
        Resize(size=(20, 30), method="linear", like="opencv"),
        Flip(axis="vertical"),
    ]

    @tf.function(input_signature=[tf.TensorSpec(given.shape, tf.uint8)])
    def run(x: tf.Tensor) -> tf.Tensor:
        at = given
        for step in chain:
            x, at = step.emit(x, at), step.check(at)
        return x

    x = picture("noise", (1, 41, 33, 3))
    want, at = x, given
    for step in chain:
        want, at = ALL[type(step)](step, want, at), step.check(at)
    np.testing.assert_array_equal(run(x), want)
