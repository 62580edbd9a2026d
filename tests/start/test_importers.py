"""Imported preprocessing against the pipeline that it was written down for, in PIL and NumPy as that library does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pbcompile.errors import SpecError
from pbcompile.reference.program import preprocess_reference
from pbcompile.spec import load_spec
from pbcompile.start.importers import import_preprocessing
from tests.networks import natural_batch

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
HALF = [0.5, 0.5, 0.5]
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
NEAREST, LINEAR, CUBIC = Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
SIZES = ((301, 400), (640, 427))

Picture = Any


def photo(height: int, width: int) -> Picture:
    square = np.clip(natural_batch(1, max(height, width))[0], 0, 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(square[:height, :width]))


def shorter(image: Picture, side: int, method: Any) -> Picture:
    """torchvision and transformers: the longer side is cut off to a whole number."""
    width, height = image.size
    if width <= height:
        return image.resize((side, int(side * height / width)), method)
    return image.resize((int(side * width / height), side), method)


def cut(image: Picture, size: int, rounded: bool) -> Picture:
    """The middle; torchvision rounds the start, transformers cuts it off."""
    width, height = image.size
    top, left = (height - size) / 2, (width - size) / 2
    top, left = (round(top), round(left)) if rounded else (int(top), int(left))
    return image.crop((left, top, left + size, top + size))


def unit(image: Picture, mean: Any, std: Any) -> np.ndarray:
    return (np.asarray(image, np.float32) / 255 - np.asarray(mean)) / np.asarray(std)


def hf(kind: str, **keys: Any) -> str:
    return json.dumps({"image_processor_type": kind, **keys})


def timm(size: int, method: str, part: float, mean: Any = MEAN, std: Any = STD, **more: Any) -> str:
    config = {"input_size": [3, size, size], "interpolation": method, "crop_pct": part, "mean": mean, "std": std}
    return json.dumps({"architecture": "net", "pretrained_cfg": config | more})


def tv_timm(size: int, larger: int, method: Any, mean: Any = MEAN, std: Any = STD) -> Callable[[Picture], np.ndarray]:
    return lambda i: unit(cut(shorter(i, larger, method), size, True), mean, std)


CASES: dict[str, tuple[str, Callable[[Picture], np.ndarray]]] = {
    # Hugging Face: google/vit-base-patch16-224, facebook/convnext-tiny-224, -384, google/efficientnet-b0, …
    "hf vit": (
        hf("ViTImageProcessor", size={"height": 224, "width": 224}, resample=2, image_mean=HALF, image_std=HALF),
        lambda i: unit(i.resize((224, 224), LINEAR), HALF, HALF),
    ),
    "hf vit of old": (
        json.dumps({"feature_extractor_type": "ViTFeatureExtractor", "size": 224, "do_normalize": True}),
        lambda i: unit(i.resize((224, 224), LINEAR), HALF, HALF),
    ),
    "hf convnext 224": (
        hf("ConvNextImageProcessor", size={"shortest_edge": 224}, crop_pct=0.875, resample=3, image_mean=MEAN,
           image_std=STD),
        lambda i: unit(cut(shorter(i, 256, CUBIC), 224, False), MEAN, STD),
    ),
    "hf convnext 384": (
        hf("ConvNextImageProcessorFast", size={"shortest_edge": 384}, resample=3, image_mean=MEAN, image_std=STD),
        lambda i: unit(i.resize((384, 384), CUBIC), MEAN, STD),
    ),
    "hf efficientnet b0": (
        hf("EfficientNetImageProcessor", size={"height": 224, "width": 224}, resample=0, image_mean=MEAN,
           image_std=[0.47853944, 0.4732864, 0.47434163], include_top=True),
        lambda i: unit(i.resize((224, 224), NEAREST), MEAN, [0.47853944, 0.4732864, 0.47434163])
        / np.asarray([0.47853944, 0.4732864, 0.47434163]),
    ),
    "hf mobilenet v1": (
        hf("MobileNetV1ImageProcessor", size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}),
        lambda i: unit(cut(shorter(i, 256, LINEAR), 224, False), HALF, HALF),
    ),
    "hf mobilenet v2": (
        hf("MobileNetV2ImageProcessor", size=256, crop_size=224, do_center_crop=True, image_mean=HALF, image_std=HALF),
        lambda i: unit(cut(shorter(i, 256, LINEAR), 224, False), HALF, HALF),
    ),
    "hf beit": (
        hf("BeitImageProcessor", size={"height": 256, "width": 256}, image_mean=HALF, image_std=HALF),
        lambda i: unit(cut(i.resize((256, 256), CUBIC), 224, False), HALF, HALF),
    ),
    "hf clip": (
        hf("CLIPImageProcessor", size=224, crop_size=224, do_convert_rgb=True),
        lambda i: unit(cut(shorter(i, 224, CUBIC), 224, False), CLIP_MEAN, CLIP_STD),
    ),
    "hf dinov2": (
        hf("BitImageProcessor", size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}, image_mean=MEAN,
           image_std=STD, resample=3),
        lambda i: unit(cut(shorter(i, 256, CUBIC), 224, False), MEAN, STD),
    ),
    "hf segformer": (
        hf("SegformerImageProcessor", size={"height": 512, "width": 512}, do_reduce_labels=False),
        lambda i: unit(i.resize((512, 512), LINEAR), MEAN, STD),
    ),
    "hf swin": (
        hf("ViTImageProcessor", size={"height": 224, "width": 224}, resample=3, image_mean=MEAN, image_std=STD),
        lambda i: unit(i.resize((224, 224), CUBIC), MEAN, STD),
    ),
    "hf mobilevit": (
        hf("MobileViTImageProcessor", size={"shortest_edge": 288}, crop_size={"height": 256, "width": 256}),
        lambda i: unit(cut(shorter(i, 288, LINEAR), 256, False), 0, 1)[..., ::-1],
    ),
    "hf levit": (
        hf("LevitImageProcessor", size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224}),
        lambda i: unit(cut(shorter(i, 256, CUBIC), 224, False), MEAN, STD),
    ),
    # timm: resnet50.a1_in1k, efficientnet_b0.ra_in1k, vit_base_patch16_224.augreg2, convnext_tiny, mobilenetv3, swin
    "timm resnet50": (timm(224, "bicubic", 0.95), tv_timm(224, 235, CUBIC)),
    "timm efficientnet b0": (timm(224, "bicubic", 0.875), tv_timm(224, 256, CUBIC)),
    "timm vit base": (timm(224, "bicubic", 0.9, HALF, HALF), tv_timm(224, 248, CUBIC, HALF, HALF)),
    "timm convnext": (timm(224, "bicubic", 0.875, test_input_size=[3, 288, 288]), tv_timm(224, 256, CUBIC)),
    "timm mobilenetv3": (timm(224, "bilinear", 0.875), tv_timm(224, 256, LINEAR)),
    "timm swin": (timm(224, "bicubic", 0.9), tv_timm(224, 248, CUBIC)),
    "timm squash": (
        timm(384, "bicubic", 1.0, crop_mode="squash"),
        lambda i: unit(i.resize((384, 384), CUBIC), MEAN, STD),
    ),
}  # fmt: skip


def preset(crop: int, resize: int, method: str) -> str:
    return (
        f"ImageClassification(\n    crop_size=[{crop}]\n    resize_size=[{resize}]\n    mean={MEAN}\n    std={STD}\n"
        f"    interpolation=InterpolationMode.{method.upper()}\n)"
    )


for name, (crop, side, method) in {
    "resnet50 v1": (224, 256, "bilinear"),
    "resnet50 v2": (224, 232, "bilinear"),
    "efficientnet b0": (224, 256, "bicubic"),
    "convnext tiny": (224, 236, "bilinear"),
    "inception v3": (299, 342, "bilinear"),
    "swin t": (224, 232, "bicubic"),
}.items():
    CASES[f"torchvision {name}"] = (
        preset(crop, side, method),
        tv_timm(crop, side, LINEAR if method == "bilinear" else CUBIC),
    )
CASES["torchvision compose"] = (
    "Compose(\n    Resize(size=256, interpolation=bilinear, max_size=None, antialias=True)\n"
    "    CenterCrop(size=(224, 224))\n    ToTensor()\n"
    "    Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])\n)",
    tv_timm(224, 256, LINEAR),
)
CASES["torchvision gray"] = (
    "Compose(Resize(size=(28, 28)), Grayscale(num_output_channels=1), ToTensor(), Normalize((0.1307,), (0.3081,)))",
    lambda i: unit(np.asarray(i.resize((28, 28), LINEAR).convert("L"))[..., None], 0.1307, 0.3081),
)


def run(tmp_path: Path, words: str, fed: np.ndarray) -> np.ndarray:
    """What the imported steps make of a picture, by the real libraries."""
    imported = import_preprocessing(words)
    channels = imported.channels or "RGB"
    item = {"channels": channels, "preprocess": list(imported.steps)}
    document = {"version": 1, "model": "none.h5", "inputs": {"image": item}}
    (tmp_path / "spec.json").write_text(json.dumps(document))
    return preprocess_reference(load_spec(tmp_path / "spec.json").inputs[0], fed[None])[0]


@pytest.mark.parametrize("case", CASES)
def test_imported_steps_make_what_the_library_makes(tmp_path: Path, case: str) -> None:
    words, pipeline = CASES[case]
    for size in SIZES:
        image = photo(*size)
        got, wanted = run(tmp_path, words, np.asarray(image)), pipeline(image)
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def converter(**config: Any) -> str:
    return json.dumps({"class_name": "ResNetImageConverter", "config": {"interpolation": "bilinear", **config}})


UNIT_STD = [1 / 255 / s for s in STD]
UNIT_MEAN = [-m / s for m, s in zip(MEAN, STD, strict=True)]
WARPED = {"crop_to_aspect_ratio": False}
KERAS_HUB: dict[str, dict[str, Any]] = {
    "resnet": {"image_size": [224, 224], "scale": UNIT_STD, "offset": UNIT_MEAN},
    "vgg": {"image_size": [224, 224], "scale": 1.0, "offset": [-123.68, -116.779, -103.939]},
    "mobilenet": {"image_size": [224, 224], "scale": 1 / 127.5, "offset": -1.0},
    "efficientnet": {"image_size": [300, 300], "scale": 1 / 255, **WARPED},
    "densenet": {"image_size": [224, 224], "scale": UNIT_STD, "offset": UNIT_MEAN, "interpolation": "bicubic"},
    "segformer": {"image_size": [512, 512], "scale": UNIT_STD, "offset": UNIT_MEAN, **WARPED},
    "siglip": {"image_size": [256, 256], "scale": 1 / 127.5, "offset": -1.0, "antialias": True, **WARPED},
    "padded": {"image_size": [128, 128], "scale": 1 / 255, "pad_to_aspect_ratio": True, **WARPED},
}


@pytest.mark.parametrize("case", KERAS_HUB)
def test_keras_hub_converters(tmp_path: Path, case: str) -> None:
    """`ImageConverter` is Keras's Resizing, then x · scale + offset."""
    import keras

    config = KERAS_HUB[case]
    height, width = config["image_size"]
    keys = ("interpolation", "antialias", "pad_to_aspect_ratio")
    given = {"crop_to_aspect_ratio": config.get("crop_to_aspect_ratio", True)}
    given |= {key: config[key] for key in keys if key in config}
    resizing = keras.layers.Resizing(height, width, **given)
    fed = np.asarray(photo(301, 400))
    wanted = np.asarray(resizing(fed[None].astype(np.float32)))[0] * np.asarray(config["scale"])
    wanted = wanted + np.asarray(config.get("offset", 0.0))
    np.testing.assert_allclose(run(tmp_path, converter(**config), fed), wanted, rtol=1e-4, atol=2e-3)


