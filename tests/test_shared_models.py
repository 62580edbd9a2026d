"""Other people's models, from the bytes of the image file to their golden outputs, preprocessing in the graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pbcompile
from tests.conftest import SHARED_MODELS, needs_shared_models

pytestmark = needs_shared_models

TO_UNIT = {"op": "rescale", "scale": 1 / 255}
PIL_GRAY = {"op": "convert_color", "to": "GRAY", "like": "pillow"}
LAMBDA = {"lambda_1": [{"op": "rescale", "scale": 1 / 127.5, "offset": -1.0}]}
STEERING = [
    {"op": "crop", "top": 50, "height": 90},
    {"op": "blur", "size": [3, 3], "sigma": 0, "like": "opencv"},
    {"op": "resize", "size": [66, 200], "method": "area", "like": "opencv"},
    {"op": "convert_color", "to": "YUV"},
]


def pillow(method: str, *size: int) -> dict[str, Any]:
    return {"op": "resize", "size": list(size), "method": method, "like": "pillow"}


def face(x: int, y: int, width: int, height: int) -> list[dict[str, Any]]:
    """PIL's gray, a crop, OpenCV's resize, /255 − 0.5 then ×2."""
    return [
        PIL_GRAY,
        {"op": "crop", "top": y, "left": x, "height": height, "width": width},
        {"op": "resize", "size": [64, 64], "method": "linear", "like": "opencv"},
        TO_UNIT,
        {"op": "rescale", "scale": 2, "offset": -1},
    ]


CASES: dict[str, tuple[str, Any, str, list[dict[str, Any]], dict[str, str], dict[str, Any]]] = {
    # name: (folder, model, golden file, steps, image file by golden tag, keys of the input)
    "captcha_five_outputs": (
        "captcha_five_outputs",
        "model_v4_1.h5",
        "golden_hamster_captcha.npz",
        [TO_UNIT],
        {"0": "13IC3.png", "1": "50rKo.png", "2": "5u85b.png", "3": "037Bv.png"},
        {"channels": "GRAY"},
    ),
    "captcha_lstm": (
        "captcha_lstm",
        "prediction_model.h5",
        "golden_sauravyz_crnn.npz",
        [PIL_GRAY, pillow("cubic", 50, 200), TO_UNIT, {"op": "transpose", "perm": [0, 2, 1, 3]}],
        {"0": "227g7.png", "3": "2455e.png"},
        {},
    ),
    "lane_segmentation": (
        "lane_segmentation",
        "full_CNN_model.h5",
        "golden_mlnd_lanes.npz",
        [pillow("linear", 80, 160)],
        {"0": "straight.png"},
        {},
    ),
    "mini_xception": (
        "mini_xception",
        "fer2013_mini_XCEPTION.102-0.66.hdf5",
        "golden_oarriaga_xception.npz",
        face(18, 216, 216, 216),
        {"0": "12_angry_men.jpg"},
        {},
    ),
    "mini_xception_second_face": (
        "mini_xception",
        "fer2013_mini_XCEPTION.102-0.66.hdf5",
        "golden_oarriaga_xception.npz",
        face(576, 176, 100, 100),
        {"2": "12_angry_men.jpg"},
        {},
    ),
    "potato": (
        "potato",
        "potatoes.h5",
        "golden_codebasics_h5.npz",
        [pillow("cubic", 256, 256), TO_UNIT],
        {"0": "early_blight_1.jpg", "1": "late_blight_1.jpg"},
        {},
    ),
    "steering": (
        "steering_keras1",
        {"path": "model.h5", "lambda": LAMBDA},
        "golden_jshannon_car.npz",
        STEERING,
        {"0": "frame_320x160.png"},
        {},
    ),
    "teachable_machine": (
        "teachable_machine",
        "keras_model.h5",
        "golden_tm_waste.npz",
        [
            {"op": "fit", "size": [224, 224], "method": "lanczos", "like": "pillow"},
            {"op": "rescale", "scale": 1 / 127.5, "offset": -1},
        ],
        {"0": "../potato/early_blight_1.jpg"},
        {},
    ),
}


def relative(folder: Path, model: Any) -> Any:
    """The model with absolute paths."""
    if isinstance(model, str):
        return str(folder / model)
    return {key: str(folder / value) if key in ("path", "weights") else value for key, value in model.items()}


def close(got: np.ndarray, want: np.ndarray) -> None:
    """Within 1e-4 of the largest value."""
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()


@pytest.mark.parametrize("case", CASES)
def test_the_bytes_of_the_image_give_the_golden_outputs(tmp_path, case) -> None:
    name, model, golden_file, steps, images, item = CASES[case]
    folder = SHARED_MODELS / name
    spec = {
        "version": 1,
        "model": relative(folder, model),
        "inputs": {"image": {"kind": "encoded", "channels": "RGB", "exif": "ignore", "preprocess": steps} | item},
        "verify": {"images": str(folder / next(iter(images.values())))},
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    result = pbcompile.compile_spec(tmp_path / "spec.json")
    assert result.verify is not None
    assert result.verify.passed
    artifact, golden = pbcompile.load(result.artifact), np.load(folder / golden_file)
    for tag, image in images.items():
        got = artifact(image=(folder / image).read_bytes())
        for index, output in enumerate(artifact.outputs):
            close(got[output], golden[f"y{tag}_{index}"])


def test_an_architecture_and_its_weights_in_two_files(tmp_path) -> None:
    """Keras 1.2's `model.json` with `model_.h5`: weights of another training run than the golden ones."""
    folder = SHARED_MODELS / "steering_keras1"
    model = {"path": "model.json", "weights": "model_.h5", "lambda": LAMBDA}
    spec = {
        "version": 1,
        "model": relative(folder, model),
        "inputs": {"image": {"kind": "encoded", "channels": "RGB", "preprocess": STEERING}},
        "verify": {"images": str(folder / "frame_320x160.png")},
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    result = pbcompile.compile_spec(tmp_path / "spec.json")
    artifact = pbcompile.load(result.artifact)
    got = artifact(image=(folder / "frame_320x160.png").read_bytes())[artifact.outputs[0]]
    golden = np.load(folder / "golden_jshannon_car.npz")["y0_0"]
    assert np.abs(got - golden).max() <= 0.02 * np.abs(golden).max()  # the same road, another run


def test_person_mobilenet_from_the_golden_batch(tmp_path) -> None:
    """The authors' image is not here, so what they fed is."""
    folder = SHARED_MODELS / "person_mobilenet_v1"
    golden = np.load(folder / "golden_tiny_vww.npz")
    spec = {
        "version": 1,
        "model": str(folder / "vww_96.h5"),
        "inputs": {"image": {"channels": "RGB", "dtype": "float32", "shape": [None, 96, 96, 3]}},
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    result = pbcompile.compile_spec(tmp_path / "spec.json")
    assert result.made.report.as_json()["batch_norm"]["kept"] == []
    artifact = pbcompile.load(result.artifact)
    close(artifact(image=golden["x0"])[artifact.outputs[0]], golden["y0_0"])


def test_a_saved_model_that_keras_no_longer_reads(tmp_path) -> None:
    """`potato/saved_model_1` holds its own Resizing, Rescaling and two random layers, which must not run."""
    folder = SHARED_MODELS / "potato"
    spec = {
        "version": 1,
        "model": str(folder / "saved_model_1"),
        "inputs": {"image": {"kind": "encoded", "channels": "RGB", "preprocess": [pillow("cubic", 256, 256)]}},
        "verify": {"images": str(folder / "early_blight_1.jpg")},
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    result = pbcompile.compile_spec(tmp_path / "spec.json")
    artifact = pbcompile.load(result.artifact)
    data = (folder / "early_blight_1.jpg").read_bytes()
    first, second = (artifact(image=data)[artifact.outputs[0]] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not any("Random" in op for op in pbcompile.inspect(result.artifact)["ops"])
