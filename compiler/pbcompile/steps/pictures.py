"""Steps that make pictures of a model's output: masks at the size that was fed, colours for classes, image files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from pbcompile.steps.base import NUMBER, SIZE, PartsStep, Schema, Step
from pbcompile.steps.placement import ImageInput, Parts, Placed
from pbcompile.steps.resampling import ALL_METHODS, LIBRARIES, check_dtype, check_method, near, resized_type
from pbcompile.tensor_type import TensorType

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class ResizeOutput(PartsStep):
    """Resize what the model gives: a mask to the size of the image that was fed, or anything to a fixed size.

    in:  what `resize` takes for the same `like`: [N, h, w, C], or [N, h, w] without channels
    out: the same rank, dtype as `resize` gives it.  `size`: that size.  `to` "source": back through the steps of the
         input, last one first: a letterbox or pad is cut off, a crop is filled up around (`fill`), a flip or rotation
         turned back, a resize made undone by a resize, each with `method` and `like`.  A mask that is smaller than the
         image that reached the model is brought to its size first, unless all steps behind are resizes: then it goes
         to the size before them at once.  The part that `fit` like pillow took is rounded to whole pixels.
    """

    op: ClassVar[str] = "resize"
    properties: ClassVar[Mapping[str, Schema]] = {
        "to": {"enum": ["source"], "description": "The image that was fed, as the first step gets it."},
        "size": SIZE,
        "method": {
            "enum": list(ALL_METHODS),
            "description": "How pixels are mixed; which there are depends on `like`.  Class numbers want `nearest`.",
        },
        "like": {"enum": list(LIBRARIES), "description": "The library whose pixels are meant."},
        "fill": {
            **NUMBER,
            "default": 0,
            "description": "With `to`: what stands where the fed image has pixels that the model never saw.",
        },
    }
    required: ClassVar[tuple[str, ...]] = ("method",)

    to: str | None = None
    size: tuple[int, int] | None = None
    method: str = ""
    like: str = ""
    fill: float = 0

    @property
    def uses_image(self) -> bool:
        """For `to`."""
        return self.to is not None

    def names(self, given: tuple[str, ...]) -> tuple[str, ...]:
        """One tensor."""
        return ("",)

    def as_image(self, given: TensorType) -> TensorType:
        """`given` as [N, h, w, C]; SpecError where it is none."""
        if given.rank not in (3, 4):
            raise self.fail(f'"resize" takes [batch, height, width] or [batch, height, width, channels], not {given}')
        shape = given.shape if given.rank == 4 else (*given.shape, 1)
        return replace(given, shape=shape, layout="NHWC")

    def check_parts(self, given: Parts, image: ImageInput | None) -> Parts:
        """The size of the image, or the one asked for."""
        x = self.only(given)
        if (self.to is None) == (self.size is None):
            raise self.fail('"resize" takes either "size" or "to": "source"')
        check_method(self, self.method, self.like)
        made = self.as_image(x)
        check_dtype(self, made, self.like)
        size: tuple[int | None, int | None] = self.size or (None, None)
        if image is not None and self.to is not None:
            if image.blocking is not None:
                message = f'positions cannot be followed back through the "{image.blocking.op}" of "{image.name}"'
                raise self.fail(message, "to", f"that step stands at {image.blocking.pointer}")
            if image.is_vector:
                message = f'the images of "{image.name}" have different sizes, and one tensor holds masks of one size'
                raise self.fail(message, "to", "feed one image at a time")
            size = image.entry.size
        made = resized_type(made, size, self.method, self.like)
        return {"": replace(made, shape=made.shape[: x.rank], layout=x.layout)}

    def emit_parts(self, x: Mapping[str, tf.Tensor], given: Parts, placed: Placed | None) -> dict[str, tf.Tensor]:
        """The ops of resize, slice and pad, once per step of the input."""
        import tensorflow as tf

        from pbcompile.steps.kernels.placement import undo
        from pbcompile.steps.kernels.resizing import resize
        from pbcompile.steps.kernels.sizes import image_size

        is_flat = given[""].rank == 3
        mask = tf.expand_dims(x[""], -1) if is_flat else x[""]
        if self.size is not None:
            mask = resize(mask, image_size(mask, self.as_image(given[""])), self.size, self.method, self.like)
        elif placed is not None:
            mask = undo(mask, placed.moves, self.method, self.like, self.fill)
        return {"": tf.squeeze(mask, -1) if is_flat else mask}

    def exactness(self, given: TensorType) -> str:
        """As near as `resize`."""
        return near(self.method, self.like, given)


def pascal_voc() -> tuple[tuple[int, int, int], ...]:
    """The colours of the PASCAL VOC devkit: bits 0, 1, 2 of the class go to the high bits of red, green and blue."""
    colours = []
    for index in range(256):
        red = green = blue = 0
        for bit in range(8):
            group = index >> (3 * bit)
            red |= (group & 1) << (7 - bit)
            green |= (group >> 1 & 1) << (7 - bit)
            blue |= (group >> 2 & 1) << (7 - bit)
        colours.append((red, green, blue))
    return tuple(colours)


@dataclass(frozen=True)
class ColorMap(Step):
    """A colour for each class number: what people look at.

    in:  integers [N, h, w] or [N, h, w, 1]
    out: uint8 [N, h, w, 3], RGB; a number without a colour is an error when it is fed
    """

    op: ClassVar[str] = "color_map"
    properties: ClassVar[Mapping[str, Schema]] = {
        "colors": {
            "description": "[red, green, blue] of each class, or the 256 colours of pascal_voc.",
            "type": ["array", "string"],
            "items": {
                "type": "array",
                "items": {"type": "integer", "minimum": 0, "maximum": 255},
                "minItems": 3,
                "maxItems": 3,
            },
            "minItems": 1,
        },
    }
    required: ClassVar[tuple[str, ...]] = ("colors",)

    colors: str | tuple[tuple[int, int, int], ...]

    @property
    def table(self) -> tuple[tuple[int, int, int], ...]:
        """The colours by class."""
        return pascal_voc() if isinstance(self.colors, str) else self.colors

    def check(self, given: TensorType) -> TensorType:
        """A colour picture."""
        if isinstance(self.colors, str) and self.colors != "pascal_voc":
            raise self.fail(f'there are no colours "{self.colors}"', "colors", 'say "pascal_voc", or a list of them')
        is_map = given.rank == 3 or (given.rank == 4 and given.shape[3] == 1)
        if not is_map or given.is_float or given.dtype == "string":
            raise self.fail(f'"color_map" takes integers of [batch, height, width], and is given {given}')
        known = given.range
        if known and given.dtype not in ("uint8", "int8") and not 0 <= known[0] <= known[1] < len(self.table):
            said = f"there are {len(self.table)} colours, and the classes go from {known[0]:.0f} to {known[1]:.0f}"
            raise self.fail(said, "colors")
        return TensorType("uint8", (*given.shape[:3], 3), "NHWC", "RGB", (0, 255))

    def emit(self, x: tf.Tensor, given: TensorType) -> tf.Tensor:
        """One GatherV2."""
        import tensorflow as tf

        x = tf.squeeze(x, -1) if given.rank == 4 else x
        index = x if x.dtype in (tf.int32, tf.int64) else tf.cast(x, tf.int32)
        return tf.gather(tf.constant(self.table, tf.uint8), index)


@dataclass(frozen=True)
class Encode(Step):
    """Image files: PNG or JPEG bytes, one string per image.

    in:  uint8 [N, h, w] or [N, h, w, 1 or 3], PNG also 4 channels, in the order of `channels`
    out: string [N]; a PNG holds the pixels as they are, a JPEG those of libjpeg at `quality` with halved colour
         resolution, as `PIL.Image.save` and `cv2.imencode` write it by default
    """

    op: ClassVar[str] = "encode"
    properties: ClassVar[Mapping[str, Schema]] = {
        "format": {"enum": ["png", "jpeg"], "description": "The kind of file."},
        "quality": {
            "type": "integer",
            "minimum": 1,
            "maximum": 100,
            "default": 95,
            "description": "jpeg only: 1 is smallest, 100 nearest.",
        },
        "channels": {
            "enum": ["RGB", "BGR"],
            "default": "RGB",
            "description": "The order of the colours that are given; files hold RGB.",
        },
    }
    required: ClassVar[tuple[str, ...]] = ("format",)

    format: str
    quality: int = 95
    channels: str = "RGB"

    def check(self, given: TensorType) -> TensorType:
        """One string per image."""
        count = 1 if given.rank == 3 else given.shape[-1] if given.rank == 4 else None
        if given.dtype != "uint8" or count not in ((1, 3, 4) if self.format == "png" else (1, 3)):
            hint = 'scale to 0..255, then {"op": "round"}, {"op": "cast", "dtype": "uint8"}' if given.is_float else ""
            said = f'"encode" takes uint8 images of 1 or 3 channels, and is given {given}'
            raise self.fail(said, hint=hint)
        return TensorType("string", given.shape[:1])

    def emit(self, x: tf.Tensor, given: TensorType) -> tf.Tensor:
        """EncodePng or EncodeJpeg; in a loop unless the batch is one."""
        import tensorflow as tf

        x = tf.expand_dims(x, -1) if given.rank == 3 else x
        if self.channels == "BGR" and given.rank == 4 and given.shape[3] in (3, 4):
            x = tf.concat([tf.reverse(x[..., :3], [-1]), x[..., 3:]], -1)

        def one(image: tf.Tensor) -> Any:
            if self.format == "png":
                return tf.io.encode_png(image)
            return tf.io.encode_jpeg(image, format="grayscale" if image.shape[-1] == 1 else "rgb", quality=self.quality)

        if given.shape[0] == 1:
            return tf.expand_dims(one(x[0]), 0)
        return tf.map_fn(one, x, fn_output_signature=tf.TensorSpec([], tf.string))

    def exactness(self, given: TensorType) -> str:
        """The pixels, not the bytes."""
        return "exact pixels" if self.format == "png" else "exact: PIL's JPEG pixels"
