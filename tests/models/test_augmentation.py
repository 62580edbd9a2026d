"""Keras 3's `model.export` leaves augmentation switched on: what is plainly that is cut out, all else is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import pbcompile
from pbcompile.models import ModelSource, load_model
from pbcompile.models.augmentation import LAYERS
from tests.models.frozen import frozen_answers, frozen_graph

IMAGES = np.random.RandomState(3).uniform(0, 255, (2, 16, 16, 3)).astype(np.float32)
FACTOR = ("RandomBrightness", "RandomColorDegeneration", "RandomContrast", "RandomHue", "RandomRotation",
          "RandomSaturation", "RandomSharpness")  # fmt: skip
ARGUMENTS: dict[str, dict[str, Any]] = {
    **{name: {"factor": 0.3} for name in FACTOR},
    "RandomColorJitter": {f"{what}_factor": 0.3 for what in ("brightness", "contrast", "saturation", "hue")},
    "RandomPosterization": {"factor": 4},
    "RandomShear": {"x_factor": 0.2},
    "RandomTranslation": {"height_factor": 0.2, "width_factor": 0.2},
    "RandomZoom": {"height_factor": 0.2},
}


def random_layer(name: str) -> Any:
    return getattr(layers, name)(**ARGUMENTS.get(name, {}))


def exported(path: Path, *chain: Any, size: int | None = 16) -> tuple[keras.Model, ModelSource]:
    """A model of the layers with a convolution behind them, and what `export` makes of it."""
    x = given = keras.Input((size, size, 3), name="image")
    for layer in chain:
        x = layer(x)
    model = keras.Model(given, layers.Conv2D(2, 3)(x))
    model.export(path, verbose=False)
    return model, ModelSource(path)


def test_all_of_keras_s_layers_are_cut_out(tmp_path: Path) -> None:
    """One behind the other; the answers are those of the model in inference, and the seeds are gone."""
    model, source = exported(tmp_path / "m", *(random_layer(name) for name in LAYERS))
    loaded = load_model(source)
    told = {repair.partition(" ")[0] for repair in loaded.repairs}
    assert told == set(LAYERS)
    wanted = np.asarray(model(IMAGES, training=False))
    np.testing.assert_allclose(next(iter(loaded.predict({"image": IMAGES}).values())), wanted, rtol=1e-6)
    np.testing.assert_allclose(frozen_answers(loaded, [IMAGES])[0], wanted, rtol=1e-6)
    graph_def, _, _ = frozen_graph(loaded)
    assert not [n.name for n in graph_def.node if "Random" in n.op or "Variable" in n.op or "random_" in n.name]


def test_nested_of_open_size_compiled_and_verified(tmp_path: Path) -> None:
    """As tutorials write it: a Sequential of augmentation in front, Dropout behind; the report lists what went."""
    augment = keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)], name="data_augmentation")
    model, _ = exported(tmp_path / "m", augment, layers.Rescaling(1 / 255), layers.Dropout(0.5), size=None)
    spec = {"version": 1, "model": "m", "inputs": {"image": {"channels": "RGB"}}}
    (tmp_path / "m.json").write_text(json.dumps(spec))
    result = pbcompile.compile_spec(tmp_path / "m.json", tmp_path / "m.pb")
    assert [repair.partition(" (")[0] for repair in result.as_json()["repairs"]] == [
        "RandomFlip left out: it only acts in training",
        "RandomRotation left out: it only acts in training",
    ]
    pictures = IMAGES.astype(np.uint8)
    want = np.asarray(model(pictures.astype(np.float32), training=False))
    graph_def = tf.compat.v1.GraphDef.FromString((tmp_path / "m.pb").read_bytes())
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
        (out,) = (output["name"] for output in result.as_json()["outputs"])
        (got,) = tf.import_graph_def(graph_def, return_elements=[f"{out}:0"], name="")
        for _ in range(2):
            np.testing.assert_allclose(session.run(got, {"image:0": pictures}), want, rtol=1e-4, atol=1e-5)


class Noisy(layers.Layer):
    """A user's layer that draws numbers in inference too, named like one of Keras's."""

    def __init__(self, name: str, answer: Any, weighs: bool = False) -> None:
        super().__init__(name=name)
        self.answer = answer
        self.seed = keras.random.SeedGenerator(1)
        self.scale = self.add_weight(shape=(), initializer="ones") if weighs else 1.0

    def call(self, x: Any) -> Any:
        return self.answer(x, keras.random.normal(keras.ops.shape(x), seed=self.seed) * self.scale)


REFUSED: dict[str, Any] = {
    "a name of its own": lambda: [layers.RandomFlip(name="augment")],
    "a network named like a layer": lambda: [
        keras.Sequential([layers.RandomFlip(name="a"), layers.Rescaling(0.1, name="b")], name="random_flip")
    ],
    "with a weight": lambda: [Noisy("random_contrast", lambda x, noise: x + noise, weighs=True)],
    "of another size": lambda: [Noisy("random_zoom", lambda x, noise: (x + noise)[:, 2:-2])],
    "of another dtype": lambda: [Noisy("random_hue", lambda x, noise: keras.ops.cast(x + noise, "float16"))],
    "with two results": lambda: [Noisy("random_flip", lambda x, noise: (x + noise, noise)), layers.Add()],
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_plainly_augmentation_stays_and_is_refused(tmp_path: Path, case: str) -> None:
    _, source = exported(tmp_path / "m", *REFUSED[case]())
    loaded = load_model(source)
    assert loaded.repairs == ()
    with pytest.raises(pbcompile.ModelError) as caught:
        frozen_graph(loaded)
    problem = caught.value.problems[0]
    assert problem.code == "model-stateful"
    assert "compile the .keras file instead" in problem.hint
