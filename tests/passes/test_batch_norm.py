"""decompose-batch-norm, and the account of every batch norm that `optimize` gives."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from pbcompile.graph import graph_text, portable_graph_def
from pbcompile.passes import optimize
from tests.passes.trial import EPSILON, answers, apply, declines, in_float64, make, numbers, run

DECOMPOSE = ("decompose-batch-norm",)
GAMMA, BETA, MEAN = numbers(8, seed=1), numbers(8, seed=2), numbers(8, seed=3)
VARIANCE = np.array([1e-6, 0.3, 4.0, 1e-6, 0.01, 25.0, 1.0, 0.5], np.float32)


def conv(x, seed=9, channels=8):
    return tf.nn.conv2d(x, tf.constant(numbers(3, 3, x.shape[-1], channels, seed=seed)), 1, "SAME")


def fused(x, op="FusedBatchNormV3", data_format="NHWC", mean=MEAN):
    return getattr(tf.raw_ops, op)(
        x=x, scale=GAMMA, offset=BETA, mean=mean, variance=VARIANCE, epsilon=1e-3, is_training=False,
        data_format=data_format,
    )  # fmt: skip


def keras3(x, name="bn"):
    """As Keras 3 freezes it: constants behind Identity, Reshape and Squeeze, Rsqrt in the graph."""
    with tf.name_scope(name), tf.name_scope("batchnorm"):
        variance = tf.reshape(tf.identity(tf.constant(VARIANCE)), [1, 1, 1, 8])
        inverse = tf.squeeze(tf.math.rsqrt(variance + tf.constant(1e-3)), [0, 1, 2]) * tf.identity(tf.constant(GAMMA))
        shift = tf.identity(tf.constant(BETA)) - tf.identity(tf.constant(MEAN)) * inverse
        return x * inverse + shift


@pytest.mark.parametrize("op", ["FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"])
def test_every_fused_form(op):
    """Mul and AddV2 with the numbers of the formula, rounded once."""
    graph = answers(lambda x: fused(x, op)[0], DECOMPOSE, f"decompose_{op}", shape=(2, 3, 3, 8), oracle=False)
    scale = GAMMA.astype(np.float64) / np.sqrt(VARIANCE.astype(np.float64) + np.float64(np.float32(1e-3)))
    shift = BETA.astype(np.float64) - MEAN.astype(np.float64) * scale.astype(np.float32)
    assert [n.op for n in graph.sorted() if n.op not in ("Const", "Placeholder")] == ["Mul", "AddV2"]
    np.testing.assert_array_equal(graph.const(graph.node("out").inputs[1]), shift.astype(np.float32))


@pytest.mark.parametrize("form", ["keras 3", "keras 2"])
def test_the_shift_belongs_to_the_scale_that_is_stored(form):
    """At x = μ the result is β to one rounding, however large μ is: not β plus what rounding s did to μ."""
    mean = np.float32([3000.1, -777.7, 12345.6, 1, 2, 3, 4, 5])

    def build(x):
        if form == "keras 2":
            return fused(x, mean=mean)[0]
        inverse = tf.math.rsqrt(tf.constant(VARIANCE) + 1e-3) * tf.constant(GAMMA)
        return x * inverse + (tf.constant(BETA) - tf.constant(mean) * inverse)

    graph = make(build, (1, 1, 1, 8))
    optimize(graph)
    scale, shift = (graph.const(node.inputs[1]).astype(np.float64) for node in graph if node.op in ("Mul", "AddV2"))
    at_mean = mean.astype(np.float64) * scale + shift
    assert (np.abs(at_mean - BETA) <= EPSILON * np.abs(shift) + 1e-12).all()


def test_channels_first():
    """The constants become [C, 1, 1]."""
    graph = make(lambda x: fused(x, data_format="NCHW")[0], (2, 8, 3, 3))
    apply(graph, *DECOMPOSE)
    assert graph.shape(graph.node("out").inputs[1]) == (8, 1, 1)


def test_decompose_1_training_mode():
    """The statistics come from the batch: nothing can be precomputed (and lint would refuse it)."""
    from pbcompile.graph import apply_rules
    from pbcompile.passes.decompose_batch_norm import DecomposeBatchNorm

    graph = make(
        lambda x: tf.raw_ops.FusedBatchNormV3(
            x=x, scale=GAMMA, offset=BETA, mean=MEAN, variance=VARIANCE, is_training=True, exponential_avg_factor=0.5
        )[0],
        (2, 3, 3, 8),
    )
    outcome = apply_rules(graph, [DecomposeBatchNorm()])
    assert [no.reason for no in outcome.declined] == ['"out" is in training mode']


def test_decompose_2_statistics_are_read():
    """Port 1 gives out the mean."""
    declines(lambda x: ((y := fused(x))[0], tf.exp(y[1])), DECOMPOSE, "are read", shape=(2, 3, 3, 8))


# ---- the account


def account(build, shape=(2, 6, 6, 4), level="canonical"):
    graph = make(build, shape)
    report = optimize(graph, level)
    return graph, report


@pytest.mark.parametrize("form", ["keras 3", "keras 2"])
def test_both_ages_fold_to_the_same_graph(form):
    """Convolution, bias, batch norm: one Conv2D and one BiasAdd, named by layer in the report."""

    def build(x):
        y = tf.nn.bias_add(conv(x), numbers(8, seed=4))
        with tf.name_scope("net"):
            y = keras3(y) if form == "keras 3" else tf.identity(fused(y)[0])
        return tf.nn.relu(y)

    graph, report = account(build)
    assert [n.op for n in graph.sorted() if n.op not in ("Const", "Placeholder")] == ["Conv2D", "BiasAdd", "Relu"]
    assert (report.batch_norm.found, len(report.batch_norm.folded)) == (1, 1)
    (folded,) = report.batch_norm.folded
    assert folded.layer == ("net/bn" if form == "keras 3" else "net")
    assert folded.into == ("Conv2D", "BiasAdd")
    assert report.as_json()["batch_norm"] == {"found": 1, "folded": 1, "kept": []}


def test_tiny_variances_and_negative_gammas_stay_exact():
    """Against float64, within what float32's roundings allow: 36 products a sum, and five roundings."""
    graph = make(lambda x: keras3(conv(x)))
    feed = numbers(2, 6, 6, 4, seed=5)
    (want,) = run(in_float64(graph), feed.astype(np.float64), ["out"])
    (sums,) = run(in_float64(graph, magnitude=True), np.abs(feed).astype(np.float64), ["out"])
    optimize(graph)
    (got,) = run(portable_graph_def(graph), feed, ["out"])
    assert np.abs(got - want).max() <= EPSILON * (36 + 5) * sums.max()


