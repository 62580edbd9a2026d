"""`predict`: images, folders, arrays and stdin; a table, JSON or JSON lines; a bad image is told and the rest go on."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.networks import natural_batch

NAMES = ["ant", "bee", "cat"]


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    """Artifacts of one small model (open batch, batch of 4, bytes, a vector of bytes), images and arrays."""
    import keras

    from pbcompile import compile_spec

    keras.utils.set_random_seed(5)
    folder = tmp_path_factory.mktemp("predict")
    layers = keras.layers
    net = [layers.Conv2D(4, 3, 2), layers.GlobalAveragePooling2D(), layers.Dense(3, "softmax", name="scores")]
    keras.Sequential([keras.Input((16, 16, 3)), *net]).save(folder / "net.keras")
    resize = {"op": "resize", "size": [16, 16], "method": "linear", "like": "opencv"}
    unit = {"op": "rescale", "scale": 1 / 255}
    outputs = {
        "p": {"from": "scores"},
        "top": {"from": "scores", "postprocess": [{"op": "top_k", "k": 2, "labels": NAMES}]},
    }
    kinds: dict[str, dict[str, Any]] = {
        "pixels": {"channels": "BGR"},
        "four": {"channels": "BGR", "shape": [4, None, None, 3]},
        "bytes": {"kind": "encoded", "channels": "BGR"},
        "vector": {"kind": "encoded", "channels": "BGR", "shape": [None]},
    }
    for name, item in kinds.items():
        document = {
            "version": 1, "model": "net.keras", "outputs": outputs,
            "inputs": {"image": item | {"preprocess": [resize, unit]}},
        }  # fmt: skip
        (folder / f"{name}.json").write_text(json.dumps(document))
        compile_spec(folder / f"{name}.json", verify=False)
    (folder / "photos" / "more").mkdir(parents=True)
    for index, image in enumerate(natural_batch(7, 40)):
        place = folder / "photos" / ("more" if index > 4 else "") / f"{index}.png"
        cv2.imwrite(str(place), image if index != 3 else image[:30])
    np.save(folder / "all.npy", natural_batch(4, 40))
    np.save(folder / "one.npy", natural_batch(1, 40)[0])
    (folder / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff no")
    return folder


@pytest.mark.parametrize("kind", ["pixels", "four", "bytes", "vector"])
def test_a_folder_in_batches_gives_what_single_images_give(room: Path, run, kind: str) -> None:
    """Of different sizes, with a broken one among them; whatever the batch, each answer belongs to its image."""
    done = run("predict", f"{kind}.pb", "photos", "--json", cwd=room)
    assert done.code == 2
    report = done.json()
    assert [Path(r["input"]).name for r in report["results"]] == [f"{i}.png" for i in range(7)]
    assert [p["code"] for p in report["error"]["problems"]] in (["image-unreadable"], ["input-refused"])
    (problem,) = report["error"]["problems"]
    assert "is no image that" in problem["message"]
    assert "Graph execution error" not in problem["message"]
    assert "broken.jpg" in report["error"]["problems"][0]["message"]
    for result in report["results"]:
        image = cv2.imread(str(room / result["input"]))
        small = cv2.resize(image, (16, 16)).astype(np.float32) / 255
        wanted = _net(room).predict(small[None], verbose=0)
        np.testing.assert_allclose(result["outputs"]["p"], wanted, atol=1e-5)
        assert result["outputs"]["top_labels"][0][0] == NAMES[int(np.argmax(wanted))]


_loaded: dict[Path, Any] = {}


def _net(room: Path) -> Any:
    import keras

    if room not in _loaded:
        _loaded[room] = keras.models.load_model(room / "net.keras")
    return _loaded[room]


def test_labels_and_scores_are_a_table(room: Path, run) -> None:
    lines = run("predict", "pixels.pb", "photos/0.png", cwd=room).out.splitlines()
    assert lines[0] == "photos/0.png"
    assert lines[1].startswith("  p: [[")
    (first, score), (second, less) = (line.split() for line in lines[2:])
    assert {first, second} < set(NAMES)
    assert float(score) >= float(less)


def test_json_lines_come_one_by_one(room: Path, run) -> None:
    done = run("predict", "pixels.pb", "photos/broken.jpg", "photos/1.png", "--jsonl", cwd=room)
    assert done.code == 2
    bad, good = map(json.loads, done.out.splitlines())
    assert bad["error"]["code"] == "image-unreadable"
    assert set(good) == {"input", "outputs"}


def test_arrays(room: Path, run) -> None:
    done = run("predict", "pixels.pb", "all.npy", "one.npy", "--json", cwd=room)
    many, one = (np.asarray(r["outputs"]["p"]) for r in done.json()["results"])
    assert many.shape == (4, 3)
    np.testing.assert_allclose(many[:1], one, atol=0.2)
    assert run("predict", "four.pb", "all.npy", cwd=room).code == 0
    np.save(room / "odd.npy", np.zeros((5, 5), np.float32))
    done = run("predict", "pixels.pb", "odd.npy", cwd=room)
    assert done.code == 2
    assert '"image" takes uint8 [?, ?, ?, 3], and odd.npy holds float32 [5, 5]' in done.err
    assert "is a .npy array" in run("predict", "bytes.pb", "one.npy", cwd=room).err


@pytest.mark.parametrize("form", ["png", "npy"])
def test_stdin(room: Path, form: str) -> None:
    data = (room / "photos" / "2.png").read_bytes()
    if form == "npy":
        held = io.BytesIO()
        np.save(held, cv2.imread(str(room / "photos" / "2.png")))
        data = held.getvalue()
    command = [sys.executable, "-m", "pbcompile.cli", "predict", "pixels.pb", "-", "--json"]
    done = subprocess.run(command, cwd=room, input=data, capture_output=True, check=True)
    (result,) = json.loads(done.stdout)["results"]
    assert result["input"] == "-"
    assert len(result["outputs"]["p"][0]) == 3


def test_a_folder_without_images_is_an_error(room: Path, run) -> None:
    (room / "empty").mkdir(exist_ok=True)
    done = run("predict", "pixels.pb", "empty", cwd=room)
    assert (done.code, done.err.split(":")[0]) == (2, "images-missing")


def test_batches_end_before_they_are_too_large(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays bounded: a batch holds no more bytes than MAX_BATCH_BYTES, nor more inputs than asked for."""
    from pbcompile import predict

    seen: list[int] = []
    original = predict.run_artifact

    def counted(artifact: Any, name: str, feeds: Any) -> Any:
        seen.append(len(feeds["image"]))
        return original(artifact, name, feeds)

    monkeypatch.setattr(predict, "run_artifact", counted)
    predictor = predict.Predictor(room / "pixels.pb")
    jobs = [{"image": str(room / "photos" / "0.png")}] * 7
    assert len(list(predictor.answers(jobs, 3))) == 7
    assert seen == [3, 3, 1]
    seen.clear()
    monkeypatch.setattr(predict, "MAX_BATCH_BYTES", 2 * 40 * 40 * 3)
    list(predictor.answers(jobs, 16))
    assert seen == [2, 2, 2, 1]
