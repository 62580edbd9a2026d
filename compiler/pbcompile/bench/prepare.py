"""The files that contenders run: the artifact, its preprocessing alone, the plain network, the peers' forms."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import tensorflow as tf

from pbcompile.artifact import read_artifact
from pbcompile.bench.contender import Contender, Network, NetworkEnd, why_missing
from pbcompile.bench.peers import SUFFIX
from pbcompile.errors import ModelError
from pbcompile.freeze import freeze_plainly
from pbcompile.graph import Graph, portable_graph_def, serialize
from pbcompile.models import LoadedModel
from pbcompile.passes import optimize
from pbcompile.result import Compiled


def preprocess_contender(made: Compiled, base: Contender, folder: Path) -> Contender:
    """The artifact's preprocessing alone, at the spec's level, handing out what reaches the model."""
    spec, path = made.plan.spec, folder / "preprocess.pb"
    final = {tap.input: tap.node for tap in made.plan.spec.taps}
    decoded = {tap.input: tap.node for tap in made.plan.spec.taps if tap.index == -1}
    encoded = [item.name for item in spec.inputs if item.kind == "encoded" and item.name in decoded]
    # With several encoded inputs the part would have to end at all of them; then there is none.
    parts = {"decode": decoded[encoded[0]]} if len(encoded) == 1 else {}
    graph = Graph.from_graph_def(
        tf.compat.v1.GraphDef.FromString(made.head),
        [item.name for item in spec.inputs],
        list(dict.fromkeys([*final.values(), *parts.values()])),
    )
    optimize(graph, spec.level)
    path.write_bytes(serialize(portable_graph_def(graph)))
    inputs = {item.name: item.name for item in spec.inputs}
    return replace(base, kind="pb", file=path, inputs=inputs, outputs=final, parts=parts)


def fused_contender(made: Compiled, artifact: Path | None, base: Contender, folder: Path) -> tuple[Contender, str]:
    """The written artifact, or what was just made where none is written; and a sentence to be told, or ""."""
    spec = made.plan.spec
    path = artifact or spec.artifact
    if artifact is None and not path.exists():
        path = folder / "fused.pb"
        path.write_bytes(made.data)
        return replace(base, kind="pb", file=path), f"{spec.artifact.name} is not written: it was compiled for this run"
    contract = read_artifact(path)[1]
    outputs = list(made.plan.output_types)
    if contract is None:
        names = {item.name: item.name for item in spec.inputs}
        contender = replace(base, kind="pb", file=path, inputs=names, outputs={name: name for name in outputs})
        return contender, f"{path.name} was not written by pbcompile; the spec's names are taken for it"
    contender = replace(base, kind="pb", file=path)
    hashes = {"spec": spec.sha256(), "model": made.model.sha256, "weights": made.model.weights_sha256}
    if any(contract.get(f"{key}_sha256") != value for key, value in hashes.items()):
        return contender, f"{path.name} was compiled from another spec or model than the ones it is compared with"
    return contender, ""


def freeze_network(model: LoadedModel, path: Path) -> Network:
    """Write the model alone, frozen as everybody does it.  Raises ModelError where TensorFlow cannot."""
    import tensorflow as tf

    names = [tensor.name for tensor in model.inputs]
    signature = [tf.TensorSpec(t.shape, t.dtype, name=f"input_{i}") for i, t in enumerate(model.inputs)]

    def network(*fed: tf.Tensor) -> list[tf.Tensor]:
        given = model.call(dict(zip(names, fed, strict=True)))
        return [given[tensor.name] for tensor in model.outputs]

    graph_def, inputs, outputs = freeze_plainly(tf.function(network).get_concrete_function(*signature))
    path.write_bytes(graph_def.SerializeToString())
    return Network(
        tuple(NetworkEnd(t.name, node, t.dtype, t.shape) for t, node in zip(model.inputs, inputs, strict=True)),
        tuple(NetworkEnd(t.name, node, t.dtype, t.shape) for t, node in zip(model.outputs, outputs, strict=True)),
    )


def network_contenders(
    model: LoadedModel, against: Sequence[str], base: Contender, folder: Path
) -> tuple[dict[str, Contender], dict[str, str]]:
    """`unfused_frozen` and the peers; and one sentence for each that cannot take part."""
    path = folder / "network.pb"
    names = ["unfused_frozen", *against]
    try:
        network = freeze_network(model, path)
    except ModelError as error:
        return {}, dict.fromkeys(names, error.problems[0].message)
    frozen = replace(base, kind="frozen", file=path, network=network)
    found, skipped = {"unfused_frozen": frozen}, {}
    for peer in dict.fromkeys(against):
        why = why_missing(peer)
        target = path.with_suffix(SUFFIX[peer])
        if why is None and not target.exists():
            why = _convert(peer, path, network, target)
        if why is None:
            found[peer] = replace(frozen, kind=peer, file=target)
        else:
            skipped[peer] = why
    return found, skipped


def _convert(peer: str, frozen: Path, network: Network, target: Path) -> str | None:
    """Why the conversion failed, or None."""
    job = {"peer": peer, "frozen": str(frozen), "network": asdict(network), "target": str(target)}
    done = subprocess.run(
        [sys.executable, "-m", "pbcompile.bench.peers", json.dumps(job)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    if done.returncode == 0 and target.exists():
        return None
    lines = done.stderr.strip().splitlines()
    return f"the network cannot be converted for {peer}: {lines[-1][:300] if lines else f'code {done.returncode}'}"
