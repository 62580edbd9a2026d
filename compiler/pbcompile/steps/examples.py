"""One example of each step: what it is written like, and what it does to a small picture or to a few scores."""

from __future__ import annotations

from typing import Any

PICTURES: dict[str, dict[str, Any]] = {
    "resize": {"size": [32, 32], "method": "linear", "like": "opencv"},
    "fit": {"size": [48, 48], "method": "lanczos", "like": "pillow"},
    "letterbox": {"size": [64, 64], "method": "linear", "like": "opencv"},
    "center_crop": {"size": [48, 48], "like": "pillow"},
    "crop": {"top": 8, "left": 16, "height": 40, "width": 64},
    "pad": {"top": 8, "bottom": 8, "left": 16, "right": 16, "mode": "reflect"},
    "flip": {"axis": "horizontal"},
    "rotate90": {"turns": 1},
    "blur": {"size": 7, "sigma": 2},
    "convert_color": {"to": "GRAY", "like": "opencv"},
    "cast": {"dtype": "float32"},
    "rescale": {"scale": 0.00784313725490196, "offset": -1.0},
    "subtract_mean": {"mean": [123.68, 116.779, 103.939]},
    "normalize": {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]},
    "standardize": {},
    "clip": {"min": 64, "max": 192},
    "round": {},
    "transpose": {"layout": "NCHW"},
    "reshape": {"shape": [-1]},
    "keras_applications": {"mode": "caffe"},
}
"""Keys of `preprocess` steps, shown on an RGB picture of 64×96."""

SCORES: dict[str, dict[str, Any]] = {
    "softmax": {},
    "sigmoid": {},
    "argmax": {},
    "top_k": {"k": 2, "labels": ["ant", "bee", "cat"]},
    "threshold": {"value": 0.5},
}
"""Keys of `postprocess` steps, shown on the scores 2, −1, 0.5."""


OTHERS: dict[str, dict[str, Any]] = {
    "color_map": {"colors": [[0, 0, 0], [128, 64, 128], [220, 20, 60]]},
    "encode": {"format": "png"},
    "decode_boxes": {"format": "cxcywh", "units": "relative", "objectness": True},
    "decode_yolo": {"head": "v8", "strides": [8, 16, 32]},
    "non_max_suppression": {"iou_threshold": 0.5, "score_threshold": 0.3, "max_detections": 100},
    "restore_boxes": {"format": "xyxy"},
    "python": {"function": "my_package.steps:sharpen", "reference": "my_package.reference:sharpen"},
}
"""Keys of the other steps, which go with whole detections, masks and code of one's own."""
RESIZE_OUTPUT = {"op": "resize", "to": "source", "method": "linear", "like": "opencv"}


def example_of(op: str) -> dict[str, Any]:
    """The step as it stands in a spec."""
    return {"op": op, **(PICTURES.get(op) or SCORES.get(op) or OTHERS.get(op) or {})}
