"""Masks back at the source, colours and image files, against OpenCV and Pillow: ResizeOutput, ColorMap, Encode."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pbcompile.errors import SpecError
from pbcompile.samples import natural_image
from tests.steps.behind import IMAGE, plan_of, run_both

PILLOW = {"method": "cubic", "like": "pillow"}
OPENCV = {"method": "linear", "like": "opencv"}
KERAS = {"method": "linear", "like": "tensorflow"}
SMALL = {"op": "resize", "size": [24, 32]} | OPENCV
CHAINS: dict[str, list[dict[str, Any]]] = {
    "resize": [{"op": "resize", "size": [24, 32]} | OPENCV],
    "letterbox": [{"op": "letterbox", "size": [24, 32]} | OPENCV],
    "letterbox_pillow": [{"op": "letterbox", "size": [24, 32], "align": "top-left"} | PILLOW],
    "letterbox_keras": [
        {"op": "letterbox", "size": [24, 32], "pad_first": True, "method": "linear", "like": "tensorflow"}
    ],
    "resize_crop": [
        {"op": "resize", "shorter_side": 40} | OPENCV,
        {"op": "center_crop", "size": [24, 32], "like": "opencv"},
    ],
    "fit": [{"op": "fit", "size": [24, 32]} | PILLOW],
    "fit_opencv": [{"op": "fit", "size": [24, 32]} | OPENCV],
    "crop_pad": [{"op": "crop", "top": 5, "left": 3, "height": 18, "width": -4}, {"op": "pad", "top": 6, "right": 2}],
    "turned": [
        {"op": "rotate90", "turns": 3},
        {"op": "flip", "axis": "vertical"},
        {"op": "resize", "size": [24, 32]} | OPENCV,
    ],
}
SIZES = [(60, 80), (37, 90), (90, 37), (25, 33)]


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize(
    ("method", "like", "dtype"),
    [
        ("nearest", "opencv", "uint8"),
        ("linear", "opencv", "uint8"),
        ("cubic", "pillow", "uint8"),
        ("linear", "tensorflow", "float32"),
    ],
)
def test_masks_go_back_pixel_by_pixel(tmp_path: Path, chain: str, method: str, like: str, dtype: str) -> None:
    """Sizes known only when fed; a mask of the model's size and one of half of it; with and without channels."""
    image = {"channels": "RGB", "shape": [1, None, None, 3], "preprocess": CHAINS[chain]}
    step = {"op": "resize", "to": "source", "method": method, "like": like, "fill": 9}
    for index, (height, width) in enumerate(SIZES):
        frame = np.zeros((1, height, width, 3), np.uint8)
        shape = (1, 24, 32, 2) if index % 2 else (1, 12, 16)
        if chain == "crop_pad" and index % 2:
            shape = (1, 24, width - 5, 2)
        mask = np.random.default_rng(index).integers(0, 255, shape).astype(dtype)
        have, want = run_both(plan_of(tmp_path, [step], {"m": mask}, image), {"m": mask}, frame)
        assert have["answer"].shape[1:3] == (height, width)
        np.testing.assert_allclose(have["answer"], want["answer"], rtol=0, atol=0 if dtype == "uint8" else 1e-3)


def test_a_mask_is_where_the_thing_was(tmp_path: Path) -> None:
    """Not by the reference: a white square goes through the letterbox and comes back to its place."""
    frame = np.zeros((1, 60, 100, 3), np.uint8)
    frame[0, 12:30, 40:70] = 255
    image = {"channels": "RGB", "preprocess": [{"op": "letterbox", "size": [64, 64], "fill": 0} | OPENCV]}
    from pbcompile.reference.program import preprocess_reference

    step = {"op": "resize", "to": "source", "method": "linear", "like": "opencv"}
    plan = plan_of(tmp_path, [step], {"m": np.zeros((1, 64, 64, 3), np.uint8)}, image)
    mask = preprocess_reference(plan.spec.inputs[0], frame)
    have, _ = run_both(plan, {"m": mask}, frame)
    inside, outside = have["answer"][0, 14:28, 42:68], have["answer"][0, :10]
    assert inside.min() > 250
    assert outside.max() < 5


