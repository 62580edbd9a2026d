"""What every contender is fed: one image in the form that each input takes, in any batch size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pbcompile.samples import feed_from_files, find_images, natural_image
from pbcompile.spec import InputSpec, Spec

FRAME = (480, 640)
"""Height and width of the built-in image: a camera's frame."""


def bench_image(spec: Spec, folder: Path) -> Path:
    """The first of the spec's images, or a built-in JPEG frame written into `folder`.

    Raises SpecError when the spec's images cannot be found.
    """
    if spec.verify.images:
        return find_images(spec.folder / spec.verify.images, "/verify/images")[0].absolute()
    import cv2

    path = folder / "frame.jpg"
    image = natural_image(*FRAME, kind=0, generator=np.random.default_rng(0))
    path.write_bytes(cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
    return path


def open_batch(spec: Spec) -> bool:
    """Whether every input takes any number of images."""
    return all(item.fed.rank > 0 and item.fed.shape[0] is None for item in spec.inputs)


def own_batch(spec: Spec) -> int:
    """How many images one feed holds where the spec fixes it; 1 where it is open."""
    return max((item.entry.shape[0] or 1 for item in spec.inputs if item.entry.rank), default=1)


def make_feeds(spec: Spec, image: Path, batch: int | None = None) -> dict[str, Any]:
    """The image `batch` times, by input name; as often as the spec fixes it where `batch` is None."""
    generator = np.random.default_rng(0)
    return {item.name: _feed(item, image, batch or item.entry.shape[0] or 1, generator) for item in spec.inputs}


def _feed(item: InputSpec, image: Path, batch: int, generator: np.random.Generator) -> Any:
    made = feed_from_files(item, [image] * batch, generator)
    if item.kind == "tensor" and item.fed.shape[0] is None:
        return np.repeat(made[:1], batch, axis=0)
    return made
