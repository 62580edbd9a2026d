"""Specs become artifacts: the same numbers in a fresh process, the same names, the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import pbcompile
from tests.conftest import SHARED_MODELS, needs_shared_models
from tests.networks import FAMILIES, application, natural_batch, set_statistics

RESIZE = {"op": "resize", "method": "linear", "like": "opencv"}


def write(path: Path, **document: object) -> Path:
    path.write_text(json.dumps({"version": 1} | document))
    return path


@pytest.fixture(scope="module")
def convnet(tmp_path_factory) -> Path:
    """A small network with a batch norm whose statistics come from images, saved as .keras and .h5."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(3)
    folder = tmp_path_factory.mktemp("convnet")
    image = keras.Input((16, 20, 3), name="picture")
    x = layers.Conv2D(6, 3, padding="same", use_bias=False, name="conv")(image)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU()(x)
    pooled = layers.GlobalAveragePooling2D()(x)
    outputs = [layers.Dense(5, name="first")(pooled), layers.Dense(2, activation="sigmoid", name="second")(pooled)]
    model = keras.Model(image, outputs)
    set_statistics(model, natural_batch(4, 20)[:, :16])
    model.save(folder / "net.keras")
    model.save(folder / "net.h5")
    return folder


INPUTS = {
    "any_size": {"channels": "BGR"},
    "fixed_size": {"channels": "BGR", "shape": [1, 33, 47, 3]},
    "one_image": {"channels": "RGB", "shape": [None, None, 3]},
    "batch_of_two": {"channels": "RGB", "shape": [2, None, None, 3]},
    "channels_first": {"channels": "RGB", "layout": "NCHW"},
    "one_channels_first": {"channels": "RGB", "layout": "NCHW", "shape": [3, None, None]},
    "float32": {"channels": "RGB", "dtype": "float32"},
    "jpeg": {"kind": "encoded", "channels": "RGB"},
    "jpeg_upright": {"kind": "encoded", "channels": "BGR", "exif": "ignore"},
    "jpeg_vector": {"kind": "encoded", "channels": "RGB", "shape": [None]},
    "jpeg_of_pillow": {"kind": "encoded", "channels": "RGB", "like": "pillow"},
}


@pytest.mark.parametrize("kind", INPUTS)
def test_every_kind_of_input_passes_the_gate(convnet, kind) -> None:
    item = INPUTS[kind] | {
        "preprocess": [RESIZE | {"size": [16, 20]}, {"op": "normalize", "mean": [9, 8, 7], "std": 50}]
    }
    spec = write(convnet / f"{kind}.json", model="net.keras", inputs={"image": item}, verify={"count": 4})
    result = pbcompile.compile_spec(spec)
    assert result.verify is not None
    assert result.verify.passed
    assert result.verify.preprocess["image"].max_level_difference == 0
    assert result.made.report.as_json()["batch_norm"]["folded"] == 1


def test_a_vector_of_jpegs_is_the_jpegs_one_by_one(convnet) -> None:
    """Images of different sizes in one feed; none of them may leak into another."""
    item = {"kind": "encoded", "channels": "RGB", "preprocess": [RESIZE | {"size": [16, 20]}]}
    one = pbcompile.compile_spec(write(convnet / "one.json", model="net.keras", inputs={"x": item}), verify=False)
    many = pbcompile.compile_spec(
        write(convnet / "many.json", model="net.keras", inputs={"x": item | {"shape": [None]}}), verify=False
    )
    images = [cv2.imencode(".jpg", natural_batch(1, size, size)[0])[1].tobytes() for size in (9, 40, 120, 40, 17)]
    single, vector = pbcompile.load(one.artifact), pbcompile.load(many.artifact)
    alone = np.concatenate([single(x=image)["first"] for image in images])
    np.testing.assert_allclose(vector(x=np.array(images, object))["first"], alone, rtol=1e-5, atol=1e-5)


