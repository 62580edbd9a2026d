"""The pictures of the page, as data URIs: an image after each step, and what the gate was shown."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageFilter

from pbcompile.preview import ROWS, as_levels, run_head, step_pictures, thumbnail
from pbcompile.reference.program import stages_reference
from pbcompile.result import Compiled
from pbcompile.samples import Sample
from pbcompile.side_by_side import Row
from pbcompile.spec import InputSpec, Spec

STEP_PIXELS = 160
SAMPLE_PIXELS = 72


def all_steps(made: Compiled, sample: Sample) -> dict[str, list[dict[str, Any]]]:
    """By image input, what `sample` looks like after each step: the row of `preview`, and URIs of its cells."""
    spec = made.plan.spec
    found = {}
    for item in _images(spec):
        got = run_head(spec, made.head, item, dict(sample.feeds))
        pictures = step_pictures(item, got, stages_reference(item, sample.feeds[item.name]))
        found[item.name] = [
            picture.row
            | {
                "cells": [
                    {"name": name, "uri": data_uri(shrunk(cell, STEP_PIXELS, keeps_bright=name == "difference"))}
                    for name, cell in zip(ROWS, picture.cells, strict=True)
                ]
            }
            for picture in pictures
        ]
    return found


def sample_pictures(
    spec: Spec, samples: Sequence[Sample], rows: Sequence[Row], most: int
) -> dict[tuple[int, int], str]:
    """A small picture of what the first image input was fed, by sample and item, for the first `most` rows."""
    images = _images(spec)
    if not images:
        return {}
    item, found, staged = images[0], {}, {}
    given = (item.entry, *item.types)[item.first_batched]
    for row in rows[:most]:
        if row.sample not in staged:
            staged[row.sample] = stages_reference(item, samples[row.sample].feeds[item.name])[0]
        batch = staged[row.sample]
        if row.item < len(batch):
            (levels,) = as_levels(given, batch[row.item : row.item + 1])
            cell = thumbnail(levels, given, grows=False)
            found[row.sample, row.item] = data_uri(shrunk(cell, SAMPLE_PIXELS))
    return found


def _images(spec: Spec) -> list[InputSpec]:
    return [item for item in spec.inputs if item.kind != "tensor"]


def shrunk(picture: Image.Image, side: int, *, keeps_bright: bool = False) -> Image.Image:
    """The picture with no side longer than `side`; a single bright pixel stays where it `keeps_bright`."""
    scale = side / max(picture.size)
    if scale >= 1:
        return picture
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    if keeps_bright:
        return picture.filter(ImageFilter.MaxFilter(3)).resize(size, Image.Resampling.NEAREST)
    return picture.resize(size, Image.Resampling.BOX)


def data_uri(picture: Image.Image) -> str:
    """A PNG inside the page itself."""
    data = io.BytesIO()
    picture.save(data, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
