"""timm's `pretrained_cfg` and the printed transforms of torchvision: Resize, CenterCrop, ToTensor, Normalize."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping
from typing import Any

from pbcompile.start.imported import IMAGENET_MEAN, IMAGENET_STD, Imported, Step, normalize, numbers, pair, refuse

METHODS = {"bilinear": "linear", "bicubic": "cubic", "lanczos": "lanczos", "nearest": "nearest", "box": "box",
           "hamming": "hamming", "nearest-exact": "nearest", "nearest_exact": "nearest"}  # fmt: skip
UNIT: Step = {"op": "rescale", "scale": 1 / 255}
WITHOUT_EFFECT = (
    "PILToTensor",
    "ToImage",
    "ToPILImage",
    "ToPureTensor",
    "Identity",
    "MaybePILToTensor",
    "MaybeToTensor",
)


def is_timm(value: Mapping[str, Any]) -> bool:
    """Whether a JSON object is a `config.json` of timm, or the `pretrained_cfg` in one."""
    config = value.get("pretrained_cfg", value)
    return isinstance(config, Mapping) and bool(
        {"input_size", "interpolation"} <= config.keys() or "crop_pct" in config
    )


def from_timm(value: Mapping[str, Any]) -> Imported:
    """`timm.data.create_transform(**resolve_data_config(cfg))`: what timm evaluates with."""
    config = value.get("pretrained_cfg", value)
    channels_first = config.get("input_size", [3, 224, 224])
    if not isinstance(channels_first, list) or len(channels_first) != 3:
        raise refuse(f"input_size must be [channels, height, width], and is {channels_first!r:.60}")
    size = pair(channels_first[1:], "input_size")
    method = _method(config.get("interpolation", "bilinear"))
    with_pixels = {"method": method, "like": "pillow"}
    part = numbers(config.get("crop_pct", 0.875), "crop_pct")[0]
    mode = config.get("crop_mode", "center")
    larger = [math.floor(side / part) for side in size]
    crop: Step = {"op": "center_crop", "size": size, "like": "pillow"}
    if mode == "squash":
        steps: list[Step] = [{"op": "resize", "size": larger, **with_pixels}]
    elif mode == "center" and larger[0] == larger[1]:
        steps = [{"op": "resize", "shorter_side": larger[0], **with_pixels}]
    else:
        raise refuse(
            f"crop_mode {mode!r} at {size[0]}x{size[1]} keeps the ratio as only timm does, and there is no step for it",
            'write the steps yourself, or use crop_mode "squash"',
        )
    if size != larger or mode == "center":
        steps.append(crop)
    mean, std = config.get("mean", IMAGENET_MEAN), config.get("std", IMAGENET_STD)
    steps += [UNIT, normalize(numbers(mean, "mean"), numbers(std, "std"))]
    dropped = []
    test = config.get("test_input_size")
    if test and test != channels_first:
        dropped.append(f"test_input_size {test}: timm uses it only when asked (use_test_size); the spec has input_size")
    labels = value.get("label_names") or config.get("label_names") or ()
    channels = "GRAY" if channels_first[0] == 1 else "RGB"
    name = value.get("architecture") or config.get("architecture") or "config"
    return Imported(f"timm {name}", tuple(steps), channels, labels=tuple(labels), dropped=tuple(dropped))


def _method(word: object) -> str:
    name = str(word).rpartition(".")[2].strip("'\" ").lower()
    if name not in METHODS:
        raise refuse(f"the interpolation {word!r} is unknown here", "known: " + ", ".join(METHODS))
    return METHODS[name]


def is_torchvision(text: str) -> bool:
    """Whether a text is a printed transform."""
    return bool(
        re.match(r"\s*(Compose|ImageClassification|SemanticSegmentation|Sequential|Resize|ToTensor)\s*\(", text)
    )


def from_torchvision(text: str) -> Imported:
    """The steps of `print(transform)`: a Compose, or the preset of `weights.transforms()`."""
    calls = list(_calls(text))
    steps: list[Step] = []
    dropped: list[str] = []
    channels = "RGB"
    for name, arguments in calls:
        if name in ("ImageClassification", "SemanticSegmentation"):
            steps += _preset(name, arguments)
        elif name == "Resize":
            steps += _resized(arguments)
        elif name == "CenterCrop":
            steps.append({"op": "center_crop", "size": pair(arguments.get("size"), "size"), "like": "pillow"})
        elif name == "Grayscale":
            steps.append({"op": "convert_color", "to": "GRAY", "like": "pillow"})
            if arguments.get("num_output_channels") == 3:
                steps.append({"op": "convert_color", "to": "RGB"})
        elif name == "Pad":
            steps.append(_padded(arguments))
        elif (
            name == "ToTensor" or (name == "ToDtype" and arguments.get("scale") is True) or name == "ConvertImageDtype"
        ):
            steps.append(UNIT)
        elif name == "Normalize":
            mean, std = numbers(arguments.get("mean"), "mean"), numbers(arguments.get("std"), "std")
            steps.append(normalize(mean, std))
        elif name.startswith(("Random", "ColorJitter", "AutoAugment", "TrivialAugment", "RandAugment", "AugMix")):
            raise refuse(f"{name} is chance, for training; give the transform of evaluation")
        elif name not in WITHOUT_EFFECT:
            dropped.append(f"{name} has no step here")
    if not calls:
        raise refuse("there is no transform of torchvision in it")
    return Imported("torchvision transforms", tuple(steps), channels, dropped=tuple(dropped))


def _preset(name: str, arguments: Mapping[str, Any]) -> list[Step]:
    default = 256 if name == "ImageClassification" else 520
    resized = _resized({"size": arguments.get("resize_size", [default]), **arguments})
    cropped: list[Step] = []
    if name == "ImageClassification":
        cropped = [
            {"op": "center_crop", "size": pair(arguments.get("crop_size", [224]), "crop_size"), "like": "pillow"}
        ]
    mean, std = arguments.get("mean", IMAGENET_MEAN), arguments.get("std", IMAGENET_STD)
    return [*resized, *cropped, UNIT, normalize(numbers(mean, "mean"), numbers(std, "std"))]


def _resized(arguments: Mapping[str, Any]) -> list[Step]:
    size, method = arguments.get("size"), _method(arguments.get("interpolation", "bilinear"))
    if arguments.get("max_size") is not None:
        raise refuse("Resize with a max_size limits both sides, for which there is no step")
    if isinstance(size, (list, tuple)) and len(size) == 2:
        return [{"op": "resize", "size": pair(size, "size"), "method": method, "like": "pillow"}]
    return [{"op": "resize", "shorter_side": pair(size, "size")[0], "method": method, "like": "pillow"}]


def _padded(arguments: Mapping[str, Any]) -> Step:
    modes = {"constant": "constant", "edge": "edge", "reflect": "reflect", "symmetric": "symmetric"}
    value = arguments.get("padding", 0)
    sides = list(value) if isinstance(value, (list, tuple)) else [value]
    left, top, right, bottom = {1: sides * 4, 2: sides * 2, 4: sides}.get(len(sides), [0] * 4)
    step: Step = {"op": "pad", "top": top, "bottom": bottom, "left": left, "right": right}
    mode = modes.get(str(arguments.get("padding_mode", "constant")), "constant")
    return {**step, "mode": mode, **({"value": arguments.get("fill", 0)} if mode == "constant" else {})}


def _calls(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Names with arguments of each innermost call of a repr, in order: `Resize(size=256, interpolation=bilinear)`."""
    found: list[tuple[str, dict[str, Any]]] = []
    position = 0
    start = re.compile(r"([A-Za-z_][\w]*)\s*\(")
    while match := start.search(text, position):
        name, begin = match.group(1), match.end()
        if name in ("Compose", "Sequential"):
            position = begin
            continue
        depth, end = 1, begin
        while end < len(text) and depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        if depth:
            raise refuse(f"the brackets of {name} are not closed")
        found.append((name, _arguments(name, text[begin : end - 1])))
        position = end
    return found


POSITIONAL = {"Resize": ("size", "interpolation"), "CenterCrop": ("size",), "Normalize": ("mean", "std"),
              "Grayscale": ("num_output_channels",), "Pad": ("padding", "fill", "padding_mode")}  # fmt: skip


def _arguments(name: str, text: str) -> dict[str, Any]:
    parts, depth, word = [], 0, ""
    for sign in text.replace("\n", ",") if "=" in text and "\n" in text else text:
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(sign, 0)
        if sign == "," and depth == 0:
            parts.append(word)
            word = ""
        else:
            word += sign
    arguments: dict[str, Any] = {}
    places = iter(POSITIONAL.get(name, ()))
    for part in (p.strip() for p in [*parts, word] if p.strip()):
        key, equals, value = part.partition("=")
        if not equals:
            key, value = next(places, ""), part
        if not key:
            continue
        try:
            arguments[key.strip()] = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            arguments[key.strip()] = value.strip()
    return arguments
