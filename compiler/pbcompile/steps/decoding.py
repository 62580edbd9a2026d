"""Image files as bytes, turned into pixels in the graph as OpenCV or Pillow reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf

DECODED_CHANNELS = ("RGB", "BGR", "GRAY")
"""What a decoder can be asked to make."""

EXIF_CHOICES = ("apply", "ignore")
"""`apply` turns the image upright as `cv2.imread` does; `ignore` leaves it as `PIL.Image.open` does."""

DECODERS = ("opencv", "pillow")
"""The libraries whose pixels a decoder can make."""


def decode(contents: tf.Tensor, channels: str, exif: str = "apply", like: str = "opencv") -> tf.Tensor:
    """One image file as pixels, `cv2.imdecode(contents, flag)` or `PIL.Image.open(…).convert(mode)`.

    in:  scalar string: a JPEG (baseline or progressive, 8 bit, CMYK too), PNG (any), GIF (its first frame) or BMP (1 to
         32 bit, run-length code, OS/2 headers); told apart by their first bytes, whatever a file was called
    out: uint8 [1, H, W, 3], or [1, H, W, 1] for GRAY.
         opencv: RGB and BGR are the values of `cv2.IMREAD_COLOR`, GRAY those of `cv2.IMREAD_GRAYSCALE`: the luma of a
         JPEG, the decoder's weighted sum of the others.
         pillow: those of `convert("RGB")` and `convert("L")`.
         The two agree on the colours of JPEG and PNG, but for JPEGs of CMYK and PNGs of 16-bit gray, which Pillow
         saturates; they differ in the gray of everything coloured, in 16-bit BMPs and in transparent GIFs.
         `exif` "apply" is `cv2.imread` without IMREAD_IGNORE_ORIENTATION; after Pillow, `ImageOps.exif_transpose`.

    Bytes that are no such image fail when they are fed.
    """
    if channels not in DECODED_CHANNELS or exif not in EXIF_CHOICES or like not in DECODERS:
        raise ValueError(f"cannot decode to {channels!r} with exif {exif!r} like {like!r}")
    from pbcompile.steps.kernels.decode import decode as decode_graph

    return decode_graph(contents, channels, exif, like)
