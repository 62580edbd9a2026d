"""Image files read by OpenCV and Pillow."""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image, ImageOps


def decode(contents: bytes, channels: str, exif: str = "apply", like: str = "opencv") -> np.ndarray:
    """uint8 [1, H, W, C] of an image file by `cv2.imdecode` or `PIL.Image.open`; ValueError for what is no image.

    `exif="ignore"` is the flag IMREAD_IGNORE_ORIENTATION; "apply" after Pillow is `ImageOps.exif_transpose`.
    """
    if like == "pillow":
        return _decode_by_pillow(contents, channels, exif)
    flag = cv2.IMREAD_GRAYSCALE if channels == "GRAY" else cv2.IMREAD_COLOR
    if exif == "ignore":
        flag |= cv2.IMREAD_IGNORE_ORIENTATION
    image: np.ndarray | None = cv2.imdecode(np.frombuffer(contents, np.uint8), flag)
    if image is None:
        raise ValueError("OpenCV finds no image in these bytes")
    if channels == "GRAY":
        return image[np.newaxis, :, :, np.newaxis]
    return np.ascontiguousarray(image[np.newaxis, :, :, ::-1] if channels == "RGB" else image[np.newaxis])


def _decode_by_pillow(contents: bytes, channels: str, exif: str) -> np.ndarray:
    try:
        picture: Image.Image = Image.open(io.BytesIO(contents))
        if exif == "apply":
            picture = ImageOps.exif_transpose(picture)
        image = np.asarray(picture.convert("L" if channels == "GRAY" else "RGB"))
    except (OSError, SyntaxError) as error:
        raise ValueError(f"Pillow finds no image in these bytes: {error}") from None
    if channels == "GRAY":
        return image[np.newaxis, :, :, np.newaxis]
    return np.ascontiguousarray(image[np.newaxis, :, :, :: -1 if channels == "BGR" else 1])


def decode_by_tensorflow(contents: bytes, channels: str, *, accurate: bool, turn: bool) -> np.ndarray:
    """What `tf.io` makes of the bytes, uint8 [1, H, W, C], with an inexact JPEG transform unless `accurate`.

    For `diagnose`, which recognises programs that were written this way.  `turn` applies the EXIF orientation
    afterwards, by Pillow.  ValueError for what TensorFlow refuses.
    """
    import tensorflow as tf

    count = 1 if channels == "GRAY" else 3
    try:
        if contents[:2] == b"\xff\xd8":
            image = tf.io.decode_jpeg(contents, count, dct_method="INTEGER_ACCURATE" if accurate else "INTEGER_FAST")
        else:
            image = tf.io.decode_image(contents, count, expand_animations=False)
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(str(error)) from None
    x: np.ndarray = image.numpy()
    if turn:
        picture = Image.fromarray(x[..., 0] if count == 1 else x)
        picture.info["exif"] = Image.open(io.BytesIO(contents)).info.get("exif", b"")
        turned = np.asarray(ImageOps.exif_transpose(picture))
        x = turned[..., np.newaxis] if count == 1 else turned
    return np.ascontiguousarray(x[np.newaxis, ..., :: -1 if channels == "BGR" else 1])
