"""Detection from photo to boxes: the artifact against the unfused program, on every ratio and EXIF orientation."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

import pbcompile
from pbcompile.models import load_model
from pbcompile.plan import make_plan
from pbcompile.reference.program import answers_reference, preprocess_reference
from pbcompile.samples import natural_image
from pbcompile.spec import load_spec
from pbcompile.steps.detection import NonMaxSuppression

SIZES = [(480, 640), (640, 480), (97, 389), (389, 97), (333, 333), (720, 1280), (251, 350), (64, 48)]
"""(height, width): eight aspect ratios, larger and smaller than the model's image."""

NMS = {"op": "non_max_suppression", "iou_threshold": 0.5, "score_threshold": 0.3, "max_detections": 100}


def write(path: Path, **document: object) -> Path:
    path.write_text(json.dumps({"version": 1} | document))
    return path


def photo(height: int, width: int, orientation: int, seed: int = 0) -> bytes:
    """A JPEG that is shown `height` × `width` when its orientation is applied."""
    picture = Image.fromarray(natural_image(height, width, seed, np.random.default_rng([height, width, seed])))
    # The file holds the picture turned by the inverse of what the orientation asks for.
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    exif = Image.Exif()
    exif[274] = inverse
    buffer = io.BytesIO()
    picture.save(buffer, "jpeg", exif=exif)
    stored = ImageOps.exif_transpose(Image.open(buffer))
    exif[274] = orientation
    file = io.BytesIO()
    stored.save(file, "jpeg", quality=95, exif=exif)
    return file.getvalue()


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head with raw YOLO v5 maps at two strides, of 96 × 128, with random weights that find something everywhere."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(1)
    folder = tmp_path_factory.mktemp("detector")
    image = keras.Input((96, 128, 3))
    x = layers.Conv2D(12, 8, 8, activation="tanh", padding="same")(image)
    heads = []
    for name, stride in (("near", 1), ("far", 2)):
        normal = keras.initializers.RandomNormal(0, 0.4)
        maps = layers.Conv2D(2 * 8, 3, stride, padding="same", kernel_initializer=normal)(x)
        # A bias of its own for every cell: on a plain border all cells would have one score, and any might win.
        own = layers.Dense(math.prod(maps.shape[1:]), kernel_initializer=normal)(layers.GlobalAveragePooling2D()(x))
        heads.append(layers.Add(name=name)([maps, layers.Reshape(maps.shape[1:])(own)]))
    keras.Model(image, heads).save(folder / "yolo.keras")
    return folder


YOLO = [
    {
        "op": "decode_yolo",
        "head": "v5",
        "strides": [8, 16],
        "anchors": [[[10, 13], [16, 30]], [[33, 23], [61, 45]]],
    },
    NMS | {"labels": ["cat", "dog", "bird"]},
]
FRAMES = {
    "letterbox": [{"op": "letterbox", "size": [96, 128], "method": "linear", "like": "opencv"}],
    "letterbox_pillow": [{"op": "letterbox", "size": [96, 128], "method": "linear", "like": "pillow"}],
    "letterbox_keras": [
        {"op": "letterbox", "size": [96, 128], "method": "linear", "like": "tensorflow", "pad_first": True}
    ],
    "shorter_side_and_crop": [
        {"op": "resize", "shorter_side": 140, "method": "area", "like": "opencv"},
        {"op": "center_crop", "size": [96, 128], "like": "pillow"},
    ],
    "fit_flip": [
        {"op": "fit", "size": [96, 128], "method": "cubic", "like": "pillow"},
        {"op": "flip", "axis": "horizontal"},
    ],
    "turned": [
        {"op": "rotate90", "turns": 1},
        {"op": "resize", "size": [90, 120], "method": "linear", "like": "opencv"},
        {"op": "pad", "top": 2, "bottom": 4, "left": 1, "right": 7},
    ],
}


def assert_same(step: NonMaxSuppression, have: dict[str, Any], want: dict[str, Any]) -> None:
    """The same detections to 0.01 pixel; those of equal score in any order."""
    for image, count in enumerate(want["count"]):
        assert have["count"][image] == count
        free = list(range(count))
        for place in range(count):
            same = [
                other
                for other in free
                if have["classes"][image, other] == want["classes"][image, place]
                and abs(have["scores"][image, other] - want["scores"][image, place]) < 1e-5
                and np.abs(have["boxes"][image, other] - want["boxes"][image, place]).max() < 0.01
            ]
            assert same, (place, want["boxes"][image, place], want["scores"][image, place])
            free.remove(same[0])
            name = want["labels"][image, place]
            assert have["labels"][image, same[0]] == name == step.label_names[want["classes"][image, place]].encode()
        for part, padding in (("boxes", 0), ("scores", 0), ("classes", -1), ("labels", b"")):
            assert (have[part][image, count:] == padding).all()


class Pair:
    """An artifact and the unfused program of the same spec."""

    def __init__(self, path: Path) -> None:
        self.spec = load_spec(path)
        self.fused = pbcompile.load(pbcompile.compile_spec(path, verify=False).artifact)
        model = load_model(self.spec.model)
        self.plan, self.model = make_plan(self.spec, model.inputs, model.outputs), model

    def unfused(self, feeds: dict[str, Any]) -> dict[str, Any]:
        ready = {
            name: preprocess_reference(item, feeds[item.name]).astype(np.float32)
            for name, item in self.plan.feeds.items()
        }
        return answers_reference(self.plan, self.model.predict(ready), feeds)

    def compare(self, feeds: dict[str, Any]) -> int:
        """Both find the same; how much they find."""
        have, want = self.fused.run(feeds), self.unfused(feeds)
        assert list(have) == list(want)
        found = 0
        for output in self.plan.outputs:
            (step,) = (step for step in output.spec.postprocess if isinstance(step, NonMaxSuppression))
            parts = [
                {name.removeprefix(f"{output.spec.name}_"): x[name] for name in output.emitted} for x in (have, want)
            ]
            assert_same(step, *parts)
            found += int(parts[1]["count"].sum())
        return found


@pytest.mark.parametrize("frame", FRAMES)
def test_boxes_are_the_unfused_program_s_on_every_ratio_and_orientation(detector: Path, frame: str) -> None:
    """In the picture as cv2 shows it, and in the pixels of the file."""
    item = {
        "kind": "encoded",
        "channels": "RGB",
        "preprocess": [*FRAMES[frame], {"op": "rescale", "scale": 1 / 64, "offset": -2}],
    }
    outputs = {
        name: {"from": ["near", "far"], "postprocess": [*YOLO, {"op": "restore_boxes", "to": to}]}
        for name, to in (("found", "source"), ("stored", "stored"))
    }
    pair = Pair(write(detector / f"{frame}.json", model="yolo.keras", inputs={"jpeg": item}, outputs=outputs))
    found = 0
    for index, (height, width) in enumerate(SIZES):
        for orientation in range(1, 9) if frame == "letterbox" else [index + 1]:
            found += pair.compare({"jpeg": photo(height, width, orientation)})
    assert found > 100
