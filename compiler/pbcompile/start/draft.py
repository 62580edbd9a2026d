"""`init`: what a model file says, what must be taken for granted, and the spec that follows from both."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pbcompile.models import ModelSource, ModelTensor, PreprocessingLayer, load_model
from pbcompile.models.files import kind_of
from pbcompile.models.heads import Head, is_width_first, read_heads
from pbcompile.models.keras_files import describe_network, read_network
from pbcompile.models.lambda_code import expression
from pbcompile.models.lambdas import lambda_layers, steps_for, stored_code
from pbcompile.models.network import Network
from pbcompile.start.evidence import Evidence, look_at_weights
from pbcompile.start.families import Family, all_layers, recognise_family
from pbcompile.start.imported import Imported, Step

Ask = Callable[[str, Mapping[str, str], str], str]
"""Asks a question with its choices, (words by key, the default key), and gives the key chosen."""

LABEL_FILES = ("labels.txt", "class_names.txt", "classes.txt", "label.txt")
SCALING = ("rescale", "normalize", "batch_norm", "lambda")
SIZING = ("resize", "fit", "letterbox", "center_crop")
RANGE_STEPS: dict[str, list[Step]] = {
    "0..255": [],
    "0..1": [{"op": "rescale", "scale": 1 / 255}],
    "-1..1": [{"op": "rescale", "scale": 1 / 127.5, "offset": -1.0}],
    "-0.5..0.5": [{"op": "rescale", "scale": 1 / 255, "offset": -0.5}],
    "ImageNet mean and deviation": [{"op": "keras_applications", "mode": "torch"}],
    "0..255 minus a mean": [{"op": "keras_applications", "mode": "caffe"}],
}
RANGE_CHOICES = {
    "0..1": "x / 255",
    "-1..1": "x / 127.5 - 1",
    "0..255": "as decoded",
    "-0.5..0.5": "x / 255 - 0.5",
    "ImageNet mean and deviation": "(x / 255 - mean) / std of torchvision",
    "0..255 minus a mean": "BGR minus the ImageNet means (caffe)",
}
MODE_RANGES = {"tf": "-1..1", "torch": "ImageNet mean and deviation", "caffe": "0..255 minus a mean"}
RESIZES: dict[str, tuple[str, Step, str]] = {
    "pillow": ("PIL: image.resize(size)", {"method": "cubic", "like": "pillow"}, "pillow"),
    "opencv": ("OpenCV: cv2.resize(image, size)", {"method": "linear", "like": "opencv"}, "opencv"),
    "keras": ("Keras: load_img(target_size=size)", {"method": "nearest", "like": "pillow"}, "pillow"),
    "tensorflow": (
        "tf.image.resize, image_dataset_from_directory",
        {"method": "linear", "like": "tensorflow"},
        "opencv",
    ),
}


@dataclass
class Draft:
    """A spec in the making.

    document:   the JSON to write.
    recognised: what the file says, one sentence each.
    assumed:    what was taken for granted, with what to check.
    """

    document: dict[str, Any]
    recognised: list[str] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Facts:
    """What the model file says.  `network` is None for a SavedModel."""

    source: ModelSource
    inputs: tuple[ModelTensor, ...]
    outputs: tuple[ModelTensor, ...]
    preprocessing: tuple[PreprocessingLayer, ...]
    network: Network | None
    family: Family | None
    evidence: Evidence | None
    heads: Mapping[str, Head]


def read_facts(source: ModelSource) -> Facts:
    """Everything about the model that a spec needs; TensorFlow is imported for a SavedModel only."""
    kind = kind_of(source)
    if kind == "saved_model":
        model = load_model(source)
        heads = {
            t.name: Head("", t.shape[-1] if t.shape else None, t.shape is not None and len(t.shape) == 2)
            for t in model.outputs
        }
        return Facts(source, model.inputs, model.outputs, model.preprocessing, None, None, None, heads)
    network = read_network(source, kind)[0]
    said = describe_network(network)
    return Facts(
        source, said.inputs, said.outputs, said.preprocessing, network,
        recognise_family(network), look_at_weights(source, network), read_heads(network),
    )  # fmt: skip


def draft_spec(source: ModelSource, folder: Path, imported: Imported | None, ask: Ask | None) -> Draft:
    """The first spec of a model, to be written into `folder`.

    imported: preprocessing that came with the model.  ask: asks the person at the terminal; None takes the defaults.
    Raises SpecError and ModelError for a file that is no model.
    """
    facts = read_facts(source)
    draft = Draft({"$schema": "pbcompile.schema.json", "version": 1, "model": _model(facts, folder), "inputs": {}})
    if facts.family is not None:
        draft.recognised.append(f"{facts.family.name} of keras.applications, by its convolutions")
    for layer in facts.preprocessing:
        draft.recognised.append(f'preprocessing inside the model: "{layer.layer}" ({layer.kind}: {layer.detail})')
    if isinstance(draft.document["model"], dict) and "lambda" in draft.document["model"]:
        draft.recognised.append(
            "Lambda layers whose stored code does what the steps in the spec do; the code never runs"
        )
    labels = _labels(facts, folder, imported, draft)
    images = [t for t in facts.inputs if _is_image(t)]
    for tensor in facts.inputs:
        name = "image" if _is_image(tensor) and len(images) == 1 else _node_name(tensor.name)
        entry = _image(facts, tensor, imported, ask, draft) if _is_image(tensor) else _numbers(tensor, draft)
        if len(facts.inputs) > 1:
            entry = {"feeds": tensor.name, **entry}
        draft.document["inputs"][name] = entry
    draft.document["outputs"] = _outputs(facts, labels, draft)
    if imported is not None:
        draft.assumed += [f"not carried over from {imported.source}: {sentence}" for sentence in imported.dropped]
    return draft


def _model(facts: Facts, folder: Path) -> Any:
    source = facts.source
    path = _relative(source.path, folder)
    lambdas: dict[str, list[Step]] = {}
    for spec in lambda_layers(facts.network) if facts.network is not None else ():
        code = stored_code(spec.saved_config)
        body = expression(code) if code is not None else None
        steps = steps_for(body) if body is not None else None
        if steps is not None:
            lambdas[spec.name] = steps
    if source.weights is None and not lambdas:
        return path
    weights = {} if source.weights is None else {"weights": _relative(source.weights, folder)}
    return {"path": path, **weights, **({"lambda": lambdas} if lambdas else {})}


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def _node_name(name: str) -> str:
    safe = re.sub(r"[^A-Za-z0-9_.\-]", "_", name).lstrip("_.-")
    return safe or "input"


def _is_image(tensor: ModelTensor) -> bool:
    shape = tensor.shape
    return shape is not None and len(shape) == 4 and (shape[3] in (1, 3, 4) or shape[1] in (1, 3, 4))


def _numbers(tensor: ModelTensor, draft: Draft) -> dict[str, Any]:
    shape = list(tensor.shape or (None, 1))
    draft.recognised.append(f'the input "{tensor.name}" takes {tensor.dtype} {shape}: numbers, no image')
    return {"kind": "tensor", "dtype": tensor.dtype, "shape": shape}


def _image(
    facts: Facts, tensor: ModelTensor, imported: Imported | None, ask: Ask | None, draft: Draft
) -> dict[str, Any]:
    shape = tensor.shape or (None, None, None, 3)
    is_nchw = shape[3] not in (1, 3, 4)
    size, count = (shape[2:4], shape[1]) if is_nchw else (shape[1:3], shape[3])
    on_side = facts.network is not None and not is_nchw and is_width_first(facts.network)
    size = (size[1], size[0]) if on_side else size
    shown = "x".join("?" if s is None else str(s) for s in size)
    colours = {1: "gray", 3: "colour", 4: "colour with alpha"}[count or 3]
    draft.recognised.append(f'the input "{tensor.name}" takes a {colours} image, {shown} (height x width)')
    if imported is not None:
        steps, like, channels = list(imported.steps), imported.like, imported.channels
        draft.recognised.append(f"{imported.source}: {', '.join(step['op'] for step in steps) or 'nothing to do'}")
        if None not in size and not any(step["op"] in SIZING for step in steps):
            chosen = _ask_resize(ask, draft)
            steps.insert(0, {"op": "resize", "size": list(size), **RESIZES[chosen][1]})
            like = RESIZES[chosen][2]
        if any(layer.kind in SCALING for layer in facts.preprocessing):
            draft.assumed.append(
                "the model scales its input itself, and the imported steps do so too: keep one of them"
            )
    elif _is_teachable_machine(facts):
        draft.recognised.append("an export of Teachable Machine: ImageOps.fit with LANCZOS, x / 127.5 - 1")
        steps = [{"op": "fit", "size": list(size), "method": "lanczos", "like": "pillow"}, *RANGE_STEPS["-1..1"]]
        like, channels = "pillow", "RGB"
    else:
        steps, like = _default_steps(facts, size, ask, draft)
        channels = "RGB"
    steps = _with_channels(steps, count, channels or "RGB", draft)
    if on_side:
        draft.recognised.append("a reader of text that takes its image on its side: width before height")
        steps.append({"op": "transpose", "perm": [0, 2, 1, 3]})
    if is_nchw:
        steps.append({"op": "transpose", "layout": "NCHW"})
    fed = channels if channels in ("RGB", "BGR") else "RGB"
    return {"kind": "encoded", "channels": fed, **({"like": "pillow"} if like == "pillow" else {}), "preprocess": steps}


def _default_steps(facts: Facts, size: Sequence[int | None], ask: Ask | None, draft: Draft) -> tuple[list[Step], str]:
    steps: list[Step] = []
    like = "pillow"
    if None not in size:
        chosen = _ask_resize(ask, draft)
        steps.append({"op": "resize", "size": list(size), **RESIZES[chosen][1]})
        like = RESIZES[chosen][2]
    inside = [layer for layer in facts.preprocessing if layer.kind in SCALING]
    if inside:
        draft.recognised.append("the model scales the values itself, so no step does it a second time")
        return steps, like
    return [*steps, *RANGE_STEPS[_range(facts, ask, draft)]], like


def _range(facts: Facts, ask: Ask | None, draft: Draft) -> str:
    """The range of values that the network wants: by its family, by its first batch norm, by the person, or 0..1."""
    seen = facts.evidence.range if facts.evidence is not None else ""
    if facts.evidence is not None:
        kept = f"mean {facts.evidence.mean:.3g}, deviation {facts.evidence.deviation:.3g}"
        draft.recognised.append(f'"{facts.evidence.layer}" has seen images of {kept}: values of {seen}')
    if facts.family is not None:
        mode = facts.family.mode or "torch"
        wanted = MODE_RANGES[mode]
        if not facts.family.mode:
            draft.assumed.append(
                f"{facts.family.name} of keras.applications scales inside, and this one does not: ImageNet mean and "
                "deviation is taken, as other packages have it; check it"
            )
        else:
            draft.recognised.append(f'its preprocess_input has the mode "{mode}"')
        if seen and seen != wanted:
            draft.assumed.append(
                f"preprocess_input gives {wanted}, and the weights seem to have seen {seen}: check which one the "
                "training program did"
            )
        return wanted
    default = seen or "0..1"
    if ask is not None:
        return ask("What did the training program make of the pixels?", RANGE_CHOICES, default)
    why = "by its first batch norm" if seen else "which nothing in the file says"
    draft.assumed.append(
        f"the network takes values of {default} ({RANGE_CHOICES[default]}), {why}: check the training program"
    )
    return default


def _ask_resize(ask: Ask | None, draft: Draft) -> str:
    if ask is not None:
        return ask(
            "Which library resized the images?", {key: words for key, (words, _, _) in RESIZES.items()}, "pillow"
        )
    draft.assumed.append(
        "images are decoded and resized as PIL does by default (bicubic, no EXIF): check which library, method and "
        "crop the training program used; a model file never says"
    )
    return "pillow"


def _with_channels(steps: list[Step], count: int | None, channels: str, draft: Draft) -> list[Step]:
    """`steps` with a conversion where the model takes other channels than are decoded."""
    if any(step["op"] == "convert_color" for step in steps):
        return steps
    if count == 1:
        caffe = [s for s in steps if s["op"] != "keras_applications"]
        draft.assumed.append('gray is made as PIL\'s convert("L") does; cv2 differs by one level ("like": "opencv")')
        return [{"op": "convert_color", "to": "GRAY", "like": "pillow"}, *caffe]
    if count == 4:
        return [{"op": "convert_color", "to": "RGBA"}, *steps]
    return steps


def _is_teachable_machine(facts: Facts) -> bool:
    """A Sequential of Sequentials around MobileNetV2 0.35, as Teachable Machine exports it."""
    network = facts.network
    if network is None or facts.family is None or facts.family.name != "MobileNetV2" or not network.sequential:
        return False
    inner = [spec for spec in network.layers if spec.network is not None]
    first = next((spec.config.get("filters") for spec in all_layers(network) if spec.class_name == "Conv2D"), None)
    return bool(inner) and all(s.network is not None and s.network.sequential for s in inner) and first == 16


def _labels(facts: Facts, folder: Path, imported: Imported | None, draft: Draft) -> tuple[str, ...]:
    """Class names from the import or from a file beside the model; Teachable Machine's numbers taken off."""
    if imported is not None and imported.labels:
        return imported.labels
    for name in LABEL_FILES:
        path = facts.source.path.parent / name
        if not path.is_file():
            continue
        try:
            lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError):
            draft.assumed.append(f"{name} beside the model is no UTF-8 text, so it was left out")
            continue
        numbered = [re.fullmatch(r"(\d+)[\s:,]+(.+)", line) for line in lines]
        if lines and all(m and int(m.group(1)) == i for i, m in enumerate(numbered)):
            lines = [m.group(2) for m in numbered if m]
        draft.recognised.append(
            f"{len(lines)} labels in {name}: {', '.join(lines[:5])}{', …' if len(lines) > 5 else ''}"
        )
        return tuple(lines)
    return ()


