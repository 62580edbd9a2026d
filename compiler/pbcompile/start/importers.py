"""`--from`: which of the known forms a file or a few words have, and what they say."""

from __future__ import annotations

import json
from pathlib import Path

from pbcompile.start.deployed import from_openvino, from_tflite, is_openvino, is_tflite
from pbcompile.start.hugging_face import from_hugging_face, is_hugging_face
from pbcompile.start.imported import Imported, refuse
from pbcompile.start.keras_configs import (
    from_image_converter,
    from_preprocess_input,
    is_image_converter,
    is_preprocess_input,
)
from pbcompile.start.torch_transforms import from_timm, from_torchvision, is_timm, is_torchvision

KNOWN = (
    "Hugging Face preprocessor_config.json, timm config.json, a printed torchvision transform, KerasHub "
    "image_converter.json, TFLite metadata JSON, OpenVINO arguments, or the name of a Keras preprocess_input"
)
MAX_BYTES = 1 << 20


def import_preprocessing(words: str) -> Imported:
    """The preprocessing that `words` say: a file's path, or the thing itself.  Raises SpecError for anything else."""
    path = Path(words)
    text = words
    try:
        is_file = path.is_file()
    except OSError:  # arguments can be longer than a file name may be
        is_file = False
    if is_file:
        if path.stat().st_size > MAX_BYTES:
            raise refuse(f"{words} has more than {MAX_BYTES >> 20} MB; that is no preprocessing config", KNOWN)
        try:
            text = path.read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError):
            raise refuse(f"{words} is no UTF-8 text", f"--from takes: {KNOWN}") from None
    elif path.suffix in (".json", ".txt", ".yaml", ".yml"):
        raise refuse(f"there is no file {words}", f"--from takes: {KNOWN}")
    stripped = text.strip()
    if stripped.startswith("{"):
        return _of_json(stripped, words)
    if is_torchvision(stripped):
        return from_torchvision(stripped)
    if is_openvino(stripped):
        return from_openvino(stripped)
    if is_preprocess_input(stripped):
        return from_preprocess_input(stripped)
    raise refuse(f"{words[:60]} is no preprocessing that is known here", f"--from takes: {KNOWN}")


def _of_json(text: str, words: str) -> Imported:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise refuse(f"{words[:60]} is no JSON: {str(error).splitlines()[0]}") from None
    if is_tflite(value):
        return from_tflite(value)
    if is_image_converter(value):
        return from_image_converter(value)
    if is_hugging_face(value) or isinstance(value.get("image_processor"), dict):
        return from_hugging_face(value)
    if is_timm(value):
        return from_timm(value)
    raise refuse(f"{words[:60]} is JSON of no form that is known here", f"--from takes: {KNOWN}")