def test_names_and_order_are_the_spec_s(convnet) -> None:
    """Outputs come out under the spec's names, in its order, not alphabetically and not as Identity_1."""
    resized = {"channels": "RGB", "preprocess": [RESIZE | {"size": [16, 20]}]}
    outputs = {
        "zeta": {"from": "second"},
        "alpha/logits": {"from": "first"},
        "picture": {"from": "second", "postprocess": [{"op": "argmax"}]},
    }
    spec = write(convnet / "names.json", model="net.keras", inputs={"photo": resized}, outputs=outputs)
    result = pbcompile.compile_spec(spec)
    seen = pbcompile.inspect(result.artifact)
    assert [item["name"] for item in seen["inputs"]] == ["photo"]
    assert [item["name"] for item in seen["outputs"]] == ["zeta", "alpha/logits", "picture"]
    import tensorflow as tf

    graph_def = tf.compat.v1.GraphDef.FromString(result.artifact.read_bytes())
    nodes = {node.name: node for node in graph_def.node}
    assert nodes["photo"].op == "Placeholder"
    assert {"zeta", "alpha/logits", "picture"} <= set(nodes)


def test_the_artifact_holds_only_what_the_contract_allows(convnet) -> None:
    """No functions, control edges, devices, variables, or attributes at their default."""
    import tensorflow as tf
    from tensorflow.python.framework import op_def_registry

    spec = write(
        convnet / "clean.json",
        model="net.keras",
        inputs={
            "jpegs": {
                "kind": "encoded",
                "channels": "RGB",
                "shape": [None],
                "preprocess": [RESIZE | {"size": [16, 20]}],
            }
        },
    )
    result = pbcompile.compile_spec(spec, verify=False)
    graph_def = tf.compat.v1.GraphDef.FromString(result.artifact.read_bytes())
    assert not graph_def.library.function
    assert graph_def.versions.min_consumer == 0
    for node in graph_def.node:
        assert not node.device
        assert not any(tensor.startswith("^") for tensor in node.input), node
        definition = op_def_registry.get(node.op)
        assert not definition.is_stateful, node
        for attr in definition.attr:
            if attr.HasField("default_value") and attr.name in node.attr:
                assert node.attr[attr.name] != attr.default_value, (node.name, attr.name)


def test_the_gate_finds_one_changed_weight(convnet, monkeypatch, tmp_path) -> None:
    """The gate must be able to say no: one weight of the artifact, changed by 1 %, is enough."""
    import tensorflow as tf

    from pbcompile import pipeline

    spec = write(
        convnet / "gate.json",
        model="net.keras",
        inputs={"image": {"channels": "RGB", "preprocess": [RESIZE | {"size": [16, 20]}]}},
    )
    honest = pipeline.serialize

    def tampered(graph_def: object) -> bytes:
        data = honest(graph_def)
        changed = tf.compat.v1.GraphDef.FromString(data)
        for node in changed.node:
            if node.op == "Const" and len(node.attr["value"].tensor.tensor_shape.dim) == 2:
                weights = tf.make_ndarray(node.attr["value"].tensor).copy()
                weights[0, 0] *= 1.01
                node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(weights))
        return changed.SerializeToString()

    monkeypatch.setattr(pipeline, "serialize", tampered)
    with pytest.raises(pbcompile.ParityError) as caught:
        pbcompile.compile_spec(spec, tmp_path / "never.pb")
    assert caught.value.problems[0].code == "parity-exceeded"
    assert not (tmp_path / "never.pb").exists()


def test_the_gate_does_not_trust_our_own_reader(convnet, monkeypatch, tmp_path) -> None:
    """A weight that our reader gets wrong is found, because Keras reads the file a second time."""
    from pbcompile import pipeline

    honest = pipeline.load_model

    def careless(source: object) -> object:
        model = honest(source)
        kernel = model.keep_alive.get_layer("first").kernel
        kernel.assign(kernel * 1.01)
        return model

    monkeypatch.setattr(pipeline, "load_model", careless)
    spec = write(
        convnet / "careless.json",
        model="net.h5",
        inputs={"image": {"channels": "RGB", "preprocess": [RESIZE | {"size": [16, 20]}]}},
    )
    with pytest.raises(pbcompile.ParityError, match='the output "first" is not the original'):
        pbcompile.compile_spec(spec, tmp_path / "never.pb")


