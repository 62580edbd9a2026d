"""What no frozen graph can hold is refused with a sentence, and names stay the spec's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import pbcompile
from pbcompile.artifact import write_atomically


def saved_model(folder: Path, function: object) -> Path:
    import tensorflow as tf

    module = tf.Module()
    module.parts = function  # keeps tables and variables alive and tracked
    signature = function.serve.get_concrete_function(tf.TensorSpec([None, 4], tf.float32, name="x"))
    tf.saved_model.save(module, str(folder / "saved"), signatures={"serving_default": signature})
    (folder / "spec.json").write_text(
        json.dumps({"version": 1, "model": "saved", "inputs": {"x": {"kind": "tensor", "shape": [None, 4]}}})
    )
    return folder / "spec.json"


def test_a_table_is_refused_by_name(tmp_path) -> None:
    import tensorflow as tf

    class Lookup(tf.Module):
        def __init__(self) -> None:
            keys, values = tf.constant([0, 1], tf.int64), tf.constant([5, 6], tf.int64)
            self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), -1)

        @tf.function
        def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            with tf.name_scope("word_ids"):
                return {"y": self.table.lookup(tf.argmax(x, 1))}

    with pytest.raises(pbcompile.ModelError, match="word_ids") as caught:
        pbcompile.compile_spec(saved_model(tmp_path, Lookup()))
    assert "table" in str(caught.value)
    assert not (tmp_path / "spec.pb").exists()


def test_a_variable_that_is_written_is_refused_by_name(tmp_path) -> None:
    import tensorflow as tf

    class Counter(tf.Module):
        def __init__(self) -> None:
            self.calls = tf.Variable(0.0)

        @tf.function
        def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            with tf.name_scope("counter"):
                self.calls.assign_add(1.0)
                return {"y": x + self.calls}

    with pytest.raises(pbcompile.ModelError) as caught:
        pbcompile.compile_spec(saved_model(tmp_path, Counter()))
    (problem,) = caught.value.problems
    assert problem.code in ("model-stateful", "model-unfreezable")
    assert "counter" in problem.message


def test_a_model_s_node_that_has_an_output_s_name_makes_room(tmp_path) -> None:
    """The public name goes to the public tensor; the node that had it is renamed."""
    import keras
    from keras import layers

    image = keras.Input((4,), name="x")
    keras.Model(image, layers.Dense(2, name="y")(layers.Dense(3, name="inner")(image))).save(tmp_path / "net.keras")
    plain = {"version": 1, "model": "net.keras", "inputs": {"x": {"kind": "tensor", "shape": [None, 4]}}}
    (tmp_path / "plain.json").write_text(json.dumps(plain))
    first = pbcompile.compile_spec(tmp_path / "plain.json", verify=False)
    import tensorflow as tf

    graph_def = tf.compat.v1.GraphDef.FromString(first.artifact.read_bytes())
    taken = next(node.name for node in graph_def.node if node.op == "MatMul")
    (tmp_path / "spec.json").write_text(json.dumps(plain | {"outputs": {taken: {"from": "y"}}}))
    result = pbcompile.compile_spec(tmp_path / "spec.json")
    x = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(pbcompile.load(result.artifact)(x=x)[taken], pbcompile.load(first.artifact)(x=x)["y"])


@pytest.mark.parametrize("make_full", [False, True], ids=["missing folder", "disk full"])
def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch, make_full) -> None:
    path = tmp_path / "a.pb"
    path.write_bytes(b"old")
    target = path
    if make_full:

        def no_space(handle: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", no_space)
    else:
        target = tmp_path / "nowhere" / "a.pb"
    with pytest.raises(pbcompile.PbcompileError, match="cannot be written"):
        write_atomically(target, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.pb"]


def test_a_written_file_has_the_user_s_permissions(tmp_path) -> None:
    """A temporary file is private; the artifact must not stay so."""
    (tmp_path / "plain").write_bytes(b"")
    write_atomically(tmp_path / "a.pb", b"new")
    assert (tmp_path / "a.pb").stat().st_mode == (tmp_path / "plain").stat().st_mode
