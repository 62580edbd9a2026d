"""Layers at a model's inputs that already do what a spec's `preprocess` might do a second time.  No TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pbcompile.errors import ModelError
from pbcompile.models.architecture import NETWORKS, Reader
from pbcompile.models.era import era_of
from pbcompile.models.lambdas import formula_of, stored_name
from pbcompile.models.loaded import ModelSource, PreprocessingLayer
from pbcompile.models.network import LayerSpec, Network, Ref, references
from pbcompile.models.repairs import Repairs

PASSED_OVER = frozenset({"Identity", "ZeroPadding2D", "Permute", "Reshape", "Dropout", "GaussianNoise", "InputLayer",
                         "Activation", "Cast", "Concatenate", "GetItem"})  # fmt: skip
"""Layers behind which preprocessing may still follow."""
ARITHMETIC = {"truediv": "/", "divide": "/", "multiply": "*", "mul": "*", "subtract": "-", "sub": "-", "add": "+"}


def recognise_preprocessing(network: Network) -> tuple[PreprocessingLayer, ...]:
    """The preprocessing layers between each input and the first layer that is none, in the order of the data."""
    return tuple(_of_network(network))


def preprocessing_in_saved_model(source: ModelSource) -> tuple[PreprocessingLayer, ...]:
    """The same for a SavedModel of Keras 2, whose `keras_metadata.pb` holds the config as text; empty without one."""
    path = source.path / "keras_metadata.pb"
    if not path.is_file():
        return ()
    for data in _objects(path):
        if data.get("class_name") in NETWORKS and isinstance(data.get("config"), dict):
            era = era_of(str(data.get("keras_version", "2.4.0")), "", data["config"])
            try:
                return recognise_preprocessing(Reader(source, era, Repairs()).network(data))
            except ModelError:
                return ()
    return ()


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects inside a file of other bytes."""
    text = path.read_bytes().decode("utf8", "replace")
    decoder = json.JSONDecoder()
    at = text.find('{"')
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            if isinstance(value, dict):
                yield value
        at = text.find('{"', end)


def _of_network(network: Network) -> Iterator[PreprocessingLayer]:
    by_name = {spec.name: spec for spec in network.layers}
    behind: dict[str, list[str]] = {}
    for name, calls in network.calls.items():
        for call in calls:
            for ref in references([list(call.args), dict(call.kwargs)]):
                behind.setdefault(ref.layer, []).append(name)
    waiting = [ref.layer for ref in references(network.inputs)]
    if waiting == [""]:  # a Sequential that is told its input only when called
        waiting, behind[""] = [""], [network.layers[0].name]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop(0)
        for following in behind.get(name, []):
            if following in seen:
                continue
            seen.add(following)
            spec = by_name[following]
            if spec.network is not None:
                inner = list(_of_network(spec.network))
                yield from inner
                if len(inner) == sum(1 for s in spec.network.layers if s.class_name not in PASSED_OVER):
                    waiting.append(following)
                continue
            found = _kind(spec, network)
            if found is not None:
                yield found
            if found is not None or spec.class_name in PASSED_OVER:
                waiting.append(following)


def _kind(spec: LayerSpec, network: Network) -> PreprocessingLayer | None:
    config = spec.config
    if spec.class_name == "Rescaling":
        return PreprocessingLayer(spec.name, "rescale", f"x * {config.get('scale')} + {config.get('offset', 0.0)}")
    if spec.class_name == "Normalization":
        return PreprocessingLayer(spec.name, "normalize", "mean and variance of its training data")
    if spec.class_name == "Resizing":
        return PreprocessingLayer(spec.name, "resize", f"{config.get('height')}x{config.get('width')}")
    if spec.class_name == "CenterCrop":
        return PreprocessingLayer(spec.name, "crop", f"{config.get('height')}x{config.get('width')}")
    if spec.class_name == "BatchNormalization":
        return PreprocessingLayer(spec.name, "batch_norm", "learned mean and variance of what was fed in training")
    if spec.class_name == "Lambda":
        body = formula_of(spec.saved_config)
        said = str(body) if body is not None else stored_name(spec.saved_config) or "stored code"
        return PreprocessingLayer(spec.name, "lambda", said)
    return _function(spec, network)


def _function(spec: LayerSpec, network: Network) -> PreprocessingLayer | None:
    """Arithmetic or a resize that Keras wrote as a function: `TFOpLambda`, or an operation of Keras 3."""
    named = str(spec.config.get("function", "")) if spec.class_name == "TFOpLambda" else ""
    word = (named.rsplit(".", 1)[-1] if named else spec.class_name if spec.module else "").lower()
    if named.endswith("image.resize") or (spec.module and word == "resize"):
        return PreprocessingLayer(spec.name, "resize", named or word)
    if word not in ARITHMETIC:
        return None
    call = network.calls[spec.name][0]
    numbers = [v for v in (*call.args, *call.kwargs.values()) if not isinstance(v, Ref) and _is_number(v)]
    if len(numbers) != 1 or len(list(references([list(call.args), dict(call.kwargs)]))) != 1:
        return None
    return PreprocessingLayer(spec.name, "rescale", f"x {ARITHMETIC[word]} {numbers[0]}")


def _is_number(value: object) -> bool:
    items = value if isinstance(value, list) else [value]
    return bool(items) and all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in items)
