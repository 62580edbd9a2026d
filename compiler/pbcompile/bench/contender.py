"""A program that is to be timed, as data: what a child process needs in order to become that program."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pbcompile.bench.environment import installed
from pbcompile.errors import PbcompileError, Problem, did_you_mean
from pbcompile.models import ModelTensor

UNFUSED = {
    "predict": "the real libraries, then model.predict",
    "function": "the real libraries, then tf.function(model)",
    "frozen": "the real libraries, then the network frozen as everybody does it, in a session",
}
"""Ways to run the original model in TensorFlow, all behind `reference/`."""

PEERS: Mapping[str, tuple[str, Sequence[str]]] = {
    "openvino": ("the real libraries, then the network in OpenVINO", ["openvino"]),
    "openvino_preprocessor": ("OpenVINO with its own PrePostProcessor: near pixels, not the same", ["openvino"]),
    "onnxruntime": ("the real libraries, then the network in onnxruntime through tf2onnx", ["onnxruntime", "tf2onnx"]),
    "litert": ("the real libraries, then the network in LiteRT with XNNPACK", ["ai-edge-litert"]),
}
"""Other runtimes, each with the distributions that it needs; all get the plainly frozen network, in float32."""


@dataclass(frozen=True)
class NetworkEnd:
    """An input or output of a network file: the model's name for it, the node's, and its type as in ModelTensor."""

    name: str
    node: str
    dtype: str
    shape: tuple[int | None, ...] | None

    def as_tensor(self) -> ModelTensor:
        """The same without the node."""
        return ModelTensor(self.name, self.dtype, self.shape)


@dataclass(frozen=True)
class Network:
    """The ends of a network that was frozen without its preprocessing."""

    inputs: tuple[NetworkEnd, ...]
    outputs: tuple[NetworkEnd, ...]

    @staticmethod
    def from_json(given: Mapping[str, Any]) -> Network:
        """What `asdict` and JSON made of one."""
        inputs, outputs = (
            tuple(
                NetworkEnd(**{**end, "shape": None if end["shape"] is None else tuple(end["shape"])})
                for end in given[key]
            )
            for key in ("inputs", "outputs")
        )
        return Network(inputs, outputs)


@dataclass(frozen=True)
class Contender:
    """One program.

    kind:     a key of UNFUSED or of PEERS, or "pb": a whole program in one graph file.
    spec:     the spec whose program it is.
    image:    the image file that every feed is made of.
    threads:  how many threads the runtime and OpenCV may use.
    file:     the graph or network file; none for "predict" and "function".
    network:  what goes into `file` and comes out of it, for "frozen" and the peers.
    inputs, outputs: node names by the spec's names where `file` is a "pb" without our contract.
    parts:    node of a "pb" by the part of the program after which it stands, such as "decode".
    grappler: whether TensorFlow may optimize a graph when it is loaded.
    """

    kind: str
    spec: Path
    image: Path
    threads: int
    file: Path | None = None
    network: Network | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    grappler: bool = True

    def as_json(self) -> str:
        """One line that `from_json` reads."""
        return json.dumps(asdict(self), default=str)

    @staticmethod
    def from_json(text: str) -> Contender:
        """What `as_json` wrote."""
        given = json.loads(text)
        for key in ("spec", "image", "file"):
            given[key] = None if given[key] is None else Path(given[key])
        if given["network"] is not None:
            given["network"] = Network.from_json(given["network"])
        return Contender(**given)


def check_peers(names: Iterable[str]) -> None:
    """Raises PbcompileError for a name that is no peer's."""
    for name in names:
        if name not in PEERS:
            message, hint = f'there is no peer "{name}"', did_you_mean(name, PEERS)
            raise PbcompileError(Problem("peer-unknown", message, hint=hint))


def why_missing(peer: str) -> str | None:
    """One sentence when a peer cannot take part because something is not installed."""
    missing = [package for package in PEERS[peer][1] if installed(package) is None]
    if not missing:
        return None
    return (
        f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} not installed: pip install 'pbcompile[peers]'"
    )
