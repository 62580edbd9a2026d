"""What an importer of somebody else's preprocessing config gives back, and the little that all importers share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pbcompile.errors import Problem, SpecError

Step = dict[str, Any]

IMAGENET_MEAN = [0.485, 0.456, 0.406]
IMAGENET_STD = [0.229, 0.224, 0.225]


@dataclass(frozen=True)
class Imported:
    """Preprocessing as spec JSON.

    source:   what was read, as a person calls it.
    steps:    the `preprocess` list; without a resize where the config says none.
    channels: what the decoder makes, "" where the config does not say.
    like:     the library whose decoder is meant.
    labels:   class names, where the config has them.
    dropped:  what could not be carried over, one sentence each.
    """

    source: str
    steps: tuple[Step, ...]
    channels: str = ""
    like: str = "pillow"
    labels: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


def refuse(message: str, hint: str = "") -> SpecError:
    """A SpecError about the file or the words of `--from`."""
    return SpecError(Problem("import-invalid", message, hint=hint))


def numbers(value: object, what: str) -> list[float]:
    """One number or a list of them, as a list; SpecError for anything else."""
    items: list[Any] = list(value) if isinstance(value, (list, tuple)) else [value]
    if not items or any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in items):
        raise refuse(f"{what} must be a number or a list of numbers, and is {value!r:.60}")
    return [float(v) for v in items]


def pair(value: object, what: str) -> list[int]:
    """[height, width] of one number, of a list, or of {"height", "width"}; SpecError for anything else."""
    if isinstance(value, Mapping) and {"height", "width"} <= value.keys():
        value = [value["height"], value["width"]]
    if isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    items = list(value) if isinstance(value, (list, tuple)) else [value, value]
    whole = [int(v) for v in items if isinstance(v, (int, float)) and not isinstance(v, bool) and v == int(v) and v > 0]
    if len(whole) != 2 or len(items) != 2:
        raise refuse(f"{what} must be a size, and is {value!r:.60}")
    return whole


def shortened(values: list[float]) -> float | list[float]:
    """One number where all are equal."""
    return values[0] if len(set(values)) == 1 else values


def normalize(mean: list[float], std: list[float]) -> Step:
    """(x − mean) / std."""
    if min(std) <= 0:
        raise refuse(f"a standard deviation must be above zero, and here is {min(std)}")
    return {"op": "normalize", "mean": shortened(mean), "std": shortened(std)}
