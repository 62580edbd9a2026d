"""Weights stored in fewer bits and computed with in float32.

Before:  Const float32 ─► Conv2D
float16: Const float16 ─► Cast ─► Conv2D
int8:    Const int8 ─► Cast ─► Mul(step per output channel) ─► Conv2D

Nothing here depends on what is fed, so that a session's constant folding computes it as the session starts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from pbcompile.graph import Decline, Graph, Node
from pbcompile.passes.linear import LINEAR, require_foldable, weights_transposed

FORMATS = ("float16", "int8")

MIN_ELEMENTS = 1024
"""Smaller constants (biases, tables) stay as they are: they are next to nothing of a file."""

ROUNDING = {"float16": 2.0**-11, "int8": 4.0 / 127 / math.sqrt(12)}
"""Error of one stored weight relative to the size of the weights: half a unit in float16's last place at the most; for
int8 the standard deviation of a rounding, with the largest weight of a channel four times their standard deviation."""

SPREADS = 4.0
"""Standard deviations that the tolerance allows."""

Array = npt.NDArray[Any]


def store_weights(graph: Graph, form: str, inputs: Iterable[str]) -> float:
    """Store the large weights of `graph` in `form`, in place; returns the relative tolerance that this asks for.

    form:   one of `FORMATS`.  float16 takes every float32 constant that it can hold; int8 takes those that only linear
            ops read as weights, one step for each output channel, and leaves the others.
    inputs: names of the spec's inputs.  What stands in their preprocessing is never touched: its tables make pixels.

    The tolerance is `SPREADS` times the rounding of a weight times the square root of how many layers are stored: the
    layers round apart from each other.  0 where nothing is stored.
    """
    layers = 0
    steps = re.compile("|".join(rf"{re.escape(name)}/(\d\d_|decode)" for name in inputs))
    for node in graph.sorted():
        if node.op != "Const" or node.inputs or graph.dtype(node.name) != "float32" or graph.is_public(node):
            continue
        readers = graph.all_readers(node)
        if any(steps.match(graph.asked_name(at)) for at in (node, *readers)):
            continue
        value = graph.const(node.name)
        if value.size < MIN_ELEMENTS or not np.isfinite(value).all():
            continue
        made = _as_float16(graph, node, value) if form == "float16" else _as_int8(graph, node, value)
        if made is not None:
            graph.redirect(node.name, made)
            layers += 1
    graph.commit()
    return SPREADS * ROUNDING[form] * math.sqrt(layers)


def _as_float16(graph: Graph, node: Node, value: Array) -> str | None:
    """The constant in float16 and its cast; None where a number is too large for float16."""
    if np.abs(value).max() > np.finfo(np.float16).max:
        return None
    small = graph.add_const(value.astype(np.float16), name=f"{node.name}/float16")
    return graph.add("Cast", [small], {"SrcT": "float16", "DstT": "float32"}, f"{node.name}/float32")


def _as_int8(graph: Graph, node: Node, value: Array) -> str | None:
    """The constant in int8 with its cast and its steps; None where its readers do not share one channel axis."""
    axes = {_channel_axes(graph, reader, node.name) for reader in graph.all_readers(node)}
    kept = axes.pop() if len(axes) == 1 else None
    if kept is None:
        return None
    step = channel_steps(value, kept)
    levels = np.rint(value / step).astype(np.int8)
    small = graph.add_const(levels, name=f"{node.name}/int8")
    cast = graph.add("Cast", [small], {"SrcT": "int8", "DstT": "float32"}, f"{node.name}/levels")
    return graph.add("Mul", [cast, graph.add_const(step, name=f"{node.name}/step")], name=f"{node.name}/float32")


def channel_steps(weights: Array, axes: tuple[int, ...]) -> Array:
    """The distance of two int8 levels: the largest weight of each channel is level ±127.

    axes: the axes of `weights` that number the output channels; the result has size 1 along the others.  A channel
    without weights, or with only such as vanish beside float32's smallest number, has step 1: all its levels are 0.
    """
    others = tuple(axis for axis in range(weights.ndim) if axis not in axes)
    step = np.abs(weights).max(axis=others, keepdims=True) / np.float32(127)
    return np.asarray(np.where(step >= np.finfo(np.float32).tiny, step, 1), np.float32)


def _channel_axes(graph: Graph, reader: Node, tensor: str) -> tuple[int, ...] | None:
    """Which axes of `tensor` are output channels of `reader`; None where it is not the weights of a linear op."""
    ports = LINEAR.get(reader.op)
    if ports is None or reader.inputs[ports.weights] != tensor or reader.inputs.count(tensor) != 1:
        return None
    try:
        require_foldable(graph, reader)
    except Decline:
        return None
    rank = graph.const(tensor).ndim
    if reader.op == "DepthwiseConv2dNative":
        return (rank - 2, rank - 1)
    if "Backprop" in reader.op or weights_transposed(reader):
        return (rank - 2,)
    return (rank - 1,)
