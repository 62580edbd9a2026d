"""What cannot be compiled is said before the work, and all of it at once."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

import pbcompile
from pbcompile.models import size

FED = {"x": {"kind": "tensor", "shape": [None, 4]}}


def spec(folder: Path, model: object) -> Path:
    (folder / "spec.json").write_text(json.dumps({"version": 1, "model": model, "inputs": FED}))
    return folder / "spec.json"


def small(folder: Path, name: str) -> None:
    """Weights of 6000 bytes, and as many again twice over in the state of an optimizer."""
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(300)])
    model.compile("adam", "mse")
    model.train_on_batch(np.ones((2, 4)), np.ones((2, 300)))
    model.save(folder / name)


def test_five_gigabytes_are_refused_by_check_already(tmp_path, run) -> None:
    """A real file whose table says 5 GiB; its numbers were never written, and nobody reads them."""
    import keras

    (tmp_path / "net.json").write_text(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]).to_json())
    with h5py.File(tmp_path / "net.weights.h5", "w") as file:
        for name in "kernel", "bias":
            file.create_dataset(f"layers/dense/vars/{name}", (5 << 27,), "f4")
    spec(tmp_path, {"path": "net.json", "weights": "net.weights.h5"})
    for command in ("check", "compile"):
        done = run(command, "spec.json")
        assert done.code == 3
        assert "model-too-large at /model: the weights have 5.0 GiB, and one .pb holds less than 2 GiB" in done.err
        assert "start TensorFlow" not in done.err


@pytest.mark.parametrize("name", ["net.h5", "net.keras"])
def test_the_state_of_an_optimizer_does_not_count(tmp_path, monkeypatch, name) -> None:
    """No artifact holds it."""
    small(tmp_path, name)
    monkeypatch.setattr(size, "MAX_BYTES", 6000)
    assert pbcompile.compile_spec(spec(tmp_path, name), verify=False)
    monkeypatch.setattr(size, "MAX_BYTES", 5999)
    from pbcompile.models import ModelSource, describe_model

    with pytest.raises(pbcompile.ModelError, match=r"the weights have 0\.0 GiB, and one \.pb holds less"):
        describe_model(ModelSource(tmp_path / name))


def test_what_no_table_told_is_refused_before_it_is_frozen(tmp_path, monkeypatch) -> None:
    """A SavedModel's files hold more than a signature reads, so that only its variables are counted."""
    import tensorflow as tf

    class Net(tf.Module):
        def __init__(self) -> None:
            self.scale = tf.Variable(tf.ones([4, 300]), name="scale")

        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32)])
        def __call__(self, x):
            return {"y": x @ self.scale}

    net = Net()
    tf.saved_model.save(net, str(tmp_path / "net"), {"serving_default": net.__call__})
    monkeypatch.setattr(size, "MAX_BYTES", 4799)
    with pytest.raises(pbcompile.ModelError, match=r"one \.pb holds less than 2 GiB"):
        pbcompile.compile_spec(spec(tmp_path, "net"))


def test_every_layer_that_cannot_be_made_is_named_at_once(tmp_path) -> None:
    """Unknown classes, layers that are refused, activations and a Lambda, in the model and in one inside it."""

    def layer(kind: str, name: str, **config: object) -> dict[str, object]:
        return {"class_name": kind, "config": {"name": name, **config}}

    first = layer("InputLayer", "input_1", batch_input_shape=[None, 4], dtype="float32")
    inner = {"name": "inner", "layers": [first, layer("Swirl", "inside")]}
    layers = [
        first,
        layer("Dense", "good", units=2),
        layer("MyAttention", "attend"),
        layer("Lambda", "scale", function=["4wAAAA==", None, None], function_type="lambda"),
        layer("Dense", "bent", units=2, activation="mine"),
        layer("StringLookup", "words"),
        {"class_name": "Sequential", "config": inner},
    ]
    config = {"class_name": "Sequential", "config": {"name": "net", "layers": layers}, "keras_version": "2.9.0"}
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.9.0"
        file.create_group("model_weights").attrs["layer_names"] = []
    with pytest.raises(pbcompile.ModelError) as caught:
        pbcompile.compile_spec(spec(tmp_path, "net.h5"), verify=False)
    said = [problem.message for problem in caught.value.problems]
    assert len(said) == 5, said
    for name in ("attend", "scale", "bent", "words", "inside"):
        assert sum(f" {name} " in message for message in said) == 1, (name, said)
