"""What a network's first weights say about the images it was trained on: a hint for the range of its input.

A batch norm keeps mean and variance of what went through it.  Behind a first convolution with the kernel K these are,
for images of mean m and deviation s, about m · sum(K) + bias and s² · kᵀ C k, with C the correlation of neighbouring
pixels; so both can be solved for.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pbcompile.models.files import open_archive, open_h5
from pbcompile.models.loaded import ModelSource
from pbcompile.models.network import LayerSpec, Network

if TYPE_CHECKING:
    import h5py
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

NEAR, ACROSS = 0.95, 0.9
"""Correlation of photographs from one pixel to the next, and from one colour to another."""
SILENT = frozenset({"InputLayer", "ZeroPadding2D", "Dropout", "Identity", "GaussianNoise", "Permute", "Activation"})
RANGES = {
    "0..255": (115.0, 66.0),
    "0..1": (0.45, 0.26),
    "-1..1": (-0.1, 0.52),
    "-0.5..0.5": (-0.05, 0.26),
    "ImageNet mean and deviation": (0.0, 1.15),
    "0..255 minus a mean": (0.0, 66.0),
}
"""Mean and deviation of photographs in the ranges that people feed."""


RARE = 0.3
"""Few people feed -0.5..0.5, and images of little contrast in -1..1 look the same."""


@dataclass(frozen=True)
class Evidence:
    """Mean and deviation of what a network has seen, and the range that is nearest."""

    mean: float
    deviation: float
    layer: str

    @property
    def range(self) -> str:
        """The key of RANGES whose mean and deviation are nearest."""

        def distance(key: str) -> float:
            mean, deviation = RANGES[key]
            rare = RARE if key == "-0.5..0.5" else 0.0
            return abs(self.mean - mean) / deviation + 1.5 * abs(math.log(self.deviation / deviation)) + rare

        return min(RANGES, key=distance)


def look_at_weights(source: ModelSource, network: Network) -> Evidence | None:
    """What the first batch norm has kept; None without one near the input, or where it was never trained."""
    first, norm, places = _stem(network)
    if norm is None:
        return None
    arrays = _read(source, network, [spec for spec in (first, norm) if spec is not None], places)
    if arrays is None:
        return None
    import numpy as np

    mean, variance = arrays[-1].get("moving_mean"), arrays[-1].get("moving_variance")
    if mean is None or variance is None or (not mean.any() and np.all(variance == 1)):
        return None
    if first is None:
        return _evidence(float(mean.mean()), float(np.sqrt(variance.mean())), norm)
    kernel, bias = arrays[0].get("kernel"), arrays[0].get("bias")
    if kernel is None or kernel.ndim != 4 or kernel.shape[3] != mean.size:
        return None
    centred = mean - (0 if bias is None else bias)
    sums = kernel.sum((0, 1, 2))
    if not np.dot(sums, sums):
        return None
    rows, columns, channels, _ = kernel.shape
    where = np.array([(r, c, k) for r in range(rows) for c in range(columns) for k in range(channels)], float)
    apart = np.hypot(where[:, None, 0] - where[None, :, 0], where[:, None, 1] - where[None, :, 1])
    correlation = NEAR**apart * np.where(where[:, None, 2] == where[None, :, 2], 1.0, ACROSS)
    flat = kernel.reshape(-1, kernel.shape[3])
    expected = np.einsum("ic,ij,jc->c", flat, correlation, flat)
    alive = (expected > expected.max() * 1e-3) & (variance > 0)
    if not alive.any():
        return None
    deviation = float(np.sqrt(np.average(variance[alive] / expected[alive], weights=expected[alive])))
    return _evidence(float(np.dot(sums, centred) / np.dot(sums, sums)), deviation, norm)


def _evidence(mean: float, deviation: float, norm: LayerSpec) -> Evidence | None:
    is_sane = math.isfinite(mean) and math.isfinite(deviation) and deviation > 0
    return Evidence(mean, deviation, norm.name) if is_sane else None


def _stem(network: Network) -> tuple[LayerSpec | None, LayerSpec | None, dict[int, tuple[LayerSpec, ...]]]:
    """The first convolution (None where a batch norm comes before it), the batch norm, and the networks around each."""
    places: dict[int, tuple[LayerSpec, ...]] = {}
    first: LayerSpec | None = None
    for spec, around in _walk(network, ()):
        places[id(spec)] = around
        if spec.class_name == "BatchNormalization":
            return first, spec, places
        if spec.class_name == "Conv2D" and first is None:
            if spec.config.get("activation") not in (None, "linear"):
                break
            first = spec
        elif spec.class_name not in SILENT or (first is not None and spec.class_name != "ZeroPadding2D"):
            break
    return None, None, places


def _walk(network: Network, around: tuple[LayerSpec, ...]) -> Iterator[tuple[LayerSpec, tuple[LayerSpec, ...]]]:
    for spec in network.layers:
        if spec.network is not None:
            yield from _walk(spec.network, (*around, spec))
        else:
            yield spec, around


def _read(
    source: ModelSource, network: Network, specs: list[LayerSpec], places: Mapping[int, tuple[LayerSpec, ...]]
) -> list[dict[str, Array]] | None:
    """Weights by their short names, per layer; None where the file lays them out otherwise."""
    import h5py

    path = source.weights or source.path
    if zipfile.is_zipfile(path):
        with open_archive(source, path) as archive:
            if "model.weights.h5" not in archive.namelist():
                return None
            with h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as file:
                return _by_class(file, network, specs, places)
    with open_h5(source, path) as file:
        return _by_name(file, specs)


def _by_name(file: h5py.File, specs: list[LayerSpec]) -> list[dict[str, Array]] | None:
    """The layout of Keras 1 and 2: datasets whose path ends in `layer/kernel:0`, or `layer_W:0`."""
    import h5py
    import numpy as np

    old = {"W": "kernel", "b": "bias", "running_mean": "moving_mean", "running_std": "moving_variance"}
    found: list[dict[str, Array]] = [{} for _ in specs]

    def visit(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset) or "optimizer" in name:
            return
        parts = name.split("/")
        last = parts[-1].split(":")[0]
        for spec, arrays in zip(specs, found, strict=True):
            word = last if spec.name in parts[:-1] else last.removeprefix(spec.name + "_")
            if spec.name in parts[:-1] or word != last:
                word = word.removeprefix(spec.name + "_")
                arrays[old.get(word, word)] = np.asarray(item, np.float64)

    file.visititems(visit)
    return found if all(found) else None


ORDER = {"Conv2D": ("kernel", "bias"), "BatchNormalization": ("gamma", "beta", "moving_mean", "moving_variance")}


def _by_class(
    file: h5py.File, network: Network, specs: list[LayerSpec], places: Mapping[int, tuple[LayerSpec, ...]]
) -> list[dict[str, Array]] | None:
    """The layout of Keras 3: `layers/functional/layers/conv2d/vars/0`, the first group of a class its first layer."""
    import numpy as np

    found = []
    for spec in specs:
        group: Any = file
        for inner in (*places[id(spec)], spec):
            group = next((group[k] for k in ("layers", "_layer_checkpoint_dependencies") if k in group), None)
            if group is None:
                return None
            stem = {"Conv2D": "conv2d", "BatchNormalization": "batch_normalization"}.get(inner.class_name, "")
            stem = stem or {"Sequential": "sequential"}.get(inner.saved_class, "functional")
            names = sorted((k for k in group if k == stem or k.startswith(stem + "_")), key=lambda k: (len(k), k))
            if not names:
                return None
            group = group[names[0]]
        weights = ORDER[spec.class_name]
        if spec.class_name == "BatchNormalization":
            switches = {"gamma": "scale", "beta": "center"}
            weights = tuple(n for n in weights if spec.config.get(switches.get(n, ""), True))
        values = group.get("vars", {})
        found.append({n: np.asarray(values[str(i)], np.float64) for i, n in enumerate(weights) if str(i) in values})
    return found if all(found) else None
