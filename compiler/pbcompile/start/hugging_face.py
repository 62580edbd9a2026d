"""Hugging Face `preprocessor_config.json`: resize, crop, rescale, normalize in the order of its image processors.

The defaults of keys that a config leaves out are those of the class that it names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pbcompile.start.imported import IMAGENET_MEAN, IMAGENET_STD, Imported, Step, normalize, numbers, pair, refuse

HALF = [0.5, 0.5, 0.5]
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
METHODS = {0: "nearest", 1: "lanczos", 2: "linear", 3: "cubic", 4: "box", 5: "hamming"}
"""Codes of `PIL.Image.Resampling`."""
METHOD_NAMES = {"bilinear": "linear", "bicubic": "cubic"}


def _defaults(
    size: Any, resample: int, crop: int | None = None, stats: tuple[list[float], list[float]] | None = (HALF, HALF)
) -> dict[str, Any]:
    said: dict[str, Any] = {"size": size, "resample": resample, "do_center_crop": crop is not None}
    if crop is not None:
        said["crop_size"] = crop
    if stats is None:
        return {**said, "do_normalize": False}
    return {**said, "image_mean": stats[0], "image_std": stats[1]}


_IMAGENET = (IMAGENET_MEAN, IMAGENET_STD)
_CLIP = (CLIP_MEAN, CLIP_STD)
CLASSES: dict[str, dict[str, Any]] = {
    "ViT": _defaults({"height": 224, "width": 224}, 2),
    "CLIP": _defaults({"shortest_edge": 224}, 3, 224, _CLIP),
    "ConvNext": _defaults({"shortest_edge": 384}, 2),
    "EfficientNet": _defaults({"height": 346, "width": 346}, 0) | {"crop_size": 289, "include_top": True},
    "MobileNetV1": _defaults({"shortest_edge": 256}, 2, 224),
    "MobileNetV2": _defaults({"shortest_edge": 256}, 2, 224),
    "Beit": _defaults({"height": 256, "width": 256}, 3, 224),
    "Bit": _defaults({"shortest_edge": 224}, 3, 224, _CLIP),
    "Segformer": _defaults({"height": 512, "width": 512}, 2, None, _IMAGENET),
    "DeiT": _defaults({"height": 256, "width": 256}, 3, 224),
    "Levit": _defaults({"shortest_edge": 224}, 3, 224, _IMAGENET),
    "PoolFormer": _defaults({"shortest_edge": 224}, 3, 224, _IMAGENET) | {"crop_pct": 0.9},
    "MobileViT": _defaults({"shortest_edge": 224}, 2, 256, None) | {"do_flip_channel_order": True},
    "Siglip": _defaults({"height": 224, "width": 224}, 3),
    "Blip": _defaults({"height": 384, "width": 384}, 3, None, _CLIP),
    "DPT": _defaults({"height": 384, "width": 384}, 3),
    "Flava": _defaults({"height": 224, "width": 224}, 3, 224, _CLIP),
}
"""Defaults of the image processors of transformers 4.57, by the name of their model."""
SHORTEST_EDGE = ("CLIP", "ConvNext", "MobileNetV1", "MobileNetV2", "Bit", "Levit", "PoolFormer", "MobileViT")
"""Processors that read a size of one number as the shorter side."""
ENDS = ("ImageProcessorFast", "ImageProcessorPil", "ImageProcessor", "FeatureExtractor")
UNDERSTOOD = frozenset(
    [
        "size",
        "resample",
        "crop_size",
        "crop_pct",
        "do_resize",
        "do_center_crop",
        "do_rescale",
        "rescale_factor",
        "rescale_offset",
        "do_normalize",
        "image_mean",
        "image_std",
        "include_top",
        "do_flip_channel_order",
        "do_convert_rgb",
        "image_processor_type",
        "feature_extractor_type",
        "processor_class",
        "data_format",
        "input_data_format",
        "return_tensors",
        "default_to_square",
        "device",
        "disable_grouping",
        "_valid_processor_keys",
        "_processor_class",
        "do_reduce_labels",
        "reduce_labels",
        "auto_map",
        "interpolation",
        "antialias",
        "max_size",
        "do_pad",
    ]
)


def is_hugging_face(value: Mapping[str, Any]) -> bool:
    """Whether a JSON object is a preprocessor config."""
    return bool({"image_processor_type", "feature_extractor_type"} & value.keys()) or (
        "do_normalize" in value and "image_mean" in value
    )


def from_hugging_face(value: Mapping[str, Any]) -> Imported:
    """The steps of one config.  Raises SpecError for keys without a meaning here."""
    if isinstance(value.get("image_processor"), Mapping):
        value = value["image_processor"]
    named = str(value.get("image_processor_type") or value.get("feature_extractor_type") or "")
    kind = next((named.removesuffix(end) for end in ENDS if named.endswith(end)), named)
    dropped = []
    if kind and kind not in CLASSES:
        dropped.append(f"{named} is a processor whose defaults are not known here; only keys that are written count")
    config = {**CLASSES.get(kind, {"resample": 2, "do_resize": "size" in value}), **value}
    steps: list[Step] = []
    if config.get("do_resize", True):
        steps += _resize(config, kind)
    if config.get("do_center_crop"):
        steps += _crop(pair(config.get("crop_size", config.get("size")), "crop_size"))
    channels = "RGB"
    if config.get("do_flip_channel_order"):
        steps.append({"op": "convert_color", "to": "BGR"})
    factor = numbers(config.get("rescale_factor", 1 / 255), "rescale_factor")[0]
    if config.get("do_rescale", True):
        offset = {"offset": -1.0} if config.get("rescale_offset") else {}
        steps.append({"op": "rescale", "scale": factor, **offset})
    if config.get("do_normalize", True) and "image_mean" in config:
        mean = numbers(config["image_mean"], "image_mean")
        std = numbers(config.get("image_std", [1.0]), "image_std")
        if len(mean) == 1 and len(std) == 1 and config.get("image_mode") == "L":
            channels = "GRAY"
        steps.append(normalize(mean, std))
        if kind == "EfficientNet" and config.get("include_top"):
            steps.append(normalize([0.0], std))  # its classifier was trained on images normalized twice
    if config.get("do_pad") and kind not in ("DPT",):
        dropped.append(
            "do_pad: images of a batch are padded to the largest one, which a graph of one image has no need of"
        )
    if config.get("do_reduce_labels") or config.get("reduce_labels"):
        dropped.append("do_reduce_labels: it changes the labels of training, not the image")
    unknown = sorted(k for k in value if k not in UNDERSTOOD and value[k] not in (None, False))
    dropped += [f"{key}: {value[key]!r:.60} has no meaning here" for key in unknown]
    return Imported(f"Hugging Face {named or 'preprocessor config'}", tuple(steps), channels, dropped=tuple(dropped))


def _resize(config: Mapping[str, Any], kind: str) -> list[Step]:
    code = config.get("resample", config.get("interpolation", 2))
    method = METHODS.get(code) if isinstance(code, int) else METHOD_NAMES.get(str(code).lower(), str(code).lower())
    if method not in METHODS.values():
        raise refuse(f"resample {code!r} is no code of PIL.Image.Resampling, which are 0 to 5")
    with_pixels = {"method": method, "like": "pillow"}
    size = config.get("size")
    if isinstance(size, int):
        size = (
            {"shortest_edge": size}
            if kind in SHORTEST_EDGE or config.get("default_to_square") is False
            else pair(size, "size")
        )
    if isinstance(size, Mapping) and "shortest_edge" in size:
        side = int(pair(size["shortest_edge"], "shortest_edge")[0])
        if size.get("longest_edge"):
            raise refuse(
                "a shortest_edge with a longest_edge limits both sides, for which there is no step",
                'write the size that your images get: {"height": ..., "width": ...}',
            )
        if kind == "ConvNext":
            if side >= 384:
                return [{"op": "resize", "size": [side, side], **with_pixels}]
            larger = int(side / config.get("crop_pct", 224 / 256))
            return [{"op": "resize", "shorter_side": larger, **with_pixels}, *_crop([side, side])]
        if kind == "PoolFormer" and config.get("crop_pct"):
            side = int(side / config["crop_pct"])
        if kind == "Levit":
            side = int(256 / 224 * side)
        return [{"op": "resize", "shorter_side": side, **with_pixels}]
    if isinstance(size, Mapping) and "longest_edge" in size:
        return [{"op": "resize", "longer_side": pair(size["longest_edge"], "longest_edge")[0], **with_pixels}]
    wanted = pair(size, "size")
    if kind == "PoolFormer" and config.get("crop_pct"):
        if wanted[0] != wanted[1]:
            sizes = [int(v / config["crop_pct"]) for v in wanted]
            return [{"op": "resize", "size": sizes, **with_pixels}]
        return [{"op": "resize", "shorter_side": int(wanted[0] / config["crop_pct"]), **with_pixels}]
    return [{"op": "resize", "size": wanted, **with_pixels}]


def _crop(size: list[int]) -> list[Step]:
    """transformers puts the odd pixel as (H − h) // 2 does, in the fast processors too."""
    return [{"op": "center_crop", "size": size, "like": "opencv"}]
