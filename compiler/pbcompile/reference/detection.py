"""Detection as programs around the models write it: NumPy for the boxes, `cv2.dnn.NMSBoxes` for the suppression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pbcompile.reference.places import Seen, points_back
from pbcompile.reference.values import sigmoid, softmax
from pbcompile.steps import detection as steps
from pbcompile.steps.postprocess import Sigmoid, Softmax
from pbcompile.tensor_type import TensorType

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]


def corners(boxes: Array, form: str) -> Array:
    """Boxes in any format as x1, y1, x2, y2."""
    boxes = boxes.astype(np.float64)
    if form in ("yxyx", "cycxhw"):
        boxes = boxes[..., [1, 0, 3, 2]]
    first, second = boxes[..., :2], boxes[..., 2:]
    if form == "xywh":
        second = first + second
    elif form in ("cxcywh", "cycxhw"):
        first, second = first - second / 2, first + second / 2
    return np.concatenate([first, second], -1)


def _formatted(corners: Array, form: str) -> Array:
    first, second = corners[..., :2], corners[..., 2:]
    if form == "xywh":
        second = second - first
    elif form in ("cxcywh", "cycxhw"):
        first, second = (first + second) / 2, second - first
    boxes = np.concatenate([first, second], -1)
    return boxes[..., [1, 0, 3, 2]] if form in ("yxyx", "cycxhw") else boxes


def _activated(scores: Array, activation: str) -> Array:
    given = TensorType(str(scores.dtype), scores.shape)
    if activation == "none":
        return scores
    return sigmoid(Sigmoid(), scores, given) if activation == "sigmoid" else softmax(Softmax(), scores, given)


def decode_boxes(step: steps.DecodeBoxes, parts: Arrays, seen: Sequence[Seen]) -> dict[str, Array]:
    """The columns of a table, or two outputs; anchors as the papers of SSD and RetinaNet have them."""
    tables = list(parts.values())
    if len(tables) == 2:
        numbers, scores = tables
    else:
        start = step.boxes_at
        numbers = tables[0][:, :, start : start + 4]
        first = start + (5 if step.objectness else 4) if step.scores_at is None else step.scores_at
        scores = tables[0][:, :, first : first + (step.classes or tables[0].shape[2])]
    scores = _activated(scores.astype(np.float32), step.activation)
    if step.objectness:
        scores = scores * tables[0][:, :, step.boxes_at + 4, np.newaxis]
    if step.background is not None:
        scores = np.delete(scores, step.background, axis=2)
    boxes = corners(numbers, step.format)
    is_relative = step.units == "relative"
    if step.anchors is not None:
        if step.rows is not None:
            anchors: Array = step.rows.astype(np.float32).astype(np.float64)
        else:
            anchors, is_relative = _laid_out(step.anchors, seen[0].sizes[-1]), False
        centre, size = anchors[:, :2], anchors[:, 2:]
        shifts = numbers.astype(np.float64) * np.asarray(step.variances)
        if step.format in ("cxcywh", "cycxhw"):
            shifts = shifts[..., [1, 0, 3, 2]] if step.format == "cycxhw" else shifts
            middle, extent = centre + shifts[..., :2] * size, size * np.exp(shifts[..., 2:])
            boxes = np.concatenate([middle - extent / 2, middle + extent / 2], -1)
        else:
            moved = corners(shifts, step.format) * np.concatenate([size, size], -1)
            boxes = np.concatenate([centre - size / 2, centre + size / 2], -1) + moved
    if is_relative:
        height, width = seen[0].sizes[-1]
        boxes = boxes * [width, height, width, height]
    return {"boxes": boxes.astype(np.float32), "scores": scores.astype(np.float32)}


def _laid_out(anchors: Mapping[str, Any], size: tuple[int, int]) -> Array:
    rows = []
    for stride, shapes in zip(anchors["strides"], anchors["shapes"], strict=True):
        for row in range(int(np.ceil(size[0] / stride))):
            for column in range(int(np.ceil(size[1] / stride))):
                offset = anchors.get("offset", 0.5)
                rows += [((column + offset) * stride, (row + offset) * stride, *shape) for shape in shapes]
    return np.asarray(rows, np.float64)


def decode_yolo(step: steps.DecodeYolo, parts: Arrays, seen: Sequence[Seen]) -> dict[str, Array]:
    """Cell by cell as the papers and their first programs have it, in float64."""
    boxes, scores = [], []
    for level, x in enumerate(parts.values()):
        count, rows, columns = x.shape[:3]
        x = x.astype(np.float64).reshape(count, rows, columns, len(step.anchors[level]) if step.anchors else 1, -1)
        stride = step.strides[level]
        cell: Array = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1)[:, :, np.newaxis]

        def s(t: Array) -> Array:
            return np.asarray(1 / (1 + np.exp(-t)))

        if step.head == "v8":
            bins = x[..., : 4 * step.bins].reshape(*x.shape[:4], 4, step.bins)
            weights = np.exp(bins - bins.max(-1, keepdims=True))
            sides = (weights / weights.sum(-1, keepdims=True)) @ np.arange(step.bins)
            first, second = (cell + 0.5 - sides[..., :2]) * stride, (cell + 0.5 + sides[..., 2:]) * stride
            score = s(x[..., 4 * step.bins :])
        else:
            shapes = np.asarray(step.anchors[level], np.float64)
            if step.head == "v3":
                middle, size = (s(x[..., :2]) + cell) * stride, shapes * np.exp(x[..., 2:4])
            else:
                middle, size = (2 * s(x[..., :2]) - 0.5 + cell) * stride, shapes * (2 * s(x[..., 2:4])) ** 2
            first, second = middle - size / 2, middle + size / 2
            score = s(x[..., 4:5]) * s(x[..., 5:])
        boxes.append(np.concatenate([first, second], -1).reshape(count, -1, 4))
        scores.append(score.reshape(count, -1, score.shape[-1]))
    return {
        "boxes": np.concatenate(boxes, 1).astype(np.float32),
        "scores": np.concatenate(scores, 1).astype(np.float32),
    }


def non_max_suppression(step: steps.NonMaxSuppression, parts: Arrays, seen: Sequence[Seen]) -> dict[str, Array]:
    """`cv2.dnn.NMSBoxes`, class by class or once; the best of all classes, padded."""
    count, k = len(parts["boxes"]), step.max_detections
    boxes, scores = np.zeros((count, k, 4), np.float32), np.zeros((count, k), np.float32)
    classes, counts = np.full((count, k), -1, np.int32), np.zeros(count, np.int32)
    for image, (given, table) in enumerate(zip(parts["boxes"], parts["scores"], strict=True)):
        kept = sorted(_kept(step, given, table), key=lambda found: -found[0])[:k]
        counts[image] = len(kept)
        for place, (score, index, label) in enumerate(kept):
            boxes[image, place], scores[image, place], classes[image, place] = given[index], score, label
    found: dict[str, Array] = {"boxes": boxes, "scores": scores, "classes": classes, "count": counts}
    if step.label_names:
        found["labels"] = np.array([*(name.encode() for name in step.label_names), b""], object)[classes]
    return {name: found[name] for name in step.names(())}


def _kept(step: steps.NonMaxSuppression, boxes: Array, table: Array) -> list[tuple[float, int, int]]:
    """(score, box, class) of what is kept of one image."""
    best = table.argmax(axis=1)
    if not step.per_class:
        return [(table[i, best[i]], i, int(best[i])) for i in _by_opencv(step, boxes, table.max(axis=1))]
    if not step.multi_label:
        table = np.where(np.arange(table.shape[1]) == best[:, np.newaxis], table, -1)
    return [
        (column[index], index, label)
        for label, column in enumerate(table.T)
        for index in _by_opencv(step, boxes, column)
    ]


def _by_opencv(step: steps.NonMaxSuppression, boxes: Array, scores: Array) -> list[int]:
    candidates = np.flatnonzero(scores > np.float32(step.score_threshold))
    if not len(candidates):
        return []
    rectangles = _formatted(boxes[candidates].astype(np.float64), "xywh")
    chosen = cv2.dnn.NMSBoxes(
        rectangles.tolist(), scores[candidates].astype(float).tolist(), step.score_threshold, step.iou_threshold
    )
    return [int(candidates[index]) for index in np.ravel(np.asarray(chosen, int))]


def restore_boxes(step: steps.RestoreBoxes, parts: Arrays, seen: Sequence[Seen]) -> dict[str, Array]:
    """Both corners back through each step, image by image."""
    name = "boxes" if "boxes" in parts else ""
    given = parts[name] if name else corners(parts[name], step.format)
    restored = np.zeros(given.shape, np.float32)
    for index, edges in enumerate(given):
        one = seen[index if len(seen) > 1 else 0]
        if not name and step.units == "relative":
            height, width = one.sizes[-1]
            edges = edges * [width, height, width, height]
        ends = [points_back(one, edges[..., at : at + 2], to_stored=step.to == "stored") for at in (0, 2)]
        low, high = np.minimum(*ends), np.maximum(*ends)
        if step.clip:
            height, width = one.sizes[0]
            limit = (height, width) if step.to == "stored" and one.orientation >= 5 else (width, height)
            low, high = np.clip(low, 0, limit), np.clip(high, 0, limit)
        boxes = _formatted(np.concatenate([low, high], -1), step.format)
        if "count" in parts:
            boxes[parts["count"][index] :] = 0
        restored[index] = boxes
    return {**parts, name: restored}
