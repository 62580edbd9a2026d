"""Numbers at the edge: statistics that training leaves, weights that are none, dtypes at their ends, large folds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import pbcompile
from tests.networks import natural_batch
from tests.passes.trial import apply, make, numbers

VARIANCE = [0.0, -1e-9, 1e-45, 1e-40, 3e38, 1.0, 2.0, 0.5]
"""None at all; negative by rounding; two denormals; nearly the largest float32."""
GAMMA = [1.0, 1.0, -1.0, 1.0, 1e19, 0.0, -0.0, 2.0]


def network(folder: Path, dtype: str = "float32", changed: Callable[[Any], None] = lambda model: None) -> Any:
    """Convolution and norm; `changed` may spoil its weights."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(4)
    image = keras.Input((8, 8, 3), dtype="float64" if dtype == "float64" else "float32")
    x = layers.Conv2D(8, 3, dtype=dtype, name="conv")(image)
    x = layers.BatchNormalization(epsilon=1e-3, dtype=dtype, name="norm")(x)
    model = keras.Model(image, layers.Flatten(dtype=dtype, name="out")(x))
    norm = model.get_layer("norm")
    norm.gamma.assign(np.array(GAMMA, np.float32))
    norm.moving_mean.assign(np.linspace(-90, 90, 8))
    norm.moving_variance.assign(np.array(VARIANCE).astype("float32"))
    changed(model)
    model.save(folder / "net.keras")
    return model


def spec(folder: Path, **more: object) -> Path:
    item = {"channels": "RGB", "shape": [None, 8, 8, 3]}
    document = {"version": 1, "model": "net.keras", "inputs": {"image": item}} | more
    (folder / "spec.json").write_text(json.dumps(document))
    return folder / "spec.json"


@pytest.mark.parametrize(
    ("dtype", "epsilon"),
    [("float32", 2.0**-24), ("float64", 2.0**-53), ("mixed_float16", 2.0**-11), ("mixed_bfloat16", 2.0**-8)],
)
def test_odd_statistics_in_every_dtype(tmp_path, dtype, epsilon) -> None:
    """As Keras answers, channel by channel: 27 products, a norm and their roundings, at that channel's magnitude."""
    model = network(tmp_path, dtype)
    result = pbcompile.compile_spec(spec(tmp_path), verify=False)
    norms = result.as_json()["batch_norm"]
    assert norms["folded"] + len(norms["kept"]) == norms["found"] == 1
    assert norms["folded"] == (dtype in ("float32", "float64")), norms
    images = natural_batch(4, 8)
    wanted = np.asarray(tf.cast(model(images.astype(np.float32), training=False), tf.float64)).reshape(-1, 8)
    got = np.asarray(tf.cast(pbcompile.load(result.artifact)(image=images)["out"], tf.float64)).reshape(-1, 8)
    assert np.isfinite(wanted).all()
    assert wanted[:, [0, 1, 2, 3, 4, 7]].any(axis=0).all(), "zeros test nothing"
    scale = np.abs(GAMMA / np.sqrt(np.float64(np.float32(VARIANCE)) + 1e-3))
    sums = np.abs(model.get_layer("conv").kernel.numpy()).reshape(27, 8).sum(0) * 255 + 90
    assert (np.abs(got - wanted).max(axis=0) <= 32 * epsilon * scale * sums).all()


def spoil(value: float, *layers: tuple[str, str]) -> Callable[[Any], None]:
    def changed(model: Any) -> None:
        for layer, weight in layers:
            variable = getattr(model.get_layer(layer), weight)
            values = np.array(variable)
            values.flat[1] = value
            variable.assign(values)

    return changed


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_named_all_at_once(tmp_path, value) -> None:
    network(tmp_path, changed=spoil(value, ("conv", "kernel"), ("norm", "moving_mean")))
    with pytest.raises(pbcompile.ModelError) as caught:
        pbcompile.compile_spec(spec(tmp_path))
    assert [(problem.code, problem.pointer) for problem in caught.value.problems] == [
        ("weights-not-finite", "/model")
    ] * 2
    said = [problem.message for problem in caught.value.problems]
    assert 'the layer "conv" has 1 of 216 values in "kernel" that are NaN or infinite' in said
    assert 'the layer "norm" has 1 of 8 values in "moving_mean" that are NaN or infinite' in said
    assert not (tmp_path / "spec.pb").exists()


