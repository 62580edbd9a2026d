"""The JSON Schema of a spec, assembled from the steps' own fragments, and its findings as Problems."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pbcompile.errors import Problem, did_you_mean
from pbcompile.spec.text import escape
from pbcompile.steps import POST_STEPS, STEPS, Step
from pbcompile.steps.examples import example_of

FED_CHANNELS = ("RGB", "BGR", "RGBA", "BGRA", "GRAY", "NV12", "NV21", "I420", "YUYV")
DTYPES = ("uint8", "uint16", "int8", "int32", "int64", "float16", "float32", "float64")
LEVELS = ("none", "canonical", "tensorflow-cpu")
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.\-]*(/[A-Za-z0-9_.\-]+)*$"
"""What TensorFlow takes as the name of a node."""


def assemble_schema() -> dict[str, Any]:
    """The whole schema, JSON Schema 2020-12, as `pbcompile schema` prints it."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pbcompile spec, version 1",
        **_closed(
            {
                "$schema": {"description": "For editors.", "type": "string"},
                "version": {"description": "Version of this format.", "const": 1},
                "model": _MODEL,
                "inputs": {
                    "description": "Placeholders of the artifact, by their exact names.",
                    "type": "object",
                    "minProperties": 1,
                    "propertyNames": {"pattern": NAME},
                    "additionalProperties": {"$ref": "#/$defs/input"},
                },
                "outputs": {
                    "description": "Output nodes of the artifact, by their exact names, in this order.",
                    "type": "object",
                    "minProperties": 1,
                    "propertyNames": {"pattern": NAME},
                    "additionalProperties": {"$ref": "#/$defs/output"},
                },
                "artifact": {"description": "Path of the .pb to write.", "type": "string", "minLength": 1},
                "optimize": {
                    "description": "How far the graph is rewritten.",
                    **_closed({"level": {"description": "canonical runs on every consumer.", "enum": list(LEVELS)}}),
                },
                "quantize": _QUANTIZE,
                "verify": _VERIFY,
            },
            required=("version", "model", "inputs"),
        ),
        "$defs": {
            "input": _closed(_INPUT),
            "output": _closed(_OUTPUT),
            "step": _step_schema(STEPS),
            "post_step": _step_schema(POST_STEPS),
        },
    }


