"""Lambda layers: what their stored code says, read as data and never run, and which steps would do the same."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pbcompile.errors import ModelError, Problem, SpecError, did_you_mean
from pbcompile.models.era import Era
from pbcompile.models.lambda_code import expression
from pbcompile.models.loaded import ModelSource
from pbcompile.models.marshal_reader import Code, UnreadableError, read_code
from pbcompile.models.network import LayerSpec, Network
from pbcompile.spec.formula import Expr, is_small

MAX_SHOWN = 8


def require_lambdas(source: ModelSource, network: Network, era: Era) -> None:
    """Raise unless every Lambda has its steps in the spec, or `trust_code` is given, and the spec names no other.

    ModelError with one Problem per Lambda; SpecError at the key that names no Lambda.
    """
    found = {spec.name: spec for spec in lambda_layers(network)}
    unknown = [name for name in source.lambdas if name not in found]
    if unknown:
        raise SpecError(
            *(
                Problem(
                    "lambda-unknown",
                    f'the model has no Lambda layer "{name}"',
                    f"{source.pointer}/lambda/{name.replace('~', '~0').replace('/', '~1')}",
                    did_you_mean(name, found) if found else "it has no Lambda layers at all",
                )
                for name in unknown
            )
        )
    missing = [spec for name, spec in found.items() if name not in source.lambdas]
    if missing and not source.trust_code:
        raise ModelError(*(lambda_problem(source, spec, era) for spec in missing))


def lambda_layers(network: Network) -> Iterator[LayerSpec]:
    """Every Lambda of a network, those of nested models and wrappers among them."""
    for spec in network.layers:
        yield from _inside(spec)


def _inside(spec: LayerSpec) -> Iterator[LayerSpec]:
    if spec.network is not None:
        yield from lambda_layers(spec.network)
    if spec.class_name == "Lambda":
        yield spec
    for part in spec.parts.values():
        for inner in part if isinstance(part, tuple) else (part,):
            yield from _inside(inner)


def lambda_problem(source: ModelSource, spec: LayerSpec, era: Era) -> Problem:
    """Why a Lambda stops the compile, what it seems to do, and the lines to put into the spec."""
    code = stored_code(spec.saved_config)
    named = stored_name(spec.saved_config)
    lines: object = None
    if code is not None:
        body = formula_of(spec.saved_config, era)
        said = f"it computes {body}" if body is not None else f"its code holds {_contents(code)}"
        steps = steps_for(body) if body is not None else None
        lines = steps or (str(body) if body is not None and is_plain(body) else None)
    elif named:
        said = f"it calls {named}, whose code is not in the file"
        lines = _KNOWN_CALLS.get(named)
    else:
        said = "its code cannot be read"
    arguments = spec.saved_config.get("arguments")
    if isinstance(arguments, dict) and arguments and not isinstance(lines, str):
        said += f", with {json.dumps(arguments, default=str)[:120]}"
    message = f"the layer {spec.name} is a Lambda, whose stored Python code is never run; {said}"
    return Problem("lambda-not-run", message, source.pointer, _hint(source, spec.name, lines))


def stored_code(config: Mapping[str, Any]) -> Code | None:
    """The function in a Lambda's config: Keras 1 wrote raw text, 2 base64 in a list, 3 base64 in an object."""
    function = config.get("function")
    stored = _stored_parts(config)[0]
    if not isinstance(stored, str) or not isinstance(function, (Mapping, list, tuple)):
        return None
    for data in _candidates(stored):
        try:
            return read_code(data)
        except UnreadableError:
            continue
    return None


def stored_name(config: Mapping[str, Any]) -> str:
    """The function that a Lambda only names, "" where it holds code."""
    stored = config.get("function")
    if isinstance(stored, Mapping):
        stored = stored.get("config")
    return stored if isinstance(stored, str) and re.fullmatch(r"[\w.>]+", stored) else ""


def steps_for(body: Expr) -> list[dict[str, Any]] | None:
    """Steps of the spec that do what a body does, or None where there are none."""
    if body.op == "arg":
        return []
    line = _linear(body)
    if line is not None:
        inner, scale, offset = line
        before = steps_for(inner)
        step: dict[str, Any] = {"op": "rescale", "scale": scale}
        if offset:
            step["offset"] = offset
        return None if before is None else [*before, step]
    if body.op == "index":
        return _indexed(body)
    if body.op == "call":
        return _called(body)
    return None


