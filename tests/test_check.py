"""`check`: sizes by name, and a warning for each thing that compiles and is probably not meant; no TensorFlow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
RESIZE = {"op": "resize", "size": [8, 8], "method": "linear", "like": "opencv"}
UNIT = {"op": "rescale", "scale": 1 / 255}


def check(run: Any, tmp_path: Path, steps: list[dict[str, Any]], outputs: Any = None, **item: Any) -> Any:
    document = {"version": 1, "model": "none.h5", "inputs": {"image": {"channels": "RGB", "preprocess": steps} | item}}
    (tmp_path / "spec.json").write_text(json.dumps(document | ({"outputs": outputs} if outputs else {})))
    done = run("check", "spec.json", "--json")
    assert done.code == 0, done.err
    return done.json()


def test_open_sizes_have_names(run, tmp_path: Path) -> None:
    """What a step makes of any size is told by its own rule: turned, cut, and where it follows a ratio a new name."""
    steps = [
        {"op": "crop", "top": 10},
        {"op": "pad", "left": 2, "right": 3},
        {"op": "rotate90", "turns": 1},
        {"op": "resize", "shorter_side": 30, "method": "linear", "like": "opencv"},
        RESIZE,
    ]
    stages = check(run, tmp_path, steps)["inputs"][0]["stages"]
    assert [stage["type"] for stage in stages] == [
        "uint8 [n, h, w, 3] RGB",
        "uint8 [n, h-10, w, 3] RGB",
        "uint8 [n, h-10, w+5, 3] RGB",
        "uint8 [n, w+5, h-10, 3] RGB",
        "uint8 [n, h4, w4, 3] RGB",
        "uint8 [n, 8, 8, 3] RGB",
    ]
    assert stages[0]["shape"] == [None, None, None, 3]


WARNINGS: dict[str, tuple[list[dict[str, Any]], dict[str, Any], list[str]]] = {
    "means of 0..1": ([RESIZE, {"op": "normalize", "mean": MEAN, "std": STD}], {}, ["mean-scale"]),
    "means of 0..255": ([RESIZE, UNIT, {"op": "subtract_mean", "mean": [123.7, 116.8, 103.9]}], {}, ["mean-scale"]),
    "BGR means on RGB": ([RESIZE, {"op": "subtract_mean", "mean": [103.939, 116.779, 123.68]}], {}, ["mean-order"]),
    "RGB means on BGR": ([UNIT, {"op": "normalize", "mean": MEAN, "std": STD}], {"channels": "BGR"}, ["mean-order"]),
    "stretched": ([RESIZE], {"shape": [None, 480, 640, 3]}, ["aspect-ratio-lost"]),
    "enlarged": ([RESIZE], {"shape": [None, 4, 4, 3]}, ["upsampling"]),
    "as it should be": ([RESIZE, UNIT, {"op": "normalize", "mean": MEAN, "std": STD}], {}, []),
    "shrunk in its ratio": ([RESIZE], {"shape": [None, 80, 80, 3]}, []),
    "caffe": ([RESIZE, {"op": "subtract_mean", "mean": [103.939, 116.779, 123.68]}], {"channels": "BGR"}, []),
    "a mean of one number": ([RESIZE, {"op": "subtract_mean", "mean": 127.5}], {}, []),
}  # fmt: skip


@pytest.mark.parametrize("case", WARNINGS)
def test_what_is_probably_not_meant_is_warned_of(run, tmp_path: Path, case: str) -> None:
    steps, item, codes = WARNINGS[case]
    warnings = check(run, tmp_path, steps, **item)["warnings"]
    assert [warning["code"] for warning in warnings] == codes
    for warning in warnings:
        assert warning["pointer"].startswith("/inputs/image/preprocess/")
        assert warning["line"] == 1
        assert warning["hint"]
    said = run("check", "spec.json").out
    assert all(f"warning: spec.json:1:{w['column']}: {w['code']} at {w['pointer']}" in said for w in warnings)


def test_a_resize_of_open_sizes_is_a_note(run, tmp_path: Path) -> None:
    assert [note["code"] for note in check(run, tmp_path, [RESIZE])["notes"]] == ["aspect-ratio-lost"]


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
def test_a_softmax_on_a_softmax(run, tmp_path: Path, nested: bool) -> None:
    import keras

    layers = keras.layers
    head: list[Any] = [layers.Dense(4), layers.Activation("softmax")]
    head = [keras.Sequential(head, name="head")] if nested else head
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), *head])
    model.save(tmp_path / "net.keras")
    name = model.layers[-1].name
    (tmp_path / "spec.json").write_text(
        json.dumps({
            "version": 1, "model": "net.keras", "inputs": {"image": {"channels": "RGB", "preprocess": [RESIZE]}},
            "outputs": {"p": {"from": name, "postprocess": [{"op": "softmax"}]}, "raw": {"from": name}},
        })
    )  # fmt: skip
    (warning,) = run("check", "spec.json", "--json").json()["warnings"]
    assert (warning["code"], warning["pointer"]) == ("double-activation", "/outputs/p/postprocess/0")
    compiled = run("spec.json", "--no-verify", "--json").json()
    assert [w["code"] for w in compiled["warnings"]] == ["double-activation"]


@pytest.mark.parametrize("command", ["check", "init"])
def test_neither_check_nor_init_imports_tensorflow(tmp_path: Path, command: str) -> None:
    import keras

    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    model.save(tmp_path / "net.keras")
    subprocess.run([sys.executable, "-m", "pbcompile.cli", "init", "net.keras", "--yes"], cwd=tmp_path, check=True)
    words = {"check": ["check", "net.json"], "init": ["init", "net.keras", "--yes", "--force"]}[command]
    program = (
        "import sys; from pbcompile.cli import main\n"
        f"try: main({words!r})\n"
        "except SystemExit as e: sys.exit(e.code or 9 * bool({'tensorflow', 'keras'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
