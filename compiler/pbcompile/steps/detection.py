"""Steps that make boxes of a detector's outputs: decoding, suppression, and the way back to the fed image.

Between these steps boxes are float32 [batch, boxes, 4], (x1, y1, x2, y2) in pixels of the image that reaches the model;
scores are [batch, boxes, classes] until the suppression, and [batch, detections] after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pbcompile.errors import Problem, SpecError
from pbcompile.steps.base import NUMBER, PartsStep, Schema
from pbcompile.steps.placement import ImageInput, Parts, Placed
from pbcompile.steps.postprocess import LABELS, label_names
from pbcompile.tensor_type import TensorType

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import tensorflow as tf
    from typing_extensions import Self

FORMATS = ("xyxy", "yxyx", "xywh", "cxcywh", "cycxhw")
"""How four numbers say a box: its corners; left, top, width and height; or centre and size."""

FORMAT: Schema = {
    "enum": list(FORMATS),
    "default": "xyxy",
    "description": "Meaning of the four numbers: corners (xyxy, yxyx), left top width height (xywh), or centre and "
    "size (cxcywh, cycxhw).",
}
UNITS: Schema = {
    "enum": ["pixels", "relative"],
    "default": "pixels",
    "description": "pixels of the image that reaches the model, or relative: parts of its width and height, 0..1.",
}
ACTIVATION: Schema = {
    "enum": ["none", "sigmoid", "softmax"],
    "default": "none",
    "description": "What still has to be done to the class scores.",
}
PAIRS: Schema = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "array",
        "minItems": 1,
        "items": {"type": "array", "items": {"type": "number", "exclusiveMinimum": 0}, "minItems": 2, "maxItems": 2},
    },
}


@dataclass(frozen=True)
class DecodeBoxes(PartsStep):
    """Boxes and class scores out of what a detector gives per anchor: SSD and RetinaNet heads, exported YOLO outputs.

    in:  `from` one output: float [N, A, V], the box in the four columns from `boxes_at`, then the objectness where
         there is one, then the classes (`scores_at` says otherwise); or `from` two outputs: boxes [N, A, 4] and scores
         [N, A, C].
    out: `boxes` float32 [N, A, 4]: (x1, y1, x2, y2) in pixels of the image that reaches the model, and `scores`
         float32 [N, A, C], multiplied by the objectness where there is one.
         With `anchors` the four numbers t say how a box differs from its anchor, v are the `variances`; for a format
         with a centre: centre = anchor centre + t · v · anchor size, size = anchor size · exp(t · v); for corners:
         corner = anchor corner + t · v · anchor size.
    """

    op: ClassVar[str] = "decode_boxes"
    properties: ClassVar[Mapping[str, Schema]] = {
        "format": FORMAT,
        "units": UNITS,
        "boxes_at": {
            "type": "integer",
            "minimum": 0,
            "default": 0,
            "description": "One output: the column where the four numbers of the box start.",
        },
        "scores_at": {
            "type": "integer",
            "minimum": 0,
            "description": "One output: the column of the first class; left out: after the box and the objectness.",
        },
        "classes": {
            "type": "integer",
            "minimum": 1,
            "description": "One output: how many columns are classes; left out: all from the first one.",
        },
        "objectness": {
            "type": "boolean",
            "default": False,
            "description": "One output: whether the column after the box is a probability that multiplies the classes.",
        },
        "activation": ACTIVATION,
        "background": {
            "type": "integer",
            "minimum": 0,
            "description": "Class to leave out after the activation; later classes move down by one.",
        },
        "anchors": {
            "type": ["string", "array", "object"],
            "items": {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4},
            "minItems": 1,
            "properties": {
                "strides": {
                    "description": "Pixels from one cell to the next, level by level.",
                    "type": "array",
                    "items": {"type": "number", "exclusiveMinimum": 0},
                    "minItems": 1,
                },
                "shapes": {
                    "description": "For each level the anchors of a cell, each [width, height] in pixels.",
                    **PAIRS,
                },
                "offset": {
                    "description": "Where in its cell an anchor has its centre.",
                    "type": "number",
                    "default": 0.5,
                },
            },
            "additionalProperties": False,
            "description": "Boxes that the numbers are relative to, in `units`: a .npy file or a list of [centre x, "
            "centre y, width, height]; or strides and shapes to lay them out from: level by level, row by row, column "
            "by column, shape by shape, with ceil(side / stride) cells.",
        },
        "variances": {
            "type": "array",
            "items": {"type": "number", "exclusiveMinimum": 0},
            "minItems": 4,
            "maxItems": 4,
            "default": [1, 1, 1, 1],
            "description": "With anchors: what multiplies each of the four numbers; SSD has [0.1, 0.1, 0.2, 0.2].",
        },
    }

    format: str = "xyxy"
    units: str = "pixels"
    boxes_at: int = 0
    scores_at: int | None = None
    classes: int | None = None
    objectness: bool = False
    activation: str = "none"
    background: int | None = None
    anchors: Any = None
    variances: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    rows: npt.NDArray[np.float64] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def from_json(cls, values: Mapping[str, Any], pointer: str, folder: Path) -> Self:
        """Read the anchors, if they are a file."""
        anchors = values.get("anchors")
        step = super().from_json(values, pointer, folder)
        if isinstance(anchors, dict):
            shapes, strides = anchors.get("shapes"), anchors.get("strides")
            if not shapes or not strides or len(shapes) != len(strides):
                raise step.fail('anchors that are laid out need "strides" and as many "shapes"', "anchors")
            return step
        if anchors is None:
            return step
        import numpy as np

        from pbcompile.steps.normalisation import read_npy

        where = f"{pointer}/anchors"
        rows = read_npy(folder / anchors, where) if isinstance(anchors, str) else np.array(anchors, np.float64)
        if rows.ndim != 2 or rows.shape[1] != 4:
            shape = f"{anchors} has the shape {list(rows.shape)}"
            raise SpecError(Problem("step-type-mismatch", f"anchors are [boxes, 4], and {shape}", where))
        return replace(step, rows=rows.astype(np.float64))

    @property
    def uses_image(self) -> bool:
        """For parts of the image, and for anchors that are laid out on it."""
        return self.units == "relative" or isinstance(self.anchors, Mapping)

    def names(self, given: tuple[str, ...]) -> tuple[str, ...]:
        """Boxes and scores."""
        return ("boxes", "scores")

    def class_columns(self, width: int) -> tuple[int, int]:
        """First and last + 1 column of the classes, of `width` columns."""
        first = self.boxes_at + 4 + self.objectness if self.scores_at is None else self.scores_at
        return first, width if self.classes is None else first + self.classes

    def check_parts(self, given: Parts, image: ImageInput | None) -> Parts:
        """Boxes and scores of as many anchors."""
        tensors = list(given.values())
        if len(tensors) > 2 or any(t.rank != 3 or not t.is_float for t in tensors):
            said = ", ".join(map(str, tensors))
            hint = "reshape or transpose before this step" if len(tensors) == 1 else ""
            raise self.fail(f'"decode_boxes" takes floats of [batch, boxes, numbers], and is given {said}', hint=hint)
        width = tensors[0].shape[2]
        if width is None or tensors[-1].shape[2] is None:
            raise self.fail(f"the numbers per box must be known, and are not in {tensors[0]}")
        if len(tensors) == 2:
            if width != 4 or self.objectness or self.classes or self.scores_at or self.boxes_at:
                raise self.fail(f"two outputs are boxes of 4 numbers and scores, and the first one is {tensors[0]}")
            count: int = tensors[1].shape[2] or 0
        else:
            first, last = self.class_columns(width)
            if self.boxes_at + 4 + self.objectness > width or not first < last <= width:
                said = f"the box starts at column {self.boxes_at}, the classes are {first} to {last - 1}"
                raise self.fail(f"{said}, and there are {width} columns", "classes" if self.classes else "")
            count = last - first
        if self.background is not None:
            if self.background >= count or count < 2:
                raise self.fail(f"the background is class {self.background}, and there are {count}", "background")
            count -= 1
        boxes = tensors[0].shape[1]
        known = len(self.rows) if self.rows is not None else None
        if isinstance(self.anchors, Mapping) and image is not None and None not in image.size:
            known = laid_out(self.anchors, image.size)
        if known is not None and boxes is not None and known != boxes:
            raise self.fail(f"there are {known} anchors, and the model gives {boxes} boxes", "anchors")
        shape = (tensors[0].shape[0], boxes)
        return {"boxes": TensorType("float32", (*shape, 4)), "scores": TensorType("float32", (*shape, count))}

    def emit_parts(self, x: Mapping[str, tf.Tensor], given: Parts, placed: Placed | None) -> dict[str, tf.Tensor]:
        """Slices, the decoding of the anchors, corners; loop-free."""
        from pbcompile.steps.kernels.detection import decode_boxes

        return decode_boxes(self, list(x.values()), placed)


def laid_out(anchors: Mapping[str, Any], size: tuple[int | None, int | None]) -> int:
    """How many anchors are laid out on an image of `size`."""
    height, width = size[0] or 0, size[1] or 0
    return sum(
        int(-(-height // stride)) * int(-(-width // stride)) * len(shapes)
        for stride, shapes in zip(anchors["strides"], anchors["shapes"], strict=True)
    )


@dataclass(frozen=True)
class DecodeYolo(PartsStep):
    """Boxes and class scores out of the raw maps of a YOLO head, level by level as `from` lists them.

    in:  one float map per level, [N, h, w, anchors · (5 + C)] or [N, h, w, anchors, 5 + C]; v8: [N, h, w, 4 · bins + C]
    out: `boxes` float32 [N, A, 4]: (x1, y1, x2, y2) in pixels of the image that reaches the model, `scores` float32
         [N, A, C]; level by level, row by row, column by column, anchor by anchor.  With s = sigmoid, t what the map
         holds, c the cell's column and row:
         v3: centre = (s(t) + c) · stride, size = anchor · exp(t), score = s(objectness) · s(class);
         v5 (v7 too): centre = (2 s(t) − 0.5 + c) · stride, size = anchor · (2 s(t))², the same scores;
         v8 (v9, v11 too): each side lies Σ i · softmax(bins)ᵢ strides from the middle of the cell, in the order left,
         top, right, bottom; score = s(class).
    """

    op: ClassVar[str] = "decode_yolo"
    properties: ClassVar[Mapping[str, Schema]] = {
        "head": {"enum": ["v3", "v5", "v8"], "description": "How the maps say a box."},
        "strides": {
            "type": "array",
            "items": {"type": "integer", "minimum": 1},
            "minItems": 1,
            "description": "Pixels per cell, level by level: [8, 16, 32], or [32, 16, 8] with the coarse map first.",
        },
        "anchors": {
            **PAIRS,
            "description": "v3, v5: for each level its anchors, each [width, height] in pixels.",
        },
        "bins": {"type": "integer", "minimum": 2, "default": 16, "description": "v8: bins per side of a box."},
    }
    required: ClassVar[tuple[str, ...]] = ("head", "strides")

    head: str
    strides: tuple[int, ...]
    anchors: tuple[tuple[tuple[float, float], ...], ...] = ()
    bins: int = 16

    def names(self, given: tuple[str, ...]) -> tuple[str, ...]:
        """Boxes and scores."""
        return ("boxes", "scores")

    def box_columns(self) -> int:
        """Columns of one anchor before its classes."""
        return 4 * self.bins if self.head == "v8" else 5

    def check_parts(self, given: Parts, image: ImageInput | None) -> Parts:
        """Boxes and scores of all cells."""
        if (self.head == "v8") == bool(self.anchors):
            raise self.fail(f'a {self.head} head has {"no " if self.anchors else ""}"anchors"', "anchors")
        levels = list(given.values())
        for key, values in (("strides", self.strides), ("anchors", self.anchors)):
            if values and len(values) != len(levels):
                said = f"{len(levels)} map{'s' if len(levels) > 1 else ''}"
                raise self.fail(f'"{key}" has {len(values)} levels, and "from" names {said}', key)
        total: int | None = 0
        counts = set()
        for level, kind in enumerate(levels):
            anchors = len(self.anchors[level]) if self.anchors else 1
            last = kind.shape[-1] if kind.rank in (4, 5) else None
            if last is None or not kind.is_float or (kind.rank == 5 and kind.shape[3] != anchors):
                raise self.fail(f"a map is [batch, rows, columns, {anchors} · numbers], and the model gives {kind}")
            per_anchor = last if kind.rank == 5 else last // anchors
            if (kind.rank == 4 and last % anchors) or per_anchor <= self.box_columns():
                raise self.fail(
                    f"{anchors} anchor{'s' if anchors > 1 else ''} of {self.box_columns()} numbers and at least one "
                    f"class do not make the {last} channels of {kind}"
                )
            counts.add(per_anchor - self.box_columns())
            rows, columns = kind.shape[1:3]
            total = None if None in (total, rows, columns) else total + anchors * rows * columns  # type: ignore[operator]
        if len(counts) > 1:
            raise self.fail(f"the maps have different numbers of classes: {', '.join(map(str, sorted(counts)))}")
        shape = (levels[0].shape[0], total)
        scores = TensorType("float32", (*shape, counts.pop()), range=(0.0, 1.0))
        return {"boxes": TensorType("float32", (*shape, 4)), "scores": scores}

    def emit_parts(self, x: Mapping[str, tf.Tensor], given: Parts, placed: Placed | None) -> dict[str, tf.Tensor]:
        """Elementwise ops on each map, with grids made from its size, and one ConcatV2."""
        from pbcompile.steps.kernels.detection import decode_yolo

        return decode_yolo(self, list(x.values()))


@dataclass(frozen=True)
class NonMaxSuppression(PartsStep):
    """Keep the best box of those that overlap, image by image.

    in:  `boxes` [N, A, 4] and `scores` [N, A, C] of `decode_boxes` or `decode_yolo`
    out: the `max_detections` best, largest score first: `boxes` float32 [N, K, 4], `scores` float32 [N, K], `classes`
         int32 [N, K], with labels `labels` string [N, K], and `count` int32 [N]; behind the count are 0, class −1 and
         the label "".  A box counts for each class whose score is above `score_threshold` (`multi_label` false: for
         its best class only, the lower one where two are equal), and is dropped when its intersection over union with
         a better one of the same class (`per_class` false: of any class, by best class only) is above `iou_threshold`:
         `tf.image.combined_non_max_suppression` without clipping, and `cv2.dnn.NMSBoxes` class by class.
    """

    op: ClassVar[str] = "non_max_suppression"
    properties: ClassVar[Mapping[str, Schema]] = {
        "iou_threshold": {**NUMBER, "minimum": 0, "maximum": 1, "description": "Most overlap of two kept boxes."},
        "score_threshold": {**NUMBER, "minimum": 0, "description": "Scores must be above this one."},
        "max_detections": {
            "type": "integer",
            "minimum": 1,
            "default": 100,
            "description": "How many detections an image has in the output; fewer are padded.",
        },
        "per_class": {
            "type": "boolean",
            "default": True,
            "description": "Whether only boxes of the same class suppress each other.",
        },
        "multi_label": {
            "type": "boolean",
            "default": True,
            "description": "Whether a box may be found with several classes, or with its best one only.",
        },
        "labels": LABELS,
    }
    required: ClassVar[tuple[str, ...]] = ("iou_threshold", "score_threshold")

    iou_threshold: float
    score_threshold: float
    max_detections: int = 100
    per_class: bool = True
    multi_label: bool = True
    labels: str | tuple[str, ...] | None = None
    label_names: tuple[str, ...] = field(default=(), compare=False, repr=False)

    @classmethod
    def from_json(cls, values: Mapping[str, Any], pointer: str, folder: Path) -> Self:
        """Read the labels, if they are a file."""
        step = super().from_json(values, pointer, folder)
        return replace(step, label_names=label_names(values.get("labels"), f"{pointer}/labels", folder))

    def names(self, given: tuple[str, ...]) -> tuple[str, ...]:
        """What a detection is made of, and the count."""
        return ("boxes", "scores", "classes", *(("labels",) if self.labels else ()), "count")

    def check_parts(self, given: Parts, image: ImageInput | None) -> Parts:
        """Fixed counts."""
        if list(given) != ["boxes", "scores"] or given["scores"].rank != 3:
            hint = 'make them by "decode_boxes" or "decode_yolo"'
            said = ", ".join(name or str(kind) for name, kind in given.items())
            raise self.fail(f'"{self.op}" takes boxes and the scores of all classes, and is given {said}', hint=hint)
        batch, _, classes = given["scores"].shape
        if self.label_names and classes is not None and len(self.label_names) != classes:
            raise self.fail(f"there are {len(self.label_names)} labels and {classes} classes", "labels")
        shape = (batch, self.max_detections)
        types = {
            "boxes": TensorType("float32", (*shape, 4)),
            "scores": TensorType("float32", shape, range=given["scores"].range),
            "classes": TensorType("int32", shape, range=(-1, (classes or 2**31) - 1)),
            "labels": TensorType("string", shape),
            "count": TensorType("int32", (batch,), range=(0, self.max_detections)),
        }
        return {name: types[name] for name in self.names(())}

    def emit_parts(self, x: Mapping[str, tf.Tensor], given: Parts, placed: Placed | None) -> dict[str, tf.Tensor]:
        """One CombinedNonMaxSuppression for the whole batch."""
        from pbcompile.steps.kernels.detection import suppress

        parts = suppress(self, x["boxes"], x["scores"])
        return {name: parts[name] for name in self.names(())}


@dataclass(frozen=True)
class RestoreBoxes(PartsStep):
    """Boxes back in the pixels of the image that was fed: through every step that moved pixels.

    in:  boxes of the steps before; or one float tensor [N, 4] or [N, K, 4] of boxes in `format` and `units`
    out: the same, in `format`, float32: edges in pixels of the fed image as the first step gets it (of a JPEG as
         `cv2.imread` shows it; with `exif` "ignore" as `PIL.Image.open` does), or with `to` "stored" of the pixels as
         they lie in the file, before its orientation is applied.  Pixel i covers i … i + 1.  Each side goes back by its
         own ratio, (y − top) · height / rows: the whole-pixel size that the image was really resized to.  Padding
         behind the `count` stays 0.
    """

    op: ClassVar[str] = "restore_boxes"
    properties: ClassVar[Mapping[str, Schema]] = {
        "format": FORMAT,
        "units": {**UNITS, "description": "Of a single tensor: " + str(UNITS["description"])},
        "clip": {
            "type": "boolean",
            "default": True,
            "description": "Whether to cut boxes at the edges of the image.",
        },
        "to": {
            "enum": ["source", "stored"],
            "default": "source",
            "description": "source: the image as it was decoded, upright where `exif` says so; stored: before that.",
        },
    }

    format: str = "xyxy"
    units: str = "pixels"
    clip: bool = True
    to: str = "source"

    @property
    def uses_image(self) -> bool:
        """Always."""
        return True

    def names(self, given: tuple[str, ...]) -> tuple[str, ...]:
        """The same."""
        return given

    def check_parts(self, given: Parts, image: ImageInput | None) -> Parts:
        """The same types, boxes as float32."""
        assert image is not None  # `uses_image`
        if image.blocking is not None:
            message = f'positions cannot be followed back through the "{image.blocking.op}" of "{image.name}"'
            raise self.fail(message, "op", f"that step stands at {image.blocking.pointer}")
        name = "boxes" if "boxes" in given else ""
        if name not in given:
            raise self.fail(f'"{self.op}" takes boxes, and is given {", ".join(given)}', "op")
        boxes = given[name]
        if boxes.rank not in (2, 3) or boxes.shape[-1] != 4 or not boxes.is_float:
            raise self.fail(f'"{self.op}" takes float boxes of 4 numbers, and is given {boxes}')
        if name and self.units != "pixels":
            raise self.fail("boxes of the steps before are in pixels already", "units", 'say "units" in "decode_boxes"')
        return {**given, name: TensorType("float32", boxes.shape)}

    def emit_parts(self, x: Mapping[str, tf.Tensor], given: Parts, placed: Placed | None) -> dict[str, tf.Tensor]:
        """One product with the 3 × 3 matrix that the input's steps make together."""
        from pbcompile.steps.kernels.detection import restore_boxes

        assert placed is not None  # `uses_image`
        name = "boxes" if "boxes" in x else ""
        return {**x, name: restore_boxes(self, x[name], x.get("count"), placed, is_plain=not name)}