def formula_of(config: Mapping[str, Any], era: Era | None = None) -> Expr | None:
    """What a Lambda's stored function computes, in terms of `x`: its other arguments and closure put in as numbers.

    None where the code is no plain expression, or an argument is nothing that a formula can hold.  Keras before 2.3 ran
    on TensorFlow 1, whose functions are in `tf.compat.v1` today: its `tf.image.resize` samples at corners.
    """
    code = stored_code(config)
    body = expression(code) if code is not None else None
    if code is None or body is None or not code.variables:
        return None
    known: dict[str, Expr] = {}
    arguments = code.variables[1 : code.argument_count]
    _, defaults, closure = _stored_parts(config)
    known.update(zip(reversed(arguments), map(_plain, reversed(defaults)), strict=False))
    known.update(zip(code.free, map(_plain, closure), strict=False))
    given = config.get("arguments")
    if isinstance(given, Mapping):
        known.update({str(key): _plain(value) for key, value in given.items()})
    known[code.variables[0]] = Expr("arg", ("x",))
    old = era is not None and era.version < (2, 3) and not era.tf
    made = _substituted(body, known, "tf.compat.v1." if old else "tf.")
    return made if is_small(made) else None


def is_plain(body: Expr) -> bool:
    """Whether a formula speaks only of `x` and of functions of Keras and TensorFlow, so that the spec can hold it."""
    if body.op in ("arg", "name"):
        word = str(body.args[0])
        return word in ("x", "abs") if "." not in word else word.startswith(KNOWN_MODULES)
    if body.op == "attr":
        return body.args[1] in ("shape", "dtype") and is_plain(body.args[0])
    return all(is_plain(part) for part in body.parts())


KNOWN_MODULES = ("K.", "backend.", "keras.backend.", "tf.", "tensorflow.", "ops.", "keras.ops.")


def _substituted(body: Expr, known: Mapping[str, Expr], home: str) -> Expr:
    if body.op in ("arg", "name"):
        word = str(body.args[0])
        is_old = word.startswith("tf.") and not word.startswith(("tf.compat.", "tf.keras."))
        return known.get(word) or (Expr("name", (home + word.removeprefix("tf."),)) if is_old else body)
    args = tuple(_substituted(a, known, home) if isinstance(a, Expr) else a for a in body.args)
    return Expr(body.op, args, {key: _substituted(value, known, home) for key, value in body.kwargs.items()})


def _plain(value: object) -> Expr:
    if isinstance(value, (list, tuple)):
        return Expr("list", tuple(_plain(item) for item in value))
    return Expr("const", (value if isinstance(value, (int, float, str, type(None))) else f"{value!s:.40}",))


def _stored_parts(config: Mapping[str, Any]) -> tuple[object, list[Any], list[Any]]:
    """Code, defaults and closure of a stored function, in the form of Keras 2 (a list) or 3 (an object)."""
    stored = config.get("function")
    if isinstance(stored, Mapping):
        inner = stored.get("config")
        stored = [inner.get(key) for key in ("code", "defaults", "closure")] if isinstance(inner, Mapping) else None
    parts = [*stored, None, None, None][:3] if isinstance(stored, (list, tuple)) else [stored, None, None]
    defaults, closure = (list(part) if isinstance(part, (list, tuple)) else [] for part in parts[1:])
    return parts[0], defaults, closure


def _hint(source: ModelSource, layer: str, found: object) -> str:
    lines = json.dumps(found) if found else "[steps that do the same]"
    files = f'"path": {json.dumps(source.path.name)}'
    if source.weights is not None:
        files += f', "weights": {json.dumps(source.weights.name)}'
    model = f'"model": {{{files}, "lambda": {{{json.dumps(layer)}: {lines}}}}}'
    if found:
        return f"put into the spec: {model}"
    return f'put into the spec: {model}; or, if you trust the file, "trust_code": true'


def _candidates(text: str) -> Iterator[bytes]:
    with contextlib.suppress(ValueError, binascii.Error):
        yield base64.b64decode(text.encode("ascii"), validate=False)
    for encoding in ("raw_unicode_escape", "latin-1"):
        try:
            yield text.encode(encoding)
        except UnicodeEncodeError:
            continue


def _contents(code: Code) -> str:
    numbers = [repr(c) for c in code.constants if isinstance(c, (int, float)) and not isinstance(c, bool)]
    parts = []
    if numbers:
        parts.append("the numbers " + ", ".join(numbers[:MAX_SHOWN]))
    if code.names:
        parts.append("the names " + ", ".join(code.names[:MAX_SHOWN]))
    return " and ".join(parts) or "neither numbers nor names"


def _number(value: object) -> float | None:
    if isinstance(value, Expr):
        if value.op == "neg":
            inner = _number(value.args[0])
            return None if inner is None else -inner
        if value.op == "const":
            return _number(value.args[0])
        if value.op in ("+", "-", "*", "/") and (parts := [_number(a) for a in value.args]) and None not in parts:
            left, right = (float(p or 0.0) for p in parts)
            if value.op == "/":
                return left / right if right else None
            return {"+": left + right, "-": left - right, "*": left * right}[value.op]
        return None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _linear(body: Expr) -> tuple[Expr, float, float] | None:
    """`body` as inner · scale + offset, with the largest such part taken; None where it is not of that form."""
    if body.op == "neg":
        return _then(_linear(body.args[0]) or (body.args[0], 1.0, 0.0), -1.0, 0.0)
    if body.op not in ("+", "-", "*", "/"):
        return None
    left, right = body.args
    number, of_left = _number(right), True
    if number is None:
        number, of_left = _number(left), False
    if number is None or (body.op == "/" and (not of_left or not number)):
        return None
    inner = left if of_left else right
    before = _linear(inner) or (inner, 1.0, 0.0)
    if body.op == "*":
        return _then(before, number, 0.0)
    if body.op == "/":
        return _then(before, 1.0 / number, 0.0)
    if body.op == "+":
        return _then(before, 1.0, number)
    return _then(before, 1.0, -number) if of_left else _then(before, -1.0, number)


