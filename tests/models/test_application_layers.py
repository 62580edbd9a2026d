"""Layers that Keras defines beside its applications are Keras's own, no custom code."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.applications.convnext import LayerScale, StochasticDepth
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

from pbcompile.models import load_model
from pbcompile.spec import ModelSource


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_convnext_and_inception_resnet_layers_load_without_trust(tmp_path, suffix) -> None:
    keras.utils.set_random_seed(2)
    image = keras.Input((6, 6, 4))
    x = LayerScale(0.5, 4, name="scale")(image)
    x = StochasticDepth(0.3)(x)
    x = CustomScaleLayer(0.17)([image, x])
    model = keras.Model(image, x)
    model.save(tmp_path / f"net.{suffix}")
    loaded = load_model(ModelSource(tmp_path / f"net.{suffix}"))
    given = np.random.default_rng(0).standard_normal((2, 6, 6, 4)).astype("float32")
    (answer,) = loaded.call({loaded.inputs[0].name: tf.constant(given)}).values()
    np.testing.assert_allclose(answer, model(given, training=False), rtol=1e-6)