NAMES = {
    "keras.applications.resnet50.preprocess_input": "caffe",
    "tf.keras.applications.vgg16.preprocess_input": "caffe",
    "from tensorflow.keras.applications.mobilenet_v2 import preprocess_input": "tf",
    "InceptionV3": "tf",
    "resnet_v2": "tf",
    "ResNet50V2": "tf",
    "densenet": "torch",
    "DenseNet121": "torch",
    "Xception": "tf",
    "NASNetMobile": "tf",
    "EfficientNetB0": None,
    "EfficientNetV2B0": None,
    "MobileNetV3Large": None,
}


@pytest.mark.parametrize("name", NAMES)
def test_a_preprocess_input_by_its_name(name: str) -> None:
    steps = import_preprocessing(name).steps
    mode = NAMES[name]
    assert steps == (({"op": "keras_applications", "mode": mode},) if mode else ())


OPENVINO = {
    "--mean_values [123.675,116.28,103.53] --scale_values [58.395,57.12,57.375] --reverse_input_channels": (
        [123.675, 116.28, 103.53], [58.395, 57.12, 57.375], True),
    "mo --input_model m.pb --mean_values=[127.5,127.5,127.5] --scale_values=[127.5]": ([127.5] * 3, 127.5, False),
    "--scale 255": (0, 255, False),
    '--mean_values "data[103.939,116.779,123.68]"': ([103.939, 116.779, 123.68], 1, False),
    "--reverse_input_channels --scale_values 255": (0, 255, True),
    "--mean_values (127.5,127.5,127.5) --scale_values (128,128,128) --reverse_input_channels": (127.5, 128, True),
}  # fmt: skip


