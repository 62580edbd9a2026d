"""What the gate feeds: the user's images, or built-in ones, in the form that each input takes."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pbcompile.errors import Problem, SpecError
from pbcompile.reference.camera import encode_camera
from pbcompile.spec import InputSpec, Spec
from pbcompile.steps.camera import CAMERA

Array = npt.NDArray[Any]
Feeds = dict[str, Any]

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
BUILT_IN_COUNT = 8
_OPEN_SIZES = ((240, 320), (333, 251), (97, 128), (64, 48), (500, 375), (224, 224), (31, 57), (480, 640))
_VECTOR_LENGTH = 3  # images in one feed of a vector whose length is open


@dataclass(frozen=True)
class Sample:
    """One feed of the artifact, and what a person calls it."""

    name: str
    feeds: Feeds


def make_samples(spec: Spec) -> list[Sample]:
    """The samples of `spec.verify.images`, or the built-in ones.  Raises SpecError when the images cannot be read."""
    verify = spec.verify
    paths = find_images(spec.folder / verify.images, "/verify/images") if verify.images else []
    generator = np.random.default_rng(verify.seed)
    if len(paths) > verify.count:
        paths = [paths[i] for i in sorted(generator.choice(len(paths), verify.count, replace=False))]
    batches = list(_groups(paths, _images_per_feed(spec)))
    if not batches:
        return [
            Sample(f"built-in {index}", {item.name: _built_in(item, index, generator) for item in spec.inputs})
            for index in range(min(BUILT_IN_COUNT, verify.count))
        ]
    samples = []
    for group in batches:
        feeds = {item.name: feed_from_files(item, group, generator) for item in spec.inputs}
        samples.append(Sample(group[0].name, feeds))
    return samples


def find_images(pattern: Path, pointer: str) -> list[Path]:
    """The image files that a path, a folder (searched through) or a glob stands for, sorted.

    Raises SpecError when there are none.
    """
    if pattern.is_dir():
        found = sorted(p for p in pattern.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    elif pattern.is_file():
        found = [pattern]
    else:
        found = sorted(Path(p) for p in glob.glob(str(pattern), recursive=True) if Path(p).is_file())
    if not found:
        raise SpecError(Problem("images-missing", f"{pattern} names no images", pointer))
    return found


def _images_per_feed(spec: Spec) -> int:
    counts = [1]
    for item in spec.inputs:
        if item.is_vector:
            counts.append(item.fed.shape[0] or _VECTOR_LENGTH)
        elif item.kind == "pixels":
            counts.append(item.entry.shape[0] or 1)
    return max(counts)


def _groups(paths: Sequence[Path], size: int) -> Iterator[list[Path]]:
    """Consecutive groups of `size`; the last one is filled up from the start."""
    for start in range(0, len(paths), size):
        group = list(paths[start : start + size])
        yield [*group, *(paths[i % len(paths)] for i in range(size - len(group)))]


def feed_from_files(item: InputSpec, paths: Sequence[Path], generator: np.random.Generator) -> Any:
    """What `item` is fed for these image files."""
    if item.kind == "tensor":
        return _numbers(item, generator)
    if item.kind == "encoded":
        contents = [path.read_bytes() for path in paths]
        return np.array(contents, object) if item.is_vector else contents[0]
    return _pixels(item, [read_rgb(path) for path in paths])


def read_rgb(path: Path) -> Array:
    """An image file as uint8 RGB, oriented as its EXIF says.  Raises SpecError for what is no image."""
    import cv2

    data = path.read_bytes()
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None:
        raise SpecError(Problem("image-unreadable", f"{path} is no image that OpenCV reads"))
    return np.ascontiguousarray(image[..., ::-1])


def _pixels(item: InputSpec, images: Sequence[Array]) -> Array:
    """RGB images as one feed: sized where the spec fixes the size, in the fed channels, dtype, layout and rank."""
    import cv2

    height, width = item.entry.size
    first = images[0].shape
    size = (height or first[0], width or first[1])
    if item.channels in CAMERA:
        size = (size[0] // 2 * 2, size[1] // 2 * 2)  # frames have even sides
    ready = []
    for image in images:
        if image.shape[:2] != size:
            image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
        ready.append(_in_channels(image, item))
    batch = np.stack(ready)
    if item.channels in CAMERA:
        frames = encode_camera(batch, item.channels)
        return np.ascontiguousarray(frames if item.fed.rank == 4 else frames[0])
    scaled = _as_dtype(batch, item.fed.dtype)
    if item.fed.layout.endswith("CHW"):
        scaled = np.moveaxis(scaled, -1, 1)
    return np.ascontiguousarray(scaled if item.fed.rank == 4 else scaled[0])


def _in_channels(image: Array, item: InputSpec) -> Array:
    count = item.entry.shape[3] or 3
    if item.channels == "GRAY" or count == 1:
        return np.asarray(image.mean(axis=2, keepdims=True).astype(np.uint8))
    ordered = image[..., ::-1] if item.channels.startswith("BGR") else image
    extra = count - 3
    if extra <= 0:
        return ordered[..., :count]
    return np.concatenate([ordered, *[ordered.mean(axis=2, keepdims=True).astype(np.uint8)] * extra], axis=2)


def _as_dtype(image: Array, dtype: str) -> Array:
    if dtype == "uint16":
        return image.astype(np.uint16) * 257
    if dtype == "int8":
        return (image.astype(np.int16) - 128).astype(np.int8)
    return image.astype(dtype)


def _numbers(item: InputSpec, generator: np.random.Generator) -> Array:
    shape = [size or 1 for size in item.fed.shape]
    if np.dtype(item.fed.dtype).kind == "f":
        return generator.standard_normal(shape).astype(item.fed.dtype)
    return np.asarray(generator.integers(0, 100, shape).astype(item.fed.dtype))


def _built_in(item: InputSpec, index: int, generator: np.random.Generator) -> Any:
    if item.kind == "tensor":
        return _numbers(item, generator)
    count = (item.fed.shape[0] or _VECTOR_LENGTH) if item.is_vector else item.entry.shape[0] or 1
    sizes = [_OPEN_SIZES[(index + i * (item.is_vector)) % len(_OPEN_SIZES)] for i in range(count)]
    height, width = item.entry.size
    images = [natural_image(height or h, width or w, index + i, generator) for i, (h, w) in enumerate(sizes)]
    if item.kind == "pixels":
        return _pixels(item, images)
    contents = [_encode(image, index + i) for i, image in enumerate(images)]
    return np.array(contents, object) if item.is_vector else contents[0]


def _encode(image: Array, index: int) -> bytes:
    """JPEG in three qualities and samplings, and every fourth image a PNG."""
    import cv2

    if index % 4 == 3:
        return bytes(cv2.imencode(".png", image)[1])
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, (75, 90, 97)[index % 3]])[1])


def natural_image(height: int, width: int, kind: int, generator: np.random.Generator) -> Array:
    """A picture made of numbers, uint8 RGB [height, width, 3].

    Kinds 0, 1, 2 (mod 4) have the 1/f spectrum of photographs (Field 1987) with an edge across; 3 is white noise.
    """
    if kind % 4 == 3:
        return generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    y, x = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]
    frequency = np.maximum(np.hypot(y, x), 1.0 / max(height, width))
    falling = frequency ** -(1.0 + 0.2 * (kind % 4))
    planes = [np.fft.ifft2(np.fft.fft2(generator.standard_normal((height, width))) * falling).real for _ in range(3)]
    image = np.stack(planes, -1)
    image = 0.7 * image.mean(-1, keepdims=True) + 0.3 * image
    image = image / (image.std() + 1e-12) * 50 + 118
    row, column = np.mgrid[:height, :width]
    image[(row * (1 + kind) + column * 2) % (height + width) < (height + width) // 3] *= 0.6
    return np.asarray(np.clip(np.rint(image), 0, 255), np.uint8)
