"""KerasHub's `image_converter.json`, and the `preprocess_input` functions of `keras.applications` by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pbcompile.start.imported import Imported, Step, numbers, pair, refuse, shortened

MODES = {
    "caffe": ("vgg16", "vgg19", "resnet", "resnet50", "resnet101", "resnet152"),
    "tf": ("mobilenet", "mobilenet_v2", "inception_v3", "inception_resnet_v2", "xception", "nasnet", "resnet_v2"),
    "torch": ("densenet",),
    "": ("efficientnet", "efficientnet_v2", "mobilenet_v3", "convnext", "regnet", "resnet_rs"),
}
"""Modules of `keras.applications` by the mode of their preprocess_input; the last ones leave the image as it is."""
MODE_OF = {module: mode for mode, modules in MODES.items() for module in modules}
METHODS = {"bilinear": "linear", "nearest": "nearest", "bicubic": "cubic", "lanczos3": "lanczos", "area": "area"}


def is_preprocess_input(text: str) -> bool:
    """Whether a text names a `preprocess_input`: `resnet50`, `keras.applications.resnet50.preprocess_input`, …"""
    return _module(text) is not None


def _module(text: str) -> str | None:
    """The module of `keras.applications` that a few words speak of: by its own name, or by that of a model in it."""
    words = [word.lower().replace("_", "") for word in re.findall(r"[A-Za-z]\w*", text)]
    if len(words) > 12:
        return None
    modules = {name.replace("_", ""): name for name in MODE_OF}
    for word in words:
        stem = re.sub(r"(preprocessinput|preprocess)$", "", word)
        version = re.sub(r"^resnet(50|101|152)v2$", "resnetv2", stem)
        for name in (stem, version, re.sub(r"(b\d|large|small|mobile|base|tiny|xlarge|[sml]|\d{2,3})$", "", stem)):
            if name in modules:
                return modules[name]
    return None


def from_preprocess_input(text: str) -> Imported:
    """One step, or none where the network holds its preprocessing itself."""
    module = _module(text)
    if module is None:
        raise refuse(
            f"{text!r:.60} names no preprocess_input of keras.applications", "known: " + ", ".join(sorted(MODE_OF))
        )
    mode = MODE_OF[module]
    steps: tuple[Step, ...] = ({"op": "keras_applications", "mode": mode},) if mode else ()
    return Imported(f"keras.applications.{module}.preprocess_input", steps, "RGB")


def is_image_converter(value: Mapping[str, Any]) -> bool:
    """Whether a JSON object is KerasHub's."""
    return "ImageConverter" in str(value.get("class_name", "")) or {"image_size", "scale"} <= value.keys()


def from_image_converter(value: Mapping[str, Any]) -> Imported:
    """`ImageConverter.call`: Keras's `Resizing`, then x · scale + offset."""
    config = value.get("config", value)
    dropped = []
    steps: list[Step] = []
    if config.get("data_format") not in (None, "channels_last"):
        dropped.append(f"data_format {config['data_format']}: the model's own layout decides")
    size = config.get("image_size")
    if size is not None:
        word = str(config.get("interpolation") or "bilinear")
        if word not in METHODS:
            raise refuse(f"the interpolation {word!r} is unknown here", "known: " + ", ".join(METHODS))
        method = {"method": METHODS[word], "like": "tensorflow"}
        wanted = pair(size, "image_size")
        antialias = bool(config.get("antialias"))
        if config.get("pad_to_aspect_ratio"):
            fill = config.get("fill_value", 0.0)
            steps.append({"op": "letterbox", "size": wanted, **method, "pad_first": True, "fill": fill})
        elif config.get("crop_to_aspect_ratio", True):
            steps.append({"op": "fit", "size": wanted, **method})
        else:
            steps.append({"op": "resize", "size": wanted, **method, **({"antialias": True} if antialias else {})})
        if antialias and steps[-1]["op"] != "resize":
            dropped.append("antialias: the steps that keep the ratio have none")
    scale, offset = config.get("scale"), config.get("offset")
    if scale is not None or offset is not None:
        factor = shortened(numbers(1.0 if scale is None else scale, "scale"))
        step: Step = {"op": "rescale", "scale": factor}
        if offset is not None:
            step["offset"] = shortened(numbers(offset, "offset"))
        steps.append(step)
    return Imported(
        f"KerasHub {value.get('class_name', 'image converter')}", tuple(steps), "RGB", "opencv", dropped=tuple(dropped)
    )
