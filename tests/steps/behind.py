"""Postprocess steps of a spec on given arrays: the graph's answer, the reference's, and the promised types."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from pbcompile.graft import postprocess, prepare
from pbcompile.models import ModelTensor
from pbcompile.plan import Plan, make_plan
from pbcompile.reference.program import answers_reference
from pbcompile.spec import load_spec

Arrays = Mapping[str, np.ndarray]
IMAGE = {"channels": "RGB"}


def plan_of(folder: Path, steps: list[Any], given: Mapping[str, Any], image: Mapping[str, Any], **keys: Any) -> Plan:
    """The plan of a spec whose model gives tensors like `given` and takes whatever the image's steps make."""
    names = list(given)
    output = {"from": names if len(names) > 1 else names[0], "postprocess": steps}
    model = {"path": "model.keras", "trust_code": True}
    path = folder / "spec.json"
    path.write_text(
        json.dumps({"version": 1, "model": model, "inputs": {"image": image}, "outputs": {"answer": output}} | keys)
    )
    spec = load_spec(path)
    result = spec.inputs[0].result
    tensors = [
        x if isinstance(x, ModelTensor) else ModelTensor(name, str(x.dtype), (None, *x.shape[1:]))
        for name, x in given.items()
    ]
    return make_plan(spec, [ModelTensor("x", result.dtype, result.shape)], tensors)


def run_both(plan: Plan, given: Arrays, fed: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Outputs by name, of the graph with everything open that the spec leaves open, and of the reference."""
    (item,), (output,) = plan.spec.inputs, plan.outputs

    @tf.function(autograph=False)
    def fused(image: tf.Tensor, *tensors: tf.Tensor) -> list[tf.Tensor]:
        placed = prepare(image, item, with_places=True)[1]
        parts = dict(zip(given, tensors, strict=True))
        return postprocess(parts if len(parts) > 1 else {"": tensors[0]}, output, placed)

    signature = [tf.TensorSpec(item.fed.shape, item.fed.dtype)]
    signature += [tf.TensorSpec((None, *x.shape[1:]), x.dtype) for x in given.values()]
    got = fused.get_concrete_function(*signature)(tf.constant(fed), *(tf.constant(x) for x in given.values()))
    have = dict(zip(output.emitted, (value.numpy() for value in got), strict=True))
    want = answers_reference(plan, given, {item.name: fed})
    assert list(have) == list(want)
    for name, promised in output.emitted.items():
        value = np.asarray(have[name])
        assert promised.dtype == ("string" if value.dtype.kind in "OS" else str(value.dtype)), name
        assert len(value.shape) == promised.rank
        assert all(p in (None, s) for p, s in zip(promised.shape, value.shape, strict=True)), (name, promised)
        assert value.shape == want[name].shape
    return have, want
