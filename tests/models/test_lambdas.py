"""Lambda layers and other code in files: read, described, replaced by steps, and never run without being trusted."""

from __future__ import annotations

import base64
import codecs
import json
import marshal
import pickle
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pbcompile.errors import ModelError, PbcompileError, SpecError
from pbcompile.models import ModelSource, load_model
from pbcompile.models.lambda_code import expression
from pbcompile.models.lambdas import steps_for
from pbcompile.models.marshal_reader import UnreadableError, read_code
from pbcompile.steps import STEPS
from tests.models.test_files import dense_config, write_h5

STORED = json.loads((Path(__file__).parent / "stored_lambdas.json").read_text())
"""The same eight functions, marshalled by Python 2.7 to 3.13 themselves."""
SAID = {
    "scale": "(x / 127.5) - 1.0",
    "two": "((x / 255.0) - 0.5) * 2.0",
    "gray": "tf.image.rgb_to_grayscale(image)",
    "resize": "tf.image.resize(x, (64, 64))",
    "kw": "tf.image.resize(x, size=[32, 32], method='bilinear')",
    "slice": "x[:, :, :, ::-1]",
    "l2": "K.l2_normalize(x, axis=1)",
    "call": "preprocess_input(x)",
}
STEPS_FOR = {
    "scale": [{"op": "rescale", "scale": 1 / 127.5, "offset": -1.0}],
    "two": [{"op": "rescale", "scale": 2 / 255, "offset": -1.0}],
    "gray": [{"op": "convert_color", "to": "GRAY", "like": "opencv"}],
    "resize": [{"op": "resize", "size": [64, 64], "method": "linear", "like": "tensorflow"}],
    "kw": [{"op": "resize", "size": [32, 32], "method": "linear", "like": "tensorflow"}],
    "slice": [{"op": "convert_color", "to": "BGR"}],
    "l2": None,
    "call": None,
}


@pytest.mark.parametrize("python", STORED)
@pytest.mark.parametrize("name", SAID)
def test_the_code_of_every_python_is_read_without_running_it(python: str, name: str) -> None:
    body = expression(read_code(base64.b64decode(STORED[python][name])))
    assert str(body) == SAID[name]
    assert body is not None
    assert steps_for(body) == STEPS_FOR[name]


def test_damaged_code_is_refused_by_the_reader() -> None:
    whole = base64.b64decode(STORED["3.6"]["scale"])
    random = np.random.default_rng(0)
    for _ in range(400):
        data = bytearray(whole)
        data[int(random.integers(len(data)))] ^= 1 << int(random.integers(8))
        cut = bytes(data[: int(random.integers(1, len(data) + 1))])
        for code in (bytes(data), cut):
            with suppress(UnreadableError):
                expression(read_code(code))


def lambda_config(function: Any, **more: Any) -> dict[str, Any]:
    config = dense_config()
    inner = {"name": "scale/it", "function": function, "function_type": "lambda", **more}
    config["config"]["layers"].insert(1, {"class_name": "Lambda", "config": inner})
    return config


def test_a_lambda_is_an_error_that_says_what_it_computes_and_what_to_write(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "m.h5", lambda_config([STORED["3.6"]["scale"], None, None]))
    with pytest.raises(ModelError) as caught:
        load_model(ModelSource(path))
    (problem,) = caught.value.problems
    assert problem.code == "lambda-not-run"
    assert problem.message == (
        "the layer scale/it is a Lambda, whose stored Python code is never run; it computes (x / 127.5) - 1.0"
    )
    assert problem.hint == (
        'put into the spec: "model": {"path": "m.h5", "lambda": '
        '{"scale/it": [{"op": "rescale", "scale": 0.00784313725490196, "offset": -1.0}]}}'
    )


