"""Every step done by the real library: cv2, PIL, NumPy, Keras.

Nothing here shares code with the steps' `emit`, so that one misunderstanding cannot stand on both sides.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pbcompile.reference import colour, detection, framing, geometry, own, pictures, resampling, smoothing, values
from pbcompile.reference.places import Seen
from pbcompile.steps.base import PartsStep, Step
from pbcompile.steps.detection import DecodeBoxes, DecodeYolo, NonMaxSuppression, RestoreBoxes
from pbcompile.steps.pictures import ResizeOutput
from pbcompile.steps.postprocess import TopK
from pbcompile.tensor_type import TensorType

REFERENCE: dict[type[Step], Callable[[Any, np.ndarray[Any, Any], TensorType], np.ndarray[Any, Any]]] = {
    **geometry.REFERENCE,
    **resampling.REFERENCE,
    **framing.REFERENCE,
    **smoothing.REFERENCE,
    **colour.REFERENCE,
    **values.REFERENCE,
    **pictures.REFERENCE,
    **own.REFERENCE,
}
"""The reference of each step, on the batched array that `emit` would get."""

PARTS_REFERENCE: dict[type[PartsStep], Callable[[Any, Mapping[str, Any], Sequence[Seen]], dict[str, Any]]] = {
    TopK: values.top_k,
    ResizeOutput: pictures.resize_output,
    DecodeBoxes: detection.decode_boxes,
    DecodeYolo: detection.decode_yolo,
    NonMaxSuppression: detection.non_max_suppression,
    RestoreBoxes: detection.restore_boxes,
}
"""The reference of each step that takes or gives several tensors, or looks at the images that were fed."""

__all__ = ["PARTS_REFERENCE", "REFERENCE"]
