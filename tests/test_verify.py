"""`verify` says no to every planted mistake, and names it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

import pbcompile
from pbcompile import pipeline
from pbcompile.gate import run_gate
from pbcompile.pipeline import build as build_artifact
from pbcompile.samples import make_samples
from pbcompile.session import Worker
from pbcompile.stages import Stages
from pbcompile.verify import VerifyReport
from tests.networks import natural_batch, set_statistics

SIZE = [20, 24]
JPEG = {"kind": "encoded"}
RIGHT = [
    {"op": "resize", "size": SIZE, "method": "cubic", "like": "opencv"},
    {"op": "subtract_mean", "mean": [0.41, 0.45, 0.48]},
    {"op": "rescale", "scale": 0.01},
]


def write(path: Path, **document: Any) -> Path:
    path.write_text(json.dumps({"version": 1} | document))
    return path


def build(epsilon: float = 1e-3) -> Any:
    """Two heads of five classes behind a batch norm; the same weights every time."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(11)
    image = keras.Input((*SIZE, 3), name="picture")
    x = layers.Conv2D(8, 3, use_bias=False, name="conv")(image)
    x = layers.BatchNormalization(name="norm", epsilon=epsilon)(x)
    x = layers.Conv2D(4, 3, strides=2, activation="relu", name="conv2")(x)
    x = layers.Flatten(name="flat")(x)
    heads = [layers.Dense(5, activation="softmax", name=name)(x) for name in ("left", "right")]
    return keras.Model(image, heads)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """The right model, images that can tell the mistakes apart (one with an EXIF orientation), and the right spec."""
    folder = tmp_path_factory.mktemp("verify")
    model = build()
    set_statistics(model, natural_batch(6, 24)[:, : SIZE[0]] * 0.01)
    for layer in model.layers:
        if layer.name == "norm":  # variances near epsilon, so that another epsilon is another model
            layer.moving_variance.assign(np.full(layer.moving_variance.shape, 2e-3, "float32"))
    model.save(folder / "net.keras")
    weights = model.get_weights()
    other = build(epsilon=1e-5)
    other.set_weights(weights)
    other.save(folder / "other_epsilon.keras")
    (folder / "images").mkdir()
    for index in range(3):
        data = cv2.imencode(".jpg", natural_batch(1, 60 + 7 * index, index)[0][: 40 + index])[1].tobytes()
        if index == 1:
            data = data[:2] + exif(6) + data[2:]
        (folder / "images" / f"{index}.jpg").write_bytes(data)
    write_spec(folder, "right")
    write_spec(folder, "right_jpeg", **JPEG)
    return folder


class Judge:
    """The gate of one spec: built once, one child process, any number of artifacts."""

    def __init__(self, spec: Path) -> None:
        self.spec = pbcompile.load_spec(spec)
        self.made = build_artifact(self.spec, Stages(None))
        self.samples = make_samples(self.spec)
        self.worker = Worker()

    def report(self, artifact: Path) -> VerifyReport:
        return run_gate(self.made, artifact, self.samples, self.worker, lambda: None)

    def cause(self, artifact: Path) -> str:
        report = self.report(artifact)
        assert not report.passed
        assert report.first_divergence is not None
        assert report.as_json()["first_divergence"]["stage"] in ("preprocess", "model", "outputs")
        return report.first_divergence.get("cause", "")

    def tampered(self, path: Path, change: Callable[[Any], None]) -> Path:
        """The right artifact with its GraphDef changed by hand."""
        import tensorflow as tf

        graph_def = tf.compat.v1.GraphDef.FromString(self.made.data)
        change(graph_def)
        path.write_bytes(graph_def.SerializeToString())
        return path


@pytest.fixture(scope="module")
def judge(place) -> Iterator[Judge]:
    judge = Judge(place / "right.json")
    yield judge
    judge.worker.close()


@pytest.fixture(scope="module")
def jpeg_judge(place) -> Iterator[Judge]:
    judge = Judge(place / "right_jpeg.json")
    yield judge
    judge.worker.close()


def exif(orientation: int) -> bytes:
    """A JPEG APP1 segment with one entry: the orientation (EXIF 2.3, 4.6.4)."""
    tiff = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00" + bytes([orientation]) + b"\x00\x00"
    body = b"Exif\x00\x00" + tiff + b"\x00\x00\x00\x00"
    return b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body


