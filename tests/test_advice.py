"""A spec that does again what the model does itself is warned of, by the layer's name; nothing is refused for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

RESIZE = {"op": "resize", "size": [8, 8], "method": "linear", "like": "opencv"}
CASES: dict[str, tuple[Any, list[dict[str, Any]], str | None]] = {
    "rescaling": (
        lambda layers: layers.Rescaling(1 / 255, name="to_unit"),
        [RESIZE, {"op": "rescale", "scale": 2}],
        "to_unit",
    ),
    "normalization": (
        lambda layers: layers.Normalization(mean=3.0, variance=4.0, name="whiten"),
        [RESIZE, {"op": "keras_applications", "mode": "tf"}],
        "whiten",
    ),
    "resizing": (lambda layers: layers.Resizing(6, 6, name="shrink"), [RESIZE], "shrink"),
    "batch norm": (
        lambda layers: layers.BatchNormalization(name="learned"),
        [RESIZE, {"op": "normalize", "mean": [99] * 3, "std": [50] * 3}],
        "learned",
    ),
    "lambda": (
        lambda layers: layers.Lambda(lambda x: x / 127.5 - 1.0, name="centre"),
        [RESIZE, {"op": "keras_applications", "mode": "tf"}],
        "centre",
    ),
    "nothing twice": (lambda layers: layers.Rescaling(1 / 255, name="to_unit"), [RESIZE], None),
    "nothing inside": (lambda layers: layers.ReLU(), [RESIZE, {"op": "rescale", "scale": 2}], None),
}


@pytest.mark.parametrize("case", CASES)
def test_double_preprocessing_is_warned_of(tmp_path: Path, run, case) -> None:
    import keras
    from keras import layers

    first, steps, layer = CASES[case]
    image = keras.Input((8, 8, 3))
    x = layers.Flatten()(first(layers)(image))
    keras.Model(image, layers.Dense(2)(x)).save(tmp_path / "net.keras")
    model: Any = "net.keras"
    if case == "lambda":  # its code is never run, so the spec says what it does
        model = {"path": model, "lambda": {layer: [{"op": "rescale", "scale": 1 / 127.5, "offset": -1.0}]}}
    spec = {"version": 1, "model": model, "inputs": {"image": {"channels": "RGB", "preprocess": steps}}}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    done = run("spec.json", "--no-verify", "--json")
    assert done.code == 0, done.err
    warnings = done.json()["warnings"]
    if layer is None:
        assert warnings == []
        return
    (warning,) = warnings
    assert warning["code"] == "double-preprocessing"
    assert f'"{layer}"' in warning["message"]
    assert warning["pointer"].startswith("/inputs/image/preprocess/")
    assert warning["line"] == 1
    assert "warning: spec.json:1:" in done.err