@pytest.mark.parametrize("dtype", ["uint8", "int64"])
def test_colours_are_those_of_a_palette(tmp_path: Path, dtype: str) -> None:
    numbers = np.random.default_rng(0).integers(0, 21, (2, 9, 7)).astype(dtype)
    plan = plan_of(tmp_path, [{"op": "color_map", "colors": "pascal_voc"}], {"m": numbers.astype("uint8")}, IMAGE)
    have, want = run_both(plan, {"m": numbers.astype("uint8")}, np.zeros((1, 5, 5, 3), np.uint8))
    np.testing.assert_array_equal(have["answer"], want["answer"])
    # The devkit's first classes: background, aeroplane, bicycle, …, person (15).
    from pbcompile.steps.pictures import pascal_voc

    assert [pascal_voc()[i] for i in (0, 1, 2, 15)] == [(0, 0, 0), (128, 0, 0), (0, 128, 0), (192, 128, 128)]


@pytest.mark.parametrize("channels", [0, 1, 3, 4])
@pytest.mark.parametrize("form", ["png", "jpeg"])
@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_files_hold_the_pixels(tmp_path: Path, channels: int, form: str, order: str) -> None:
    """Of a batch of two; a PNG what was given, a JPEG what Pillow's holds."""
    if channels == 4 and form == "jpeg":
        pytest.skip("a JPEG holds no alpha")
    pictures = np.stack([natural_image(33, 47, seed, np.random.default_rng(seed)) for seed in (0, 1)])
    pictures = np.concatenate([pictures, pictures[..., :1]], -1)[..., :channels] if channels else pictures[..., 0]
    step = {"op": "encode", "format": form, "channels": order, "quality": 80}
    plan = plan_of(tmp_path, [step], {"p": pictures}, IMAGE)
    have, want = run_both(plan, {"p": pictures}, np.zeros((2, 5, 5, 3), np.uint8))
    for mine, theirs in zip(have["answer"], want["answer"], strict=True):
        first, second = (Image.open(io.BytesIO(data)) for data in (mine, theirs))
        assert (first.format, first.mode) == (second.format, second.mode)
        np.testing.assert_array_equal(np.asarray(first), np.asarray(second))


@pytest.mark.parametrize(
    ("steps", "shape", "dtype", "says"),
    [
        ([{"op": "resize", "method": "linear", "like": "opencv"}], (1, 4, 4), "float32", 'either "size" or "to"'),
        ([{"op": "resize", "to": "source", "method": "nearest", "like": "opencv"}], (1, 4, 4), "int64", "takes uint8"),
        ([{"op": "resize", "to": "source", "method": "box", "like": "opencv"}], (1, 4, 4), "uint8", "no method"),
        ([{"op": "color_map", "colors": [[0, 0, 0]]}], (1, 4, 4), "float32", "takes integers"),
        ([{"op": "color_map", "colors": "jet"}], (1, 4, 4), "uint8", "no colours"),
        (
            [{"op": "argmax"}, {"op": "color_map", "colors": [[0, 0, 0]]}],
            (1, 4, 4, 2),
            "float32",
            "there are 1 colours",
        ),
        ([{"op": "encode", "format": "png"}], (1, 4, 4, 3), "float32", "takes uint8 images"),
        ([{"op": "encode", "format": "jpeg"}], (1, 4, 4, 4), "uint8", "1 or 3 channels"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, steps: list[Any], shape: Any, dtype: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        plan_of(tmp_path, steps, {"m": np.zeros(shape, dtype)}, IMAGE)


def test_a_vector_of_images_has_no_one_size(tmp_path: Path) -> None:
    image = {
        "kind": "encoded",
        "channels": "RGB",
        "shape": [None],
        "preprocess": [{"op": "resize", "size": [8, 8]} | OPENCV],
    }
    step = {"op": "resize", "to": "source", "method": "nearest", "like": "opencv"}
    with pytest.raises(SpecError, match="have different sizes"):
        plan_of(tmp_path, [step], {"m": np.zeros((1, 8, 8), np.uint8)}, image)