def write_spec(
    folder: Path, name: str, steps: Any = RIGHT, model: str = "net.keras", outputs: Any = None, **changes: Any
) -> Path:
    image = {"channels": "RGB", "preprocess": steps} | changes
    outputs = outputs or {"left": {"from": "left"}, "right": {"from": "right"}}
    return write(
        folder / f"{name}.json",
        model=model,
        inputs={"image": image},
        outputs=outputs,
        verify={"images": "images/*.jpg"},
    )


def changed(index: int, **values: Any) -> list[dict[str, Any]]:
    return [*RIGHT[:index], RIGHT[index] | values, *RIGHT[index + 1 :]]


TURNED = [{"op": "convert_color", "to": "RGB"}, *RIGHT]
SOFTMAX = {name: {"from": name, "postprocess": [{"op": "softmax"}]} for name in ("left", "right")}

PLANTED: dict[str, tuple[dict[str, Any], str]] = {
    "bgr_for_rgb": ({"channels": "BGR", "steps": TURNED}, "red and blue are swapped before step 0"),
    "linear_for_cubic": ({"steps": changed(0, method="linear")}, "resized linear like opencv, not cubic like opencv"),
    "tensorflow_for_opencv": (
        {"steps": changed(0, method="linear", like="tensorflow")},
        "resized linear like tensorflow, not cubic like opencv",
    ),
    "pillow_for_opencv": (
        {"steps": changed(0, method="linear", like="pillow")},
        "resized linear like pillow, not cubic like opencv",
    ),
    "mean_times_255": ({"steps": changed(1, mean=[0.41 * 255, 0.45 * 255, 0.48 * 255])}, "the mean is times 255"),
    "double_rescale": ({"steps": [*RIGHT, RIGHT[2]]}, 'the "rescale" is applied twice'),
    "step_left_out": ({"steps": RIGHT[:2]}, 'the "rescale" is left out'),
    "softmax_twice": ({"outputs": SOFTMAX}, "a softmax too many on every output"),
    "outputs_swapped": (
        {"outputs": {"left": {"from": "right"}, "right": {"from": "left"}}},
        'the outputs "left" and "right" are swapped',
    ),
    "other_epsilon": ({"model": "other_epsilon.keras"}, "batch norms computed with epsilon 1e-05, not 0.001"),
}


@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_is_named(place, judge, mistake) -> None:
    changes, cause = PLANTED[mistake]
    made = pbcompile.compile_spec(write_spec(place, mistake, **changes), verify=False)
    assert judge.cause(made.artifact) == cause


def test_a_missing_exif_orientation_is_named(place, jpeg_judge) -> None:
    made = pbcompile.compile_spec(write_spec(place, "upright", exif="ignore", **JPEG), verify=False)
    assert jpeg_judge.cause(made.artifact) == "the EXIF orientation is not applied"


def test_the_default_jpeg_decoder_is_named(place, jpeg_judge) -> None:
    """`tf.io.decode_jpeg` without `dct_method` takes the inexact transform."""

    def inexact(graph_def: Any) -> None:
        for node in graph_def.node:
            if node.op == "DecodeJpeg":
                node.attr["dct_method"].s = b"INTEGER_FAST"

    cause = jpeg_judge.cause(jpeg_judge.tampered(place / "inexact.pb", inexact))
    assert cause == "JPEGs are decoded with TensorFlow's default, inexact transform"


def test_one_weight_changed_by_a_hundredth_is_found(place, judge) -> None:
    import tensorflow as tf

    def heavier(graph_def: Any) -> None:
        for node in graph_def.node:
            weights = tf.make_ndarray(node.attr["value"].tensor).copy() if node.op == "Const" else np.zeros(0)
            if weights.shape == (3, 3, 3, 8):
                weights[np.unravel_index(np.argmax(np.abs(weights)), weights.shape)] *= 1.01
                node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(weights))

    cause = judge.cause(judge.tampered(place / "heavier.pb", heavier))
    assert cause.startswith("1 of the 216 values of ")
    assert "conv" in cause


