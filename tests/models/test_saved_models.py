"""SavedModels of TensorFlow 1 and 2, through their signatures and frozen."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.protobuf import saved_model_pb2

from pbcompile.errors import ModelError
from pbcompile.freeze import freeze
from pbcompile.models import ModelSource, load_model
from tests.models.frozen import frozen_answers, frozen_graph

WRITTEN = Path(__file__).parent / "written_by"
IMAGES = np.random.RandomState(5).uniform(-1, 1, (2, 6, 6, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("saved")
    for archive in ("saved-models-tensorflow-1.15.zip", "saved-model-tensorflow-2.13.zip"):
        with zipfile.ZipFile(WRITTEN / archive) as content:
            content.extractall(made)
    return made


@pytest.mark.parametrize("name", ["v1cond", "hubv1"])
def test_tensorflow_1_with_variables_by_reference(folder: Path, name: str) -> None:
    """Loops and branches of version 1 with their control edges; a hub module, whose graph has no tag."""
    model = load_model(ModelSource(folder / name))
    wanted = np.load(folder / f"{name}.npy")
    assert [(t.name, t.dtype, t.shape) for t in model.inputs] == [("image", "float32", (None, 6, 6, 3))]
    np.testing.assert_allclose(model.predict({"image": IMAGES})["y"], wanted, rtol=1e-6)
    np.testing.assert_allclose(frozen_answers(model, [IMAGES])[0], wanted, rtol=1e-6)


def test_several_signatures_are_listed(folder: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(ModelSource(folder / "multi"))
    assert caught.value.problems[0].message == ("multi/ has the signatures first, second, and none is serving_default")


def test_tables_do_not_freeze_and_are_named(folder: Path) -> None:
    model = load_model(ModelSource(folder / "table"))
    function = tf.function(lambda words: list(model.call({"words": words}).values()))
    with pytest.raises(ModelError, match="looks words up in a table"):
        freeze(function.get_concrete_function(tf.TensorSpec([None], tf.string)), ["words"], ["y"])


def test_training_only_layers_of_a_saved_model_fall_away(folder: Path) -> None:
    model = load_model(ModelSource(folder / "prep_sm"))
    golden = np.load(folder / "prep.npz")
    (got,) = frozen_answers(model, [golden["x0"]])
    np.testing.assert_allclose(got, golden["y0"], rtol=1e-5)
    assert not [node.op for node in frozen_graph(model)[0].node if "Random" in node.op]


class Several(tf.Module):
    """Two functions and a counter."""

    def __init__(self) -> None:
        super().__init__()
        self.count = tf.Variable(0.0, name="count")
        self.scale = tf.Variable(2.0, name="scale")

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def pure(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        self.count.assign_add(1.0)
        return {"zeta": x * self.scale, "alpha": tf.reduce_sum(x)}

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def counting(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x + self.count.assign_add(1.0)}


def test_a_variable_changed_on_the_side_falls_away(tmp_path: Path) -> None:
    module = Several()
    tf.saved_model.save(module, tmp_path, signatures={"one": module.pure})
    model = load_model(ModelSource(tmp_path))
    assert [tensor.name for tensor in model.outputs] == ["alpha", "zeta"], "a SavedModel keeps no order: sorted"
    alpha, zeta = frozen_answers(model, [np.ones((1, 3), np.float32)])
    assert alpha == 3.0
    assert zeta.tolist() == [[2.0, 2.0, 2.0]]


def test_an_output_that_depends_on_a_changed_variable_is_refused(tmp_path: Path) -> None:
    module = Several()
    tf.saved_model.save(module, tmp_path, signatures={"one": module.counting})
    with pytest.raises(ModelError) as caught:
        frozen_graph(load_model(ModelSource(tmp_path)))
    assert caught.value.problems[0].code == "model-stateful"
    assert "reads a variable that the model changes while it runs" in caught.value.problems[0].message


def test_a_saved_model_that_prints_into_a_file_is_not_even_loaded(tmp_path: Path) -> None:
    """PrintV2 is no file op by name, and writes where its stream is a file."""
    stream = f"file://{tmp_path / 'canary'}"

    class Printer(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
        def show(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            tf.print(x, output_stream=stream)
            return {"y": tf.identity(x)}

    module = Printer()
    tf.saved_model.save(module, tmp_path / "m", signatures={"one": module.show})
    with pytest.raises(ModelError, match="holds the op PrintV2"):
        load_model(ModelSource(tmp_path / "m"))
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("form", ["pb", "pbtxt"])
def test_a_saved_model_that_touches_files_is_not_even_loaded(tmp_path: Path, form: str) -> None:
    """Written as text it is looked through all the same."""

    class Writer(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
        def write(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            with tf.control_dependencies([tf.io.write_file(str(tmp_path / "canary"), x)]):
                return {"y": tf.identity(x)}

    module = Writer()
    tf.saved_model.save(module, tmp_path / "m", signatures={"one": module.write})
    if form == "pbtxt":
        write_as_text(tmp_path / "m")
    with pytest.raises(ModelError, match="holds the op WriteFile"):
        load_model(ModelSource(tmp_path / "m"))
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", ["saved_model.pb", "saved_model.pbtxt"])
def test_a_damaged_saved_model(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\xff\xff\xff")
    with pytest.raises(ModelError, match=rf"{name} is damaged"):
        load_model(ModelSource(tmp_path))


def write_as_text(folder: Path) -> None:
    """Put the text form of a SavedModel in place of the binary one."""
    message = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    (folder / "saved_model.pbtxt").write_text(text_format.MessageToString(message))
    (folder / "saved_model.pb").unlink()


def test_a_saved_model_written_as_text_answers_as_the_binary_one(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "prep_sm", tmp_path / "text")
    write_as_text(tmp_path / "text")
    golden = np.load(folder / "prep.npz")
    (got,) = frozen_answers(load_model(ModelSource(tmp_path / "text")), [golden["x0"]])
    np.testing.assert_allclose(got, golden["y0"], rtol=1e-5)


def test_preprocessing_inside_a_saved_model_of_keras_2_is_named(tmp_path: Path) -> None:
    """From the config that Keras 2 wrote beside the graph, so that a spec that does it again is warned of."""
    import tf_keras
    from tf_keras import layers

    given = tf_keras.Input((8, 8, 3))
    x = layers.BatchNormalization(name="norm")(layers.Rescaling(1 / 255, name="scale")(given))
    model = tf_keras.Model(given, layers.Rescaling(2.0, name="behind")(layers.Conv2D(2, 3)(x)))
    model.save(tmp_path / "m", save_format="tf")
    found = load_model(ModelSource(tmp_path / "m")).preprocessing
    assert [(layer.layer, layer.kind) for layer in found] == [("scale", "rescale"), ("norm", "batch_norm")]
