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
from pbcompile.models.lambda_code import Expr, expression
from pbcompile.models.loaded import ModelSource
from pbcompile.models.marshal_reader import Code, UnreadableError, read_code
from pbcompile.models.network import LayerSpec, Network

MAX_SHOWN = 8


def require_lambdas(source: ModelSource, network: Network) -> None:
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
        raise ModelError(*(lambda_problem(source, spec) for spec in missing))


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


def lambda_problem(source: ModelSource, spec: LayerSpec) -> Problem:
    """Why a Lambda stops the compile, what it seems to do, and the lines to put into the spec."""
    code = stored_code(spec.saved_config)
    named = stored_name(spec.saved_config)
    steps: list[dict[str, Any]] | None = None
    if code is not None:
        body = expression(code)
        said = f"it computes {body}" if body is not None else f"its code holds {_contents(code)}"
        steps = steps_for(body) if body is not None else None
    elif named:
        said = f"it calls {named}, whose code is not in the file"
        steps = _KNOWN_CALLS.get(named)
    else:
        said = "its code cannot be read"
    arguments = spec.saved_config.get("arguments")
    if isinstance(arguments, dict) and arguments:
        said += f", with {json.dumps(arguments, default=str)[:120]}"
    message = f"the layer {spec.name} is a Lambda, whose stored Python code is never run; {said}"
    return Problem("lambda-not-run", message, source.pointer, _hint(source, spec.name, steps))


def stored_code(config: Mapping[str, Any]) -> Code | None:
    """The function in a Lambda's config: Keras 1 wrote raw text, 2 base64 in a list, 3 base64 in an object."""
    stored = config.get("function")
    if isinstance(stored, Mapping):
        inner = stored.get("config")
        stored = inner.get("code") if isinstance(inner, Mapping) else None
    elif isinstance(stored, (list, tuple)):
        stored = stored[0] if stored else None
    else:
        return None
    if not isinstance(stored, str):
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


def _hint(source: ModelSource, layer: str, steps: list[dict[str, Any]] | None) -> str:
    lines = json.dumps(steps) if steps else "[steps that do the same]"
    files = f'"path": {json.dumps(source.path.name)}'
    if source.weights is not None:
        files += f', "weights": {json.dumps(source.weights.name)}'
    model = f'"model": {{{files}, "lambda": {{{json.dumps(layer)}: {lines}}}}}'
    if steps:
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
    if item.op == "const" and item.args[0] == "Ellipsis":
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
    if name.endswith("image.resize"):
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
