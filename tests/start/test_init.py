"""`init`: what is recognised in a model file, what is asked, and that what it writes compiles and answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pbcompile.models import ModelSource
from pbcompile.start.draft import draft_spec
from tests.conftest import SHARED_MODELS, needs_shared_models

PHOTO = SHARED_MODELS / "potato" / "early_blight_1.jpg"


def drafted(path: Path, answers: dict[str, str] | None = None) -> Any:
    def ask(question: str, choices: Any, default: str) -> str:
        return next((key for word, key in (answers or {}).items() if word in question), default)

    return draft_spec(ModelSource(path), path.parent, None, None if answers is None else ask)


def image_steps(draft: Any) -> list[dict[str, Any]]:
    return draft.document["inputs"]["image"]["preprocess"]


FAMILIES = {
    "MobileNet": ("tf", "MobileNet", {"alpha": 0.25}),
    "MobileNetV2": ("tf", "MobileNetV2", {"alpha": 0.35}),
    "ResNet50": ("caffe", "ResNet50", {}),
    "ResNet50V2": ("tf", "ResNet50V2", {}),
    "VGG16": ("caffe", "VGG16", {}),
    "DenseNet121": ("torch", "DenseNet121", {}),
    "MobileNetV3Small": (None, "MobileNetV3Small", {}),
    "EfficientNetB0": (None, "EfficientNetB0", {}),
}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("nested", [True, False], ids=["nested", "inlined"])
def test_families_of_keras_applications_by_topology(tmp_path: Path, name: str, nested: bool) -> None:
    """A backbone with a head of one's own, nested or not, every layer renamed: the mode of its preprocess_input."""
    import keras

    mode, family, options = FAMILIES[name]
    base = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(96, 96, 3), **options)
    layers = keras.layers
    if nested:
        model = keras.Sequential(
            [base, layers.GlobalAveragePooling2D(), layers.Dropout(0.2), layers.Dense(3, "softmax")]
        )
    else:
        x = layers.GlobalAveragePooling2D()(base.output)
        model = keras.Model(base.input, layers.Dense(3, "softmax")(x))
    config = model.to_json()
    for index, layer in enumerate(base.layers):
        config = config.replace(f'"{layer.name}"', f'"layer_{index}"')
    (tmp_path / "net.json").write_text(config)
    weights = tmp_path / "net.weights.h5"
    keras.Sequential([keras.Input((1,)), layers.Dense(1)]).save_weights(weights)
    draft = draft_spec(ModelSource(tmp_path / "net.json", weights), tmp_path, None, None)
    assert any(sentence.startswith(family) for sentence in draft.recognised), draft.recognised
    wanted = [{"op": "resize", "size": [96, 96], "method": "cubic", "like": "pillow"}]
    steps = {"caffe": "caffe", "torch": "torch"}.get(str(mode))
    if mode == "tf":
        wanted.append({"op": "rescale", "scale": 1 / 127.5, "offset": -1.0})
    elif steps:
        wanted.append({"op": "keras_applications", "mode": steps})
    assert image_steps(draft) == wanted
    assert draft.document["outputs"]["top"]["postprocess"][0]["k"] == 3


def test_a_plain_network_is_no_family(tmp_path: Path) -> None:
    import keras

    layers = keras.layers
    blocks = [layer for width in (32, 64, 128) for layer in (layers.Conv2D(width, 3), layers.MaxPooling2D())]
    keras.Sequential([keras.Input((64, 64, 1)), *blocks, layers.Flatten(), layers.Dense(1)]).save(
        tmp_path / "net.keras"
    )
    draft = drafted(tmp_path / "net.keras", {"resized": "opencv", "pixels": "-1..1"})
    assert image_steps(draft) == [
        {"op": "convert_color", "to": "GRAY", "like": "pillow"},
        {"op": "resize", "size": [64, 64], "method": "linear", "like": "opencv"},
        {"op": "rescale", "scale": 1 / 127.5, "offset": -1.0},
    ]
    assert "top" not in draft.document["outputs"]


@pytest.mark.parametrize(
    ("seen", "scale", "shift"),
    [("0..1", 1 / 255, 0.0), ("-1..1", 1 / 127.5, -1.0), ("0..255", 1.0, 0.0)],
)
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_the_first_batch_norm_tells_the_range(
    tmp_path: Path, seen: str, scale: float, shift: float, suffix: str
) -> None:
    import keras

    from tests.networks import natural_batch, set_statistics

    keras.utils.set_random_seed(3)
    layers = keras.layers
    stem = [layers.Conv2D(16, 3, 2, use_bias=False), layers.BatchNormalization(), layers.ReLU()]
    model = keras.Sequential([keras.Input((64, 64, 3)), *stem, layers.GlobalAveragePooling2D(), layers.Dense(4)])
    colours = natural_batch(16, 64).astype(np.float32)
    photos = 0.8 * colours.mean(-1, keepdims=True) + 0.2 * colours  # the colours of photographs go together
    photos = 115 + (photos - photos.mean()) * (66 / photos.std())
    set_statistics(model, photos * scale + shift)
    model.save(tmp_path / f"net{suffix}")
    draft = drafted(tmp_path / f"net{suffix}")
    assert any(f"values of {seen}" in sentence for sentence in draft.recognised), draft.recognised


def test_preprocessing_inside_is_not_done_twice(tmp_path: Path) -> None:
    import keras

    layers = keras.layers
    inside = [layers.Rescaling(1 / 255), layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(), layers.Dense(2)]
    keras.Sequential([keras.Input((32, 32, 3)), *inside]).save(tmp_path / "net.keras")
    draft = drafted(tmp_path / "net.keras")
    assert [step["op"] for step in image_steps(draft)] == ["resize"]
    assert any("inside the model" in sentence for sentence in draft.recognised)


