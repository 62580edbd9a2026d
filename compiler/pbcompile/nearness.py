"""How near two programs' answers are where they are no plain numbers: detections, masks, image files.

Both programs round, in another order.  Where a decision hangs on the last digits (two scores that are all but equal, a
score at the threshold, an overlap at the limit) either answer is right; everything else must agree.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from pbcompile.plan import Plan, PlannedOutput
from pbcompile.reference.detection import corners
from pbcompile.reference.places import Seen
from pbcompile.reference.program import behind_model, seen_images
from pbcompile.steps.base import Step
from pbcompile.steps.detection import NonMaxSuppression, RestoreBoxes
from pbcompile.steps.pictures import Encode
from pbcompile.steps.postprocess import Argmax, Threshold, TopK
from pbcompile.steps.values import Cast, Round

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]


def why_different(
    plan: Plan, output: PlannedOutput, feeds: Mapping[str, Any], raw: Arrays, wanted: Arrays, got: Arrays, rtol: float
) -> str | None:
    """Why one output is not the same for one sample, in a sentence; "" where it is.

    None for outputs that are compared number by number.  raw: what the original model gave; rtol: relative, of that.
    """
    steps = output.spec.postprocess
    given = output.given(raw)
    mine, theirs = (
        {name.removeprefix(f"{output.spec.name}_"): x[name] for name in output.emitted} for x in (wanted, got)
    )
    if not steps:
        return None
    item = next((item for item in plan.spec.inputs if item.name == output.image), None)
    seen = seen_images(item, feeds[item.name]) if item else []
    at = next((index for index, step in enumerate(steps) if isinstance(step, NonMaxSuppression)), None)
    if at is not None:
        suppression = steps[at]
        assert isinstance(suppression, NonMaxSuppression)
        candidates = behind_model(steps[:at], output.types, given, seen)
        candidates = behind_model(steps[at + 1 :], output.types[at + 1 :], candidates, seen)
        form = steps[-1].format if isinstance(steps[-1], RestoreBoxes) else "xyxy"
        every = [{**parts, "boxes": corners(parts["boxes"], form)} for parts in (candidates, mine, theirs)]
        every[0]["whole"] = behind_model(steps[:at], output.types, given, seen)["boxes"].astype(np.float64)
        return detections_differ(suppression, every[0], every[1], every[2], max(rtol, SCORE))
    if isinstance(steps[-1], TopK):
        return _top_k_differs(steps[-1], output, seen, given, mine, theirs, rtol)
    value = wanted.get(output.spec.name)
    if value is None or value.dtype.kind not in "iubOS":
        return None
    return pictures_differ(output, seen, given, value, got[output.spec.name], rtol)


BOX_PIXELS = 0.1
"""Two boxes of this distance at every edge, in pixels of what was fed, are the same box."""
SCORE = 1e-5
"""Two scores, 0..1, of this distance are the same: some roundings of float32 in a sigmoid's product."""
JPEG_BLOCK = 16
"""Pixels whose values hang together in a JPEG of halved colour resolution."""


def detections_differ(
    step: NonMaxSuppression, candidates: Arrays, wanted: Arrays, got: Arrays, tolerance: float
) -> str:
    """Why the detections of a batch are not the same, in one sentence; "" where they are.

    candidates: all boxes [N, A, 4] before the suppression with their scores [N, A, C], and `whole`, the same boxes
    in pixels of the model's image, before they were clipped.  wanted, got: the parts of
    the output by name.  Boxes are corners in pixels of what was fed.  tolerance: of a score.
    """
    for image in range(len(wanted["count"])):
        mine, theirs = (_detections(parts, image, candidates, tolerance) for parts in (wanted, got))
        only_wanted, only_got = _unmatched(mine, theirs, tolerance)
        for found in only_got:
            if found.whole is None:
                return f"image {image}: {_words(found)} is none that the model gives"
        doubtful = _doubtful(step, mine, theirs, only_wanted, only_got, tolerance)
        if doubtful:
            return f"image {image}: {_words(doubtful[0])} has no counterpart"
        if any(a[1] < b[1] - tolerance for a, b in itertools.pairwise(theirs)):
            return f"image {image}: the detections are not sorted by score"
        for name in ("boxes", "scores"):
            if np.any(got[name][image][len(theirs) :] != 0):
                return f"image {image}: the {name} behind the count are not 0"
    return ""


class Found(NamedTuple):
    """A detection.  whole: its box before it was restored and clipped; None where the model gives no such box."""

    label: int
    score: float
    box: Array
    whole: Array | None


def _words(found: Found) -> str:
    edges = ", ".join(f"{edge:.1f}" for edge in found.box)
    return f"a detection of class {found.label}, score {found.score:.6g}, at [{edges}]"


