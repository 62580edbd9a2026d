"""How far one output of a program is from another's, in the figures that people decide by.  Pure NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Pairs = Sequence[tuple[Array, Array]]
"""(the original's, the artifact's) for each sample, of one shape each."""

SUM_TO_ONE = 1e-3
"""Rows of a float16 softmax miss one by less than this."""


def is_distribution(x: Array) -> bool:
    """Whether every row of a float [N, classes] is a probability distribution."""
    if x.ndim != 2 or x.shape[1] < 2 or not np.isfinite(x).all():
        return False
    return bool((x >= 0).all() and (np.abs(x.astype(np.float64).sum(axis=1) - 1) <= SUM_TO_ONE).all())


def largest_divergence(pairs: Pairs) -> float | None:
    """The largest Kullback-Leibler divergence of a row, in nats, from the original; None for no distributions."""
    if not all(is_distribution(one) and is_distribution(other) for one, other in pairs):
        return None
    tiny = float(np.finfo(np.float32).tiny)  # what underflowed to zero is at most this
    found = 0.0
    for wanted, got in pairs:
        p, q = (x.astype(np.float64) / x.astype(np.float64).sum(axis=1, keepdims=True) for x in (wanted, got))
        terms = np.where(p > 0, p * (np.log(np.maximum(p, tiny)) - np.log(np.maximum(q, tiny))), 0.0)
        found = max(found, float(terms.sum(axis=1).max(initial=0.0)))
    return found


def top5_agreement(pairs: Pairs) -> float | None:
    """The share of rows whose five largest are the same classes, in any order; None for fewer than six classes.

    An equal score at the edge of the five counts for either class.
    """
    if pairs[0][0].ndim != 2 or pairs[0][0].shape[1] < 6:
        return None
    same = []
    for wanted, got in pairs:
        edge = np.sort(wanted, axis=1)[:, -5]
        chosen = np.argsort(-got, axis=1, kind="stable")[:, :5]
        same.append((np.take_along_axis(wanted, chosen, axis=1) >= edge[:, None]).all(axis=1))
    return float(np.mean(np.concatenate(same)))


def least_overlap(pairs: Pairs) -> float | None:
    """The smallest intersection over union of a class's mask in a sample; None for what is no [N, H, W, C] map.

    One channel: what lies above the middle of the values that the original gives, 0.5 where they lie in 0..1.
    Several: the class of a pixel is its largest channel.
    """
    first = pairs[0][0]
    if first.ndim != 4 or min(first.shape[1:3]) < 2:
        return None
    least = 1.0
    low, high = (float(end(wanted)) for end, wanted in ((np.min, first), (np.max, first)))
    middle = 0.5 if 0 <= low <= high <= 1 else (low + high) / 2
    for wanted, got in pairs:
        if first.shape[3] == 1:
            masks = [(wanted > middle, got > middle)]
        else:
            one, other = wanted.argmax(axis=3), got.argmax(axis=3)
            masks = [(one == label, other == label) for label in np.union1d(one, other)]
        for a, b in masks:
            union = int(np.sum(a | b))
            least = min(least, float(np.sum(a & b)) / union if union else 1.0)
    return least


def sentences(name: str, pairs: Pairs) -> list[str]:
    """NaN, infinities and values that do not depend on the input, each with whose they are."""
    said = []
    for who, index in (("the original", 0), ("the artifact", 1)):
        values = [pair[index] for pair in pairs]
        if values[0].dtype.kind != "f":
            continue
        for word, test in (("NaN", np.isnan), ("infinite", np.isinf)):
            count, total = sum(int(test(value).sum()) for value in values), sum(value.size for value in values)
            if count:
                said.append(f'{count} of {total} values of {who}\'s output "{name}" are {word}')
        same = all(value.shape == values[0].shape and np.array_equal(value, values[0]) for value in values[1:])
        if len(values) > 1 and same and np.isfinite(values[0]).all():
            said.append(f'{who}\'s output "{name}" is the same for all {len(values)} samples')
    return said
