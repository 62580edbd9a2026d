"""Channel orders and gray against cv2.cvtColor and PIL.Image.convert."""

from __future__ import annotations

import numpy as np
import pytest

from pbcompile.errors import SpecError
from pbcompile.reference.colour import REFERENCE
from pbcompile.steps.colour import ORDERS, SPACES, ConvertColor
from pbcompile.tensor_type import CHANNEL_COUNT, TensorType
from tests.steps.differential import CONTENTS, HAS_AVX2, Differential, picture

differential = Differential(REFERENCE)


@pytest.mark.parametrize("like", ["opencv", "pillow"])
@pytest.mark.parametrize("to", ORDERS)
@pytest.mark.parametrize("given", ORDERS)
def test_orders_of_uint8(given: str, to: str, like: str) -> None:
    step = ConvertColor(to=to, like=like)
    for content in CONTENTS:
        differential.check(step, picture(content, (2, 61, 83, CHANNEL_COUNT[given])), given)


@pytest.mark.parametrize("to", ORDERS)
@pytest.mark.parametrize("given", ORDERS)
def test_orders_of_float32(given: str, to: str) -> None:
    x = picture("noise", (1, 61, 83, CHANNEL_COUNT[given]), "float32")
    differential.check(ConvertColor(to=to, like="opencv"), x, given, ulps=1)


@pytest.mark.parametrize("like", ["opencv", "pillow"])
def test_gray_of_every_colour(like: str) -> None:
    """A coarse grid over all colours, and 250000 random ones."""
    levels = np.arange(0, 256, 5, dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, levels.size, -1, 3)
    step = ConvertColor(to="GRAY", like=like)
    differential.check(step, grid, "RGB")
    differential.check(step, picture("noise", (1, 500, 500, 3)), "BGR")


@pytest.mark.parametrize(
    ("step", "given", "message"),
    [
        (ConvertColor(to="GRAY"), TensorType("uint8", (1, 4, 4, 3), "NHWC", "RGB"), '"like" is missing'),
        (ConvertColor(to="RGB"), TensorType("uint8", (1, 4, 4, 3), "NHWC"), "are not known"),
        (ConvertColor(to="RGB"), TensorType("int32", (1, 4, 4, 3), "NHWC", "BGR"), "takes uint8 or float32"),
        (ConvertColor(to="RGB"), TensorType("uint8", (1, 4, 4, 3), "NHWC", "LAB"), "RGB and BGR are made of"),
        (ConvertColor(to="GRAY", like="opencv"), TensorType("uint8", (1, 4, 4, 3), "NHWC", "HSV"), "to make GRAY of"),
        (ConvertColor(to="HSV"), TensorType("float32", (1, 4, 4, 3), "NHWC", "RGB"), "made of uint8 colours"),
        (ConvertColor(to="GRAY", like="pillow"), TensorType("float32", (1, 4, 4, 3), "NHWC", "BGR"), "uint8 only"),
    ],
)
def test_what_cannot_be_converted(step: ConvertColor, given: TensorType, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        step.check(given)


@pytest.mark.parametrize("to", ["RGB", "BGR"])
@pytest.mark.parametrize("given", ["YUV", "YCrCb", "HSV"])
def test_colours_out_of_a_space(given: str, to: str) -> None:
    if given == "HSV" and not HAS_AVX2:
        pytest.skip("OpenCV rounds by the width of this CPU's vectors")
    levels = np.array([*range(0, 256, 7), 1, 2, 127, 128, 254, 255], dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, levels.size, -1, 3)
    differential.check(ConvertColor(to=to), grid, given)
    for width in (1, 31, 32, 64, 101):
        differential.check(ConvertColor(to=to), picture("noise", (2, 40, width, 3)), given)


@pytest.mark.parametrize("to", SPACES)
@pytest.mark.parametrize("given", ["RGBA", "BGRA"])
def test_a_space_drops_alpha(given: str, to: str) -> None:
    differential.check(ConvertColor(to=to), picture("noise", (2, 40, 50, 4)), given)


@pytest.mark.parametrize("to", SPACES)
@pytest.mark.parametrize("given", ["RGB", "BGR"])
def test_colour_spaces_of_opencv(given: str, to: str) -> None:
    levels = np.array([*range(0, 256, 7), 1, 2, 127, 128, 254, 255], dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, levels.size, -1, 3)
    differential.check(ConvertColor(to=to), grid, given)
    for content in CONTENTS:
        differential.check(ConvertColor(to=to), picture(content, (2, 99, 101, 3)), given)
