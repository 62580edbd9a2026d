"""Random augmentation that an exported SavedModel still holds: cut out of its functions where it is plain what it is.

    x ─► functional_1/random_flip_1/… ─► y        becomes        x ─► y
             ▲ ReadVariableOp, AssignVariableOp: the seed

Keras 3 calls these layers with their default `training=True` when it exports, and keeps no config from which the
network could be built anew.  What is left of a layer is its name in front of its nodes.
"""

from __future__ import annotations

import re
from typing import Any

from pbcompile.models.repairs import Repairs

LAYERS = ("AugMix", "CutMix", "MixUp", "RandAugment", "RandomBrightness", "RandomColorDegeneration",
          "RandomColorJitter", "RandomContrast", "RandomElasticTransform", "RandomErasing", "RandomFlip",
          "RandomGaussianBlur", "RandomGrayscale", "RandomHue", "RandomInvert", "RandomPerspective",
          "RandomPosterization", "RandomRotation", "RandomSaturation", "RandomSharpness", "RandomShear",
          "RandomTranslation", "RandomZoom")  # fmt: skip
"""Layers of Keras that hand on their input as it is when they are not in training."""

_NAMES = {re.sub(r"(?<!^)(?=[A-Z])", "_", layer).lower(): layer for layer in LAYERS}
_SCOPE = re.compile(rf"({'|'.join(_NAMES)})(_\d+)*")
_DRAWS = re.compile(r"StatelessRandom(Uniform|Normal|TruncatedNormal)")
_SEED_OPS = frozenset({"ReadVariableOp", "AssignVariableOp"})
_FLOAT, _RESOURCE = 1, 20
"""`DT_FLOAT` and `DT_RESOURCE`, a variable's handle, of TensorFlow's types.proto."""


def leave_out_augmentation(saved: Any, repairs: Repairs) -> None:
    """Take the augmentation layers out of every function of a SavedModel message, and note each.

    A scope named as Keras names such a layer goes if all of this holds; else it stays, and freezing refuses its seed:
      1. it draws random numbers without state, and itself writes the seed: it is a layer, not a network named like one
      2. it holds no variable but such seeds
      3. it reads one other tensor and gives one, both images [N, H, W, C] of the same dtype and shape
    A user's own layer that is called so and draws in inference too looks the same; the report says what was left out.
    """
    for meta in saved.meta_graphs:
        for function in meta.graph_def.library.function:
            for scope in sorted({_scope(node.name) for node in function.node_def} - {""}):
                ends = _image_in_and_out(function, scope)
                if ends is not None:
                    _cut(function, scope, *ends)
                    layer = scope.rpartition("/")[2]
                    kind = _NAMES[re.sub(r"(_\d+)*$", "", layer)]
                    repairs.note(f"{kind} left out: it only acts in training", layer)


def _scope(name: str) -> str:
    """The innermost scope of a node's name that is called like a random layer; empty where none is."""
    parts = name.split("/")[:-1]
    return next(("/".join(parts[: i + 1]) for i in reversed(range(len(parts))) if _SCOPE.fullmatch(parts[i])), "")


def _inside(function: Any, scope: str) -> list[Any]:
    return [node for node in function.node_def if node.name.startswith(f"{scope}/")]


def _node_of(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]


def _image_in_and_out(function: Any, scope: str) -> tuple[str, str] | None:
    """The tensor that the layer reads and the one that it gives; None where it is not plainly such a layer."""
    nodes = _inside(function, scope)
    names = {node.name for node in nodes}
    handles = {arg.name for arg in function.signature.input_arg if arg.type == _RESOURCE}
    written = [n for n in nodes if n.op == "AssignVariableOp" and n.name.rpartition("/")[0] == scope]
    seeds = {tensor for node in written for tensor in node.input[:1]}
    if not seeds or not any(_DRAWS.match(node.op) for node in nodes):
        return None
    read = set()
    for node in nodes:
        for tensor in node.input:
            if tensor in handles:
                if tensor not in seeds or node.op not in _SEED_OPS:
                    return None
            elif not tensor.startswith("^") and _node_of(tensor) not in names:
                read.add(tensor)
    given = {t for n in function.node_def if n.name not in names for t in n.input if not t.startswith("^")}
    given = {tensor for tensor in given | set(function.ret.values()) if _node_of(tensor) in names}
    if len(read) != 1 or len(given) != 1:
        return None
    x, y = read.pop(), given.pop()
    kind = _kind(function, x)
    return (x, y) if kind is not None and kind == _kind(function, y) else None


def _kind(function: Any, tensor: str) -> tuple[int, tuple[int, ...]] | None:
    """Dtype and sizes (-1: open) of an image as the file says them; None where it does not."""
    for i, arg in enumerate(function.signature.input_arg):
        if arg.name == tensor:
            dtype, shapes, port = arg.type, function.attr["_input_shapes"].list.shape, i
            break
    else:
        node = next((node for node in function.node_def if node.name == _node_of(tensor)), None)
        if node is None:  # a damaged file, which TensorFlow will refuse
            return None
        # A SavedModel leaves attributes out that stand at their default; of these ops that is HSVToRGB's T alone.
        default = _FLOAT if node.op == "HSVToRGB" else 0
        dtype = node.attr["DstT" if node.op == "Cast" else "T"].type or default
        shapes = node.attr["_output_shapes"].list.shape
        port = 0 if len(shapes) == 1 else len(shapes)
    if port >= len(shapes) or not dtype:
        return None
    shape = shapes[port]
    return None if shape.unknown_rank or len(shape.dim) != 4 else (dtype, tuple(side.size for side in shape.dim))


def _cut(function: Any, scope: str, x: str, y: str) -> None:
    """Give the readers of `y` the tensor `x`, and drop the layer's nodes with the control edges to them."""
    names = {node.name for node in _inside(function, scope)}
    kept = [node for node in function.node_def if node.name not in names]
    for node in kept:
        node.input[:] = [x if t == y else t for t in node.input if not (t.startswith("^") and _node_of(t) in names)]
    del function.node_def[:]
    function.node_def.extend(kept)
    for name, tensor in list(function.ret.items()):
        if tensor == y:
            function.ret[name] = x
    ended = [name for name, node_name in function.control_ret.items() if node_name in names]
    for name in ended:
        del function.control_ret[name]
    controls = function.signature.control_output
    controls[:] = [name for name in controls if name not in ended]
