"""`preview`: one column per step, equal to the real library where that is promised."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pbcompile.preview import thumbnail
from pbcompile.tensor_type import TensorType
from tests.networks import natural_batch

STEPS = [
    {"op": "resize", "size": [32, 40], "method": "linear", "like": "opencv"},
    {"op": "convert_color", "to": "GRAY", "like": "opencv"},
    {"op": "rescale", "scale": 0.00392156862745098},
    {"op": "transpose", "layout": "NCHW"},
]


def write(folder: Path, inputs: object) -> Path:
    (folder / "spec.json").write_text(json.dumps({"version": 1, "model": "none.h5", "inputs": inputs}))
    cv2.imwrite(str(folder / "photo.jpg"), natural_batch(1, 90)[0][:60])
    return folder / "spec.json"


@pytest.mark.parametrize("kind", [{"kind": "encoded"}, {}, {"kind": "encoded", "shape": [None]}])
def test_every_step_is_shown_and_equal(tmp_path, run, kind) -> None:
    """No model is needed; a vector of images starts where its images have one size."""
    write(tmp_path, {"image": {"channels": "BGR", "preprocess": STEPS} | kind})
    done = run("preview", "spec.json", "photo.jpg", "-o", "steps.png", "--json")
    assert done.code == 0, done.err
    rows = done.json()["steps"]
    first = 1 if "shape" in kind else 0
    assert [row["step"] for row in rows] == ["as fed", "resize", "convert_color", "rescale", "transpose"][first:]
    assert all(row["max_difference"] == 0 for row in rows[: 3 - first]), rows
    assert all(row["max_difference"] <= 1.2e-7 for row in rows)
    picture = np.asarray(Image.open(tmp_path / "steps.png"))
    assert picture.shape[1] > 240 * len(rows)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100


@pytest.mark.parametrize(
    ("inputs", "image", "says"),
    [
        ({"a": {"channels": "RGB"}, "b": {"channels": "RGB"}}, "photo.jpg", "the spec has 2 image inputs"),
        ({"x": {"kind": "tensor", "shape": [None, 3]}}, "photo.jpg", "the spec has 0 image inputs"),
        ({"a": {"kind": "encoded", "channels": "RGB"}}, "spec.json", "cannot be preprocessed"),
        ({"a": {"channels": "RGB"}}, "spec.json", "is no image that OpenCV reads"),
    ],
)
def test_what_cannot_be_shown_is_told(tmp_path, run, inputs, image, says) -> None:
    write(tmp_path, inputs)
    done = run("preview", "spec.json", image, "-o", "steps.png")
    assert done.code == 2
    assert says in done.err
    assert not (tmp_path / "steps.png").exists()


def test_one_differing_pixel_of_a_large_image_can_be_seen() -> None:
    given = TensorType("uint8", (1, 1000, 1600, 3), "NHWC", "RGB", (0, 255))
    apart = np.zeros((1, 1000, 1600, 3))
    apart[0, 501, 777] = 255
    assert np.asarray(thumbnail(apart, given, grows=True)).max() == 255
    assert np.asarray(thumbnail(apart, given, grows=False)).max() < 10