def _detections(parts: Arrays, image: int, candidates: Arrays, tolerance: float) -> list[Found]:
    made = []
    for place in range(int(parts["count"][image])):
        label, score = int(parts["classes"][image][place]), float(parts["scores"][image][place])
        box = parts["boxes"][image][place].astype(np.float64)
        is_near = np.abs(candidates["boxes"][image] - box).max(axis=1) <= BOX_PIXELS
        is_near &= np.abs(candidates["scores"][image][:, label] - score) <= tolerance
        at = np.flatnonzero(is_near)
        made.append(Found(label, score, box, candidates["whole"][image][at[0]] if len(at) else None))
    return made


def _unmatched(wanted: Sequence[Found], got: Sequence[Found], tolerance: float) -> tuple[list[Found], list[Found]]:
    """What either side has alone: each detection is paired with the nearest free one that is the same."""
    free, alone = list(got), []
    for found in wanted:
        same = [
            (float(np.abs(found.box - other.box).max()), place)
            for place, other in enumerate(free)
            if other.label == found.label and abs(other.score - found.score) <= tolerance
        ]
        distance, place = min(same, default=(np.inf, -1))
        if distance <= BOX_PIXELS:
            del free[place]
        else:
            alone.append(found)
    return alone, free


def _doubtful(
    step: NonMaxSuppression,
    wanted: Sequence[Found],
    got: Sequence[Found],
    only_wanted: list[Found],
    only_got: list[Found],
    tolerance: float,
) -> list[Found]:
    """The unmatched detections that no near tie explains: at the score's threshold, at the last place of a full list,
    at the overlap's limit, or suppressed by one that is itself explained."""
    pending = [(found, wanted, got) for found in only_wanted] + [(found, got, wanted) for found in only_got]
    explained: list[Found] = []

    def is_explained(found: Found, own: Sequence[Found], others: Sequence[Found]) -> bool:
        if found[1] - step.score_threshold <= tolerance:
            return True
        if len(others) == step.max_detections and found[1] - others[-1][1] <= tolerance:
            return True
        for other in (*others, *own):
            if other is found or (step.per_class and other[0] != found[0]):
                continue
            overlap = _overlap(found, other)
            if overlap and abs(overlap - step.iou_threshold) <= max(tolerance, 1e-4):
                return True
            if overlap > step.iou_threshold and abs(other[1] - found[1]) <= tolerance:
                return True  # two that suppress each other: which is first hangs on the last digits
        return any(_overlap(found, other) > step.iou_threshold for other in explained)

    while True:
        answers = [is_explained(*entry) for entry in pending]
        if not any(answers):
            return [found for found, _, _ in pending]
        explained += [entry[0] for entry, is_clear in zip(pending, answers, strict=True) if is_clear]
        pending = [entry for entry, is_clear in zip(pending, answers, strict=True) if not is_clear]


def _overlap(one: Found, other: Found) -> float:
    a, b = (found.box if found.whole is None else found.whole for found in (one, other))
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    both = float(np.prod(np.maximum(sides, 0)))
    whole = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - both
    return both / whole if whole > 0 else 0.0


def pictures_differ(
    output: PlannedOutput, seen: Sequence[Seen], raw: Arrays, wanted: Array, got: Array, tolerance: float
) -> str:
    """Why whole numbers or image files made of them are not the same, in one sentence; "" where they are.

    raw: what the model gave, by part.  Values may be those that a decision in `output`'s steps would have given had it
    gone the other way where it was near.  tolerance: relative, of what the model gives.
    """
    if wanted.shape != got.shape:
        return f"the shape is {list(got.shape)} for {list(wanted.shape)}"
    others = [_read(x) for x in _other_ways(output, seen, raw, tolerance)]
    last = output.spec.postprocess[-1]
    is_jpeg = isinstance(last, Encode) and last.format == "jpeg"
    for index, (mine, theirs) in enumerate(zip(_read(wanted), _read(got), strict=True)):
        if mine.shape != theirs.shape:
            return f"image {index}: the size is {list(theirs.shape[:2])} for {list(mine.shape[:2])}"
        near = np.zeros(mine.shape, bool)
        differs = mine != theirs
        for other in others:
            near |= (other[index] != mine) if is_jpeg else (other[index] == theirs)
        if is_jpeg:
            near = _whole_blocks(near)
        if np.any(differs & ~near):
            place = [int(i) for i in np.argwhere(differs & ~near)[0]]
            share = np.mean(differs & ~near)
            return f"image {index}: {share:.2%} of the pixels differ, the first at {place}"
    return ""


def _read(values: Array) -> list[Array]:
    """Image files decoded, everything else item by item."""
    if values.dtype.kind not in "OS":
        return [np.asarray(value) for value in values]
    pictures = [cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED) for file in values]
    return [np.zeros(0, np.uint8) if picture is None else picture for picture in pictures]


