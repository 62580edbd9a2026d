"""Every spec of specs/gallery with a small model made here: it compiles, passes the gate, gives the right answer."""

from __future__ import annotations

import io
import math
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image, ImageOps

import pbcompile
from pbcompile.errors import PbcompileError, SpecError
from pbcompile.samples import natural_image

GALLERY = Path(__file__).parents[1] / "specs" / "gallery"
LABELS = (GALLERY / "labels.txt").read_text().split()
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gallery with the models that its specs name."""
    folder = tmp_path_factory.mktemp("gallery")
    shutil.copytree(GALLERY, folder, dirs_exist_ok=True)
    keras.utils.set_random_seed(5)
    wide = keras.initializers.RandomNormal(0, 0.5)

    def classifier(activation: str | None) -> keras.Model:
        image = keras.Input((32, 32, 3))
        x = layers.Conv2D(8, 5, 3, activation="relu")(image)
        return keras.Model(image, layers.Dense(5, activation, name="out", kernel_initializer=wide)(layers.Flatten()(x)))

    classifier(None).save(folder / "classifier.keras")
    classifier("softmax").save(folder / "keras_model.h5")
    image = keras.Input((64, 96, 3))
    x = layers.Conv2D(8, 8, 8, activation="tanh")(image)
    heads = []
    for name, stride in (("boxes_8", 1), ("boxes_16", 2)):
        maps = layers.Conv2D(4 * 8 + 3, 3, stride, padding="same", kernel_initializer=wide)(x)
        # A bias of its own for every cell: on a plain border all cells would have one score, and any might win.
        own = layers.Dense(math.prod(maps.shape[1:]), kernel_initializer=wide)(layers.GlobalAveragePooling2D()(x))
        heads.append(layers.Add(name=name)([maps, layers.Reshape(maps.shape[1:])(own)]))
    keras.Model(image, heads).save(folder / "detector.keras")
    image = keras.Input((48, 64, 3))
    x = layers.Conv2D(6, 5, padding="same", name="classes", kernel_initializer=wide)(image)
    keras.Model(image, x).save(folder / "segmenter.keras")
    image = keras.Input((None, None, 3))
    enlarged = layers.Conv2D(3, 3, padding="same", activation="sigmoid", name="enlarged")(layers.UpSampling2D(2)(image))
    keras.Model(image, enlarged).save(folder / "enlarger.keras")
    picture, numbers = keras.Input((32, 32, 3), name="picture"), keras.Input((4,), name="numbers")
    joined = layers.Concatenate()([layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(picture)), numbers])
    keras.Model([picture, numbers], layers.Dense(1, name="value")(joined)).save(folder / "two.keras")
    return folder


def compiled(folder: Path, name: str) -> Any:
    """The artifact, which has passed its gate."""
    result = pbcompile.compile_spec(folder / f"{name}.json")
    assert result.verify is not None
    assert result.verify.passed
    return pbcompile.load(result.artifact)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return natural_image(height, width, seed, np.random.default_rng(seed))


def jpeg(height: int, width: int, seed: int = 0) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture(height, width, seed)).save(file, "jpeg", quality=95)
    return file.getvalue()


def torch(x: np.ndarray) -> np.ndarray:
    return (x.astype(np.float32) / 255 - MEAN) / STD


def predict(folder: Path, name: str, x: Any) -> Any:
    return keras.models.load_model(folder / name, compile=False).predict(x, verbose=0)


def test_every_spec_of_the_gallery_is_tested_here() -> None:
    named = set(re.findall(r'compiled\(folder, "(\w+)"\)', Path(__file__).read_text()))
    assert named == {path.stem for path in GALLERY.glob("*.json")}


def test_classification(folder: Path) -> None:
    """Pillow's shorter side and centre, ImageNet's mean, the three best by name."""
    data = jpeg(90, 70)
    shrunk = Image.open(io.BytesIO(data)).resize((40, 40 * 90 // 70), Image.Resampling.BILINEAR)
    top, left = round((shrunk.height - 32) / 2), round((shrunk.width - 32) / 2)
    logits = predict(folder, "classifier.keras", torch(np.asarray(shrunk))[None, top : top + 32, left : left + 32])[0]
    order = np.argsort(-logits)[:3]
    got = compiled(folder, "classification")(image=data)
    assert [label.decode() for label in got["top3_labels"][0]] == [LABELS[i] for i in order]
    scores = np.exp(logits - logits.max())
    np.testing.assert_allclose(got["top3_scores"][0], (scores / scores.sum())[order], atol=1e-5)


def test_teachable_machine(folder: Path) -> None:
    """What the exported project's own Python program does."""
    data = jpeg(120, 77)
    fitted = ImageOps.fit(Image.open(io.BytesIO(data)).convert("RGB"), (32, 32), Image.Resampling.LANCZOS)
    wanted = predict(folder, "keras_model.h5", (np.asarray(fitted).astype(np.float32) / 127.5 - 1)[None])[0]
    got = compiled(folder, "teachable_machine")(image=data)
    np.testing.assert_allclose(got["probabilities"][0], wanted, atol=1e-5)
    assert got["class_labels"][0, 0].decode() == LABELS[int(wanted.argmax())]


