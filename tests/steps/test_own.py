"""Python: a step of the user's own, in the graph and in the gate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pbcompile
from pbcompile.errors import ParityError, SpecError

HERE = "tests.steps.own_steps"
GAMMA = {"op": "python", "function": f"{HERE}:gamma", "reference": f"{HERE}:gamma_reference", "dtype": "float32"}
LARGEST = {"op": "python", "function": f"{HERE}:largest", "reference": f"{HERE}:largest_reference", "shape": [1]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import keras

    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("own")
    model = keras.Sequential([keras.Input((6, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(5, name="out")])
    model.save(folder / "model.keras")
    return folder


def spec_of(folder: Path, before: Any = GAMMA, behind: Any = LARGEST, trust: bool = True) -> Path:
    resize = {"op": "resize", "size": [6, 8], "method": "linear", "like": "opencv"}
    document = {
        "version": 1,
        "model": {"path": "model.keras", "trust_code": trust},
        "inputs": {"image": {"channels": "RGB", "preprocess": [resize, before]}},
        "outputs": {"best": {"postprocess": [behind]}},
        "verify": {"count": 3},
    }
    path = folder / "spec.json"
    path.write_text(json.dumps(document))
    return path


def test_own_steps_are_part_of_the_graph_and_of_the_gate(folder: Path) -> None:
    result = pbcompile.compile_spec(spec_of(folder))
    assert result.verify is not None
    assert result.verify.passed
    assert pbcompile.load(result.artifact)(image=np.zeros((2, 9, 9, 3), np.uint8))["best"].shape == (2, 1)


def test_a_module_beside_the_spec_is_found(folder: Path) -> None:
    (folder / "beside_the_spec.py").write_text("def same(x):\n    return x\n")
    same = {"op": "python", "function": "beside_the_spec:same", "reference": "beside_the_spec:same"}
    result = pbcompile.compile_spec(spec_of(folder, behind=same))
    assert result.verify is not None


def test_the_gate_says_no_to_another_reference(folder: Path) -> None:
    with pytest.raises(ParityError) as caught:
        pbcompile.compile_spec(spec_of(folder, GAMMA | {"reference": f"{HERE}:other_gamma_reference"}))
    assert caught.value.problems[0].pointer == "/inputs/image"


def test_nothing_runs_without_trust(folder: Path) -> None:
    with pytest.raises(SpecError, match="trust_code is not set") as caught:
        pbcompile.load_spec(spec_of(folder, trust=False))
    assert caught.value.problems[0].pointer == "/inputs/image/preprocess/1/function"


WRONG = {
    "in_python": ({}, "an op with state, files or Python"),
    "random": ({}, "an op with state, files or Python"),
    "a_number": ({}, "must return one tensor"),
    "largest": ({"shape": [2]}, "and the spec promises"),
    "missing": ({}, "cannot be imported"),
    "NUMBER": ({}, "is no function"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_no_artifact_may_hold_is_refused_at_the_step(folder: Path, name: str) -> None:
    keys, says = WRONG[name]
    behind = {"op": "python", "function": f"{HERE}:{name}", "reference": f"{HERE}:largest_reference"} | keys
    with pytest.raises(SpecError, match=says) as caught:
        pbcompile.compile_spec(spec_of(folder, behind=behind), verify=False)
    assert caught.value.problems[0].pointer == "/outputs/best/postprocess/0/function"
