"""Preprocessing that was written down for another runtime: OpenVINO's arguments, TFLite's metadata."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from pbcompile.start.imported import Imported, Step, normalize, numbers, refuse

OPTIONS = ("mean_values", "scale_values", "scale", "reverse_input_channels")


def is_openvino(text: str) -> bool:
    """Whether a text holds arguments of `mo` or `convert_model`."""
    return bool(re.search(r"--?(mean_values|scale_values|scale|reverse_input_channels)\b", text))


def from_openvino(text: str) -> Imported:
    """`--reverse_input_channels`, then `--mean_values`, then `--scale_values`: the order in which OpenVINO has them.

    Mean and scale are in the order of the channels that the network takes.
    """
    mean, std, reverse = [0.0], [1.0], False
    dropped = []
    words = shlex.split(text.replace("\\\n", " "))
    index = 0
    while index < len(words):
        key, equals, value = words[index].lstrip("-").partition("=")
        index += 1
        if not words[index - 1].startswith("-"):
            continue
        if not equals and key != "reverse_input_channels" and index < len(words) and not words[index].startswith("--"):
            value = words[index]
            index += 1
        if key == "mean_values":
            mean = _values(value, key)
        elif key in ("scale_values", "scale", "s"):
            std = _values(value, key)
        elif key == "reverse_input_channels":
            reverse = value.lower() not in ("false", "0")
        else:
            dropped.append(f"--{key} {value}".strip() + ": not about the pixels, or not known here")
    steps: list[Step] = [{"op": "convert_color", "to": "RGB"}] if reverse else []
    if any(mean) or set(std) != {1.0}:
        steps.append(normalize(mean, std))
    channels = "BGR" if reverse else ""
    if not reverse:
        dropped.append("the arguments do not say which channels the network takes; OpenVINO samples feed BGR")
    return Imported("OpenVINO arguments", tuple(steps), channels, "opencv", dropped=tuple(dropped))


def _values(text: str, key: str) -> list[float]:
    groups = re.findall(r"[\[(]([^\])]*)[\])]", text) or [text]
    if len(groups) > 1:
        raise refuse(
            f"--{key} speaks of {len(groups)} inputs", "give the arguments of one input, and write the others by hand"
        )
    try:
        found = [float(word) for word in re.split(r"[\s,]+", groups[0].strip()) if word]
    except ValueError:
        raise refuse(f"--{key} must be numbers, and is {text!r:.60}") from None
    return numbers(found, f"--{key}")


def is_tflite(value: Mapping[str, Any]) -> bool:
    """Whether a JSON object is the metadata of a TFLite model."""
    return "subgraph_metadata" in value


def from_tflite(value: Mapping[str, Any]) -> Imported:
    """(x − mean) / std of the first input; the colour space; the name of the label file."""
    graphs = value.get("subgraph_metadata") or [{}]
    inputs = graphs[0].get("input_tensor_metadata") or []
    if not inputs:
        raise refuse("the metadata describes no input")
    dropped = [f"input {item.get('name', '?')}: only the first input is read" for item in inputs[1:]]
    steps: list[Step] = []
    for unit in inputs[0].get("process_units") or []:
        options = unit.get("options") or {}
        if unit.get("options_type") == "NormalizationOptions":
            mean, std = numbers(options.get("mean", 0.0), "mean"), numbers(options.get("std", 1.0), "std")
            if any(mean) or set(std) != {1.0}:
                steps.append(normalize(mean, std))
        else:
            dropped.append(f"{unit.get('options_type', 'a process unit')} has no step here")
    content = (inputs[0].get("content") or {}).get("content_properties") or {}
    channels = {"RGB": "RGB", "GRAYSCALE": "GRAY"}.get(str(content.get("color_space", "RGB")).upper(), "RGB")
    for output in graphs[0].get("output_tensor_metadata") or []:
        for file in output.get("associated_files") or []:
            dropped.append(f'the labels lie in {file.get("name", "a file")}, packed into the .tflite: unzip it, then '
                           '"labels": that file')  # fmt: skip
    return Imported("TFLite metadata", tuple(steps), channels, "opencv", dropped=tuple(dropped))