def test_weights_that_are_no_numbers_compile_where_the_spec_allows_them(tmp_path) -> None:
    """And give what they give in Keras: NaN in their channel alone."""
    network(tmp_path, changed=spoil(np.nan, ("conv", "bias")))
    allowed = {"path": "net.keras", "allow_nan": True}
    out = {"normed": {"from": "out"}}
    result = pbcompile.compile_spec(spec(tmp_path, model=allowed, outputs=out), verify=False)
    got = pbcompile.load(result.artifact)(image=natural_batch(1, 8))["normed"].reshape(-1, 8)
    assert np.isfinite(np.delete(got, 1, axis=1)).all()


def test_a_saved_model_s_weights_are_looked_at_too(tmp_path) -> None:
    class Net(tf.Module):
        def __init__(self) -> None:
            self.scale = tf.Variable([1.0, np.nan], name="scale")

        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32)])
        def __call__(self, x):
            return {"y": x * self.scale}

    net = Net()
    tf.saved_model.save(net, str(tmp_path / "net"), {"serving_default": net.__call__})
    fed = {"x": {"kind": "tensor", "shape": [None, 2]}}
    with pytest.raises(pbcompile.ModelError, match='1 of 2 values in "scale" that are NaN'):
        pbcompile.compile_spec(spec(tmp_path, model="net", inputs=fed))


FOLDS = {
    "scale": (lambda y, big, one: y * (big * 3), "fold-scale-into-conv"),
    "division": (lambda y, big, one: y / (one / big / 3), "fold-scale-into-conv"),
    "shift": (lambda y, big, one: tf.nn.bias_add(y, big) + big, "fold-shift-into-bias"),
}


@pytest.mark.parametrize("dtype", [tf.float16, tf.float32])
@pytest.mark.parametrize("fold", FOLDS)
def test_a_fold_that_would_overflow_is_declined(fold, dtype) -> None:
    """Each constant is finite by itself; the product or sum is not, so the two stay apart and the graph as it was."""
    big = np.full(8, 0.6 * float(dtype.max) / (1 if fold == "shift" else 3), dtype.as_numpy_dtype)
    one = np.ones(8, dtype.as_numpy_dtype)
    build, name = FOLDS[fold]

    def graph(x: Any) -> Any:
        weights = tf.constant((numbers(1, 1, 4, 8, low=2, high=3)).astype(dtype.as_numpy_dtype))
        return build(tf.nn.conv2d(x, weights, 1, "SAME"), big, one)

    made = make(graph, dtype=dtype)
    outcome = apply(made, name)[name]
    assert outcome.applied == 0
    assert f"a folded constant would overflow {dtype.name}" in {no.reason for no in outcome.declined}


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "int64", "float16", "float64"])
def test_inputs_at_their_extremes(tmp_path, dtype) -> None:
    """Converted once to float32, as NumPy does, whatever the width: no wrap, no clip, no other rounding."""
    import keras

    keras.Sequential([keras.Input((4,)), keras.layers.Activation("linear", name="same")]).save(tmp_path / "net.keras")
    limits = np.finfo(dtype) if dtype.startswith("float") else np.iinfo(dtype)
    step = {"op": "rescale", "scale": 0.25, "offset": 1.0}
    fed = {"x": {"kind": "tensor", "dtype": dtype, "shape": [None, 4], "preprocess": [step]}}
    result = pbcompile.compile_spec(spec(tmp_path, inputs=fed), verify=False)
    given = np.array([[limits.min, limits.max, 0, limits.max - 1]], dtype)
    with np.errstate(over="ignore"):
        wanted = given.astype(np.float32) * np.float32(0.25) + np.float32(1)
    np.testing.assert_array_max_ulp(pbcompile.load(result.artifact)(x=given)["same"], wanted, 1)
