"""Forms that no release at hand writes any more, by hand after its source, against the same network built directly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from pbcompile.models import ModelSource, load_model
from tests.models.test_files import write_h5

RANDOM = np.random.RandomState(0)


def sequential(*config: dict[str, Any], shape: list[int | None]) -> list[dict[str, Any]]:
    """A list of layers as Keras 1.0 to 2.1 wrote a Sequential, the input's shape in the first."""
    config[0]["config"]["batch_input_shape"] = shape
    return [dict(layer) for layer in config]


def answer(source: ModelSource, x: Any) -> Any:
    model = load_model(source)
    return next(iter(model.predict({model.inputs[0].name: x}).values()))


def test_batch_norm_of_keras_1_0_divides_by_a_deviation(tmp_path: Path) -> None:
    """keras/layers/normalization.py of 1.0.3: (x - running_mean) / (running_std + epsilon).  No version in its JSON."""
    norm = {"class_name": "BatchNormalization", "config": {"name": "bn", "mode": 0, "axis": -1, "epsilon": 1e-6}}
    dense = {"class_name": "Dense", "config": {"name": "d", "output_dim": 4, "W_regularizer": None, "bias": True}}
    config = {"class_name": "Sequential", "config": sequential(dense, norm, shape=[None, 3])}
    (tmp_path / "m.json").write_text(json.dumps(config))
    kernel, bias, gamma, beta, mean, std = (RANDOM.uniform(0.1, 1, s).astype("f") for s in [(3, 4), 4, 4, 4, 4, 4])
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.attrs["layer_names"] = [b"d", b"bn"]
        saved = {
            "d": {"d_W:0": kernel, "d_b:0": bias},
            "bn": {"bn_gamma:0": gamma, "bn_beta:0": beta, "bn_running_mean:0": mean, "bn_running_std:0": std},
        }
        for name, arrays in saved.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [key.encode() for key in arrays]
            for key, array in arrays.items():
                group.create_dataset(key, data=array)
    x = RANDOM.uniform(-1, 1, (2, 3)).astype("f")
    wanted = (x @ kernel + bias - mean) / (std + 1e-6) * gamma + beta
    source = ModelSource(tmp_path / "m.json", tmp_path / "w.h5")
    np.testing.assert_allclose(answer(source, x), wanted, rtol=1e-5)
    assert "running_std of Keras 1.0 read as a standard deviation (bn)" in load_model(source).repairs


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_weights_of_a_gpu_layer(kind: str, tmp_path: Path) -> None:
    """CuDNNLSTM and CuDNNGRU of Keras 2.0.9 to 2.3 (cudnn_recurrent.py): each gate transposed, two biases."""
    plain = getattr(layers, kind)(3, return_sequences=True)
    given = keras.Input((5, 2))
    model = keras.Model(given, plain(given))
    gates = 4 if kind == "LSTM" else 3
    weights = [RANDOM.uniform(-1, 1, w.shape).astype("f") for w in plain.weights]
    plain.set_weights(weights)
    kernel = np.hstack([k.T.reshape(k.shape) for k in np.hsplit(weights[0], gates)])
    recurrent = np.hstack([k.T for k in np.hsplit(weights[1], gates)])
    bias = weights[2].reshape(-1) if kind == "GRU" else np.concatenate([weights[2] * 0.25, weights[2] * 0.75])
    cudnn = {"name": "r", "units": 3, "return_sequences": True, "go_backwards": False, "stateful": False}
    config = sequential({"class_name": f"CuDNN{kind}", "config": cudnn}, shape=[None, 5, 2])
    saved = {"r": {"r/kernel:0": kernel, "r/recurrent_kernel:0": recurrent, "r/bias:0": bias}}
    path = write_h5(tmp_path / "m.h5", {"class_name": "Sequential", "config": config}, saved, "2.1.6")
    x = RANDOM.uniform(-1, 1, (2, 5, 2)).astype("f")
    np.testing.assert_allclose(answer(ModelSource(path), x), np.asarray(model(x)), rtol=1e-5, atol=1e-6)