def _outputs(facts: Facts, labels: Sequence[str], draft: Draft) -> dict[str, Any]:
    outputs: dict[str, Any] = {}
    inputs = set(draft.document["inputs"])
    for tensor in facts.outputs:
        head = facts.heads[tensor.name]
        what = f"{head.classes} value{'s' if head.classes > 1 else ''}" if head.classes else "a tensor"
        under = f" under {head.activation}" if head.activation else ""
        draft.recognised.append(f'the output "{tensor.name}" gives {what}{under}')
        is_classes = head.is_vector and (head.classes or 0) > 1
        single = len(facts.outputs) == 1
        name = _node_name(tensor.name)
        if single and is_classes and head.activation in ("softmax", "sigmoid"):
            name = "probabilities"
        while name in inputs or name in outputs:
            name += "_out"
        outputs[name] = {"from": tensor.name}
        if not (single and is_classes):
            continue
        if labels and len(labels) != head.classes:
            draft.assumed.append(
                f"there are {len(labels)} labels and {head.classes} classes, so the labels were left out"
            )
        elif not labels:
            draft.assumed.append('no labels were found: add "labels": a file or a list, to "top_k"')
        fits = labels if len(labels) == head.classes else ()
        steps: list[Step] = [
            {"op": "top_k", "k": min(5, head.classes or 1), **({"labels": list(fits)} if fits else {})}
        ]
        if not head.activation and facts.network is not None:
            draft.assumed.append(
                "the last layer has no activation: where its values are logits, put a softmax before top_k"
            )
        outputs["top"] = {"from": tensor.name, "postprocess": steps}
    return outputs
