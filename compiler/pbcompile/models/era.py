"""Which Keras wrote a file: what was true then decides what a missing argument means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Era:
    """The writer of a file.

    version: (major, minor) of Keras.
    tf:      whether it was the Keras inside TensorFlow ("2.2.4-tf", and everything from 2.4 on).
    backend: "tensorflow", "theano", "cntk", or "" where the file does not say.
    """

    version: tuple[int, int]
    tf: bool
    backend: str

    @property
    def keras1(self) -> bool:
        return self.version < (2, 0)

    @property
    def keras3(self) -> bool:
        return self.version >= (3, 0)


def era_of(keras_version: str, backend: str, config: Mapping[str, Any]) -> Era:
    """The era of a file, from its version string, else from the words its config uses."""
    match = re.match(r"(\d+)\.(\d+)", keras_version)
    if match:
        version = int(match[1]), int(match[2])
    else:
        version = _guessed(config)
    return Era(version, "-tf" in keras_version or version >= (2, 4), backend)


def _guessed(config: object) -> tuple[int, int]:
    """Keras 1 wrote `border_mode`, `nb_filter`, `output_dim`; Keras 3 writes `module`; the rest is Keras 2."""
    keys: set[str] = set()
    level = [config]
    while level:
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                keys |= item.keys()
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        level = below
    if keys & {"border_mode", "nb_filter", "dim_ordering", "nb_row", "W_regularizer", "inner_activation"}:
        return 1, 2
    if keys & {"registered_name", "batch_shape"}:
        return 3, 0
    return 2, 2