def test_a_lambda_without_matching_steps_shows_its_constants_and_names(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "m.h5", lambda_config([STORED["2.7"]["l2"], None, None], arguments={"k": 3}))
    with pytest.raises(ModelError) as caught:
        load_model(ModelSource(path))
    assert caught.value.problems[0].message.endswith("it computes K.l2_normalize(x, axis=1)")
    assert '"lambda": {"scale/it": "K.l2_normalize(x, axis=1)"}' in caught.value.problems[0].hint
    path = write_h5(tmp_path / "p.h5", lambda_config([STORED["2.7"]["call"], None, None], arguments={"k": 3}))
    with pytest.raises(ModelError) as caught:
        load_model(ModelSource(path))
    assert 'it computes preprocess_input(x), with {"k": 3}' in caught.value.problems[0].message
    assert caught.value.problems[0].hint.endswith('or, if you trust the file, "trust_code": true')
    path = write_h5(tmp_path / "n.h5", lambda_config("preprocess_input"))
    with pytest.raises(ModelError, match="it calls preprocess_input, whose code is not in the file"):
        load_model(ModelSource(path))


def test_steps_of_the_spec_stand_for_a_lambda(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "m.h5", lambda_config([STORED["3.6"]["scale"], None, None]))
    rescale = next(step for step in STEPS if step.op == "rescale")
    step = rescale.from_json({"scale": 1 / 127.5, "offset": -1.0}, "/model/lambda/scale~1it/0", tmp_path)
    model = load_model(ModelSource(path, lambdas={"scale/it": (step,)}))
    assert "Lambda replaced by the spec's steps: rescale (scale/it)" in model.repairs
    got = model.predict({"x": np.full((1, 3), 127.5, "f")})["y"]
    np.testing.assert_allclose(got, np.zeros((1, 2)), atol=1e-6)
    with pytest.raises(SpecError) as caught:
        load_model(ModelSource(path, lambdas={"scale_it": (step,), "scale/it": (step,)}))
    assert caught.value.problems[0].pointer == "/model/lambda/scale_it"
    assert caught.value.problems[0].hint == 'did you mean "scale/it"?'


# -- code that would leave a canary behind, if anything ran it


def canary_code(canary: Path) -> bytes:
    source = f"lambda x: (open({str(canary)!r}, 'w').write('ran'), x)[1]"
    return marshal.dumps(eval(source).__code__)


class Bomb:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return (exec, (f"open({str(self.canary)!r}, 'w').write('ran')",))


def hostile(kind: str, canary: Path) -> dict[str, Any]:
    """A config that tries to run code in one way."""
    code = codecs.encode(canary_code(canary), "base64").decode()
    keras3 = {"class_name": "__lambda__", "config": {"code": code, "defaults": None, "closure": None}}
    config = dense_config()
    layers, dense = config["config"]["layers"], config["config"]["layers"][1]["config"]
    foreign = {"module": "subprocess", "class_name": "Popen", "config": {"name": "p", "args": ["touch", str(canary)]}}
    if kind == "lambda of keras 2":
        return lambda_config([code, None, None])
    if kind == "lambda of keras 1":
        return lambda_config([canary_code(canary).decode("latin-1"), None, None])
    if kind == "lambda of keras 3":
        return lambda_config(keras3)
    if kind == "output shape":
        return lambda_config("identity", output_shape=keras3)
    if kind == "activation":
        dense["activation"] = keras3
    elif kind == "initializer":
        dense["kernel_initializer"] = keras3
    elif kind == "foreign module":
        layers.insert(1, foreign)
    elif kind == "foreign activation":
        dense["activation"] = foreign
    elif kind == "registered name":
        layers.insert(1, {"class_name": "Evil", "config": {"name": "e"}, "registered_name": "pkg>Evil", "module": "os"})
    elif kind == "builtin name, foreign module":
        layers.insert(1, {"class_name": "Dense", "module": "evil", "config": {"name": "e", "units": 3}})
    elif kind == "saved model layer":
        layers.insert(1, {"class_name": "TFSMLayer", "config": {"name": "t", "filepath": str(canary.parent)}})
    elif kind == "torch layer":
        pickled = base64.b64encode(pickle.dumps(Bomb(canary))).decode()
        layers.insert(1, {"class_name": "TorchModuleWrapper", "config": {"name": "t", "module": pickled}})
    elif kind == "vocabulary file":
        layers.insert(1, {"class_name": "StringLookup", "config": {"name": "s", "vocabulary": "/etc/passwd"}})
    elif kind == "tensorflow function":
        node = {"class_name": "TFOpLambda", "config": {"name": "f", "function": "io.write_file"}}
        layers.insert(1, node)
    elif kind == "operation with code":
        layers.insert(1, {"class_name": "Map", "module": "keras.src.ops.core", "config": {"name": "m", "f": keras3}})
    elif kind == "custom model":
        return {"class_name": "Evil", "module": "evil", "config": {"name": "e"}, "registered_name": "pkg>Evil"}
    return config


