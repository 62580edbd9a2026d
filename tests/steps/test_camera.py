"""Camera frames against cv2.cvtColor."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import tensorflow as tf

from pbcompile.errors import SpecError
from pbcompile.reference.camera import decode_camera as reference
from pbcompile.reference.camera import encode_camera
from pbcompile.steps.camera import CAMERA, camera_types, decode_camera
from tests.steps.differential import picture

POINTER = "/inputs/image"


def frames(channels: str, height: int, width: int, batch: int = 1) -> np.ndarray:
    shape = (batch, height, width, 2) if channels == "YUYV" else (batch, height * 3 // 2, width, 1)
    return np.random.default_rng([height, width]).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("channels", CAMERA)
def test_frames_have_the_colours_of_opencv(channels: str) -> None:
    shape = [None, None, None, 2 if channels == "YUYV" else 1]
    convert = tf.function(lambda x: decode_camera(x, channels), input_signature=[tf.TensorSpec(shape, tf.uint8)])
    for height, width, batch in ((2, 2, 1), (4, 6, 3), (60, 34, 2), (480, 640, 1)):
        x = frames(channels, height, width, batch)
        want = reference(x, channels)
        np.testing.assert_array_equal(convert(x), want)
        np.testing.assert_array_equal(decode_camera(tf.constant(x), channels), want)
        assert decode_camera(tf.constant(x), channels).shape == (batch, height, width, 3)


@pytest.mark.parametrize("channels", CAMERA)
def test_frames_made_of_a_picture_show_it(channels: str) -> None:
    x = picture("gradient", (2, 16, 24, 1)).repeat(3, axis=3)
    assert np.abs(reference(encode_camera(x, channels), channels).astype(int) - x).max() <= 2


@pytest.mark.parametrize("shape", [(1, 61, 64, 1), (1, 9, 63, 1), (1, 88, 64, 1)])
def test_odd_frames_fail_when_fed_as_opencv_refuses_them(shape: tuple[int, ...]) -> None:
    x = np.zeros(shape, np.uint8)
    with pytest.raises(cv2.error):
        reference(x, "NV12")
    convert = tf.function(
        lambda x: decode_camera(x, "NV12"), input_signature=[tf.TensorSpec([None, None, None, 1], tf.uint8)]
    )
    with pytest.raises(tf.errors.InvalidArgumentError):
        convert(x)


def test_types_of_frames() -> None:
    fed, rgb = camera_types("NV12", "uint8", None, "NHWC", POINTER)
    assert (fed.shape, rgb.shape, rgb.channels) == ((None, None, None, 1), (None, None, None, 3), "RGB")
    fed, rgb = camera_types("I420", "uint8", [720, 640, 1], "NHWC", POINTER)
    assert (fed.shape, rgb.shape) == ((720, 640, 1), (1, 480, 640, 3))
    fed, rgb = camera_types("YUYV", "uint8", [None, 480, 640, None], "NHWC", POINTER)
    assert (fed.shape, rgb.shape) == ((None, 480, 640, 2), (None, 480, 640, 3))


@pytest.mark.parametrize(
    ("channels", "dtype", "shape", "layout", "message"),
    [
        ("NV12", "float32", None, "NHWC", "are uint8, not float32"),
        ("NV12", "uint8", None, "NCHW", 'no layout "NCHW"'),
        ("NV12", "uint8", [1, 480, 640, 3], "NHWC", r"has the shape \[height · 3 / 2, width, 1\]"),
        ("NV21", "uint8", [1, 720, 641, 1], "NHWC", "an even width, not 641"),
        ("I420", "uint8", [1, 721, 640, 1], "NHWC", "a multiple of 3, not 721"),
    ],
)
def test_frames_that_opencv_refuses(channels: str, dtype: str, shape: list, layout: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        camera_types(channels, dtype, shape, layout, POINTER)
