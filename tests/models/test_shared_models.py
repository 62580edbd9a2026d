"""Real models by other people, as their authors feed them, through loading and freezing: their golden outputs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pbcompile.errors import ModelError
from pbcompile.models import ModelSource, load_model
from pbcompile.steps import STEPS
from tests.conftest import SHARED_MODELS
from tests.models.frozen import frozen_answers

pytestmark = pytest.mark.skipif(not SHARED_MODELS.is_dir(), reason="other people's models are not beside this checkout")

RESCALE = next(step for step in STEPS if step.op == "rescale")
STEERING = {"lambda_1": (RESCALE.from_json({"scale": 1 / 127.5, "offset": -1.0}, "/model/lambda/lambda_1/0", Path()),)}
FILES = {
    "captcha_five_outputs": "model_v4_1.h5",
    "captcha_lstm": "prediction_model.h5",
    "lane_segmentation": "full_CNN_model.h5",
    "mini_xception": "fer2013_mini_XCEPTION.102-0.66.hdf5",
    "person_mobilenet_v1": "vww_96.h5",
    "potato": "potatoes.h5",
    "steering_keras1": "model.h5",
    "teachable_machine": "keras_model.h5",
}


def golden(folder: str) -> Iterator[tuple[Any, list[Any]]]:
    """Each input batch with the outputs that belong to it."""
    with np.load(next((SHARED_MODELS / folder).glob("golden_*.npz"))) as content:
        values = dict(content)
    index = 0
    while f"x{index}" in values:
        outputs = [values[key] for key in sorted(values) if key.startswith(f"y{index}_")]
        yield values[f"x{index}"], outputs
        index += 1


@pytest.mark.parametrize("folder", FILES)
def test_golden_outputs_from_the_frozen_model(folder: str) -> None:
    """Within 1e-5 of the largest output; 1e-4 is asked for."""
    lambdas = STEERING if folder == "steering_keras1" else {}
    model = load_model(ModelSource(SHARED_MODELS / folder / FILES[folder], lambdas=lambdas))
    for given, wanted in golden(folder):
        for got, want in zip(frozen_answers(model, [given]), wanted, strict=True):
            assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


def test_an_architecture_file_with_either_file_of_weights() -> None:
    """`model_.h5` is of another training run than the golden outputs, whoever reads it: the same JSON with the weights
    inside `model.h5` gives them, and array by array the two files differ, by up to 0.04."""
    folder = SHARED_MODELS / "steering_keras1"
    given, wanted = next(golden("steering_keras1"))

    def answer(weights: str) -> Any:
        model = load_model(ModelSource(folder / "model.json", folder / weights, lambdas=STEERING))
        assert "Convolution2D read as Conv2D (5 layers)" in model.repairs
        return frozen_answers(model, [given])[0]

    assert np.abs(answer("model.h5") - wanted[0]).max() <= 1e-5 * np.abs(wanted[0]).max()
    with h5py.File(folder / "model.h5") as whole, h5py.File(folder / "model_.h5") as alone:
        trained = arrays(whole["model_weights"])
        others = arrays(alone)
    differences = [np.abs(a - b).max() for a, b in zip(trained, others, strict=True)]
    assert min(differences) > 1e-4
    assert max(differences) < 0.05
    assert 1e-4 < np.abs(answer("model_.h5") - wanted[0]).max() < 0.01


def arrays(group: h5py.Group) -> list[Any]:
    """Every array of a weights group, read without any code of ours."""
    layers = [group[name] for name in group.attrs["layer_names"]]
    return [layer[name][()] for layer in layers for name in layer.attrs["weight_names"]]


def test_a_saved_model_that_no_keras_loads_gives_what_the_h5_of_its_family_gives() -> None:
    """Its random flips and rotations are gone, and it says that it resizes and rescales by itself."""
    model = load_model(ModelSource(SHARED_MODELS / "potato" / "saved_model_1"))
    assert [(layer.layer, layer.kind) for layer in model.preprocessing] == [
        ("resizing", "resize"),
        ("rescaling", "rescale"),
    ]
    given, _ = next(golden("potato"))
    raw = np.round(given * 255).astype(np.float32)
    (got,) = frozen_answers(model, [raw])
    original = next(iter(model.predict({model.inputs[0].name: raw}).values()))
    assert np.abs(got - original).max() <= 1e-6
    assert int(got.argmax()) == 0, "the picture shows early blight"


def test_repairs_say_what_was_done() -> None:
    repairs = load_model(ModelSource(SHARED_MODELS / "person_mobilenet_v1" / FILES["person_mobilenet_v1"])).repairs
    assert repairs == (
        "BatchNormalization.axis list read as its only axis (27 layers)",
        "DepthwiseConv2D.groups dropped (13 layers)",
    )


def test_weights_alone_are_no_model() -> None:
    source = ModelSource(SHARED_MODELS / "steering_keras1" / "model_.h5")
    with pytest.raises(ModelError, match=r"model_\.h5 holds weights but no architecture"):
        load_model(source)


def test_the_five_outputs_keep_their_names_and_order() -> None:
    model = load_model(ModelSource(SHARED_MODELS / "captcha_five_outputs" / FILES["captcha_five_outputs"]))
    assert [tensor.name for tensor in model.outputs] == ["char_1", "char_2", "char_3", "char_4", "char_5"]
