"""Steps behind the model against NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from pbcompile.errors import SpecError
from pbcompile.reference.values import REFERENCE, top_k
from pbcompile.steps.postprocess import Argmax, Sigmoid, Softmax, Threshold, TopK, read_labels
from pbcompile.tensor_type import TensorType

quick = settings(max_examples=50, deadline=None, derandomize=True)


@given(st.integers(1, 4), st.integers(1, 30), st.integers(0, 50), st.sampled_from([1.0, 30.0, 1e4]))
@quick
def test_softmax_and_sigmoid_are_right_to_float32(n, classes, seed, spread) -> None:
    """Within 4 eps of the value rounded from float64, far out too."""
    x = (np.random.default_rng(seed).standard_normal((n, classes)) * spread).astype(np.float32)
    given = TensorType("float32", x.shape)
    for step in (Softmax(), Sigmoid()):
        have = step.emit(tf.constant(x), given).numpy()
        np.testing.assert_allclose(have, REFERENCE[type(step)](step, x, given), rtol=2e-5, atol=1e-37)


@given(st.integers(1, 4), st.integers(1, 9), st.integers(0, 50), st.booleans())
@quick
def test_argmax_and_threshold_are_numpy_s_ties_too(n, classes, seed, ties) -> None:
    x = np.random.default_rng(seed).standard_normal((n, 3, classes)).astype(np.float32)
    x = np.round(x) if ties else x
    given = TensorType("float32", x.shape)
    for step in (Argmax(), Argmax(axis=1), Threshold(), Threshold(value=0.0)):
        promised = step.check(given)
        have = step.emit(tf.constant(x), given).numpy()
        want = REFERENCE[type(step)](step, x, given)
        np.testing.assert_array_equal(have, want)
        assert (str(have.dtype), have.shape) == (promised.dtype, promised.shape)


@given(st.integers(1, 4), st.integers(1, 9), st.integers(0, 50), st.booleans(), st.data())
@quick
def test_top_k_gives_scores_indices_and_labels(n, classes, seed, ties, data) -> None:
    """Largest first; where scores are equal, the lower index first."""
    x = np.random.default_rng(seed).standard_normal((n, classes)).astype(np.float32)
    x = np.round(x) if ties else x
    k = data.draw(st.integers(1, classes))
    names = tuple(f"čat {index}" for index in range(classes))
    step = TopK(k=k, labels=names, label_names=names)
    have = {part: value.numpy() for part, value in step.emit_parts({"": tf.constant(x)}, {}, None).items()}
    want = top_k(step, {"": x})
    assert (
        list(have)
        == list(step.check_parts({"": TensorType("float32", x.shape)}, None))
        == ["labels", "scores", "indices"]
    )
    for part in have:
        np.testing.assert_array_equal(have[part], want[part])


def test_labels_are_the_lines_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes("\ufeffcat\r\n dog \r\nčížek\r\n\r\n".encode())
    assert read_labels(tmp_path / "labels.txt", "/p") == ("cat", "dog", "čížek")
    (tmp_path / "image.txt").write_bytes(b"\x89PNG\xff")
    with pytest.raises(SpecError, match="is no UTF-8 text"):
        read_labels(tmp_path / "image.txt", "/p")
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(SpecError, match="holds no labels"):
        read_labels(tmp_path / "empty.txt", "/p")


@pytest.mark.parametrize(
    ("step", "given", "says"),
    [
        (Softmax(), TensorType("int64", (None, 3)), "takes floats"),
        (Sigmoid(), TensorType("uint8", (None, 3)), "takes floats"),
        (Argmax(axis=0), TensorType("float32", (None, 3)), "none of the axes"),
        (Argmax(axis=2), TensorType("float32", (None, 3)), "none of the axes"),
    ],
)
def test_what_does_not_fit_is_refused(step, given, says) -> None:
    with pytest.raises(SpecError, match=says):
        step.check(given)


@pytest.mark.parametrize(
    ("step", "given", "says"),
    [
        (TopK(k=2), TensorType("float32", (None, 3, 4)), "takes \\[batch, classes\\]"),
        (TopK(k=5), TensorType("float32", (None, 4)), "k is 5, and there are 4 classes"),
        (TopK(k=1, labels=("a",), label_names=("a",)), TensorType("float32", (None, 4)), "1 labels and 4 classes"),
    ],
)
def test_a_top_k_that_does_not_fit_is_refused(step, given, says) -> None:
    with pytest.raises(SpecError, match=says):
        step.check_parts({"": given}, None)
