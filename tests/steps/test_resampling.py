"""Resizing against the libraries: 0 differing values."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pbcompile.errors import SpecError
from pbcompile.reference.resampling import REFERENCE
from pbcompile.steps.resampling import METHODS, Resize
from pbcompile.tensor_type import TensorType
from tests.steps.differential import CONTENTS, HAS_AVX2, Differential, picture

differential = Differential(REFERENCE)

SIDES = st.one_of(st.integers(1, 12), st.integers(1, 200))
TARGETS = ((1, 1), (7, 5), (96, 31), (30, 150))


def cases(examples: int):
    """Random sizes, contents, channels and batches."""
    return lambda test: settings(
        max_examples=examples, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate]
    )(
        given(
            height=SIDES,
            width=SIDES,
            target=st.one_of(st.sampled_from(TARGETS), st.tuples(st.integers(1, 40), st.integers(1, 40))),
            content=st.sampled_from(CONTENTS),
            channels=st.sampled_from((1, 2, 3, 3, 4)),
            batch=st.sampled_from((1, 1, 2)),
        )(test)
    )


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("method", METHODS["opencv"])
def test_resize_like_opencv_gives_its_pixels(method: str, dtype: str) -> None:
    @cases(25)
    def check(height, width, target, content, channels, batch):
        x = picture(content, (batch, height, width, channels), dtype)
        step = Resize(size=target, method=method, like="opencv")
        stray = 0
        if method == "cubic":
            # Patterns made of few values have many pixels halfway between two levels, where Intel IPP goes either way.
            stray = 8 if content in ("noise", "photo") else x.size + target[0] * target[1] * 8
        ulps = {"cubic": 24, "linear": 1}.get(method, 0) if dtype == "float32" else 0  # Intel IPP differs by CPU
        differential.check(step, x, ulps=ulps, stray=stray, both=target in TARGETS)

    check()


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_resize_like_opencv_of_floats_adds_in_its_order(channels: int) -> None:
    """Whole and half factors, tails of its vector code, thin images; not one bit differs."""
    shapes = (((24, 33), (8, 11)), ((22, 26), (11, 13)), ((10, 70), (5, 14)), ((1, 9), (5, 20)), ((9, 1), (3, 4)))
    for size, target in shapes:
        x = picture("noise", (1, *size, channels), "float32")
        for method in ("area", "lanczos", *(("linear", "cubic") if 1 in size or channels in (2, 5) else ())):
            differential.check(Resize(size=target, method=method, like="opencv"), x)


@pytest.mark.skipif(not HAS_AVX2, reason="Intel IPP has no fused multiply-add here")
def test_linear_of_floats_is_that_of_intel_inside_opencv() -> None:
    for size, target in (((40, 60), (23, 31)), ((480, 640), (224, 224)), ((33, 70), (70, 33)), ((40, 60), (97, 150))):
        differential.check(
            Resize(size=target, method="linear", like="opencv"), picture("noise", (1, *size, 3), "float32")
        )


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("method", METHODS["pillow"])
def test_resize_like_pillow_gives_its_pixels(method: str, dtype: str) -> None:
    @cases(20)
    def check(height, width, target, content, channels, batch):
        x = picture(content, (batch, height, width, channels), dtype)
        differential.check(Resize(size=target, method=method, like="pillow"), x, both=target in TARGETS)

    check()


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("method", METHODS["tensorflow"])
def test_resize_like_tensorflow_is_tf_image_resize(method: str, antialias: bool) -> None:
    for size, dtype in (((37, 50), "uint8"), ((12, 90), "float32"), ((30, 20), "uint8")):
        x = picture("noise", (2, *size, 3), dtype)
        differential.check(Resize(size=(30, 20), method=method, like="tensorflow", antialias=antialias), x)


@pytest.mark.parametrize("size", [(480, 640), (1080, 1920), (123, 4096), (3000, 7)])
def test_resize_of_large_images(size: tuple[int, int]) -> None:
    x = picture("noise", (1, *size, 3))
    for method in METHODS["opencv"]:
        differential.check(
            Resize(size=(224, 224), method=method, like="opencv"), x, stray=2 if method == "cubic" else 0
        )
    for method in METHODS["pillow"]:
        differential.check(Resize(size=(224, 224), method=method, like="pillow"), x)


@pytest.mark.parametrize("size", [(90, 30), (90, 71), (40, 20), (20, 90), (30, 30)])
def test_resize_in_the_order_of_older_pillows(size: tuple[int, int]) -> None:
    """Pillow 13 starts with the height where it loses more than twice as much; the levels in between are rounded."""
    for channels in (1, 3, 4):
        x = picture("extremes", (1, *size, channels))
        new, old = (Resize(size=(31, 28), method="cubic", like=like) for like in ("pillow", "pillow-12"))
        differential.check(new, x)
        differential.check(old, x)
        is_tall = size[0] - 31 > max(0, 2 * (size[1] - 28))
        assert (differential.reference(new, x) != differential.reference(old, x)).any() == is_tall


def test_an_image_with_alpha_that_keeps_its_size_keeps_its_colours() -> None:
    for like in ("pillow", "pillow-12"):
        differential.check(Resize(size=(5, 4), method="box", like=like), picture("noise", (1, 5, 4, 4)))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(height=SIDES, width=SIDES, side=st.sampled_from((1, 7, 32, 100)), is_shorter=st.booleans())
def test_one_side_is_given_and_the_other_follows(height: int, width: int, side: int, is_shorter: bool) -> None:
    step = Resize(**{"shorter_side" if is_shorter else "longer_side": side}, method="nearest", like="opencv")
    differential.check(step, picture("gradient", (1, height, width, 1)))


@pytest.mark.parametrize("method", METHODS["opencv"])
def test_resize_like_opencv_of_batches_that_lie_in_memory_one_after_the_other(method: str) -> None:
    """Both rows of every pixel of all images are gathered from one list of rows: no image may read its neighbour."""
    for size, channels in (((9, 13), 3), ((13, 9), 1), ((1, 7), 4), ((7, 1), 3), ((6, 5), 3)):
        for target in ((7, 5), (20, 30)):
            step = Resize(size=target, method=method, like="opencv")
            x = np.stack([np.full((*size, channels), level, np.uint8) for level in (0, 255, 3, 254, 128)])
            differential.check(step, x)


@pytest.mark.parametrize(
    ("method", "like"), [(method, like) for like in ("opencv", "pillow") for method in METHODS[like]]
)
def test_sizes_that_the_spec_fixes_give_a_leaner_graph_than_open_ones(method: str, like: str) -> None:
    """Tables of taps and weights are constants there, and not a formula."""
    step = Resize(size=(20, 30), method=method, like=like)
    nodes = []
    for shape in ((1, 48, 64, 3), (1, None, None, 3)):
        given = TensorType("uint8", shape, "NHWC", "RGB", (0, 255))
        spec = tf.TensorSpec(shape, tf.uint8)
        traced = tf.function(partial(step.emit, given=given), input_signature=[spec], autograph=False)
        graph = traced.get_concrete_function().graph.as_graph_def(add_shapes=False)
        every = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
        nodes.append(sum(node.op != "Const" for node in every))
    fixed, is_open = nodes
    assert fixed * (2 if method != "nearest" else 1) < is_open, nodes


@pytest.mark.parametrize(
    ("values", "key", "message"),
    [
        ({"method": "linear"}, "", '"like" is missing'),
        ({"method": "hamming", "like": "opencv"}, "/method", 'opencv has no method "hamming"'),
        ({"method": "box", "like": "tensorflow"}, "/method", 'tensorflow has no method "box"'),
        ({"method": "linear", "like": "opencv", "antialias": True}, "/antialias", "tensorflow only"),
        ({"method": "linear", "like": "opencv", "shorter_side": 3}, "", "one of"),
    ],
)
def test_resize_says_what_is_wrong_and_where(values: dict, key: str, message: str) -> None:
    step = Resize(size=(4, 4), **values, pointer="/inputs/image/preprocess/0")
    with pytest.raises(SpecError, match=message) as caught:
        step.check(TensorType("uint8", (None, 8, 8, 3), "NHWC", "RGB"))
    assert caught.value.problems[0].pointer == "/inputs/image/preprocess/0" + key


def test_resize_refuses_dtypes_that_opencv_has_no_exact_code_for() -> None:
    with pytest.raises(SpecError, match="takes uint8 or float32"):
        Resize(size=(4, 4), method="linear", like="opencv").check(TensorType("int64", (None, 8, 8, 3), "NHWC"))