def test_training_mode_is_named(place, judge, monkeypatch) -> None:
    """An artifact whose batch norm takes the statistics of the batch it is fed."""
    import tensorflow as tf

    model: Any = judge.made.model.keep_alive

    def call(feeds: Any) -> Any:
        x = model.get_layer("conv")(next(iter(feeds.values())))
        norm = model.get_layer("norm")
        mean, variance = tf.nn.moments(x, [0, 1, 2])
        x = tf.nn.batch_normalization(x, mean, variance, norm.beta.value, norm.gamma.value, norm.epsilon)
        x = model.get_layer("flat")(model.get_layer("conv2")(x))
        return {name: model.get_layer(name)(x) for name in ("left", "right")}

    trained = dataclasses.replace(judge.made.model, call=call)
    monkeypatch.setattr(pipeline, "load_model", lambda source: trained)
    made = pbcompile.compile_spec(judge.spec, place / "training.pb", verify=False)
    assert judge.cause(made.artifact) == "the model runs in training mode: batch norms use the batch's own statistics"


def test_other_gray_weights_are_named(tmp_path) -> None:
    import keras

    keras.utils.set_random_seed(5)
    keras.Sequential([keras.Input((*SIZE, 1)), keras.layers.Flatten(), keras.layers.Dense(6, name="scores")]).save(
        tmp_path / "gray.keras"
    )
    colours = np.random.default_rng(0).integers(0, 256, (1, 400_000, 3), dtype=np.uint8)
    pillow_gray = np.asarray(Image.fromarray(colours).convert("L"))
    differ = colours[cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY) != pillow_gray]  # one colour in some hundreds
    assert len(differ) >= 40
    picture = np.resize(differ, (*SIZE, 3))
    Image.fromarray(picture).save(tmp_path / "colours.png")
    for like in ("opencv", "pillow"):
        image: dict[str, Any] = {"channels": "RGB", "shape": [None, *SIZE, 3]}
        image["preprocess"] = [{"op": "convert_color", "to": "GRAY", "like": like}]
        verify = {"images": "colours.png"}
        write(tmp_path / f"{like}.json", model="gray.keras", inputs={"image": image}, verify=verify)
    made = pbcompile.compile_spec(tmp_path / "pillow.json", verify=False)
    judge = Judge(tmp_path / "opencv.json")
    report = judge.report(made.artifact)
    judge.worker.close()
    assert not report.passed
    assert report.first_divergence is not None
    assert report.first_divergence["cause"] == "gray made with the weights and rounding of pillow, not opencv"
    parity = report.as_json()["outputs"]["scores"]
    assert parity["outside_fraction"] > 0
    assert "element" in parity["worst"]
    assert parity["kl"] is None  # scores are no probabilities


def test_nan_is_told_and_stays_json(place, judge) -> None:
    import tensorflow as tf

    def broken(graph_def: Any) -> None:
        for node in graph_def.node:
            weights = tf.make_ndarray(node.attr["value"].tensor).copy() if node.op == "Const" else np.zeros(0)
            if weights.shape == (3, 3, 3, 8):
                weights[0, 0, 0, 0] = np.nan
                node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(weights))

    report = judge.report(judge.tampered(place / "nan.pb", broken))
    assert not report.passed
    assert any("are NaN" in note and "the artifact's" in note for note in report.notes)
    json.dumps(report.as_json(), allow_nan=False)


def test_a_true_artifact_has_no_cause(place, judge) -> None:
    (place / "true.pb").write_bytes(judge.made.data)
    report = judge.report(place / "true.pb")
    assert report.passed
    assert report.first_divergence is None
    parity = report.as_json()["outputs"]["left"]
    assert 0 <= parity["kl"] < 1e-6
    assert parity["outside_fraction"] == 0


def test_a_true_artifact_passes_with_other_images(place, run) -> None:
    pbcompile.compile_spec(place / "right.json", verify=False)
    done = run("verify", "right.json", "--images", place / "images" / "0.jpg", "--json", cwd=place)
    assert done.code == 0, done.err
    report = done.json()
    assert report["passed"] is True
    assert report["samples"] == 1


def test_the_command_says_no_with_the_cause(place, run) -> None:
    made = pbcompile.compile_spec(write_spec(place, "bgr", TURNED, channels="BGR"), verify=False)
    done = run("verify", "right.json", "--pb", made.artifact, "--json", cwd=place)
    assert done.code == 1
    report = done.json()
    assert report["passed"] is False
    assert report["first_divergence"]["cause"] == "red and blue are swapped before step 0"
    codes = [problem["code"] for problem in report["error"]["problems"]]
    assert codes[-1] == "parity-cause"
    assert "parity-exceeded" in codes
