"""The steps of a spec, one family a file.  `STEPS` and `POST_STEPS` are the explicit lists of what exists."""

from pbcompile.steps.base import Step
from pbcompile.steps.colour import ConvertColor
from pbcompile.steps.detection import DecodeBoxes, DecodeYolo, NonMaxSuppression, RestoreBoxes
from pbcompile.steps.framing import Fit, Letterbox
from pbcompile.steps.geometry import CenterCrop, Crop, Flip, Pad, Rotate90
from pbcompile.steps.normalisation import KerasApplications, Normalize, Rescale, Standardize, SubtractMean
from pbcompile.steps.own import Python
from pbcompile.steps.pictures import ColorMap, Encode, ResizeOutput
from pbcompile.steps.postprocess import Argmax, Sigmoid, Softmax, Threshold, TopK
from pbcompile.steps.resampling import Resize
from pbcompile.steps.smoothing import Blur
from pbcompile.steps.values import Cast, Clip, Reshape, Round, Transpose

STEPS: tuple[type[Step], ...] = (
    Resize,
    Fit,
    Letterbox,
    CenterCrop,
    Crop,
    Pad,
    Flip,
    Rotate90,
    Blur,
    ConvertColor,
    Cast,
    Rescale,
    SubtractMean,
    Normalize,
    Standardize,
    Clip,
    Round,
    Transpose,
    Reshape,
    KerasApplications,
    Python,
)
"""Every step that `preprocess` may name."""

POST_STEPS: tuple[type[Step], ...] = (
    Softmax,
    Sigmoid,
    Argmax,
    TopK,
    Threshold,
    Rescale,
    Clip,
    Round,
    Cast,
    Transpose,
    Reshape,
    ResizeOutput,
    ColorMap,
    Encode,
    DecodeBoxes,
    DecodeYolo,
    NonMaxSuppression,
    RestoreBoxes,
    Python,
)
"""Every step that `postprocess` may name."""

__all__ = ["POST_STEPS", "STEPS", "Step"]
