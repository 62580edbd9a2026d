"""`preview`: what one image looks like after every step, in the graph and by the real libraries."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from pbcompile.errors import Problem, SpecError
from pbcompile.freeze import freeze
from pbcompile.gate import head_of
from pbcompile.graft import graft_preprocessing
from pbcompile.reference.program import stages_reference
from pbcompile.samples import feed_from_files, make_samples
from pbcompile.session import Artifact
from pbcompile.spec import InputSpec, Spec, VerifySpec
from pbcompile.tensor_type import TensorType

Array = npt.NDArray[Any]
CELL = 240
MARGIN = 12
TEXT = 46
LEFT = 96
ROWS = ("graph", "library", "difference")


def preview(spec: Spec, image: Path, name: str | None = None) -> tuple[bytes, list[dict[str, Any]]]:
    """A PNG with one column per step, and the same as data: step, type, largest difference, differing fraction.

    name: the input to look at, where the spec has several.  Raises SpecError for an input that is no image, and for
    an image that cannot be read.
    """
    item = _choose(spec, name)
    feeds = dict(make_samples(replace(spec, verify=VerifySpec()))[0].feeds)
    feeds[item.name] = feed_from_files(item, [image], np.random.default_rng(0))
    try:
        wanted = stages_reference(item, feeds[item.name])
    except ValueError as error:
        raise SpecError(Problem("image-unreadable", f"{image} cannot be preprocessed: {error}", item.pointer)) from None
    got = _run_graph(spec, item, feeds)
    pictures = step_pictures(item, got, wanted)
    return _draw(pictures), [picture.row for picture in pictures]


@dataclass(frozen=True)
class StepPicture:
    """One step: `row` as data, and a cell for each of `ROWS`."""

    row: dict[str, Any]
    cells: tuple[Image.Image, ...]


def step_pictures(item: InputSpec, got: Sequence[Array], wanted: Sequence[Array]) -> list[StepPicture]:
    """What stands before the first step and after each one, in the graph (`got`) and by the library (`wanted`)."""
    types = (item.entry, *item.types)[item.first_batched :]
    names = ["as fed", *(step.op for step in item.preprocess)][item.first_batched :]
    found = []
    for step, given, here, there in zip(names, types, got, wanted, strict=True):
        difference = np.abs(here.astype(np.float64) - there)
        row = {
            "step": step,
            "type": f"{here.dtype} {list(here.shape)} {given.channels}".rstrip(),
            "max_difference": float(difference.max(initial=0.0)),
            "differing_fraction": float(np.mean(difference > 0)) if difference.size else 0.0,
        }
        first, second = as_levels(given, here, there)
        apart = np.abs(first - second)  # in grey levels; less than one is shown as none, more is stretched
        values = (first, second, apart / max(apart.max(initial=0.0), 1.0) * 255)
        cells = [thumbnail(x, given, grows=word == "difference") for x, word in zip(values, ROWS, strict=True)]
        found.append(StepPicture(row, tuple(cells)))
    return found


def _choose(spec: Spec, name: str | None) -> InputSpec:
    images = [item for item in spec.inputs if item.kind != "tensor"]
    if name is not None:
        images = [item for item in images if item.name == name]
    if len(images) != 1:
        hint = "its images: " + ", ".join(item.name for item in spec.inputs if item.kind != "tensor")
        said = f'the spec has no image input "{name}"' if name else f"the spec has {len(images)} image inputs"
        raise SpecError(Problem("input-unknown", said, "/inputs", f"say --input NAME; {hint}"))
    return images[0]


def _run_graph(spec: Spec, item: InputSpec, feeds: dict[str, Any]) -> list[Array]:
    inputs = [other.name for other in spec.inputs]
    frozen = freeze(graft_preprocessing(spec), inputs, [tap.node for tap in spec.taps])
    return run_head(spec, head_of(spec, frozen), item, feeds)


def run_head(spec: Spec, head: bytes, item: InputSpec, feeds: dict[str, Any]) -> list[Array]:
    """The taps of one input, in order; head: the preprocessing alone, as the bytes of its own graph file."""
    graph = Artifact(head, [other.name for other in spec.inputs])
    wanted = [tap.node for tap in spec.taps if tap.input == item.name]
    got = graph.run(feeds, wanted)
    graph.close()
    return [got[node] for node in wanted]


def _draw(pictures: Sequence[StepPicture]) -> bytes:
    width = LEFT + len(pictures) * (CELL + MARGIN)
    sheet = Image.new("RGB", (width, TEXT + len(ROWS) * (CELL + MARGIN)), "white")
    pen = ImageDraw.Draw(sheet)
    for place, word in enumerate(ROWS):
        pen.text((MARGIN, TEXT + place * (CELL + MARGIN) + CELL // 2), word, fill="black")
    for column, picture in enumerate(pictures):
        row, left = picture.row, LEFT + column * (CELL + MARGIN)
        equal = "equal"
        if row["max_difference"]:
            equal = f"differs by {row['max_difference']:.3g} in {row['differing_fraction']:.2g} of all"
        pen.text((left, 4), f"{column}  {row['step']}\n{row['type']}\n{equal}", fill="black")
        for place, cell in enumerate(picture.cells):
            sheet.paste(cell, (left, TEXT + place * (CELL + MARGIN)))
    data = io.BytesIO()
    sheet.save(data, "PNG")
    return data.getvalue()


def as_levels(given: TensorType, *batches: Array) -> list[Array]:
    """Values as grey levels 0..255, by the range that is known or found."""
    low, high = given.range or (min(float(b.min()) for b in batches), max(float(b.max()) for b in batches))
    return [(batch.astype(np.float64) - low) / ((high - low) or 1.0) * 255 for batch in batches]


def thumbnail(batch: Array, given: TensorType, *, grows: bool) -> Image.Image:
    """The first image of a batch in a cell; what is no image becomes a grey strip.

    Where it `grows`, bright pixels spread to their neighbours, so that one alone can be seen however large the image.
    """
    x = batch[0] if batch.ndim > 1 else batch
    if given.layout == "NCHW":
        x = np.moveaxis(x, 0, -1)
    if not given.is_image:
        x = np.atleast_2d(x.reshape(x.shape[0], -1) if x.ndim > 1 else x)[..., np.newaxis]
    x = np.clip(np.rint(x), 0, 255).astype(np.uint8)
    x = x[..., :3] if x.shape[-1] >= 3 else x[..., 0]
    if x.ndim == 3 and given.channels.startswith("BGR"):
        x = x[..., ::-1]
    picture = Image.fromarray(np.ascontiguousarray(x)).convert("RGB")
    scale = min(CELL / picture.width, CELL / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    if grows:
        spread = picture.filter(ImageFilter.MaxFilter(2 * math.ceil(1 / scale) + 1))
        return spread.resize(size, Image.Resampling.NEAREST)
    return picture.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX)