def test_several_inputs_and_numbers(tmp_path: Path) -> None:
    import keras

    layers = keras.layers
    image, numbers = keras.Input((16, 16, 3), name="picture"), keras.Input((5,), name="facts")
    x = layers.Concatenate()([layers.Flatten()(image), numbers])
    keras.Model([image, numbers], layers.Dense(2)(x)).save(tmp_path / "net.keras")
    inputs = drafted(tmp_path / "net.keras").document["inputs"]
    assert inputs["image"]["feeds"] == "picture"
    assert inputs["facts"] == {"feeds": "facts", "kind": "tensor", "dtype": "float32", "shape": [None, 5]}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    import keras

    layers = keras.layers
    keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(2, "softmax")]).save(
        tmp_path / "net.keras"
    )
    return tmp_path


def test_nothing_is_written_over(small: Path, run) -> None:
    (small / "net.json").write_text("mine")
    done = run("init", "net.keras", "--yes")
    assert done.code == 2
    assert "net.json exists already" in done.err
    assert (small / "net.json").read_text() == "mine"
    assert run("init", "net.keras", "--yes", "--force").code == 0
    assert json.loads((small / "net.json").read_text())["$schema"] == "pbcompile.schema.json"
    assert (small / "pbcompile.schema.json").is_file()


def test_init_with_an_import_compiles(small: Path, run) -> None:
    words = "Compose(Resize(size=9), CenterCrop(size=(8, 8)), ToTensor(), Normalize((0.5,), (0.5,)))"
    (small / "transform.txt").write_text(words)
    (small / "labels.txt").write_text("cat\ndog\n")
    done = run("init", "net.keras", "--from", "transform.txt", "--yes", "--json")
    assert done.code == 0, done.err
    steps = done.json()["document"]["inputs"]["image"]["preprocess"]
    assert [step["op"] for step in steps] == ["resize", "center_crop", "rescale", "normalize"]
    assert run("net.json").code == 0
    wrong = run("init", "net.keras", "--from", "transform.txt", "-o", "a/b.json", "--yes")
    assert wrong.code == 2
    assert "does not exist" in wrong.err


def test_an_import_that_does_not_fit_the_model_is_told(small: Path, run) -> None:
    done = run("init", "net.keras", "--from", "Compose(Resize(size=(9, 9)), ToTensor())", "--yes", "--json")
    assert any(sentence.startswith("this does not fit yet") for sentence in done.json()["assumed"])


GOLDEN: dict[str, tuple[str, str, str, str, float | None]] = {
    # folder: (model, golden file, tag, image, most difference from the golden output; None: the same answer)
    "teachable_machine": ("keras_model.h5", "golden_tm_waste.npz", "0", "../potato/early_blight_1.jpg", 1e-4),
    "lane_segmentation": ("full_CNN_model.h5", "golden_mlnd_lanes.npz", "0", "straight.png", 0.25),
    "steering_keras1": ("model.h5", "", "", "frame_320x160.png", 0),
    "captcha_five_outputs": ("model_v4_1.h5", "golden_hamster_captcha.npz", "0", "13IC3.png", None),
    "captcha_lstm": ("prediction_model.h5", "golden_sauravyz_crnn.npz", "0", "227g7.png", 1e-4),
    "potato": ("potatoes.h5", "golden_codebasics_h5.npz", "0", "early_blight_1.jpg", 1e-4),
    "potato_saved_model": ("saved_model_1", "", "", "early_blight_1.jpg", 0),
    "mini_xception": ("fer2013_mini_XCEPTION.102-0.66.hdf5", "", "", "12_angry_men.jpg", 0),
    "person_mobilenet_v1": ("vww_96.h5", "", "", "../mini_xception/12_angry_men.jpg", 0),
}


@needs_shared_models
@pytest.mark.parametrize("case", GOLDEN)
def test_other_people_s_models_answer_after_init(tmp_path: Path, run, case: str) -> None:
    """init --yes, compile, predict: the golden outputs, as near as a resize that the file does not name allows."""
    model, golden, tag, image, most = GOLDEN[case]
    folder = SHARED_MODELS / case.removesuffix("_saved_model")
    begun = run("init", folder / model, "--yes", "-o", "spec.json", "--json")
    assert begun.code == 0, begun.err
    assert not any("does not fit" in sentence for sentence in begun.json()["assumed"])
    document = begun.json()["document"] | {"verify": {"images": str(folder / image), "count": 1}}
    (tmp_path / "spec.json").write_text(json.dumps(document))
    done = run("spec.json", "--no-verify")  # the gate has its own tests of these models
    assert done.code == 0, done.err
    said = run("predict", "spec.pb", folder / image, "--json")
    assert said.code == 0, said.err
    (result,) = said.json()["results"]
    if case == "teachable_machine":
        assert result["outputs"]["top_labels"][0][0] in ("cardboard", "plastic", "glass", "metal")
    if golden:
        saved = np.load(folder / golden)
        plain = [value for name, value in result["outputs"].items() if not name.startswith("top_")]
        for index, value in enumerate(plain):
            wanted = saved[f"y{tag}_{index}"]
            if most is None:
                assert np.argmax(value) == np.argmax(wanted)
                continue
            assert np.abs(np.asarray(value) - wanted).max() <= most * np.abs(wanted).max()
