"""Layers of Keras 3 in its own files: the answers of the model that was saved, frozen without a function library."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from pbcompile.models import ModelSource, describe_model, load_model
from tests.models.frozen import frozen_answers, frozen_graph

IMAGE = (12, 12, 4)
Build = Callable[[], keras.Model]


def over_image(*chain: Callable[[Any], Any]) -> Build:
    """A model that applies layers, made anew each time, to an image one after the other."""

    def build() -> keras.Model:
        x = given = keras.Input(IMAGE, name="image")
        for make in chain:
            x = make(x)
        return keras.Model(given, x)

    return build


def recurrent() -> keras.Model:
    given = keras.Input((None, 5))
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True, dropout=0.2, recurrent_dropout=0.1))(given)
    x = layers.GRU(3, return_sequences=True, dropout=0.2)(x)
    x = layers.TimeDistributed(layers.Dense(4))(x)
    x = layers.RNN([layers.LSTMCell(3, dropout=0.1), layers.GRUCell(2)], return_sequences=True)(x)
    return keras.Model(given, layers.SimpleRNN(3)(x))


def convolutional_lstm() -> keras.Model:
    given = keras.Input((4, 8, 8, 2))
    x = layers.ConvLSTM2D(3, 3, return_sequences=True, dropout=0.1)(given)
    x = layers.TimeDistributed(keras.Sequential([layers.Flatten(), layers.Dense(3)]))(x)
    return keras.Model(given, x)


def attention() -> keras.Model:
    given = keras.Input((6, 8))
    x = layers.MultiHeadAttention(2, 4, dropout=0.1)(given, given)
    x = layers.LayerNormalization()(x + given)
    x = layers.Attention(use_scale=True)([x, x])
    x = layers.EinsumDense("abc,cd->abd", output_shape=(None, 4), bias_axes="d")(x)
    x = layers.AdditiveAttention()([x, x])
    return keras.Model(given, layers.GroupQueryAttention(4, 2, 1)(x, x))


def operations() -> keras.Model:
    given = keras.Input(IMAGE)
    x = layers.Conv2D(4, 3)(given) * 2.0 + 1.0
    y = ops.mean(x[:, 2:-2, ::2], axis=[1, 2])
    z = ops.concatenate([y, ops.max(x, axis=(1, 2))], axis=-1)
    return keras.Model(given, ops.softmax(ops.reshape(z, (-1, 8))))


def nested_and_shared() -> keras.Model:
    base = keras.Sequential([keras.Input(IMAGE), layers.Conv2D(4, 3), layers.BatchNormalization()], name="base")
    base.layers[0].trainable = False
    inner_in = keras.Input((10, 10, 4))
    inner = keras.Model(inner_in, [layers.Conv2D(2, 3)(inner_in)], name="inner")
    first, second, dense = keras.Input(IMAGE), keras.Input(IMAGE), layers.Dense(2)
    ends = []
    for given in (first, second):
        x = inner(base(given))
        ends.append(dense(layers.Flatten()(x[0] if isinstance(x, list) else x)))
    return keras.Model([first, second], layers.Concatenate()(ends))


def mixed_precision() -> keras.Model:
    given = keras.Input(IMAGE)
    x = layers.Conv2D(4, 3, dtype="mixed_float16")(given)
    return keras.Model(given, layers.GlobalAveragePooling2D(dtype="float32")(x))


MODELS: dict[str, Build] = {
    "grouped": over_image(lambda x: layers.Conv2D(8, 3, groups=2, padding="same")(x)),
    "grouped_as_depthwise": over_image(lambda x: layers.Conv2D(8, 3, groups=4)(x)),
    "dilated": over_image(lambda x: layers.Conv2D(4, 3, dilation_rate=2)(x)),
    "causal": over_image(layers.Reshape((12, 48)), lambda x: layers.Conv1D(3, 3, padding="causal", dilation_rate=2)(x)),
    "grouped_causal": over_image(
        layers.Reshape((12, 48)), lambda x: layers.Conv1D(4, 3, groups=4, padding="causal", activation="relu")(x)
    ),
    "grouped_3d": over_image(layers.Reshape((6, 6, 4, 4)), lambda x: layers.Conv3D(4, 2, groups=2)(x)),
    "grouped_1d": over_image(layers.Reshape((12, 48)), lambda x: layers.Conv1D(4, 3, groups=2)(x)),
    "transposed": over_image(lambda x: layers.Conv2DTranspose(2, 3, strides=2, output_padding=1)(x)),
    "transposed_same": over_image(lambda x: layers.Conv2DTranspose(2, 4, strides=2, padding="same")(x)),
    "separable": over_image(lambda x: layers.SeparableConv2D(5, 3, depth_multiplier=2)(x)),
    **{
        f"upsampling_{mode}": over_image(lambda x, mode=mode: layers.UpSampling2D(2, interpolation=mode)(x))
        for mode in ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")
    },
    "resizing": over_image(lambda x: layers.Resizing(7, 9)(x)),
    "group_normalization": over_image(lambda x: layers.GroupNormalization(2)(x)),
    "unit_normalization": over_image(lambda x: layers.UnitNormalization()(x)),
    "augmented": over_image(
        lambda x: layers.RandomFlip()(x), lambda x: layers.RandomRotation(0.1)(x), lambda x: layers.GaussianNoise(1)(x)
    ),
    "activation_as_layer": over_image(lambda x: layers.Conv2D(2, 3, activation=layers.LeakyReLU(0.1))(x)),
    "recurrent": recurrent,
    "convolutional_lstm": convolutional_lstm,
    "attention": attention,
    "operations": operations,
    "nested_and_shared": nested_and_shared,
    "mixed_precision": mixed_precision,
}


def made(name: str) -> tuple[keras.Model, list[Any]]:
    """The model with weights from 0.03 to 0.9, and a batch for each of its inputs."""
    model = MODELS[name]()
    random = np.random.RandomState(0)
    for weight in model.weights:
        weight.assign(random.uniform(0.1, 0.9, weight.shape) * (0.3 if len(weight.shape) > 1 else 1))
    return model, [random.uniform(-1, 1, [2] + [size or 7 for size in t.shape[1:]]).astype("f") for t in model.inputs]


def saved(model: keras.Model, form: str, folder: Path) -> ModelSource:
    if form == "json":
        (folder / "m.json").write_text(model.to_json())
        model.save_weights(folder / "m.weights.h5")
        return ModelSource(folder / "m.json", folder / "m.weights.h5")
    model.save(folder / f"m.{form}")
    return ModelSource(folder / f"m.{form}")


@pytest.mark.parametrize("name", MODELS)
def test_every_form_gives_the_saved_models_answers(name: str, tmp_path: Path) -> None:
    """`.keras`, `.h5` and architecture with weights; the first of them frozen too."""
    model, batches = made(name)
    wanted = keras.tree.flatten(model(batches if len(batches) > 1 else batches[0], training=False))
    for form in ("keras", "h5", "json"):
        loaded = load_model(saved(model, form, tmp_path))
        feeds = {tensor.name: batch for tensor, batch in zip(loaded.inputs, batches, strict=True)}
        for got, want in zip(loaded.predict(feeds).values(), wanted, strict=True):
            np.testing.assert_allclose(got, np.asarray(want), rtol=1e-5, atol=1e-6)
    loaded = load_model(ModelSource(tmp_path / "m.keras"))
    for got, want in zip(frozen_answers(loaded, batches), wanted, strict=True):
        np.testing.assert_allclose(got, np.asarray(want), rtol=2e-5, atol=2e-6)
    stateful = [node.op for node in frozen_graph(loaded)[0].node if "Random" in node.op or "Variable" in node.op]
    assert not stateful


def test_preprocessing_inside_a_model_is_named(tmp_path: Path) -> None:
    """Up to the first layer that is none; without TensorFlow, so that `check` can warn."""
    given = keras.Input((12, 12, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1, name="scale")(given)
    x = layers.RandomFlip()(x)
    x = layers.Resizing(8, 8, name="size")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Conv2D(2, 3)(x)
    keras.Model(given, layers.Rescaling(2.0, name="behind")(x)).save(tmp_path / "m.keras")
    said = describe_model(ModelSource(tmp_path / "m.keras"))
    assert said is not None
    assert [(layer.layer, layer.kind) for layer in said.preprocessing] == [
        ("scale", "rescale"),
        ("size", "resize"),
        ("norm", "batch_norm"),
    ]
    assert said.preprocessing[0].detail == "x * 0.00784313725490196 + -1"


def test_two_outputs_of_one_layer_get_two_names(tmp_path: Path) -> None:
    given = keras.Input((5,), name="a")
    other = keras.Input((5,), name="b")
    dense = layers.Dense(2, name="shared")
    keras.Model([given, other], [dense(given), dense(other)]).save(tmp_path / "m.keras")
    source = ModelSource(tmp_path / "m.keras")
    assert [tensor.name for tensor in load_model(source).outputs] == ["shared", "shared_1"]
    described = describe_model(source)
    assert described is not None
    assert [tensor.name for tensor in described.outputs] == ["shared", "shared_1"]


def test_dict_inputs_are_fed_by_key(tmp_path: Path) -> None:
    first, second = keras.Input((3,), name="zz"), keras.Input((3,), name="aa")
    model = keras.Model({"zz": first, "aa": second}, {"s": first - second, "c": layers.Concatenate()([first, second])})
    model.save(tmp_path / "m.keras")
    loaded = load_model(ModelSource(tmp_path / "m.keras"))
    assert [tensor.name for tensor in loaded.inputs] == ["zz", "aa"]
    got = loaded.predict({"zz": np.full((1, 3), 5.0, "f"), "aa": np.ones((1, 3), "f")})
    assert list(got) == ["s", "c"]
    assert got["s"].tolist() == [[4.0, 4.0, 4.0]]
