"""Boxes in a graph: decoding, suppression of a whole batch without loops, and the way back to the fed image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from pbcompile.steps.placement import Placed

if TYPE_CHECKING:
    from pbcompile.steps.detection import DecodeBoxes, DecodeYolo, NonMaxSuppression, RestoreBoxes


def corners_of(numbers: tf.Tensor, form: str) -> tf.Tensor:
    """[..., 4] in any format → (x1, y1, x2, y2)."""
    a, b, c, d = tf.unstack(numbers, axis=-1)
    if form in ("yxyx", "cycxhw"):
        a, b, c, d = b, a, d, c
    if form == "xywh":
        c, d = a + c, b + d
    elif form.startswith("c"):
        a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
    return tf.stack([a, b, c, d], axis=-1)


def in_format(corners: tf.Tensor, form: str) -> tf.Tensor:
    """(x1, y1, x2, y2) → [..., 4] in any format."""
    a, b, c, d = tf.unstack(corners, axis=-1)
    if form == "xywh":
        c, d = c - a, d - b
    elif form.startswith("c"):
        a, b, c, d = (a + c) / 2, (b + d) / 2, c - a, d - b
    if form in ("yxyx", "cycxhw"):
        a, b, c, d = b, a, d, c
    return tf.stack([a, b, c, d], axis=-1)


def _sides(placed: Placed | None, dtype: tf.DType) -> tf.Tensor:
    """(width, height, width, height) of the image that reaches the model."""
    assert placed is not None  # steps in parts of the image say that they use it
    height, width = (tf.cast(side, dtype) for side in placed.final)
    return tf.stack([width, height, width, height])


def decode_boxes(step: DecodeBoxes, given: Sequence[tf.Tensor], placed: Placed | None) -> dict[str, tf.Tensor]:
    """See `DecodeBoxes`."""
    x = tf.cast(given[0], tf.float32)
    if len(given) == 2:
        numbers, scores = x, tf.cast(given[1], tf.float32)
    else:
        first, last = step.class_columns(x.shape[2])
        numbers, scores = x[..., step.boxes_at : step.boxes_at + 4], x[..., first:last]
    if step.activation != "none":
        scores = tf.sigmoid(scores) if step.activation == "sigmoid" else tf.nn.softmax(scores)
    if step.objectness:
        scores *= x[..., step.boxes_at + 4 : step.boxes_at + 5]
    if step.background is not None:
        scores = tf.concat([scores[..., : step.background], scores[..., step.background + 1 :]], -1)
    corners = corners_of(numbers, step.format) if step.anchors is None else _from_anchors(step, numbers, placed)
    is_relative = step.units == "relative" and not isinstance(step.anchors, Mapping)
    return {"boxes": corners * _sides(placed, tf.float32) if is_relative else corners, "scores": scores}


def _from_anchors(step: DecodeBoxes, numbers: tf.Tensor, placed: Placed | None) -> tf.Tensor:
    anchors = tf.constant(step.rows, tf.float32) if step.rows is not None else _lay_out(step.anchors, placed)
    t = numbers * tf.constant(step.variances, tf.float32)
    x, y, width, height = tf.unstack(anchors, axis=-1)
    if step.format.startswith("c"):
        a, b, c, d = tf.unstack(t, axis=-1)
        if step.format == "cycxhw":
            a, b, c, d = b, a, d, c
        boxes = tf.stack([x + a * width, y + b * height, width * tf.exp(c), height * tf.exp(d)], axis=-1)
        return corners_of(boxes, "cxcywh")
    corners = corners_of(anchors, "cxcywh")
    return corners + corners_of(t, step.format) * tf.stack([width, height, width, height], axis=-1)


def _lay_out(anchors: Mapping[str, Any], placed: Placed | None) -> tf.Tensor:
    """[A, 4], centre and size in pixels: level by level, row by row, column by column, shape by shape."""
    assert placed is not None  # steps that lay out anchors say that they use the image
    offset = float(anchors.get("offset", 0.5))
    levels = []
    for stride, shapes in zip(anchors["strides"], anchors["shapes"], strict=True):
        rows, columns = (tf.cast(tf.math.ceil(tf.cast(side, tf.float64) / stride), tf.int32) for side in placed.final)
        centres = (_grid(rows, columns, len(shapes)) + offset) * float(stride)
        sizes = tf.tile(tf.constant(shapes, tf.float32), tf.stack([rows * columns, 1]))
        levels.append(tf.concat([centres, sizes], axis=-1))
    return tf.concat(levels, axis=0)


def _grid(rows: Any, columns: Any, repeats: int) -> tf.Tensor:
    """float32 [rows · columns · repeats, 2]: (column, row) of each cell, `repeats` times."""
    across, down = tf.meshgrid(tf.range(columns), tf.range(rows))
    cells = tf.reshape(tf.stack([across, down], axis=-1), [-1, 1, 2])
    return tf.cast(tf.reshape(tf.tile(cells, [1, repeats, 1]), [-1, 2]), tf.float32)


def decode_yolo(step: DecodeYolo, maps: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
    """See `DecodeYolo`."""
    boxes, scores = [], []
    for level, x in enumerate(maps):
        x = tf.cast(x, tf.float32)
        rows, columns = (x.shape[axis] or tf.shape(x)[axis] for axis in (1, 2))
        shapes = step.anchors[level] if step.anchors else ((0.0, 0.0),)
        width = x.shape[-1] // (1 if x.shape.rank == 5 else len(shapes))
        x = tf.reshape(x, tf.stack([tf.shape(x)[0], -1, width]))
        grid, stride = _grid(rows, columns, len(shapes)), float(step.strides[level])
        if step.head == "v8":
            bins = tf.reshape(x[..., : 4 * step.bins], tf.stack([tf.shape(x)[0], -1, 4, step.bins]))
            sides = tf.reduce_sum(tf.nn.softmax(bins) * tf.range(step.bins, dtype=tf.float32), axis=-1)
            middle = grid + 0.5
            corners = tf.concat([middle - sides[..., :2], middle + sides[..., 2:]], axis=-1) * stride
            boxes.append(corners)
            scores.append(tf.sigmoid(x[..., 4 * step.bins :]))
            continue
        anchors = tf.tile(tf.constant(shapes, tf.float32), tf.stack([rows * columns, 1]))
        if step.head == "v3":
            centre, size = tf.sigmoid(x[..., :2]) + grid, tf.exp(x[..., 2:4])
        else:
            centre = 2.0 * tf.sigmoid(x[..., :2]) - 0.5 + grid
            size = tf.square(2.0 * tf.sigmoid(x[..., 2:4]))
        boxes.append(corners_of(tf.concat([centre * stride, size * anchors], axis=-1), "cxcywh"))
        scores.append(tf.sigmoid(x[..., 4:5]) * tf.sigmoid(x[..., 5:]))
    return {"boxes": tf.concat(boxes, axis=1), "scores": tf.concat(scores, axis=1)}


def suppress(step: NonMaxSuppression, boxes: tf.Tensor, scores: tf.Tensor) -> dict[str, tf.Tensor]:
    """See `NonMaxSuppression`.  One op for all images and classes, in TensorFlow since 1.14."""
    best = tf.argmax(scores, axis=-1, output_type=tf.int32)
    if not step.per_class:
        candidates = tf.reduce_max(scores, axis=-1, keepdims=True)
    elif step.multi_label:
        candidates = scores
    else:
        candidates = scores * tf.one_hot(best, scores.shape[2], dtype=scores.dtype)
    kept, found, classes, count = tf.raw_ops.CombinedNonMaxSuppression(
        boxes=tf.expand_dims(boxes, 2),
        scores=candidates,
        max_output_size_per_class=step.max_detections,
        max_total_size=step.max_detections,
        iou_threshold=step.iou_threshold,
        score_threshold=step.score_threshold,
        clip_boxes=False,
    )
    classes = tf.cast(classes, tf.int32)
    if not step.per_class:
        # The op does not say which box it kept.  Of several that are equal in every number it keeps the first one.
        is_same = tf.reduce_all(tf.equal(tf.expand_dims(kept, 2), tf.expand_dims(boxes, 1)), -1)
        is_same &= tf.equal(tf.expand_dims(found, 2), tf.expand_dims(candidates[..., 0], 1))
        classes = tf.gather(best, tf.argmax(tf.cast(is_same, tf.int8), axis=-1), batch_dims=1)
    is_there = tf.expand_dims(tf.range(step.max_detections), 0) < tf.expand_dims(count, 1)
    classes = tf.where(is_there, classes, tf.constant(-1))
    parts = {"boxes": kept, "scores": found, "classes": classes, "count": count}
    if step.label_names:
        names = tf.constant([name.encode() for name in (*step.label_names, "")])
        parts["labels"] = tf.gather(names, tf.where(is_there, classes, tf.constant(len(step.label_names))))
    return parts


def restore_boxes(
    step: RestoreBoxes, boxes: tf.Tensor, count: tf.Tensor | None, placed: Placed, *, is_plain: bool
) -> tf.Tensor:
    """See `RestoreBoxes`."""
    boxes = tf.cast(boxes, tf.float64)
    if is_plain:
        boxes = corners_of(boxes, step.format)
        boxes = boxes * _sides(placed, tf.float64) if step.units == "relative" else boxes
    is_flat = boxes.shape.rank == 2
    corners = tf.expand_dims(boxes, 1) if is_flat else boxes
    matrix, size = (placed.stored, placed.stored_size) if step.to == "stored" else (placed.matrix, placed.size)
    rows = [[matrix[:, row, column, None] for column in range(3)] for row in range(2)]
    edges = []
    for (by_x, by_y, offset), limit in zip(rows, (size[:, 1, None], size[:, 0, None]), strict=True):
        ends = [by_x * corners[..., at] + by_y * corners[..., at + 1] + offset for at in (0, 2)]
        low, high = tf.minimum(*ends), tf.maximum(*ends)
        if step.clip:
            low, high = (tf.minimum(tf.maximum(end, tf.constant(0.0, tf.float64)), limit) for end in (low, high))
        edges.append((low, high))
    (left, right), (top, bottom) = edges
    made = in_format(tf.stack([left, top, right, bottom], axis=-1), step.format)
    if count is not None:
        is_there = tf.range(tf.shape(made)[1]) < tf.expand_dims(count, 1)
        made = tf.where(tf.expand_dims(is_there, -1), made, tf.zeros_like(made))
    made = tf.cast(made, tf.float32)
    return tf.squeeze(made, 1) if is_flat else made
