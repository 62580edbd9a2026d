"""Steps on values against NumPy's float32 and Keras's own `preprocess_input`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pbcompile.errors import SpecError
from pbcompile.reference.values import REFERENCE
from pbcompile.steps.base import Step
from pbcompile.steps.normalisation import KerasApplications, Normalize, Rescale, Standardize, SubtractMean
from pbcompile.steps.values import DTYPES, Cast, Clip, Reshape, Round, Transpose
from pbcompile.tensor_type import INTEGER_RANGE, TensorType
from tests.steps.differential import picture

quick = settings(max_examples=60, deadline=None, derandomize=True)
few = settings(max_examples=25, deadline=None, derandomize=True)


def type_of(x: np.ndarray, layout: str = "NHWC", channels: str = "") -> TensorType:
    dtype = str(x.dtype)
    return TensorType(dtype, x.shape, layout if x.ndim == 4 else "", channels, INTEGER_RANGE.get(dtype))


def both(step: Step, x: np.ndarray, given: TensorType | None = None) -> tuple[np.ndarray, np.ndarray]:
    """What the step gives in TensorFlow and what the reference gives, after checking the promised type."""
    given = given or type_of(x)
    promised = step.check(given)
    have, want = step.emit(tf.constant(x), given).numpy(), REFERENCE[type(step)](step, x, given)
    assert str(have.dtype) == promised.dtype == str(want.dtype)
    assert have.shape == want.shape
    assert all(p in (None, h) for p, h in zip(promised.shape, have.shape, strict=True))
    if promised.range is not None and have.size and np.isfinite(have).all():
        slack = 1e-5 * max(abs(promised.range[0]), abs(promised.range[1]), 1)
        assert promised.range[0] - slack <= have.min()
        assert have.max() <= promised.range[1] + slack
    return have, want


def within_one_ulp(have: np.ndarray, want: np.ndarray) -> None:
    np.testing.assert_array_max_ulp(have, want, maxulp=1)


def numbers(count: int) -> st.SearchStrategy[Any]:
    one = st.floats(-300, 300, width=32)
    return one | st.lists(one, min_size=count, max_size=count).map(tuple)


def positive(count: int) -> st.SearchStrategy[Any]:
    one = st.floats(0.001953125, 300, width=32)
    return one | st.lists(one, min_size=count, max_size=count).map(tuple)


@st.composite
def images(draw: st.DrawFn) -> tuple[np.ndarray, str]:
    """An image batch of any dtype in either layout, with its layout."""
    channels = draw(st.sampled_from([1, 3, 4]))
    layout = draw(st.sampled_from(["NHWC", "NCHW"]))
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 9)), draw(st.integers(1, 9)), channels)
    dtype = draw(st.sampled_from(["uint8", "uint16", "int32", "float32", "float16"]))
    x = picture(draw(st.sampled_from(["noise", "extremes", "constant"])), shape, dtype, draw(st.integers(0, 99)))
    return (np.ascontiguousarray(np.moveaxis(x, -1, 1)) if layout == "NCHW" else x), layout


@given(images(), st.data())
@quick
def test_rescale_subtract_and_normalize_are_numpy_s_float32(drawn, data) -> None:
    """To one unit in the last place, per channel along the right axis of either layout."""
    x, layout = drawn
    given = type_of(x, layout)
    count = given.channel_count or 1
    for step in (
        Rescale(scale=data.draw(numbers(count)), offset=data.draw(numbers(count))),
        SubtractMean(mean=data.draw(numbers(count))),
        Normalize(mean=data.draw(numbers(count)), std=data.draw(positive(count))),
    ):
        within_one_ulp(*both(step, x, given))


def test_a_mean_image_is_subtracted_pixel_by_pixel(tmp_path: Path) -> None:
    x = picture("noise", (2, 5, 7, 3))
    np.save(tmp_path / "mean.npy", picture("gradient", (1, 5, 7, 3))[0].astype(np.float64))
    step = SubtractMean.from_json({"mean": "mean.npy"}, "/p", tmp_path)
    have, want = both(step, x)
    np.testing.assert_array_equal(have, want)
    with pytest.raises(SpecError, match=r"the mean image mean.npy has shape \[5, 7, 3\]"):
        step.check(TensorType("uint8", (None, 5, 8, 3), "NHWC"))


@pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY"])
def test_a_mean_file_that_is_none_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mean.npy").write_bytes(content)
    with pytest.raises(SpecError, match=r"is no \.npy array"):
        SubtractMean.from_json({"mean": "mean.npy"}, "/p", tmp_path)


def test_a_pickled_mean_runs_nothing(tmp_path: Path) -> None:
    """An object array is a pickle; loading one can run code, so it is refused unread."""
    canary = tmp_path / "canary"

    class Payload:
        def __reduce__(self) -> Any:
            return (Path.touch, (canary,))

    np.save(tmp_path / "mean.npy", np.array([Payload()], object), allow_pickle=True)
    with pytest.raises(SpecError):
        SubtractMean.from_json({"mean": "mean.npy"}, "/p", tmp_path)
    assert not canary.exists()


@given(st.data())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_cast_saturates_and_truncates(data) -> None:
    """From every dtype to every dtype, at the extremes too."""
    source, target = data.draw(st.sampled_from(DTYPES)), data.draw(st.sampled_from(DTYPES))
    kind = np.dtype(source)
    if kind.kind in "iu":
        info = np.iinfo(kind)
        ends = [int(info.min), int(info.max), 0, 127, *(min(end, int(info.max)) for end in (255, 65535, 2**31 - 1))]
        elements = st.sampled_from(ends) | st.integers(int(info.min), int(info.max))
    else:
        width = kind.itemsize * 8
        ends = [0.0, -0.5, 0.5, 1.5, 254.5, 255.5, 65504.0, -65504.0]
        ends += [2.0**31, -(2.0**31), 2.0**63, -(2.0**63), 1e30, 4294967295.0] if width > 16 else []
        elements = st.sampled_from(ends) | st.floats(-70000 if width > 16 else -65504, 65504, width=width)
    x = data.draw(hnp.arrays(kind, (1, 4), elements=elements))
    if np.dtype(target).kind == "f" and kind.kind == "f" and np.dtype(target).itemsize < kind.itemsize:
        x = np.clip(x, -65504, 65504).astype(kind)
    have, want = both(Cast(dtype=target), x)
    np.testing.assert_array_equal(have, want)


@given(images(), st.integers(0, 90), st.integers(100, 250))
@few
def test_clip_is_numpy_clip(drawn, low, high) -> None:
    x, layout = drawn
    for step in (Clip(min=low, max=high), Clip(min=low), Clip(max=high)):
        np.testing.assert_array_equal(*both(step, x, type_of(x, layout)))


def test_round_takes_halves_to_the_even_neighbour() -> None:
    x = np.array([[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999997]], np.float32)
    have, want = both(Round(), x)
    np.testing.assert_array_equal(have, want)
    np.testing.assert_array_equal(have, [[-2, -2, 0, 0, 2, 2, 0]])
    whole = np.array([[1, 2]], np.int32)
    np.testing.assert_array_equal(both(Round(), whole)[0], whole)


@given(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 3]), st.integers(0, 9))
@few
def test_standardize_is_zero_mean_and_unit_variance(n, h, w, c, seed) -> None:
    """Sums of another order differ in the last places: 1e-5 of the largest value, and a constant image gives zeros."""
    for content in ("noise", "constant"):
        have, want = both(Standardize(), picture(content, (n, h, w, c), seed=seed))
        np.testing.assert_allclose(
            have, want, rtol=0, atol=1e-5 * max(np.abs(want).max(), 1) + 2e-4 * (content == "constant")
        )


@pytest.mark.parametrize(
    ("step", "shape"),
    [
        (Transpose(layout="NCHW"), (2, 4, 5, 3)),
        (Transpose(layout="NHWC"), (2, 4, 5, 3)),
        (Transpose(perm=(0, 2, 1, 3)), (2, 4, 5, 3)),
        (Transpose(perm=(0, 2, 1)), (2, 4, 5)),
        (Reshape(shape=(20, 3)), (2, 4, 5, 3)),
        (Reshape(shape=(-1,)), (2, 4, 5, 3)),
        (Reshape(shape=(5, 4, 3)), (2, 4, 5, 3)),
    ],
)
def test_transpose_and_reshape_are_numpy_s(step, shape) -> None:
    x = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    np.testing.assert_array_equal(*both(step, x))


def test_reshape_works_out_open_sizes() -> None:
    given = TensorType("float32", (None, None, 4), "")
    step = Reshape(shape=(-1, 2))
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    fed = tf.function(lambda t: step.emit(t, given), input_signature=[tf.TensorSpec([None, None, 4])])
    np.testing.assert_array_equal(fed(x).numpy(), x.reshape(2, 6, 2))


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("mode", ["caffe", "tf", "torch"])
def test_keras_applications_is_preprocess_input_to_the_bit(mode, dtype, layout) -> None:
    x = picture("noise", (2, 6, 5, 3), dtype)
    x = np.ascontiguousarray(np.moveaxis(x, -1, 1)) if layout == "NCHW" else x
    given = TensorType(dtype, x.shape, layout, "RGB", (0, 255))
    np.testing.assert_array_equal(*both(KerasApplications(mode=mode), x, given))
    assert KerasApplications(mode=mode).check(given).channels == ("BGR" if mode == "caffe" else "RGB")


@pytest.mark.parametrize(
    ("step", "given", "says"),
    [
        (KerasApplications(mode="tf"), TensorType("uint8", (None, 4, 4, 3), "NHWC", "BGR", (0, 255)), "takes RGB"),
        (KerasApplications(mode="tf"), TensorType("float32", (None, 4, 4, 3), "NHWC", "RGB", (0, 1)), "takes 0..255"),
        (Normalize(mean=(1.0, 2.0), std=1.0), TensorType("uint8", (None, 4, 4, 3), "NHWC"), '"mean" has 2 numbers'),
        (Rescale(scale=(1.0, 2.0)), TensorType("uint8", (None, 3, 4, 4), "NCHW"), '"scale" has 2 numbers'),
        (Transpose(), TensorType("uint8", (None, 4, 4, 3), "NHWC"), 'either "layout" or "perm"'),
        (Transpose(layout="NCHW"), TensorType("float32", (None, 4)), "no image"),
        (Reshape(shape=(-1, -1)), TensorType("float32", (None, 4)), "2 entries of -1"),
        (Clip(), TensorType("float32", (None, 4)), 'needs "min"'),
    ],
)
def test_what_does_not_fit_is_refused(step, given, says) -> None:
    with pytest.raises(SpecError, match=says):
        step.check(given)
