"""Weights stored in fewer bits: NumPy's roundings as the oracle, and whole artifacts through the gate."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pbcompile.quantize.storage import channel_steps


@pytest.mark.parametrize("axes", [(3,), (2,), (2, 3)])
def test_no_weight_is_further_than_half_a_step(axes: tuple[int, ...]) -> None:
    weights = np.random.default_rng(0).normal(0, 1, (3, 3, 8, 4)).astype(np.float32)
    step = channel_steps(weights, axes)
    assert step.shape == tuple(size if axis in axes else 1 for axis, size in enumerate(weights.shape))
    levels = np.rint(weights / step)
    assert np.abs(levels).max() == 127
    assert (np.abs(levels * step - weights) <= step * (0.5 + 1e-5)).all()


def test_dead_channels_stay_zero() -> None:
    weights = np.ones((2, 3), np.float32)
    weights[:, 1], weights[:, 2] = 0, 1e-42
    step = channel_steps(weights, (1,))
    np.testing.assert_array_equal(np.rint(weights / step), [[127, 0, 0], [127, 0, 0]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with every kind of weights, one of them too large for float16, and a channel that is dead."""
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input([40, 40, 3])
    x = layers.Conv2D(64, 3, activation="relu", name="conv")(image)
    x = layers.DepthwiseConv2D(5, depth_multiplier=2, activation="relu", name="depthwise")(x)
    x = layers.Conv2DTranspose(24, 3, name="transposed")(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(128, activation="relu", name="huge")(x)
    model = keras.Model(image, layers.Dense(10, name="scores")(x))
    kernel, bias = model.get_layer("huge").get_weights()
    kernel[0, 0], kernel[:, 1] = 1e5, 0
    model.get_layer("huge").set_weights([kernel, bias])
    path = tmp_path_factory.mktemp("storage")
    model.save(path / "net.keras")
    return path


def write_spec(folder: Path, weights: str) -> Path:
    resize = {"op": "resize", "size": [40, 40], "method": "linear", "like": "opencv"}
    document: dict[str, Any] = {
        "version": 1,
        "model": "net.keras",
        "inputs": {"image": {"channels": "BGR", "preprocess": [resize, {"op": "rescale", "scale": 1 / 255}]}},
        "outputs": {"scores": {}},
        "artifact": f"{weights or 'plain'}.pb",
    }
    if weights:
        document["quantize"] = {"weights": weights}
    path = folder / f"{weights or 'plain'}.json"
    path.write_text(json.dumps(document))
    return path


def constants(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    from pbcompile.artifact import CONTRACT, read_artifact
    from pbcompile.graph import registry

    graph_def, _ = read_artifact(path)
    return {
        node.name: registry.tensor_value(node.attr["value"].tensor)
        for node in graph_def.node
        if node.op == "Const" and node.name != CONTRACT
    }


@pytest.mark.parametrize(("weights", "share"), [("float16", 0.6), ("int8", 0.35)])
def test_the_artifact_is_smaller_and_passes_its_gate(folder: Path, weights: str, share: float) -> None:
    """The shares are those of a network that is mostly weights; the small one here carries its preprocessing too."""
    import pbcompile

    plain = pbcompile.compile_spec(write_spec(folder, ""), verify=False)
    made = pbcompile.compile_spec(write_spec(folder, weights))
    assert made.verify is not None
    assert made.verify.passed
    before, after = constants(plain.artifact), constants(made.artifact)
    large = [name for name, value in before.items() if value.dtype == np.float32 and value.size >= 1024]
    assert len(large) == 5
    assert sum(after_of(after, name).nbytes for name in large) < share * sum(before[name].nbytes for name in large)
    for name in large:
        value, stored = before[name], after_of(after, name)
        if stored.dtype == np.float16:
            np.testing.assert_array_equal(stored, value.astype(np.float16))
        elif stored.dtype == np.int8:
            step = after[f"{name}/step"]
            np.testing.assert_array_equal(stored, np.rint(value / step))
    kinds = [str(after_of(after, name).dtype) for name in large]
    assert sorted(kinds) == (["float16"] * 4 + ["float32"] if weights == "float16" else ["int8"] * 5)
    for name, value in before.items():  # the tables of the resize above all
        if name not in large:
            np.testing.assert_array_equal(after[name], value)


def after_of(after: dict[str, Any], name: str) -> Any:
    return next(after[key] for key in (f"{name}/float16", f"{name}/int8", name) if key in after)


def test_integer_arithmetic_is_refused_with_a_sentence(folder: Path, run: Callable[..., Any]) -> None:
    path = write_spec(folder, "int8")
    document = json.loads(path.read_text()) | {"quantize": {"mode": "int8"}}
    (folder / "mode.json").write_text(json.dumps(document))
    ran = run("check", folder / "mode.json")
    assert ran.code == 2
    assert "/quantize/mode" in ran.err
