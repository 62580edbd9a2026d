"""The figures of `verify`, against numbers worked out by hand or by SciPy's definitions."""

from __future__ import annotations

import numpy as np
import pytest

from pbcompile.measures import is_distribution, largest_divergence, least_overlap, sentences, top5_agreement


def test_the_divergence_is_kullback_leibler_s() -> None:
    p, q = np.array([[0.5, 0.5], [1.0, 0.0]], np.float32), np.array([[0.25, 0.75], [1.0, 0.0]], np.float32)
    wanted = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    assert largest_divergence([(p, p), (p, q)]) == pytest.approx(wanted)
    assert largest_divergence([(p, p)]) == 0.0


def test_a_class_that_the_artifact_thinks_impossible_costs_much_and_not_infinitely() -> None:
    found = largest_divergence([(np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]]))])
    assert found is not None
    assert 40 < found < 50  # 0.5 · ln(0.5 / 2^-126) less 0.5 · ln 2


@pytest.mark.parametrize(
    "rows", [[[0.2, 0.2]], [[1.5, -0.5]], [[np.nan, 1.0]], [[1.0]]], ids=["sum", "negative", "nan", "one_column"]
)
def test_what_is_no_distribution_has_no_divergence(rows: list[list[float]]) -> None:
    x = np.array(rows, np.float32)
    assert not is_distribution(x)
    assert largest_divergence([(x, x)]) is None


def test_the_five_largest_count_in_any_order() -> None:
    scores = np.array([[6.0, 5, 4, 3, 2, 1, 0]])
    assert top5_agreement([(scores, np.array([[2.0, 3, 4, 5, 6, 1, 0]]))]) == 1.0
    assert top5_agreement([(scores, scores), (scores, np.array([[6.0, 5, 4, 3, 1, 2, 0]]))]) == 0.5
    assert top5_agreement([(scores[:, :5], scores[:, :5])]) is None


def test_an_equal_score_at_the_edge_is_either_class() -> None:
    assert top5_agreement([(np.array([[9.0, 8, 7, 6, 1, 1]]), np.array([[9.0, 8, 7, 6, 0, 1]]))]) == 1.0


def test_overlap_of_masks_and_of_maps_of_classes() -> None:
    mask = np.zeros((1, 2, 4, 1), np.float32)
    mask[0, 0] = 0.9
    other = mask.copy()
    other[0, 0, 0] = 0.1
    assert least_overlap([(mask, mask), (mask, other)]) == 0.75
    classes = np.eye(3, dtype=np.float32)[np.array([[[0, 0], [1, 2]]])]
    changed = np.eye(3, dtype=np.float32)[np.array([[[0, 1], [1, 2]]])]
    assert least_overlap([(classes, changed)]) == 0.5
    assert least_overlap([(mask[:, :, :, 0], other[:, :, :, 0])]) is None


def test_nan_infinity_and_constant_outputs_are_said() -> None:
    good, other = np.array([[1.0, 2.0]]), np.array([[2.0, 1.0]])
    assert sentences("y", [(good, good), (other, other)]) == []
    bad = np.array([[np.nan, np.inf]])
    assert sentences("y", [(good, bad), (other, other)]) == [
        '1 of 4 values of the artifact\'s output "y" are NaN',
        '1 of 4 values of the artifact\'s output "y" are infinite',
    ]
    assert sentences("y", [(good, good), (other, good)]) == ['the artifact\'s output "y" is the same for all 2 samples']
