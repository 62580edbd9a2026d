"""Every step done by the real library: cv2, PIL, NumPy, Keras.

Nothing here shares code with the steps' `emit`, so that one misunderstanding cannot stand on both sides.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from pbcompile.reference import colour, framing, geometry, resampling, smoothing, values
from pbcompile.steps.base import Step
from pbcompile.tensor_type import TensorType

REFERENCE: dict[type[Step], Callable[[Any, np.ndarray[Any, Any], TensorType], np.ndarray[Any, Any]]] = {
    **geometry.REFERENCE,
    **resampling.REFERENCE,
    **framing.REFERENCE,
    **smoothing.REFERENCE,
    **colour.REFERENCE,
    **values.REFERENCE,
}
"""The reference of each step, on the batched array that `emit` would get."""

__all__ = ["REFERENCE"]
