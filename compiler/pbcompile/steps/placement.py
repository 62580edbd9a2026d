"""Where the pixels of an image go in its steps, so that boxes and masks find their way back.

A step that moves pixels says its `Move`; a chain of moves gives the matrix from the model's image to the fed one.
Positions are continuous: pixel i covers i … i + 1, so that an edge at 0 or at the width stays one when resized.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pbcompile.tensor_type import TensorType

if TYPE_CHECKING:
    import tensorflow as tf

    from pbcompile.steps.base import Step

Parts = Mapping[str, TensorType]
"""What flows between postprocess steps: tensors by the suffix of their public name; "" is an output's only one."""

Extent = Any
"""A length in pixels: a number where it is fixed, a scalar tensor where it is known only when fed."""

Turn = tuple[Any, Any, Any]
"""Whether rows and columns change places, and whether then the rows and the columns are reversed: bools, or tensors."""

UPRIGHT: Turn = (False, False, False)


@dataclass(frozen=True)
class Move:
    """One step's way with an image: a part of it is resized and put into a frame, or the whole is turned.

    part:  (top, left, height, width) in the image that is given; may reach out of it, and be fractional.
    size:  (height, width) that the part is resized to.
    place: (top, left) of that in what comes out.
    frame: (height, width) of what comes out.
    turn:  what becomes of the axes; only of a whole image.
    is_whole: all of the image and nothing else comes out, whatever its size.
    """

    part: tuple[Extent, Extent, Extent, Extent]
    size: tuple[Extent, Extent]
    place: tuple[Extent, Extent]
    frame: tuple[Extent, Extent]
    turn: Turn = UPRIGHT
    is_whole: bool = False


def resized(size: tuple[Extent, Extent], target: tuple[Extent, Extent]) -> Move:
    """The whole image of `size` becomes `target` large."""
    return Move((0, 0, *size), target, (0, 0), target, is_whole=True)


def cut(top: Extent, left: Extent, height: Extent, width: Extent) -> Move:
    """A part of the image."""
    return Move((top, left, height, width), (height, width), (0, 0), (height, width))


def turned(size: tuple[Extent, Extent], turn: Turn) -> Move:
    """The whole image of `size`, turned; `turn` holds plain bools."""
    after = (size[1], size[0]) if turn[0] else size
    return Move((0, 0, *size), size, (0, 0), after, turn, is_whole=True)


@dataclass(frozen=True)
class ImageInput:
    """An image input as the steps behind the model see it.

    entry:  what the first step gets: the image as it was fed, channels last.
    types:  the type after each step.
    is_vector: several encoded images at once, each with its own size.
    has_stored: whether the file may hold the pixels in another orientation than `entry`.
    """

    name: str
    entry: TensorType
    steps: tuple[Step, ...]
    types: tuple[TensorType, ...]
    is_vector: bool
    has_stored: bool

    @property
    def result(self) -> TensorType:
        """What reaches the model."""
        return self.types[-1] if self.types else self.entry

    @property
    def size(self) -> tuple[int | None, int | None]:
        """Height and width of the image that reaches the model."""
        if self.blocking is not None:
            return None, None
        given = self.result
        return given.size if given.is_image else (given.shape[1], given.shape[2])

    @property
    def blocking(self) -> Step | None:
        """The first step that no position can be followed through."""
        given: TensorType = self.entry
        for step, after in zip(self.steps, self.types, strict=True):
            if not step.keeps_places(given):
                return step
            given = after
        return None


@dataclass(frozen=True)
class Placed:
    """An input's pixels at run time, in a graph.

    matrix: float64 [N or 1, 3, 3]; (x, y, 1) in the model's image to (x, y, 1) in the image as it was fed.
    stored: the same to the pixels as the file stores them, before its EXIF orientation was applied.
    size:   float64 [N or 1, 2], height and width of the fed image;  stored_size: of the stored one.
    moves:  (size before, move) of each step that moves pixels; empty for a vector of images.
    final:  height and width of the image that reaches the model, int or int32 scalars.
    """

    matrix: tf.Tensor
    stored: tf.Tensor
    size: tf.Tensor
    stored_size: tf.Tensor
    moves: tuple[tuple[tuple[Extent, Extent], Move], ...]
    final: tuple[Extent, Extent]