@pytest.mark.parametrize(
    ("suffix", "who"), [("keras", "Keras 3"), ("h5", "Keras 3"), ("saved", "the SavedModel's own signature")]
)
def test_the_gate_says_who_answered_for_the_original(convnet, suffix, who) -> None:
    if suffix == "saved":
        import keras

        keras.saving.load_model(convnet / "net.keras").export(convnet / "net.saved", verbose=False)
    spec = write(
        convnet / f"who_{suffix}.json",
        model=f"net.{suffix}",
        inputs={"image": {"channels": "RGB", "preprocess": [RESIZE | {"size": [16, 20]}]}},
        verify={"count": 1},
    )
    report = pbcompile.compile_spec(spec).verify
    assert report is not None
    assert report.original.startswith(who)


def test_an_output_that_is_a_small_difference_of_large_sums_passes(tmp_path) -> None:
    """A regression near zero: float32 cannot give it to a tolerance relative to itself, whatever the order of sums."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(6)
    image = keras.Input((8, 8, 3))
    x = layers.Flatten()(layers.Conv2D(16, 3, activation="relu")(image))
    angle = layers.Dense(1, name="angle")
    model = keras.Model(image, angle(x))
    photo = natural_batch(1, 8)
    cv2.imwrite(str(tmp_path / "photo.png"), photo[0][..., ::-1])
    angle.bias.assign(-model(photo.astype("float32")).numpy()[0])  # the answer on this photo is zero but for rounding
    model.save(tmp_path / "net.keras")
    spec = write(
        tmp_path / "spec.json",
        model="net.keras",
        inputs={
            "image": {"channels": "RGB", "shape": [None, 8, 8, 3], "preprocess": [{"op": "rescale", "scale": 1.0}]}
        },
        verify={"images": "photo.png"},
    )
    report = pbcompile.compile_spec(spec).verify
    assert report is not None
    assert report.passed


def test_two_inputs_of_different_kinds(tmp_path) -> None:
    import keras
    from keras import layers

    keras.utils.set_random_seed(5)
    photo, facts = keras.Input((8, 8, 1), name="photo"), keras.Input((4,), name="facts")
    joined = layers.Concatenate()([layers.Flatten()(photo), facts])
    keras.Model({"photo": photo, "facts": facts}, {"b": layers.Dense(3)(joined), "a": layers.Dense(2)(joined)}).save(
        tmp_path / "two.keras"
    )
    spec = write(
        tmp_path / "two.json",
        model="two.keras",
        inputs={
            "numbers": {"kind": "tensor", "shape": [None, 4], "feeds": "facts"},
            "photo": {"channels": "GRAY", "preprocess": [RESIZE | {"size": [8, 8]}]},
        },
    )
    result = pbcompile.compile_spec(spec)
    assert result.verify is not None
    assert [item["name"] for item in result.as_json()["outputs"]] == ["b", "a"]


@pytest.mark.parametrize("level", ["none", "canonical", "tensorflow-cpu"])
@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_every_level_passes_the_gate(convnet, level, suffix) -> None:
    spec = write(
        convnet / f"{level}_{suffix}.json",
        model=f"net.{suffix}",
        inputs={
            "image": {
                "channels": "BGR",
                "preprocess": [RESIZE | {"size": [16, 20]}, {"op": "convert_color", "to": "RGB"}],
            }
        },
        optimize={"level": level},
        verify={"count": 2},
    )
    result = pbcompile.compile_spec(spec)
    assert result.verify is not None
    assert result.verify.passed


@pytest.fixture(scope="module")
def families(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("families")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_of_keras_applications(families, run_process, name) -> None:
    """Agrees with Keras to the derived tolerance, and a second process makes the same bytes."""
    size, mode = FAMILIES[name]
    application(name, families / f"{name}.keras", size)
    steps = [RESIZE | {"size": [size, size]}, {"op": "convert_color", "to": "RGB"}]
    steps += [{"op": "keras_applications", "mode": mode}] if mode else []
    spec = write(
        families / f"{name}.json",
        model=f"{name}.keras",
        inputs={"image": {"channels": "BGR", "preprocess": steps}},
        outputs={"probabilities": {"from": "predictions"}},
        verify={"count": 4},
    )
    result = pbcompile.compile_spec(spec)
    assert result.verify is not None
    parity = result.verify.outputs["probabilities"]
    assert parity.excess <= 1
    assert parity.top1_agreement == 1
    norms = result.made.report.as_json()["batch_norm"]
    assert norms["folded"] + len(norms["kept"]) == norms["found"] > 0
    assert bool(norms["kept"]) == (name == "DenseNet121")  # its ReLUs stand between batch norm and convolution
    outputs = pbcompile.load(result.artifact)(image=natural_batch(4, 64))["probabilities"]
    assert np.ptp(outputs, axis=0).max() > 1e-3, "the output does not depend on the image"
    again = run_process(spec, "-o", families / "again.pb", "--no-verify", "--json", PYTHONHASHSEED="7")
    assert again.json()["sha256"] == result.sha256


@needs_shared_models
def test_mini_xception_from_raw_crops(tmp_path) -> None:
    """Gray uint8 crops of any size give the golden outputs, with all 14 batch norms folded."""
    from PIL import Image

    folder = SHARED_MODELS / "mini_xception"
    spec = write(
        tmp_path / "spec.json",
        model=str(folder / "fer2013_mini_XCEPTION.102-0.66.hdf5"),
        inputs={
            "face": {
                "channels": "GRAY",
                "preprocess": [
                    RESIZE | {"size": [64, 64]},
                    {"op": "rescale", "scale": 1 / 255},
                    {"op": "rescale", "scale": 2, "offset": -1},
                ],
            }
        },
    )
    result = pbcompile.compile_spec(spec)
    assert result.made.report.as_json()["batch_norm"] == {"found": 14, "folded": 14, "kept": []}
    golden = np.load(folder / "golden_oarriaga_xception.npz")
    artifact = pbcompile.load(result.artifact)
    tested = 0
    for key in (key for key in golden if key.startswith("tag")):
        file, _, box = str(golden[key]).partition("#")
        if not (folder / Path(file).name).is_file():
            continue  # its golden output is there, its image is not
        x, y, width, height = (int(part) for part in box.split(","))
        gray = np.asarray(Image.open(folder / Path(file).name).convert("L"))
        face = gray[y : y + height, x : x + width]
        got = artifact(face=face[None, ..., None])["predictions"]
        np.testing.assert_allclose(got, golden[key.replace("tag", "y") + "_0"], rtol=0, atol=2e-5)
        tested += 1
    assert tested


@needs_shared_models
def test_captcha_five_outputs_keep_names_and_order(tmp_path) -> None:
    folder = SHARED_MODELS / "captcha_five_outputs"
    names = ["fifth", "first", "third", "second", "fourth"]
    golden = np.load(folder / "golden_hamster_captcha.npz")
    from pbcompile.models import load_model
    from pbcompile.spec import ModelSource

    sources = [tensor.name for tensor in load_model(ModelSource(folder / "model_v4_1.h5")).outputs]
    order = [4, 0, 2, 1, 3]
    spec = write(
        tmp_path / "spec.json",
        model=str(folder / "model_v4_1.h5"),
        inputs={
            "image": {
                "channels": "GRAY",
                "preprocess": [{"op": "rescale", "scale": 1 / 255}],
                "shape": [None, 30, 120, 1],
            }
        },
        outputs={name: {"from": sources[index]} for name, index in zip(names, order, strict=True)},
    )
    result = pbcompile.compile_spec(spec)
    artifact = pbcompile.load(result.artifact)
    assert artifact.outputs == tuple(names)
    tested = 0
    for key in (key for key in golden if key.startswith("tag")):
        image = cv2.imread(str(folder / Path(str(golden[key])).name), cv2.IMREAD_GRAYSCALE)
        if image is None:
            continue
        got = artifact(image=image[None, ..., None])
        for name, index in zip(names, order, strict=True):
            np.testing.assert_allclose(got[name], golden[f"{key.replace('tag', 'y')}_{index}"], rtol=0, atol=1e-5)
        tested += 1
    assert tested