KINDS = [
    "lambda of keras 1", "lambda of keras 2", "lambda of keras 3", "output shape", "activation", "foreign module",
    "foreign activation", "registered name", "builtin name, foreign module", "saved model layer", "torch layer",
    "vocabulary file", "tensorflow function", "operation with code", "custom model",
]  # fmt: skip


@pytest.mark.parametrize("container", ["h5", "keras", "json"])
@pytest.mark.parametrize("kind", KINDS)
def test_code_in_a_file_never_runs(kind: str, container: str, tmp_path: Path) -> None:
    """Whatever the way and the format: exit code 3, a sentence, and no canary."""
    canary = tmp_path / "canary"
    config = hostile(kind, canary)
    weights = write_h5(tmp_path / "weights.h5", config)
    source = ModelSource(weights)
    if container == "json":
        (tmp_path / "m.json").write_text(json.dumps(config))
        source = ModelSource(tmp_path / "m.json", weights)
    elif container == "keras":
        with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
            archive.writestr("config.json", json.dumps(config))
            archive.writestr("metadata.json", json.dumps({"keras_version": "3.10.0"}))
        source = ModelSource(tmp_path / "m.keras")
    with pytest.raises(PbcompileError) as caught:
        load_model(source)
    assert caught.value.exit_code == 3
    assert not canary.exists()


def test_training_only_parts_are_not_even_looked_at(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    load_model(ModelSource(write_h5(tmp_path / "m.h5", hostile("initializer", canary))))
    assert not canary.exists()


def test_a_pickle_of_weights_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "m.h5").write_bytes(pickle.dumps(Bomb(tmp_path / "canary")))
    with pytest.raises(ModelError, match="is a Python pickle"):
        load_model(ModelSource(tmp_path / "m.h5"))
    assert not (tmp_path / "canary").exists()


def test_trusted_code_runs(tmp_path: Path) -> None:
    """The other way round, so that the canary is known to sing."""
    canary = tmp_path / "canary"
    path = write_h5(tmp_path / "m.h5", hostile("lambda of keras 2", canary))
    model = load_model(ModelSource(path, trust_code=True))
    assert canary.exists()
    assert "Lambda's stored code run, as the spec trusts it (scale/it)" in model.repairs


def test_custom_objects_need_trust(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "m.h5", dense_config())
    with pytest.raises(SpecError) as caught:
        load_model(ModelSource(path, custom_objects={"Evil": "os:system"}))
    assert caught.value.problems[0].pointer == "/model/custom_objects"
    with pytest.raises(SpecError, match="cannot be imported"):
        load_model(ModelSource(path, custom_objects={"Evil": "no_such_module:x"}, trust_code=True))


def test_a_trusted_custom_activation(tmp_path: Path) -> None:
    config = dense_config()
    config["config"]["layers"][1]["config"]["activation"] = "twice"
    path = write_h5(tmp_path / "m.h5", config)
    source = ModelSource(path, custom_objects={"twice": f"{__name__}:twice"}, trust_code=True)
    got = load_model(source).predict({"x": np.ones((1, 3), "f")})["y"]
    assert got.tolist() == [[6.0, 6.0]]


def twice(x: Any) -> Any:
    return 2 * x
