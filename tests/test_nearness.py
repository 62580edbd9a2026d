"""What the gate forgives in answers that are no plain numbers, and what it does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pbcompile.nearness import detections_differ
from pbcompile.steps.detection import NonMaxSuppression

STEP = NonMaxSuppression(iou_threshold=0.5, score_threshold=0.3, max_detections=4)


def parts(*found: tuple[int, float, list[float]], places: int = 4) -> dict[str, Any]:
    """Detections (class, score, box) as the parts of one image, padded."""
    boxes, scores, classes = np.zeros((1, places, 4)), np.zeros((1, places)), np.full((1, places), -1)
    for place, (label, score, box) in enumerate(found):
        classes[0, place], scores[0, place], boxes[0, place] = label, score, box
    return {"boxes": boxes, "scores": scores, "classes": classes, "count": np.array([len(found)])}


CAT, DOG = (0, 0.9, [0.0, 0, 10, 10]), (1, 0.8, [20.0, 20, 40, 40])
CANDIDATES = {
    "boxes": np.array([[CAT[2], DOG[2], [0, 5, 10, 10], [0, 1, 10, 11], [60, 60, 70, 70], DOG[2], DOG[2]]]),
    "scores": np.array([[[0.9, 0], [0, 0.8], [0.8, 0], [0.9, 0], [0, 0.5], [0, 0.3], [0, 0.9]]]),
}
CANDIDATES["whole"] = CANDIDATES["boxes"]
SAME = {
    "nothing": (parts(), parts()),
    "a tenth of a pixel": (parts(CAT, DOG), parts(CAT, (1, 0.8, [20.05, 20, 40, 40]))),
    "equal scores in another order": (parts(CAT, (1, 0.9, [20, 20, 40, 40])), parts((1, 0.9, [20, 20, 40, 40]), CAT)),
    "a score at the threshold": (parts(CAT), parts(CAT, (1, 0.3000001, [20, 20, 40, 40]))),
    "an overlap at the limit": (parts(CAT, (0, 0.8, [0, 5, 10, 10])), parts(CAT)),  # 50 / 100
    "two that suppress each other": (parts(CAT), parts((0, 0.9, [0, 1, 10, 11]))),
    "the last of a full list": (
        parts(CAT, CAT, CAT, (1, 0.5, [20, 20, 40, 40])),
        parts(CAT, CAT, CAT, (1, 0.5, [60, 60, 70, 70])),
    ),
}
SAME["several at once"] = (
    parts(CAT, (0, 0.8, [0, 5, 10, 10])),
    parts((0, 0.9, [0, 1, 10, 11]), (1, 0.3000001, [20, 20, 40, 40])),
)
OTHER = {
    "a pixel off": (parts(CAT, DOG), parts(CAT, (1, 0.8, [21, 20, 40, 40]))),
    "another class": (parts(CAT), parts((1, 0.9, [0, 0, 10, 10]))),
    "another score": (parts(CAT), parts((0, 0.89, [0, 0, 10, 10]))),
    "one missing": (parts(CAT, DOG), parts(CAT)),
    "one too many": (parts(CAT), parts(CAT, DOG)),
    "one that overlaps and should be gone": (parts(CAT), parts(CAT, (0, 0.6, [0, 1, 10, 11]))),
    "the wrong order": (parts(CAT, DOG), parts(DOG, CAT)),
}


@pytest.mark.parametrize("case", SAME)
def test_near_ties_are_forgiven(case: str) -> None:
    assert detections_differ(STEP, CANDIDATES, *SAME[case], tolerance=1e-5) == ""


@pytest.mark.parametrize("case", OTHER)
def test_everything_else_is_another_answer(case: str) -> None:
    assert detections_differ(STEP, CANDIDATES, *OTHER[case], tolerance=1e-5) != ""


def test_padding_must_be_empty() -> None:
    got = parts(CAT)
    got["boxes"][0, 3] = 7
    assert "behind the count" in detections_differ(STEP, CANDIDATES, parts(CAT), got, tolerance=1e-5)
