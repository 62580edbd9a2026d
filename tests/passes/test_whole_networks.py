"""Every pass at once, on networks that Keras 3 and Keras 2 froze: numbers, batch norms, and nothing left to do."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import tensorflow as tf

from pbcompile.freeze import freeze
from pbcompile.graph import Graph, graph_text, portable_graph_def, serialize
from pbcompile.passes import LEVELS, optimize
from tests.passes.trial import in_float64, run

SIZE = 16
BATCH_NORMS = 13
KEPT = "pre_activation"
"""The one batch norm that cannot be folded: a ReLU behind it, a concatenation with another reader before it."""


def network(keras):
    """What real networks are made of, in twenty layers."""
    layers = keras.layers
    count = iter(range(99))

    def norm(x, name=""):
        return layers.BatchNormalization(name=name or f"bn{next(count)}")(x)

    image = layers.Input((SIZE, SIZE, 3), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(image)
    x = layers.ReLU(6.0)(norm(layers.Conv2D(8, 3, 2, "same", use_bias=False)(x)))
    y = layers.ZeroPadding2D(1)(x)
    y = layers.ReLU(6.0)(norm(layers.DepthwiseConv2D(3, padding="valid")(y)))
    squeezed = layers.Reshape((1, 1, 8))(layers.GlobalAveragePooling2D()(y))
    squeezed = layers.Conv2D(8, 1, activation="sigmoid")(layers.Conv2D(2, 1, activation="swish")(squeezed))
    y = norm(layers.Conv2D(8, 1)(layers.Multiply()([y, squeezed])))
    x = layers.Add()([x, y])
    dilated = norm(layers.Conv2D(8, 3, dilation_rate=2, padding="same")(x))
    shared = layers.Conv2D(8, 1, use_bias=False, name="shared")
    left, right = norm(shared(x)), norm(shared(layers.Activation("tanh")(x)))
    joined = layers.Concatenate()([dilated, left, right])
    z = layers.Activation("relu")(norm(joined, KEPT))
    z = norm(layers.SeparableConv2D(16, 3, padding="same")(z))
    z = norm(layers.Conv2DTranspose(8, 3, 2, "same")(layers.Dropout(0.5)(z)))
    z = norm(layers.AveragePooling2D(2)(layers.Conv2D(8, 3, padding="same")(z)))
    z = norm(layers.Concatenate()([norm(layers.Conv2D(4, 1)(z)), layers.Conv2D(4, 3, padding="same")(z)]))
    z = layers.Flatten()(layers.Dense(4)(z))
    z = norm(layers.Dense(10)(z))
    joined = layers.GlobalMaxPooling2D()(joined)
    return keras.Model(image, [layers.Softmax()(z), layers.Dense(3)(joined)])


def randomised(keras, model):
    """Statistics from images, negative gammas among them, and some tiny variances."""
    generator = np.random.default_rng(0)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in norms:
        layer.momentum = 0.0
        signs = generator.choice([1, 1, -1], layer.gamma.shape)
        layer.gamma.assign(generator.uniform(0.5, 1.5, layer.gamma.shape) * signs)
        layer.beta.assign(generator.normal(0, 0.3, layer.beta.shape))
    model(pictures(8), training=True)
    for layer in norms[::3]:
        variance = np.array(layer.moving_variance)
        variance[0] = 1e-6
        layer.moving_variance.assign(variance)
    assert len(norms) == BATCH_NORMS
    return model


def pictures(count):
    generator = np.random.default_rng(5)
    small = tf.image.resize(generator.uniform(0, 255, (count, 4, 4, 3)), (SIZE, SIZE), "bicubic").numpy()
    return np.clip(small + generator.normal(0, 10, small.shape), 0, 255).astype(np.float32)


@pytest.fixture(scope="module", params=["keras", "tf_keras"])
def frozen(request):
    """The network of one age of Keras, frozen: (GraphDef, age)."""
    keras = import_module(request.param)
    keras.utils.set_random_seed(3)
    model = randomised(keras, network(keras))
    traced = tf.function(lambda x: model(x, training=False), autograph=False)
    function = traced.get_concrete_function(tf.TensorSpec((None, SIZE, SIZE, 3), tf.float32, name="x"))
    return freeze(function, ["x"], ["out", "out1"]), request.param


def loaded(frozen):
    return Graph.from_graph_def(frozen[0], ["x"], ["out", "out1"])


@pytest.mark.parametrize("level", LEVELS)
def test_no_worse_than_the_frozen_graph(frozen, level):
    """Against float64: at most twice the error of Keras's own float32 (both are sums of random roundings).

    TensorFlow has no float64 kernel for Keras 2's fused batch norm; there the fused graph is decomposed first.
    """
    oracle = loaded(frozen)
    optimize(oracle, "none" if frozen[1] == "keras" else "canonical")
    feed = pictures(4)
    exact = run(in_float64(oracle), feed.astype(np.float64), oracle.outputs)
    plain = run(portable_graph_def(loaded(frozen)), feed, oracle.outputs)
    graph = loaded(frozen)
    optimize(graph, level)
    for got, keras, want in zip(run(portable_graph_def(graph), feed, graph.outputs), plain, exact, strict=True):
        assert np.abs(want - want.mean(0)).max() > 0.01, "the output does not depend on the picture"
        allowed = 2 * np.abs(keras - want).max() + 2.0**-24 * np.abs(want).max()
        assert np.abs(got - want).max() <= allowed


@pytest.mark.parametrize("level", LEVELS[1:])
def test_every_batch_norm_is_folded_or_named(frozen, level):
    """All others are folded; the pre-activation one is kept, for the reason that stands before and behind it."""
    graph = loaded(frozen)
    report = optimize(graph, level).batch_norm
    assert report.found == BATCH_NORMS
    (kept,) = report.kept
    assert KEPT in kept.layer
    assert "has another reader" in kept.reason
    assert "Relu" in kept.reason
    assert all(folded.into for folded in report.folded)
    assert {node.op for node in graph}.isdisjoint({"Rsqrt", "FusedBatchNormV3", "Identity", "IdentityN"})
    assert [node.op for node in graph if node.stands_for] == ["Mul", "AddV2"]


@pytest.mark.parametrize("level", LEVELS)
def test_a_second_run_changes_nothing(frozen, level):
    """And the same graph gives the same bytes, whatever order its nodes come in."""
    graph = loaded(frozen)
    optimize(graph, level)
    text, data = graph_text(graph), serialize(portable_graph_def(graph))
    again = optimize(graph, level)
    assert {done.name: done.applied for done in again.passes if done.applied} == {}
    assert graph_text(graph) == text
    shuffled = tf.compat.v1.GraphDef()
    shuffled.CopyFrom(frozen[0])
    del shuffled.node[:]
    shuffled.node.extend(reversed(frozen[0].node))
    other = Graph.from_graph_def(shuffled, ["x"], ["out", "out1"])
    optimize(other, level)
    assert serialize(portable_graph_def(other)) == data


def test_both_ages_become_the_same_ops(frozen):
    """What is left of the network is convolutions, biases and activations."""
    graph = loaded(frozen)
    optimize(graph)
    left = {node.op for node in graph}
    assert left <= {
        "Placeholder", "Const", "Sub", "AddV2", "Conv2D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "MatMul",
        "BatchMatMulV2", "BiasAdd", "Relu", "Relu6", "Sigmoid", "Mul", "Mean", "Tanh", "ConcatV2", "AvgPool", "Max",
        "Softmax", "Reshape", "Shape", "StridedSlice", "Pack", "SpaceToBatchND", "BatchToSpaceND",
    }  # fmt: skip
    assert [node.op for node in graph].count("Mul") == 3, "swish, squeeze-and-excite, the kept batch norm"
