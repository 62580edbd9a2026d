"""Which Keras wrote a file: what was true then decides what a missing argument means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Era:
    """The writer of a file.

    version: (major, minor, patch) of Keras; (1, 0, 0) where the file does not say and uses the words of Keras 1.
    tf:      whether it was the Keras inside TensorFlow ("2.2.4-tf", and everything from 2.4 on).
    backend: "tensorflow", "theano", "cntk", or "" where the file does not say.
    data_format: what a layer without `data_format` has: that of the others in the file.
    """

    version: tuple[int, int, int]
    tf: bool
    backend: str
    data_format: str = "channels_last"

    @property
    def keras1(self) -> bool:
        """Keras 1.0 to 1.2."""
        return self.version < (2, 0)

    @property
    def keras3(self) -> bool:
        """Keras 3."""
        return self.version >= (3, 0)


def era_of(keras_version: str, backend: str, config: Mapping[str, Any]) -> Era:
    """The era of a file, from its version string, else from the words its config uses."""
    keys, first = _words(config)
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", keras_version)
    version = (int(match[1]), int(match[2]), int(match[3] or 0)) if match else _guessed(keys)
    data_format = "channels_first" if first else "channels_last"
    return Era(version, "-tf" in keras_version or version >= (2, 4), backend, data_format)


def _words(config: object) -> tuple[set[str], bool]:
    """Every key in the config, and whether its layers say that channels come first."""
    keys: set[str] = set()
    first = False
    level = [config]
    while level:
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                keys |= item.keys()
                first = first or item.get("dim_ordering") == "th" or item.get("data_format") == "channels_first"
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        level = below
    return keys, first


def _guessed(keys: set[str]) -> tuple[int, int, int]:
    """Keras 1 wrote `border_mode`, `nb_filter`, `output_dim`; Keras 3 writes `registered_name`; the rest is Keras 2."""
    if keys & {"border_mode", "nb_filter", "dim_ordering", "nb_row", "W_regularizer", "inner_activation"}:
        return 1, 0, 0
    if keys & {"registered_name", "batch_shape"}:
        return 3, 0, 0
    return 2, 2, 0