def test_detection(folder: Path) -> None:
    """One box followed by hand: the best cell of the maps, its bins, the letterbox back."""
    data = jpeg(150, 120)
    got = compiled(folder, "detection")(image=data)
    assert got["found_count"][0] >= 1
    rows, columns = round(150 * 64 / 150), round(120 * 64 / 150)
    left = (96 - columns) // 2
    frame = np.full((64, 96, 3), 114, np.uint8)
    frame[:rows, left : left + columns] = cv2.resize(
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1], (columns, rows)
    )
    maps = predict(folder, "detector.keras", frame[None].astype(np.float32) / 255)
    found = []
    for stride, cells in zip((8, 16), maps, strict=True):
        for row, column in np.ndindex(cells.shape[1:3]):
            numbers = cells[0, row, column].astype(np.float64)
            weights = np.exp(numbers[:32].reshape(4, 8))
            sides = (weights / weights.sum(1, keepdims=True)) @ np.arange(8)
            centre = np.array([column + 0.5, row + 0.5])
            box = np.concatenate([centre - sides[:2], centre + sides[2:]]) * stride
            found.append((1 / (1 + np.exp(-numbers[32:].max())), int(numbers[32:].argmax()), box))
    score, label, box = max(found, key=lambda entry: entry[0])
    back = (box - [left, 0, left, 0]) * [120 / columns, 150 / rows, 120 / columns, 150 / rows]
    np.testing.assert_allclose(got["found_scores"][0, 0], score, atol=1e-5)
    assert got["found_labels"][0, 0].decode() == ["cat", "dog", "bird"][label]
    np.testing.assert_allclose(got["found_boxes"][0, 0], np.clip(back, 0, [120, 150, 120, 150]), atol=0.01)


def test_segmentation(folder: Path) -> None:
    """The mask has the frame's size, and the PNG is the mask in colours."""
    frame = picture(75, 130)
    got = compiled(folder, "segmentation")(image=frame[None])
    rows = round(75 * 64 / 130)
    top = (48 - rows) // 2
    boxed = np.full((48, 64, 3), 114, np.uint8)
    boxed[top : top + rows] = cv2.resize(frame[..., ::-1], (64, rows))
    classes = predict(folder, "segmenter.keras", (boxed.astype(np.float32) / 127.5 - 1)[None])[0].argmax(-1)
    cropped = np.ascontiguousarray(classes[top : top + rows].astype(np.uint8))
    wanted = cv2.resize(cropped, (130, 75), interpolation=cv2.INTER_NEAREST)
    assert (got["mask"][0] != wanted).mean() < 1e-3  # a near tie may fall either way
    shown = np.asarray(Image.open(io.BytesIO(got["picture"][0])))
    colours = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128]], np.uint8)
    np.testing.assert_array_equal(shown, colours[got["mask"][0]])


def test_super_resolution(folder: Path) -> None:
    data = jpeg(23, 41)
    got = compiled(folder, "super_resolution")(image=data)
    x = np.asarray(Image.open(io.BytesIO(data)))[None].astype(np.float32) / 255
    wanted = np.rint(predict(folder, "enlarger.keras", x) * 255)
    assert got["picture"].shape == (1, 46, 82, 3)
    assert np.abs(got["picture"] - wanted).max() <= 1  # one level where a value stands between two
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(got["png"][0]))), got["picture"][0])


def test_nv12_camera(folder: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (1, 96, 80, 1), np.uint8)
    colours = cv2.resize(cv2.cvtColor(frame[0], cv2.COLOR_YUV2RGB_NV12), (32, 32), interpolation=cv2.INTER_AREA)
    wanted = predict(folder, "classifier.keras", torch(colours)[None]).argmax(-1)
    np.testing.assert_array_equal(compiled(folder, "nv12_camera")(frame=frame)["class"], wanted)


def test_batch_of_jpegs(folder: Path) -> None:
    files = [jpeg(40, 60, 1), jpeg(99, 31, 2), jpeg(64, 64, 4)]
    pictures = [cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)[..., ::-1] for file in files]
    batch = np.stack([torch(cv2.resize(np.ascontiguousarray(each), (32, 32))) for each in pictures])
    wanted = predict(folder, "classifier.keras", batch).argmax(-1)
    got = compiled(folder, "batch_of_jpegs")(files=np.array(files, object))
    assert [label.decode() for label in got["best_labels"][:, 0]] == [LABELS[i] for i in wanted]


def test_two_inputs_and_their_joint_batch(folder: Path) -> None:
    """Each with its own steps; other counts of photos and vectors are an error that names both."""
    program = compiled(folder, "two_inputs")
    photos = np.stack([picture(50, 70, seed) for seed in (0, 1, 2)])
    facts = np.float32([[1, 2, 3, 4], [50, -7, 200, 3], [0, 0, 0, 9]])
    small = np.stack([cv2.resize(np.ascontiguousarray(photo[..., ::-1]), (32, 32)) for photo in photos])
    given = [small.astype(np.float32) / 255, np.clip(facts, 0, 100) * np.float32(0.01)]
    np.testing.assert_allclose(
        program(photo=photos, facts=facts)["price"], predict(folder, "two.keras", given), atol=1e-5
    )
    with pytest.raises(PbcompileError, match='"photo" holds 1 item, and "facts" 3'):
        program(photo=photos[:1], facts=facts)
    import tensorflow as tf

    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        tf.import_graph_def(tf.compat.v1.GraphDef.FromString((folder / "two_inputs.pb").read_bytes()), name="")
        for count in (1, 2):
            with pytest.raises(tf.errors.InvalidArgumentError, match="batch_of_facts_must_be_that_of_photo"):
                session.run("price:0", {"photo:0": photos[:count], "facts:0": facts})


def test_fixed_batches_that_differ_are_refused_by_the_plan(folder: Path) -> None:
    text = (folder / "two_inputs.json").read_text()
    (folder / "unlike.json").write_text(
        text.replace('"channels": "BGR"', '"channels": "BGR", "shape": [2, null, null, 3]').replace(
            "[null, 4]", "[3, 4]"
        )
    )
    with pytest.raises(SpecError, match='"photo" has a batch of 2, and "facts" one of 3'):
        pbcompile.compile_spec(folder / "unlike.json", verify=False)
