"""Networks as public projects hold them, in files that old releases wrote: frozen, they answer as the release did."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pbcompile.errors import ModelError, SpecError
from pbcompile.models import LoadedModel, ModelSource, load_model
from pbcompile.spec.formula import FormulaError, parse_formula
from pbcompile.steps import STEPS
from tests.models.frozen import frozen_answers
from tests.models.test_files import dense_config, write_h5

HERE = Path(__file__).parent / "in_the_wild"
HINT = 'put into the spec: "model": '
BY_OP = {step.op: step for step in STEPS}


def cases() -> Iterator[Any]:
    for archive in sorted(HERE.glob("*.zip")):
        with zipfile.ZipFile(archive) as content:
            for name in sorted(content.namelist()):
                if not name.endswith(".npz"):
                    yield pytest.param(archive, name, id=f"{archive.stem}/{name}")


def as_the_hints_say(source: ModelSource) -> LoadedModel:
    """The model, its Lambdas replaced by what the error about them tells the user to write, and nothing else."""
    lambdas: dict[str, Any] = {}
    try:
        return load_model(source)
    except ModelError as error:
        for problem in error.problems:
            assert problem.code == "lambda-not-run"
            assert problem.hint.startswith(HINT), problem.hint
            for layer, found in json.loads(problem.hint.removeprefix(HINT))["lambda"].items():
                steps = [BY_OP[step["op"]].from_json(step, "", Path()) for step in found if not isinstance(found, str)]
                lambdas[layer] = parse_formula(found) if isinstance(found, str) else tuple(steps)
    return load_model(replace(source, lambdas=lambdas))


@pytest.mark.parametrize(("archive", "name"), cases())
def test_frozen_answers_as_the_release_gave_them(archive: Path, name: str, tmp_path: Path) -> None:
    """Within 2e-5 of the largest output, without a function library (which `frozen_answers` asserts)."""
    with zipfile.ZipFile(archive) as content:
        content.extract(name, tmp_path)
        golden = np.load(io.BytesIO(content.read(f"{Path(name).stem}.npz")))
    given = [golden[key] for key in sorted(golden) if key.startswith("x")]
    wanted = [golden[key] for key in sorted(golden) if key.startswith("y")]
    got = frozen_answers(as_the_hints_say(ModelSource(tmp_path / name)), given)
    assert [value.shape for value in got] == [value.shape for value in wanted]
    for value, want in zip(got, wanted, strict=True):
        scale = max(float(np.abs(want).max(initial=0)), 1e-6)
        assert np.abs(value.astype("f8") - want.astype("f8")).max(initial=0) <= 2e-5 * scale


# -- formulas in place of Lambdas


@pytest.mark.parametrize(
    "text",
    [
        "K.abs(x[0] - x[1])",
        "x[..., ::-1]",
        "x / (1 + 10 ** -6)",
        "x ** 2 ** 0.5",
        "tf.concat([x, x], axis=-1) * 2 ** -1",
        "(x[:, 0],)",
        "x @ x % 3 // 2",
    ],
)
def test_a_formula_says_what_was_read(text: str) -> None:
    assert parse_formula(str(parse_formula(text).body)).body == parse_formula(text).body


@pytest.mark.parametrize(
    "text",
    ["lambda: x", "[a for a in x]", "x if x else x", "f'{x}'", "x := 1", "f(**x)", "f(*x)", "x.", "", "(" * 99,
     "-" * 999 + "x", "+".join("x" * 3000), "x < 1", "await x", "x * 9 ** 9 ** 9", "x + (9 ** 64) ** 64",
     "x + 2 ** 10 ** 9", "x + 'a' * 1000000000", "tf.concat([x] * 1000000000, 0)"],
)  # fmt: skip
def test_what_is_no_formula(text: str) -> None:
    with pytest.raises(FormulaError):
        parse_formula(text)


def with_lambda(tmp_path: Path, formula: str) -> ModelSource:
    config = dense_config()
    inner = {"name": "l", "function": ["nothing", None, None], "function_type": "lambda"}
    config["config"]["layers"].insert(1, {"class_name": "Lambda", "config": inner})
    return ModelSource(write_h5(tmp_path / "m.h5", config), lambdas={"l": parse_formula(formula)})


@pytest.mark.parametrize(
    "name",
    ["open", "eval", "__import__", "tf.io.write_file", "tf.py_function", "tf.random.normal", "tf.map_fn", "os.system",
     "tf.load_library", "tf.saved_model.load", "ops.map", "ops.random.normal", "ops._x", "K.function", "np.load",
     "tf.numpy_function", "tf.raw_ops.WriteFile", "tf.io.read_file", "tf.keras.utils.get_file", "x.numpy"],
)  # fmt: skip
def test_a_formula_calls_array_functions_only(name: str, tmp_path: Path) -> None:
    """Nothing that reads, writes, draws or runs code can be named; the problem points at the formula."""
    with pytest.raises((SpecError, ModelError)) as caught:
        load_model(with_lambda(tmp_path, f"{name}('{tmp_path}/canary', x)"))
    (problem,) = caught.value.problems
    assert problem.pointer in ("/model/lambda/l", "/model")
    assert not (tmp_path / "canary").exists()


def test_a_formula_of_the_wrong_number_of_tensors_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"the layer l does not fit here: .*(axis|rank|dim|[Cc]oncat)"):
        load_model(with_lambda(tmp_path, "K.concatenate([x, x, x], axis=7)"))


def test_steps_in_place_of_a_lambda_of_two_tensors(tmp_path: Path) -> None:
    with zipfile.ZipFile(HERE / "keras-2.2.4.zip") as content:
        content.extract("siamese.h5", tmp_path)
    step = BY_OP["rescale"].from_json({"scale": 2.0}, "", tmp_path)
    with pytest.raises(ModelError) as caught:
        load_model(ModelSource(tmp_path / "siamese.h5", lambdas={"lambda_1": (step,)}))
    (problem,) = caught.value.problems
    assert problem.message.endswith("the Lambda lambda_1 takes 2 tensors, and steps take one")
    assert problem.hint == 'give a formula: "lambda": {"lambda_1": "x[0] + x[1]"}'


def test_trusted_code_of_another_python_is_read_where_it_cannot_run(tmp_path: Path) -> None:
    """Bytecode of Python 3.7: this Python would crash on it."""
    with zipfile.ZipFile(HERE / "keras-2.2.4.zip") as content:
        content.extract("siamese.h5", tmp_path)
    model = load_model(ModelSource(tmp_path / "siamese.h5", trust_code=True))
    assert "Lambda's stored code read as K.abs(x[0] - x[1]) (lambda_1)" in model.repairs


# -- classes that are not Keras's


def test_instance_normalization_of_keras_contrib(tmp_path: Path) -> None:
    """layers/normalization/instancenormalization.py of keras_contrib 2.0.8: epsilon is added to the deviation."""
    own = {"axis": 3, "epsilon": 0.01, "center": True, "scale": True, "beta_initializer": {}, "gamma_initializer": {}}
    layer = {"class_name": "InstanceNormalization", "config": {"name": "i", **own}}
    config = {"class_name": "Sequential", "config": {"name": "s", "layers": [layer]}}
    layer["config"]["batch_input_shape"] = [None, 5, 4, 2]
    gamma, beta = np.array([2.0, 0.5], "f"), np.array([0.1, -1.0], "f")
    path = write_h5(tmp_path / "m.h5", config, {"i": {"i/gamma:0": gamma, "i/beta:0": beta}}, "2.2.4")
    x = np.random.default_rng(0).uniform(-1, 1, (3, 5, 4, 2)).astype("f")
    (got,) = frozen_answers(load_model(ModelSource(path)), [x])
    wanted = (x - x.mean((1, 2), keepdims=True)) / (x.std((1, 2), keepdims=True) + 0.01) * gamma + beta
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
    del layer["config"]["center"]
    path = write_h5(tmp_path / "n.h5", config, {"i": {"i/gamma:0": gamma, "i/beta:0": beta}}, "2.2.4")
    with pytest.raises(ModelError, match="is of the class InstanceNormalization, which is not one of Keras's"):
        load_model(ModelSource(path))


def test_a_model_of_its_authors_own_class(tmp_path: Path) -> None:
    """Refused with what to do; loaded by Keras where the spec gives the class and trusts it."""
    from tests.models.own_class import Own

    x = np.random.default_rng(0).uniform(-1, 1, (2, 5)).astype("f")
    model = Own(3)
    wanted = np.asarray(model(x))
    model.save(tmp_path / "own.keras")
    with pytest.raises(ModelError, match="the model is of the class Own, written by its author"):
        load_model(ModelSource(tmp_path / "own.keras"))
    custom = {"Own": "tests.models.own_class:Own"}
    loaded = load_model(ModelSource(tmp_path / "own.keras", custom_objects=custom, trust_code=True))
    np.testing.assert_allclose(frozen_answers(loaded, [x])[0], wanted, rtol=1e-5)
    assert [(t.name, t.shape) for t in loaded.inputs] == [("input", (None, 5))]
    assert loaded.repairs == ("Own loaded by Keras with the class that the spec trusts",)