def _then(line: tuple[Expr, float, float], scale: float, offset: float) -> tuple[Expr, float, float]:
    inner, before, shift = line
    return inner, before * scale, shift * scale + offset


def _indexed(body: Expr) -> list[dict[str, Any]] | None:
    """`x[..., ::-1]` turns the channels around; `x[:, a:b, c:d]` is a crop."""
    inner, index = body.args
    before = steps_for(inner)
    items = list(index.args) if index.op == "tuple" else [index]
    if before is None or not all(isinstance(item, Expr) for item in items):
        return None
    bounds = [_slice(item) for item in items]
    last = bounds[-1]
    if last == (None, None, -1) and all(b in ((None, None, None), "…") for b in bounds[:-1]) and len(items) in (2, 4):
        return [*before, {"op": "convert_color", "to": "BGR"}]
    if len(items) in (3, 4) and bounds[0] == (None, None, None) and bounds[3:] in ([], [(None, None, None)]):
        rows, columns = bounds[1], bounds[2]
        if isinstance(rows, tuple) and isinstance(columns, tuple) and rows[2] is None and columns[2] is None:
            step: dict[str, Any] = {"op": "crop", "top": rows[0] or 0, "left": columns[0] or 0}
            step["height"] = _extent(rows)
            step["width"] = _extent(columns)
            return [*before, step] if min(step["top"], step["left"]) >= 0 else None
    return None


def _extent(bounds: tuple[int | None, ...]) -> int | None:
    start, stop = bounds[0] or 0, bounds[1]
    return stop if stop is None or stop < 0 else stop - start


def _slice(item: Expr) -> Any:
    if item.op == "const" and item.args[0] is Ellipsis:
        return "…"
    if item.op != "slice":
        return None
    values = [_number(a) for a in item.args]
    return tuple(None if v is None else int(v) for v in [*values, None][:3])


def _called(body: Expr) -> list[dict[str, Any]] | None:
    name = str(body.args[0])
    last = name.rsplit(".", 1)[-1]
    if len(body.args) < 2 or not isinstance(body.args[1], Expr):
        return None
    before = steps_for(body.args[1])
    if before is None:
        return None
    rest = list(body.args[2:])
    if name.endswith("image.resize") and "compat.v1" not in name:
        size = _numbers(body.kwargs.get("size", rest[0] if rest else None))
        method = body.kwargs.get("method", rest[1] if len(rest) > 1 else Expr("const", ("bilinear",)))
        words = {"bilinear": "linear", "nearest": "nearest", "bicubic": "cubic", "area": "area"}
        word = words.get(str(method.args[0])) if isinstance(method, Expr) and method.args else None
        if size is None or len(size) != 2 or word is None:
            return None
        return [*before, {"op": "resize", "size": [int(s) for s in size], "method": word, "like": "tensorflow"}]
    if last == "cast" and (rest or "dtype" in body.kwargs):
        dtype = body.kwargs.get("dtype", rest[0] if rest else None)
        word = str(dtype.args[0]).rsplit(".", 1)[-1] if isinstance(dtype, Expr) and dtype.args else ""
        return [*before, {"op": "cast", "dtype": word}] if word in ("float32", "uint8", "int32") else None
    if last in ("clip", "clip_by_value") and len(rest) == 2:
        low, high = _number(rest[0]), _number(rest[1])
        return None if low is None or high is None else [*before, {"op": "clip", "min": low, "max": high}]
    if last == "per_image_standardization":
        return [*before, {"op": "standardize"}]
    if last == "rgb_to_grayscale":
        return [*before, {"op": "convert_color", "to": "GRAY", "like": "opencv"}]
    if last in ("divide", "truediv", "multiply", "subtract", "add") and len(rest) == 1:
        op = {"divide": "/", "truediv": "/", "multiply": "*", "subtract": "-", "add": "+"}[last]
        return steps_for(Expr(op, (body.args[1], rest[0])))
    known = _KNOWN_CALLS.get(last)
    return None if known is None else [*before, *known]


def _numbers(value: object) -> list[float] | None:
    if not isinstance(value, Expr) or value.op not in ("tuple", "list"):
        return None
    numbers = [_number(item) for item in value.args]
    return None if None in numbers else [float(n or 0) for n in numbers]


_KNOWN_CALLS: Mapping[str, list[dict[str, Any]]] = {
    "per_image_standardization": [{"op": "standardize"}],
    "identity": [],
}
"""Functions that have one meaning whatever their module.  `preprocess_input` has three, so it is not among them."""