def test_weights_of_keras_0_3(tmp_path: Path) -> None:
    """`layer_0/param_0`, the form of vgg16_weights.h5, which Keras 1 still read (topology.py, `nb_layers`)."""
    dense = [
        {"class_name": "Dense", "config": {"name": f"d{i}", "output_dim": 3, "W_regularizer": None}} for i in range(2)
    ]
    relu = {"class_name": "Activation", "config": {"name": "a", "activation": "relu"}}
    config = {"class_name": "Sequential", "config": sequential(dense[0], relu, dense[1], shape=[None, 3])}
    (tmp_path / "m.json").write_text(json.dumps(config))
    arrays = [RANDOM.uniform(-1, 1, s).astype("f") for s in [(3, 3), 3, (3, 3), 3]]
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.attrs["nb_layers"] = 3
        for i, own in enumerate([arrays[:2], [], arrays[2:]]):
            group = file.create_group(f"layer_{i}")
            group.attrs["nb_params"] = len(own)
            for j, array in enumerate(own):
                group.create_dataset(f"param_{j}", data=array)
    x = RANDOM.uniform(-1, 1, (2, 3)).astype("f")
    wanted = np.maximum(x @ arrays[0] + arrays[1], 0) @ arrays[2] + arrays[3]
    np.testing.assert_allclose(answer(ModelSource(tmp_path / "m.json", tmp_path / "w.h5"), x), wanted, rtol=1e-5)


def functional(middle: dict[str, Any], call: list[Any], output: list[Any]) -> dict[str, Any]:
    """Input, one layer, Dense, in the words of Keras 2."""
    entry = {"class_name": "InputLayer", "name": "x", "inbound_nodes": [], "config": {"name": "x"}}
    entry["config"] = {"name": "x", "batch_input_shape": [None, 3], "dtype": "float32"}
    dense = {"class_name": "Dense", "name": "y", "config": {"name": "y", "units": 2}, "inbound_nodes": [output]}
    nested = [entry, {**middle, "inbound_nodes": [call]}, dense]
    config = {"name": "m", "layers": nested, "input_layers": [["x", 0, 0]], "output_layers": [["y", 0, 0]]}
    return {"class_name": "Functional", "config": config}


MIDDLES = {
    "package prefix": ({"class_name": "Custom>FixedDropout", "name": "a", "config": {"name": "a", "rate": 0.5}}, 0),
    "policy object": (
        {
            "class_name": "Activation",
            "name": "a",
            "config": {
                "name": "a",
                "activation": "linear",
                "dtype": {"class_name": "Policy", "config": {"name": "float32", "loss_scale": None}},
            },
        },
        0,
    ),
    "node index out of range": (
        {"class_name": "Activation", "name": "a", "config": {"name": "a", "activation": "linear"}},
        1,
    ),
    "activation in a package": (
        {"class_name": "Activation", "name": "a", "config": {"name": "a", "activation": "keras_applications>linear"}},
        0,
    ),
    "slash in the name": ({"class_name": "Dropout", "name": "b/a", "config": {"name": "b/a", "rate": 0.1}}, 0),
}


@pytest.mark.parametrize("case", MIDDLES)
def test_functional_configs_of_keras_2(case: str, tmp_path: Path) -> None:
    middle, index = MIDDLES[case]
    config = functional(middle, [["x", 0, 0, {}]], [[middle["name"], index, 0, {}]])
    path = write_h5(tmp_path / "m.h5", config)
    np.testing.assert_allclose(answer(ModelSource(path), np.ones((1, 3), "f")), [[3.0, 3.0]])


def test_an_argument_nobody_knows_is_not_dropped_silently(tmp_path: Path) -> None:
    from pbcompile.errors import ModelError

    middle = {"class_name": "Activation", "name": "a", "config": {"name": "a", "activation": "relu", "twist": 3}}
    path = write_h5(tmp_path / "m.h5", functional(middle, [["x", 0, 0, {}]], [["a", 0, 0, {}]]))
    with pytest.raises(ModelError, match=r"the layer a \(Activation\) has the argument twist, unknown to this Keras"):
        load_model(ModelSource(path))