@pytest.mark.parametrize("arguments", OPENVINO)
def test_openvino_arguments(tmp_path: Path, arguments: str) -> None:
    """The channels are turned first; mean and scale are in the network's own order."""
    mean, std, reverse = OPENVINO[arguments]
    fed = np.asarray(photo(60, 80))
    wanted = ((fed[..., ::-1] if reverse else fed) - np.asarray(mean)) / np.asarray(std)
    np.testing.assert_allclose(run(tmp_path, arguments, fed), wanted, rtol=1e-5, atol=1e-5)


TFLITE = {
    "mobilenet": ([127.5], [127.5], "RGB"),
    "quantized": ([127.5, 127.5, 127.5], [128.0, 128.0, 128.0], "RGB"),
    "efficientnet lite": ([127.0], [128.0], "RGB"),
    "inception": ([127.5], [127.5], "RGB"),
    "uint8": ([0.0], [1.0], "RGB"),
    "digits": ([0.0], [255.0], "GRAYSCALE"),
}


@pytest.mark.parametrize("case", TFLITE)
def test_tflite_metadata(tmp_path: Path, case: str) -> None:
    mean, std, space = TFLITE[case]
    content = {"content_properties_type": "ImageProperties", "content_properties": {"color_space": space}}
    unit = {"options_type": "NormalizationOptions", "options": {"mean": mean, "std": std}}
    tensor = {"name": "image", "content": content, "process_units": [unit]}
    output = {"associated_files": [{"name": "labels.txt", "type": "TENSOR_AXIS_LABELS"}]}
    words = json.dumps({"subgraph_metadata": [{"input_tensor_metadata": [tensor], "output_tensor_metadata": [output]}]})
    fed = np.asarray(photo(20, 30))[..., : 1 if space == "GRAYSCALE" else 3]
    got = run(tmp_path, words, fed)
    np.testing.assert_allclose(got, (fed - np.asarray(mean)) / np.asarray(std), rtol=1e-5, atol=1e-5)
    assert any("labels.txt" in sentence for sentence in import_preprocessing(words).dropped)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("nothing.json", "there is no file nothing.json"),
        ("{", "is no JSON"),
        ('{"a": 1}', "of no form that is known"),
        (hf("DetrImageProcessor", size={"shortest_edge": 800, "longest_edge": 1333}), "limits both sides"),
        ("Compose(RandomHorizontalFlip(p=0.5), ToTensor())", "chance"),
        ("Compose(Resize(size=256", "not closed"),
        (hf("ViTImageProcessor", size="big"), "must be a size"),
        (hf("ViTImageProcessor", image_std=[0, 1, 1]), "above zero"),
        ("an elephant", "no preprocessing that is known"),
    ],
)
def test_what_cannot_be_imported_is_said(words: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        import_preprocessing(words)


def test_keys_without_a_meaning_are_named() -> None:
    words = hf("ViTImageProcessor", do_magic=True)
    assert import_preprocessing(words).dropped == ("do_magic: True has no meaning here",)
