"""Contenders as callables, built in the process that times them; each imports what it needs.

Every program takes the spec's feeds and gives the spec's outputs, so that all of them do the same work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pbcompile.bench.contender import Contender
from pbcompile.plan import Plan, make_plan
from pbcompile.session import Artifact
from pbcompile.spec import Spec

Array = npt.NDArray[Any]
Feeds = Mapping[str, Any]
Runner = Callable[[Mapping[str, Array]], Mapping[str, Array]]
"""A network without preprocessing: arrays by the model's input names to arrays by its output names."""


class Program:
    """A whole program.  Calling it answers a feed; `parts` are pieces of it that can be timed apart."""

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """The spec's outputs by name."""
        raise NotImplementedError

    def prepared(self, feeds: Feeds) -> dict[str, Array]:
        """What reaches the model, by the spec's input names; empty where the program does not hand it out."""
        del feeds
        return {}

    def parts(self) -> dict[str, Callable[[Feeds], object]]:
        """`decode` and `prepare` (decoding included), as far as they can be run alone."""
        return {}


class Unfused(Program):
    """The program that a user would have written: the real libraries around a network."""

    def __init__(self, plan: Plan, network: Runner) -> None:
        from pbcompile.reference.program import answers_reference, preprocess_reference

        self.plan, self.network = plan, network
        self._preprocess, self._postprocess = preprocess_reference, answers_reference

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """Preprocess, run the network, postprocess."""
        ready = self.prepared(feeds)
        given = self.network({name: ready[item.name] for name, item in self.plan.feeds.items()})
        return self._postprocess(self.plan, given, feeds)

    def prepared(self, feeds: Feeds) -> dict[str, Array]:
        """Every input as the model takes it."""
        return {
            item.name: np.asarray(self._preprocess(item, feeds[item.name]), dtype=self.plan.targets[item.name].dtype)
            for item in self.plan.spec.inputs
        }

    def parts(self) -> dict[str, Callable[[Feeds], object]]:
        """`prepare`, and `decode` where there is something to decode."""
        from pbcompile.reference.decoding import decode

        encoded = [item for item in self.plan.spec.inputs if item.kind == "encoded"]

        def decode_all(feeds: Feeds) -> object:
            return [
                decode(content, item.channels, item.exif, item.like)
                for item in encoded
                for content in (feeds[item.name] if item.is_vector else [feeds[item.name]])
            ]

        return {"prepare": self.prepared} | ({"decode": decode_all} if encoded else {})


class Graph(Program):
    """A whole program in one `.pb`."""

    def __init__(self, contender: Contender) -> None:
        if contender.file is None:
            raise ValueError("a pb contender needs its file")
        inputs, outputs = contender.inputs, contender.outputs
        self._artifact = Artifact(contender.file, list(inputs.values()), list(outputs.values()))
        self._inputs = dict(inputs) or {name: name for name in self._artifact.inputs}
        self._outputs = dict(outputs) or {name: name for name in self._artifact.outputs}
        self._parts = contender.parts

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """One run of the session."""
        found = self._artifact.run({self._inputs[name]: value for name, value in feeds.items()})
        return {name: np.asarray(found[node]) for name, node in self._outputs.items()}

    def parts(self) -> dict[str, Callable[[Feeds], object]]:
        """Runs that end early, at the contender's named nodes."""
        return {part: self._run_to(node) for part, node in self._parts.items()}

    def _run_to(self, node: str) -> Callable[[Feeds], object]:
        return lambda feeds: self._artifact.run({self._inputs[name]: value for name, value in feeds.items()}, [node])


def make_program(contender: Contender, spec: Spec, feeds: Feeds) -> Program:
    """Load what the contender needs.

    feeds: what it will be fed, for runtimes that want to know sizes beforehand.
    Raises PbcompileError where a peer has no way to run this spec.
    """
    if contender.kind == "pb":
        return Graph(contender)
    if contender.kind in ("predict", "function"):
        return _original(contender.kind, spec)
    network, file = contender.network, contender.file
    if network is None or file is None:
        raise ValueError(f"a {contender.kind} contender needs its network")
    inputs, outputs = (tuple(end.as_tensor() for end in ends) for ends in (network.inputs, network.outputs))
    plan = make_plan(spec, inputs, outputs)
    if contender.kind == "frozen":
        return Unfused(plan, _frozen(contender))
    from pbcompile.bench.peers import peer_program

    return peer_program(contender, plan, feeds)


def _original(kind: str, spec: Spec) -> Program:
    """The model file itself, loaded by this package's reader, run by Keras or under tf.function."""
    import tensorflow as tf

    from pbcompile.models import load_model

    model = load_model(spec.model)
    plan = make_plan(spec, model.inputs, model.outputs)
    if kind == "function":
        function = tf.function(model.call)

        def call(given: Mapping[str, Array]) -> Mapping[str, Array]:
            results = function({name: tf.constant(value) for name, value in given.items()})
            return {name: value.numpy() for name, value in results.items()}

        return Unfused(plan, call)
    if model.kind != "keras":  # a SavedModel has no predict: its signature is what its user calls
        return Unfused(plan, model.predict)
    keras_model: Any = model.keep_alive
    names = [tensor.name for tensor in model.inputs]

    def predict(given: Mapping[str, Array]) -> Mapping[str, Array]:
        fed = [given[name] for name in names]
        results = keras_model.predict(fed if len(fed) > 1 else fed[0], batch_size=len(fed[0]), verbose=0)
        return _named(results, [tensor.name for tensor in model.outputs])

    return Unfused(plan, predict)


def _named(results: Any, names: list[str]) -> dict[str, Array]:
    """What `predict` gives, by output name: an array, a list, or a dict by name."""
    if isinstance(results, Mapping) and set(results) == set(names):
        return dict(results)
    return dict(zip(names, _leaves(results), strict=True))


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    if isinstance(value, (list, tuple)):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]


def _frozen(contender: Contender) -> Runner:
    network, file = contender.network, contender.file
    assert network is not None  # make_program has looked
    assert file is not None
    artifact = Artifact(file, [end.node for end in network.inputs], [end.node for end in network.outputs])

    def run(given: Mapping[str, Array]) -> Mapping[str, Array]:
        found = artifact.run({end.node: given[end.name] for end in network.inputs})
        return {end.name: found[end.node] for end in network.outputs}

    return run
