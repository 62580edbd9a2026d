"""The ready specs in `specs/` load without TensorFlow, fit their models, and preprocess as Keras says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

SPECS = Path(__file__).parent.parent / "specs"
GALLERY = sorted(path for path in SPECS.rglob("*.json") if "version" in json.loads(path.read_text()))

FAMILIES = {
    "convnexttiny": ("convnext", "ConvNeXtTiny"),
    "densenet121": ("densenet", "DenseNet121"),
    "efficientnetb0": ("efficientnet", "EfficientNetB0"),
    "efficientnetv2b0": ("efficientnet_v2", "EfficientNetV2B0"),
    "inceptionresnetv2": ("inception_resnet_v2", "InceptionResNetV2"),
    "inceptionv3": ("inception_v3", "InceptionV3"),
    "mobilenet": ("mobilenet", "MobileNet"),
    "mobilenetv2": ("mobilenet_v2", "MobileNetV2"),
    "mobilenetv3large": ("mobilenet_v3", "MobileNetV3Large"),
    "mobilenetv3small": ("mobilenet_v3", "MobileNetV3Small"),
    "nasnetmobile": ("nasnet", "NASNetMobile"),
    "resnet50": ("resnet", "ResNet50"),
    "resnet50v2": ("resnet_v2", "ResNet50V2"),
    "vgg16": ("vgg16", "VGG16"),
    "vgg19": ("vgg19", "VGG19"),
    "xception": ("xception", "Xception"),
}
"""Spec name -> the module in keras.applications with its `preprocess_input`, and the function that builds the model."""


def name(path: Path) -> str:
    return path.relative_to(SPECS).as_posix()


@pytest.mark.parametrize("path", GALLERY, ids=name)
def test_the_spec_loads(path: Path) -> None:
    from pbcompile.spec import load_spec

    spec = load_spec(path)
    assert spec.inputs
    assert spec.outputs
    assert spec.artifact.suffix == ".pb"


def test_none_of_them_needs_tensorflow() -> None:
    program = (
        "import sys; from pbcompile.spec import load_spec; specs = [load_spec(path) for path in sys.argv[1:]];"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, *map(str, GALLERY)], check=True)


def test_every_family_of_keras_applications_is_there() -> None:
    import keras

    modules = {
        name for name in dir(keras.applications) if hasattr(getattr(keras.applications, name), "preprocess_input")
    }
    # resnet50 is resnet under its older name, and imagenet_utils holds what the others share.
    assert modules - {"resnet50", "imagenet_utils"} == {module for module, _ in FAMILIES.values()}
    assert {path.stem for path in (SPECS / "keras_applications").glob("*.json")} == set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_spec_fits_the_model_and_preprocesses_as_keras_does(family: str) -> None:
    import keras

    from pbcompile.models import ModelTensor
    from pbcompile.plan import make_plan
    from pbcompile.reference import REFERENCE
    from pbcompile.spec import load_spec

    module, build = FAMILIES[family]
    spec = load_spec(SPECS / "keras_applications" / f"{family}.json")
    model = getattr(keras.applications, build)(weights=None)
    inputs = [ModelTensor(t.name, t.dtype, tuple(t.shape)) for t in model.inputs]
    outputs = [
        ModelTensor(name, t.dtype, tuple(t.shape)) for name, t in zip(model.output_names, model.outputs, strict=True)
    ]
    keras.backend.clear_session()
    make_plan(spec, inputs, outputs)
    size = [d or 224 for d in inputs[0].shape[1:3]]  # MobileNetV3 takes any size; 224 is what it was trained at

    frame = np.random.default_rng(0).integers(0, 256, (1, 307, 411, 3), np.uint8)
    wanted = cv2.cvtColor(cv2.resize(frame[0], size[::-1], interpolation=cv2.INTER_LINEAR), cv2.COLOR_BGR2RGB)
    wanted = getattr(keras.applications, module).preprocess_input(wanted[None].astype(np.float32))
    (fed,) = spec.inputs
    got, given = frame, fed.entry
    for step, after in zip(fed.preprocess, fed.types, strict=True):
        got, given = REFERENCE[type(step)](step, got, given), after
    # Both sides are float32 in at most four operations, in another order: an ulp of the largest value for each.
    np.testing.assert_allclose(got, wanted, rtol=0, atol=4 * np.finfo(np.float32).eps * np.abs(wanted).max())
