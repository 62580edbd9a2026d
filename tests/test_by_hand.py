"""What goes wrong by hand, as the README says: each sentence there has its test here."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

FRAME = cv2.resize(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8), (160, 120))


def freeze(call: Callable[[Any], Any], *shape: int | None) -> Any:
    """As everybody does it."""
    function = tf.function(call).get_concrete_function(tf.TensorSpec(shape, tf.float32))
    return convert_variables_to_constants_v2(function)


def two_heads() -> keras.Model:
    x = given = keras.Input((8, 8, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    heads = [keras.layers.Dense(units, name=name)(x) for name, units in (("zebra", 4), ("ant", 3))]
    return keras.Model(given, heads)


def test_several_outputs_become_identities_and_a_dict_is_sorted() -> None:
    model = two_heads()
    plain = freeze(model, None, 8, 8, 3)
    assert [(t.name, t.shape[1]) for t in plain.outputs] == [("Identity:0", 4), ("Identity_1:0", 3)]
    named = freeze(lambda x: dict(zip(("zebra", "ant"), model(x), strict=True)), None, 8, 8, 3)
    assert [(t.name, t.shape[1]) for t in named.outputs] == [("Identity:0", 3), ("Identity_1:0", 4)]


def test_batch_normalization_stays_in_the_graph() -> None:
    ops = [node.op for node in freeze(two_heads(), None, 8, 8, 3).graph.as_graph_def().node]
    assert "Rsqrt" in ops


def test_names_depend_on_how_many_models_were_built_before() -> None:
    def names() -> set[str]:
        return {
            node.name for node in freeze(two_heads(), None, 8, 8, 3).graph.as_graph_def().node if node.op == "Conv2D"
        }

    assert names() != names()


def test_a_layer_with_a_seed_cannot_be_frozen() -> None:
    model = keras.Sequential([keras.Input((5, 2)), keras.layers.LSTM(3, dropout=0.5)])
    with pytest.raises(ValueError, match="AssignVariableOp"):
        freeze(model, None, 5, 2)


def test_the_default_jpeg_decoder_has_other_pixels() -> None:
    data = cv2.imencode(".jpg", FRAME)[1].tobytes()
    opencv = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    pillow = np.asarray(Image.open(io.BytesIO(data)))
    default = tf.io.decode_jpeg(data).numpy()
    assert (opencv == pillow).all()
    assert (default != opencv).mean() > 0.1


def test_every_library_resizes_in_its_own_way() -> None:
    opencv = cv2.resize(FRAME, (48, 32), interpolation=cv2.INTER_LINEAR)
    pillow = np.asarray(Image.fromarray(FRAME).resize((48, 32), Image.Resampling.BILINEAR))
    tensorflow = np.rint(tf.image.resize(FRAME, (32, 48)).numpy()).astype(np.uint8)
    for one, other in ((opencv, pillow), (opencv, tensorflow), (pillow, tensorflow)):
        assert (one != other).any()


def test_no_tensorflow_decoder_looks_at_exif() -> None:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(FRAME).save(file, "JPEG", exif=exif)
    data = file.getvalue()
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (160, 120, 3)
    assert tf.io.decode_jpeg(data).shape == tf.io.decode_image(data).shape == (120, 160, 3)