def _closed(properties: Mapping[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    schema = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    return {**schema, "required": list(required)} if required else schema


def _step_schema(steps: tuple[type[Step], ...]) -> dict[str, Any]:
    """One `if/then` per op, so that an error speaks of the op that was meant and of no other.

    `enumDescriptions` and `defaultSnippets` are what VS Code shows and completes; validators pass them over.
    """
    cases = [
        {
            "if": {"properties": {"op": {"const": step.op}}, "required": ["op"]},
            "then": {
                "description": _first_line(step),
                "examples": [example_of(step.op)],
                **_closed({"op": True, **step.properties}, required=step.required),
            },
        }
        for step in steps
    ]
    return {
        "type": "object",
        "required": ["op"],
        "properties": {
            "op": {
                "description": "Which step.",
                "enum": [step.op for step in steps],
                "enumDescriptions": [_first_line(step) for step in steps],
            }
        },
        "defaultSnippets": [
            {"label": step.op, "description": _first_line(step), "body": example_of(step.op)} for step in steps
        ],
        "allOf": cases,
    }


def _first_line(step: type[Step]) -> str:
    return (step.__doc__ or step.op).splitlines()[0]


_FILE = {"type": "string", "minLength": 1}
_COUNT = {"type": "integer", "minimum": 1}

_MODEL: dict[str, Any] = {
    "description": "Path of the model, or an object with more.",
    "type": ["string", "object"],
    "minLength": 1,
    "properties": {
        "path": {"description": ".h5, .keras, SavedModel directory, or .json architecture.", **_FILE},
        "weights": {"description": "Weights-only file for a .json architecture.", **_FILE},
        "lambda": {
            "description": "Steps, or a formula of x such as K.abs(x[0] - x[1]), that replace a Lambda, by layer name.",
            "type": "object",
            "additionalProperties": {"type": ["array", "string"], "items": {"$ref": "#/$defs/step"}},
        },
        "custom_objects": {
            "description": "Python classes by name, as module:attribute; needs trust_code.",
            "type": "object",
            "additionalProperties": {"type": "string", "pattern": r"^[\w.]+:[\w.]+$"},
        },
        "trust_code": {"description": "Whether code of the model file may run.", "type": "boolean", "default": False},
        "allow_nan": {"description": "Whether weights may be NaN or infinite.", "type": "boolean", "default": False},
    },
    "additionalProperties": False,
    "required": ["path"],
}

_INPUT: dict[str, Any] = {
    "kind": {
        "description": "pixels: an array of samples. encoded: JPEG, PNG, BMP or GIF bytes. tensor: numbers, no image.",
        "enum": ["pixels", "encoded", "tensor"],
        "default": "pixels",
    },
    "dtype": {"description": "What is fed; uint8 for pixels, float32 for tensor.", "enum": list(DTYPES)},
    "shape": {
        "description": "Sizes of what is fed; null is any size.",
        "type": "array",
        "items": {"type": ["integer", "null"], "minimum": 1},
        "maxItems": 8,
    },
    "layout": {"description": "Order of the axes of what is fed.", "enum": ["NHWC", "NCHW"], "default": "NHWC"},
    "channels": {"description": "Colours of what is fed, or what the decoder is to make.", "enum": list(FED_CHANNELS)},
    "exif": {
        "description": "encoded: turn the image as its EXIF orientation says, or not; left out, what the library of "
        "`like` does by itself: opencv applies it, pillow ignores it (apply is ImageOps.exif_transpose).",
        "enum": ["apply", "ignore"],
    },
    "like": {
        "description": "encoded: whose pixels the decoder makes: cv2.imdecode, or PIL.Image.open and convert.",
        "enum": ["opencv", "pillow"],
        "default": "opencv",
    },
    "feeds": {"description": "The model's input that this feeds.", **_FILE},
    "preprocess": {
        "description": "Steps between what is fed and the model, in order.",
        "type": "array",
        "items": {"$ref": "#/$defs/step"},
    },
}

_OUTPUT: dict[str, Any] = {
    "from": {
        "description": "The model's output, under its Keras name; several, for a step that takes several.",
        "type": ["string", "array"],
        "minLength": 1,
        "items": _FILE,
        "minItems": 1,
        "uniqueItems": True,
    },
    "source": {
        "description": "The input whose pixels boxes and masks go back to; left out where there is one image.",
        **_FILE,
    },
    "postprocess": {
        "description": "Steps between the model and this output, in order.",
        "type": "array",
        "items": {"$ref": "#/$defs/post_step"},
    },
}

_QUANTIZE: dict[str, Any] = {
    "description": "Fewer bits for the weights.",
    **_closed(
        {
            "weights": {
                "description": "How large weights are stored; they are float32 again as the graph starts.",
                "enum": ["float16", "int8"],
            },
            "mode": {"description": "Integer arithmetic; not in this version.", "enum": ["int8"]},
            "calibrate": {"description": "For mode int8: images that show the ranges.", **_FILE},
            "max_drop": {"description": "For mode int8: the most accuracy to lose.", "type": "number", "minimum": 0},
            "keep_float": {
                "description": "For mode int8: layers that stay float.",
                "type": "array",
                "items": {"type": "string"},
            },
        }
    ),
    "minProperties": 1,
}

_VERIFY: dict[str, Any] = {
    "description": "The gate that runs after every compile.",
    **_closed(
        {
            "images": {"description": "A glob, a file, or a folder with one folder per class.", **_FILE},
            "count": {"description": "How many images at the most.", **_COUNT, "default": 64},
            "seed": {"description": "Which of them, and which built-in images.", "type": "integer", "default": 0},
            "atol": {"description": "Absolute tolerance.", "type": "number", "minimum": 0},
            "rtol": {"description": "Relative tolerance.", "type": "number", "minimum": 0},
            "min_top1_agreement": {
                "description": "Least share of images on which the largest output is the same.",
                "type": "number",
                "minimum": 0,
                "maximum": 1,
                "default": 1.0,
            },
            "max_level_difference": {
                "description": "Most grey levels between the two preprocessings.",
                "type": "number",
                "minimum": 0,
                "default": 0,
            },
        }
    ),
}


def find_problems(document: Any) -> Iterator[tuple[Problem, bool]]:
    """Every way in which the document breaks the schema, and whether it is the key that is wrong."""
    errors = _validator().iter_errors(document)
    for error in sorted(errors, key=lambda e: ([str(p) for p in e.absolute_path], str(e.validator))):
        pointer = "".join("/" + escape(str(part)) for part in error.absolute_path)
        yield from _as_problems(error, pointer)


@cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(assemble_schema())


_WORDS = {"object": "an object", "array": "an array", "integer": "a whole number", "null": "null", "string": "a string"}
_WORDS |= {"number": "a number", "boolean": "true or false"}


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, (int, float)):
        return "null" if value is None else "a number"
    return _WORDS["string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"]


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _as_problems(error: Any, pointer: str) -> Iterator[tuple[Problem, bool]]:
    """One jsonschema error in our words."""
    rule, value, keyword = error.validator_value, error.instance, error.validator
    if keyword == "additionalProperties":
        known = error.schema["properties"]
        for key in sorted(set(value) - set(known)):
            where = f"{pointer}/{escape(key)}"
            hint = did_you_mean(key, known)
            if hint.startswith("known"):
                hint = did_you_mean(key, (k for k in known if k not in value and k != "$schema"))
            yield Problem("spec-invalid", f'unknown key "{key}"', where, hint), True
    elif keyword == "required":
        for key in rule:
            if key not in value and f"'{key}'" in error.message:
                yield Problem("spec-invalid", f'the key "{key}" is missing', pointer), False
    elif keyword == "type":
        wanted = [rule] if isinstance(rule, str) else rule
        needs = " or ".join(_WORDS[word] for word in wanted)
        yield Problem("spec-invalid", f"{_show(value)} is {_kind(value)}, and this must be {needs}", pointer), False
    elif keyword == "enum":
        hint = did_you_mean(value, rule) if isinstance(value, str) else ""
        said = f"{_show(value)} is none of {', '.join(rule)}"
        if len(rule) > 12:
            said = f"{_show(value)} is unknown here"
        yield Problem("spec-invalid", said, pointer, hint), False
    elif keyword == "const":
        yield Problem("spec-invalid", f"{_show(value)} must be {_show(rule)}", pointer), False
    elif keyword == "pattern":
        message = f"{_show(value)} is no name TensorFlow takes (letters, digits, and _ . - inside)"
        if rule != NAME:
            message = f'{_show(value)} must have the form "module:attribute"'
        is_key = "propertyNames" in error.absolute_schema_path
        yield Problem("spec-invalid", message, f"{pointer}/{escape(value)}" if is_key else pointer), is_key
    elif keyword in ("minItems", "minLength", "minProperties") and not value:
        yield Problem("spec-invalid", f"{_show(value)} is empty, and needs at least one entry", pointer), False
    else:
        yield Problem("spec-invalid", error.message, pointer), False