def test_kept_ones_say_why():
    """A second reader, an activation between, an output."""

    def build(x):
        y = conv(x)
        z = conv(tf.nn.relu6(keras3(y, "good")), seed=3)
        return keras3(z, "blocked"), tf.exp(z), keras3(tf.nn.relu6(conv(x, seed=2)), "behind_relu")

    _, report = account(build)
    assert [folded.layer for folded in report.batch_norm.folded] == ["good"]
    assert {kept.layer: kept.reason.split(";")[0] for kept in report.batch_norm.kept} == {
        "blocked": 'Conv2D "Conv2D_1" has another reader',
        "behind_relu": 'Relu6 "Relu6_1" does not commute with a scale',
    }


def test_a_layer_called_twice_is_found_twice():
    """Both calls are accounted for."""
    _, report = account(lambda x: keras3(tf.nn.relu(keras3(conv(x), "bn/")), "bn/"))
    assert [b.layer for b in (*report.batch_norm.folded, *report.batch_norm.kept)] == ["bn", "bn#2"]


def test_level_none_folds_nothing_and_says_so():
    """And still drops what no artifact may hold."""
    graph, report = account(lambda x: keras3(conv(x)), level="none")
    assert report.batch_norm.as_json() == {
        "found": 1, "folded": 0, "kept": [{"layer": "bn", "reason": 'level "none" folds nothing'}],
    }  # fmt: skip
    assert "Rsqrt" in graph_text(graph)


def test_an_rsqrt_of_the_input_is_no_batch_norm():
    """Layer normalisation computes its own variance."""
    _, report = account(lambda x: x * tf.math.rsqrt(tf.math.reduce_variance(x, -1, keepdims=True) + 1e-3))
    assert report.batch_norm.found == 0


def test_the_report_is_json():
    """Every value of it."""
    _, report = account(lambda x: keras3(conv(x)))
    assert json.loads(json.dumps(report.as_json())) == report.as_json()


def test_the_same_graph_gives_the_same_text():
    """Twice the same build, twice the same names."""
    build = lambda x: keras3(conv(tf.nn.relu(keras3(conv(x), "a"))), "b")  # noqa: E731
    assert graph_text(account(build)[0]) == graph_text(account(build)[0])
