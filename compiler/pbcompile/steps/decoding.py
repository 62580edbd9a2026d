"""Image files as bytes, turned into pixels in the graph as OpenCV reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf

DECODED_CHANNELS = ("RGB", "BGR", "GRAY")
"""What a decoder can be asked to make."""

EXIF_CHOICES = ("apply", "ignore")
"""`apply` turns the image upright as `cv2.imread` does; `ignore` leaves it as `PIL.Image.open` does."""


def decode(contents: tf.Tensor, channels: str, exif: str = "apply") -> tf.Tensor:
    """One image file as pixels, `cv2.imdecode(contents, flag)`.

    in:  scalar string: a JPEG (baseline or progressive, 8 bit), PNG (any), GIF (its first frame) or BMP (1 to 32 bit,
         not compressed); told apart by their first bytes, whatever a file was called
    out: uint8 [1, H, W, 3], or [1, H, W, 1] for GRAY.  RGB and BGR are the values of `cv2.IMREAD_COLOR`, and of
         `PIL.Image.open(…).convert("RGB")` but for 16-bit gray PNGs, which PIL saturates.  GRAY is
         `cv2.IMREAD_GRAYSCALE`: the luma of a JPEG, the decoder's weighted sum of a PNG, GIF or BMP.
         A CMYK JPEG has the values of PIL; OpenCV's differ by one level.

    Bytes that are no such image fail when they are fed.
    """
    if channels not in DECODED_CHANNELS or exif not in EXIF_CHOICES:
        raise ValueError(f"cannot decode to {channels!r} with exif {exif!r}")
    from pbcompile.steps.kernels.decode import decode as decode_graph

    return decode_graph(contents, channels, exif)
