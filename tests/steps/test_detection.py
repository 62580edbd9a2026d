"""Detection steps against NumPy and cv2.dnn: DecodeBoxes, DecodeYolo, NonMaxSuppression, RestoreBoxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pbcompile.errors import SpecError
from tests.steps.behind import IMAGE, plan_of, run_both

FIXED = {"channels": "RGB", "preprocess": [{"op": "resize", "size": [64, 96], "method": "linear", "like": "opencv"}]}
FRAME = np.zeros((1, 31, 47, 3), np.uint8)
SHAPES = [[[10, 20], [30, 15]], [[40, 40]]]
GRID = {"strides": [16, 32], "shapes": SHAPES}
IN_ALL = 4 * 6 * 2 + 2 * 3


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng([seed, *shape]).standard_normal(shape) * scale).astype(np.float32)


def near(have: dict[str, Any], want: dict[str, Any]) -> None:
    """Boxes to a thousandth of a pixel, scores to some ulp, all else equal."""
    for name, value in want.items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(have[name], value, rtol=2e-5, atol=1e-3 if name.endswith("boxes") else 1e-6)
        else:
            np.testing.assert_array_equal(have[name], value)


@pytest.mark.parametrize("form", ["xyxy", "yxyx", "xywh", "cxcywh", "cycxhw"])
@pytest.mark.parametrize("units", ["pixels", "relative"])
def test_boxes_in_every_format(tmp_path: Path, form: str, units: str) -> None:
    """One table with an objectness, and two outputs."""
    table = np.abs(normal(2, 9, 4 + 1 + 3))
    steps = [{"op": "decode_boxes", "format": form, "units": units, "objectness": True}]
    near(*run_both(plan_of(tmp_path, steps, {"t": table}, FIXED), {"t": table}, FRAME))
    two = {"boxes": table[..., :4], "classes": normal(2, 9, 5)}
    steps = [{"op": "decode_boxes", "format": form, "units": units, "activation": "softmax", "background": 0}]
    have, want = run_both(plan_of(tmp_path, steps, two, FIXED), two, FRAME)
    near(have, want)
    assert have["answer_scores"].shape == (2, 9, 4)


@pytest.mark.parametrize("form", ["cxcywh", "cycxhw", "xyxy", "yxyx"])
@pytest.mark.parametrize("kind", ["list", "file", "grid"])
def test_anchors_listed_in_a_file_and_laid_out(tmp_path: Path, form: str, kind: str) -> None:
    """SSD codes centres and sizes, RetinaNet corners."""
    rows = np.abs(normal(IN_ALL, 4, seed=3)) * 20 + 1
    np.save(tmp_path / "anchors.npy", rows)
    anchors = {"list": rows.tolist(), "file": "anchors.npy", "grid": GRID}[kind]
    given = {"columns": normal(2, IN_ALL, 3 + 4, scale=0.7)}
    steps = [
        {
            "op": "decode_boxes",
            "format": form,
            "anchors": anchors,
            "variances": [0.1, 0.2, 0.3, 0.4],
            "boxes_at": 3,
            "scores_at": 0,
            "classes": 3,
            "activation": "sigmoid",
        }
    ]
    near(*run_both(plan_of(tmp_path, steps, given, FIXED), given, FRAME))


def test_anchors_are_laid_out_on_an_image_of_open_size(tmp_path: Path) -> None:
    given = {"t": normal(1, 2 * 3 * 2 + 1 * 2, 4 + 2)}  # ceil(31 / 16) · ceil(47 / 16) · 2 + ceil(31 / 32) · …
    steps = [{"op": "decode_boxes", "format": "cxcywh", "anchors": GRID}]
    near(*run_both(plan_of(tmp_path, steps, given, IMAGE), given, FRAME))


ANCHORS = [[[10, 13], [16, 30], [33, 23]], [[30, 61], [62, 45], [59, 119]]]
HEADS = {
    "v3": {"head": "v3", "strides": [32, 16], "anchors": ANCHORS},
    "v5": {"head": "v5", "strides": [32, 16], "anchors": ANCHORS},
    "v8": {"head": "v8", "strides": [32, 16], "bins": 8},
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("is_split", [False, True])
def test_yolo_heads(tmp_path: Path, head: str, is_split: bool) -> None:
    """Maps with the anchors in the channels, or on an axis of their own."""
    columns = 4 * 8 + 2 if head == "v8" else 5 + 2
    anchors = 1 if head == "v8" else 3
    shape = (anchors, columns) if is_split else (anchors * columns,)
    given = {"far": normal(2, 2, 3, *shape, scale=1.5), "near": normal(2, 4, 6, *shape, scale=1.5)}
    near(*run_both(plan_of(tmp_path, [{"op": "decode_yolo"} | HEADS[head]], given, FIXED), given, FRAME))


@pytest.mark.parametrize("keys", [{}, {"multi_label": False}, {"per_class": False}], ids=["each", "best", "agnostic"])
@pytest.mark.parametrize("count", [3, 40])
def test_suppression_is_opencv_s_class_by_class(tmp_path: Path, keys: dict[str, Any], count: int) -> None:
    """Crowded boxes; images of one batch do not see each other; what is missing is padding."""
    rng = np.random.default_rng(count)
    corners = rng.uniform(0, 60, (4, 80, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(4, 30, (4, 80, 2))], -1).astype(np.float32)
    scores = rng.uniform(0, 1, (4, 80, 3)).astype(np.float32)
    scores[2] *= 0.01  # nothing is found
    scores[3, 5:] *= 0.01
    given = {"b": boxes, "s": scores}
    steps = [
        {"op": "decode_boxes"},
        {"op": "non_max_suppression", "iou_threshold": 0.4, "score_threshold": 0.3, "max_detections": count}
        | {"labels": ["cat", "dog", "čížek"]}
        | keys,
    ]
    have, want = run_both(plan_of(tmp_path, steps, given, FIXED), given, FRAME)
    for name, value in want.items():
        np.testing.assert_array_equal(have[name], value, err_msg=name)
    counts = have["answer_count"]
    assert counts[0] == count or counts[0] > 8
    assert counts[2] == 0
    assert (have["answer_classes"][2] == -1).all()
    assert set(have["answer_labels"][2]) == {b""}


def test_suppression_of_equal_boxes_keeps_the_first_one_s_class(tmp_path: Path) -> None:
    """Class-agnostic: the op does not say which box it kept, and two are equal but for their class."""
    boxes = np.tile(np.float32([3, 3, 9, 9]), (1, 4, 1))
    scores = np.float32([[[0.1, 0.2, 0.3], [0.8, 0.1, 0.2], [0.1, 0.2, 0.8], [0.1, 0.7, 0.2]]])
    nms = {"op": "non_max_suppression", "iou_threshold": 0.5, "score_threshold": 0.1, "per_class": False}
    given = {"b": boxes, "s": scores}
    have, _ = run_both(plan_of(tmp_path, [{"op": "decode_boxes"}, nms], given, FIXED), given, FRAME)
    assert have["answer_count"] == [1]
    assert have["answer_classes"][0, 0] == 0


@pytest.mark.parametrize("form", ["xyxy", "cxcywh"])
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("rank", [2, 3])
def test_plain_boxes_go_back(tmp_path: Path, form: str, clip: bool, rank: int) -> None:
    """A model that gives one box, or several, without scores; in parts of its image."""
    boxes = (
        np.random.default_rng(0).uniform(-0.2, 1.2, (1, 5, 4)[3 - rank :] if rank == 3 else (1, 4)).astype(np.float32)
    )
    step = {"op": "restore_boxes", "format": form, "units": "relative", "clip": clip}
    frame = {"op": "letterbox", "size": [64, 96], "method": "linear", "like": "opencv"}
    image = {"channels": "RGB", "preprocess": [{"op": "crop", "top": 3, "left": -40}, frame]}
    have, want = run_both(plan_of(tmp_path, [step], {"b": boxes}, image), {"b": boxes}, FRAME)
    np.testing.assert_allclose(have["answer"], want["answer"], rtol=0, atol=1e-4)


def test_a_corner_of_the_frame_goes_to_the_corner_of_the_image(tmp_path: Path) -> None:
    """By hand: 100 × 50 in 64 × 64 is 64 × 32 with 16 columns on each side."""
    image = {
        "channels": "RGB",
        "preprocess": [{"op": "letterbox", "size": [64, 64], "method": "area", "like": "opencv"}],
    }
    boxes = np.float32([[[16, 0, 48, 64], [17, 1, 18, 2], [0, 0, 64, 64]]])
    plan = plan_of(tmp_path, [{"op": "restore_boxes"}], {"b": boxes}, image)
    have, _ = run_both(plan, {"b": boxes}, np.zeros((1, 100, 50, 3), np.uint8))
    want = [[0, 0, 50, 100], [1.5625, 1.5625, 3.125, 3.125], [0, 0, 50, 100]]
    np.testing.assert_allclose(have["answer"][0], want, atol=1e-5)


TABLE = normal(1, 9, 8)
WRONG: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "rank": ([{"op": "decode_boxes"}], {"t": normal(1, 9)}, r"takes floats of \[batch, boxes, numbers\]"),
    "columns": ([{"op": "decode_boxes", "boxes_at": 6}], {"t": TABLE}, "there are 8 columns"),
    "anchors": ([{"op": "decode_boxes", "anchors": [[1, 1, 1, 1]]}], {"t": TABLE}, "1 anchors, and the model gives 9"),
    "background": ([{"op": "decode_boxes", "background": 4}], {"t": TABLE}, "the background is class 4"),
    "levels": ([{"op": "decode_yolo", "head": "v8", "strides": [8, 16]}], {"t": normal(1, 2, 2, 66)}, "2 levels"),
    "channels": (
        [{"op": "decode_yolo", "head": "v3", "strides": [8], "anchors": [[[1, 1], [2, 2]]]}],
        {"t": normal(1, 2, 2, 15)},
        "do not make the 15 channels",
    ),
    "no scores": (
        [{"op": "non_max_suppression", "iou_threshold": 0.5, "score_threshold": 0.5}],
        {"t": TABLE},
        "takes boxes and the scores",
    ),
    "no boxes": ([{"op": "restore_boxes"}], {"t": TABLE}, "takes float boxes of 4 numbers"),
    "plain after parts": ([{"op": "decode_boxes"}, {"op": "softmax"}], {"t": TABLE}, "takes one tensor"),
    "joined without a step": ([{"op": "softmax"}], {"a": TABLE, "b": TABLE}, "one answer of them"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused(tmp_path: Path, case: str) -> None:
    steps, given, says = WRONG[case]
    with pytest.raises(SpecError, match=says) as caught:
        plan_of(tmp_path, steps, given, FIXED)
    assert caught.value.problems[0].pointer.startswith("/outputs/answer")


def test_a_step_that_loses_the_places_is_named(tmp_path: Path) -> None:
    image = {"channels": "GRAY", "shape": [None, 8, 8, 1], "preprocess": [{"op": "reshape", "shape": [4, 16]}]}
    with pytest.raises(SpecError, match='followed back through the "reshape" of "image"'):
        plan_of(tmp_path, [{"op": "restore_boxes"}], {"b": normal(1, 3, 4)}, image)