def _whole_blocks(near: Array) -> Array:
    height, width = near.shape[:2]
    flat: Array = np.any(near.reshape(height, width, -1), axis=-1)
    for place in np.argwhere(flat):
        row, column = (int(i) // JPEG_BLOCK * JPEG_BLOCK for i in place)
        # The decoder smooths colours across the edge of a block.
        flat[max(row - 2, 0) : row + JPEG_BLOCK + 2, max(column - 2, 0) : column + JPEG_BLOCK + 2] = True
    return np.broadcast_to(flat.reshape(height, width, *[1] * (near.ndim - 2)), near.shape)


def _other_ways(output: PlannedOutput, seen: Sequence[Seen], raw: Arrays, tolerance: float) -> list[Array]:
    """The answers had every near decision gone the other way: for each step that decides."""
    steps, found = output.spec.postprocess, []
    for index, step in enumerate(steps):
        decide = _DECISIONS.get(type(step))
        if decide is None:
            continue

        def before(parts: Arrays, index: int = index) -> Array:
            return behind_model(steps[:index], output.types, parts, seen)[""]

        is_rounded = isinstance(step, Cast) and any(isinstance(earlier, Round) for earlier in steps[:index])
        x = before(raw)
        if x.dtype.kind != "f" or is_rounded:
            continue
        room = _room(before, raw, x, tolerance)
        for decided in decide(step, x, room):
            rest = behind_model(steps[index + 1 :], output.types[index + 1 :], {"": decided}, seen)
            found.append(rest[""])
    return found


def _room(before: Callable[[Arrays], Array], raw: Arrays, x: Array, tolerance: float) -> Array:
    """How far each value of x = before(raw) may be off when the model's numbers may be by `tolerance`, relative."""
    generator, moved = np.random.default_rng(0), []
    for signs in (1.0, -1.0, None, None):
        shifted = {}
        for name, value in raw.items():
            size = tolerance * float(np.abs(value).max(initial=0.0))
            sign = generator.choice([-1.0, 1.0], value.shape) if signs is None else signs
            shifted[name] = (value + size * sign).astype(value.dtype)
        moved.append(np.abs(before(shifted).astype(np.float64) - x))
    return np.asarray(2 * np.max(moved, axis=0) + tolerance * float(np.abs(x).max(initial=0.0)))


def _top_k_differs(
    step: TopK, output: PlannedOutput, seen: Sequence[Seen], raw: Arrays, wanted: Arrays, got: Arrays, tolerance: float
) -> str:
    """Other classes are right where their scores are the same but for what rounding may do to them."""

    def before(parts: Arrays) -> Array:
        return behind_model(output.spec.postprocess[:-1], output.types, parts, seen)[""]

    x = before(raw)
    room = _room(before, raw, x, tolerance)
    if any(wanted[name].shape != got[name].shape for name in wanted):
        return "the shapes are not the same"
    for image, classes in enumerate(got["indices"]):
        if len(set(classes.tolist())) != len(classes) or not all(0 <= index < x.shape[1] for index in classes):
            return f"item {image}: the classes are {classes.tolist()}"
        off = np.abs(got["scores"][image].astype(np.float64) - wanted["scores"][image])
        swapped = np.abs(x[image, classes].astype(np.float64) - wanted["scores"][image])
        allowed = 2 * room[image, classes]
        if np.any(~(off <= allowed)) or np.any(~(swapped <= allowed)):
            place = int(np.argmax(~(off <= allowed) | ~(swapped <= allowed)))
            here, there = (
                f"class {p['indices'][image, place]}, {p['scores'][image, place]:.9g}" for p in (got, wanted)
            )
            return f"item {image}, place {place}: {here} for {there}"
        if "labels" in got and [step.label_names[index].encode() for index in classes] != list(got["labels"][image]):
            return f"item {image}: the labels are not those of the classes"
    return ""


def _other_class(step: Argmax, x: Array, room: Array) -> list[Array]:
    """The runner-up, where it is as near as both may move."""
    order = np.argsort(-x, axis=step.axis, kind="stable")
    if x.shape[step.axis] < 2:
        return []
    first, second = (np.take(order, [place], step.axis) for place in (0, 1))
    values = [np.take_along_axis(x, place, step.axis) for place in (first, second)]
    allowed = [np.take_along_axis(room, place, step.axis) for place in (first, second)]
    is_near = values[0] - values[1] <= allowed[0] + allowed[1]
    return [np.squeeze(np.where(is_near, second, first), step.axis).astype(np.int64)]


def _other_side(step: Threshold, x: Array, room: Array) -> list[Array]:
    decided = x > step.value
    return [np.where(np.abs(x - step.value) <= room, ~decided, decided).astype(np.uint8)]


def _other_whole(step: Cast | Round, x: Array, room: Array) -> list[Array]:
    """The neighbouring whole numbers, where a value stands at the edge between two."""
    if isinstance(step, Round):
        return [np.rint(x + room).astype(x.dtype), np.rint(x - room).astype(x.dtype)]
    if np.dtype(step.dtype).kind == "f":
        return []
    info = np.iinfo(step.dtype)
    return [np.clip(np.trunc(x + way * room), info.min, info.max).astype(step.dtype) for way in (1, -1)]


_DECISIONS: Mapping[type[Step], Callable[[Any, Array, Array], list[Array]]] = {
    Argmax: _other_class,
    Threshold: _other_side,
    Cast: _other_whole,
    Round: _other_whole,
}
