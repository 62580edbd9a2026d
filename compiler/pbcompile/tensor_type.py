"""What is known about a tensor before anything runs: dtype, shape, and for images layout, channels and range."""

from __future__ import annotations

from dataclasses import dataclass, replace

Dims = tuple[int | None, ...]

CHANNEL_COUNT: dict[str, int] = {
    "RGB": 3,
    "BGR": 3,
    "RGBA": 4,
    "BGRA": 4,
    "GRAY": 1,
    "YUV": 3,
    "YCrCb": 3,
    "HSV": 3,
    "LAB": 3,
}
"""Channels per pixel of every colour order that a tensor inside the pipeline can have."""

INTEGER_RANGE: dict[str, tuple[float, float]] = {
    "uint8": (0, 255),
    "uint16": (0, 65535),
    "int8": (-128, 127),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
}


@dataclass(frozen=True)
class TensorType:
    """The static type of a tensor between two steps.

    dtype:    a NumPy dtype name, or "string".
    shape:    batch first; `None` is a size that is known only when fed.
    layout:   "NHWC" or "NCHW" for images, "" for everything else.
    channels: a key of `CHANNEL_COUNT`, or "" where no colour order is known.
    range:    smallest and largest value that can occur, `None` where nothing is known.
    """

    dtype: str
    shape: Dims
    layout: str = ""
    channels: str = ""
    range: tuple[float, float] | None = None

    @property
    def rank(self) -> int:
        """Number of axes, the batch included."""
        return len(self.shape)

    @property
    def is_image(self) -> bool:
        """Whether this is a batch of images in a known layout."""
        return self.layout in ("NHWC", "NCHW")

    @property
    def channel_axis(self) -> int:
        """Index of the axis that per-channel numbers run along: C for images, else the last."""
        return self.layout.index("C") if self.is_image else self.rank - 1

    @property
    def channel_count(self) -> int | None:
        """Size of the channel axis; None where it is open."""
        return self.shape[self.channel_axis] if self.rank else None

    @property
    def size(self) -> tuple[int | None, int | None]:
        """Height and width of an image."""
        return self.shape[self.layout.index("H")], self.shape[self.layout.index("W")]

    @property
    def is_float(self) -> bool:
        """Whether the dtype is one of floating point."""
        return self.dtype.startswith(("float", "bfloat"))

    def with_size(self, height: int | None, width: int | None) -> TensorType:
        """The same image type with another height and width."""
        shape = list(self.shape)
        shape[self.layout.index("H")], shape[self.layout.index("W")] = height, width
        return replace(self, shape=tuple(shape))

    def __str__(self) -> str:
        dims = ", ".join("?" if d is None else str(d) for d in self.shape)
        extra = "".join(f" {word}" for word in (self.channels, self.layout if self.layout == "NCHW" else "") if word)
        return f"{self.dtype} [{dims}]{extra}"
