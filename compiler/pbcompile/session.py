"""A finished `.pb` as a callable, and the same as a child process: TensorFlow's stock session and nothing else.

`python -m pbcompile.session` reads requests from stdin (see `Worker`), so that the gate's artifact runs in a process
that has never seen the model.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from pbcompile.artifact import read_artifact
from pbcompile.errors import PbcompileError, Problem

Feeds = Mapping[str, Any]


class Artifact:
    """A `.pb` with named inputs and outputs, ready to call.

        artifact = pbcompile.load("resnet50.pb")
        artifact(image=pixels)["probabilities"]

    It may be given as the bytes of such a file, too.  `inputs` and `outputs` are the names, in the spec's order.  A
    file without our contract needs them given.
    """

    def __init__(self, path: str | Path | bytes, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> None:
        import tensorflow as tf

        graph_def, contract = read_artifact(path if isinstance(path, bytes) else Path(path))
        if contract is not None:
            inputs = inputs or [item["name"] for item in contract["inputs"]]
            outputs = outputs or [item["name"] for item in contract["outputs"]]
        self.contract = contract
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        graph = tf.Graph()
        with graph.as_default():
            tf.graph_util.import_graph_def(graph_def, name="")
        self._session = tf.compat.v1.Session(graph=graph)
        self._fetches = {name: f"{name}:0" for name in self.outputs}

    def __call__(self, **feeds: Any) -> dict[str, npt.NDArray[Any]]:
        """Outputs by name.  Feeds are arrays, or bytes for encoded images."""
        return self.run(feeds)

    def run(self, feeds: Feeds, outputs: Sequence[str] | None = None) -> dict[str, npt.NDArray[Any]]:
        """The same with names that are no Python identifiers, and with a choice of outputs."""
        fetches = self._fetches if outputs is None else {name: f"{name}:0" for name in outputs}
        unknown = [name for name in feeds if name not in self.inputs]
        if unknown:
            hint = "its inputs: " + ", ".join(self.inputs)
            raise PbcompileError(Problem("input-unknown", f'the artifact has no input "{unknown[0]}"', hint=hint))
        self._require_one_batch(feeds)
        feed_dict = {f"{name}:0": value for name, value in feeds.items()}
        results: dict[str, npt.NDArray[Any]] = self._session.run(fetches, feed_dict=feed_dict)
        return results

    def _require_one_batch(self, feeds: Feeds) -> None:
        """PbcompileError where two inputs hold different numbers of items; only a contract says what holds a batch."""
        first: tuple[str, int] | None = None
        for item in (self.contract or {}).get("inputs", []):
            rank, value = len(item["shape"]), feeds.get(item["name"])
            if value is None or np.ndim(value) != rank:
                continue  # the session says what is wrong with it
            is_one = rank == 0 or (item["kind"] == "pixels" and rank == 3)
            count = 1 if is_one else len(value)
            if first is not None and first[1] != count:
                items = f"{first[1]} item{'' if first[1] == 1 else 's'}"
                said = f'"{first[0]}" holds {items}, and "{item["name"]}" {count}: they go through the model together'
                raise PbcompileError(Problem("batch-mismatch", said, hint="feed as many of the one as of the other"))
            first = first or (item["name"], count)

    def close(self) -> None:
        """End the session."""
        self._session.close()


class Worker:
    """A child process that runs artifacts in a stock session.

    Started early, it imports TensorFlow while the parent still compiles.  Messages are pickles on the child's pipes:
    both ends are this module, and nothing from a file is ever unpickled.
    """

    def __init__(self) -> None:
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pbcompile.session"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )

    def run(
        self, program: Path | bytes, outputs: Sequence[str], samples: Sequence[Feeds]
    ) -> list[dict[str, npt.NDArray[Any]]]:
        """Feed each sample to a `.pb`, or to the bytes of one: what is not yet proven is in no file, so none is left.

        Raises PbcompileError with the child's words if it fails.
        """
        assert self._process.stdin is not None  # it is a PIPE, above
        assert self._process.stdout is not None
        inputs = list(samples[0]) if samples else []
        try:
            pickle.dump((program, inputs, list(outputs), list(samples)), self._process.stdin)
            self._process.stdin.flush()
            answer = pickle.load(self._process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            raise PbcompileError(Problem("artifact-crashed", self._last_words(program))) from None
        if isinstance(answer, str):
            raise PbcompileError(Problem("artifact-failed", f"the artifact does not run: {answer}"))
        results: list[dict[str, npt.NDArray[Any]]] = answer
        return results

    def _last_words(self, program: Path | bytes) -> str:
        code = self._process.wait()
        assert self._process.stderr is not None
        lines = self._process.stderr.read().decode(errors="replace").strip().splitlines()
        name = program.name if isinstance(program, Path) else "what was just made"
        return f"the process that ran {name} ended with code {code}: {lines[-1] if lines else 'no word'}"

    def close(self) -> None:
        """End the child."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _serve() -> None:
    """Answer requests until stdin ends; whatever libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    import tensorflow as tf

    while True:
        try:
            program, inputs, outputs, samples = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        answer: Any
        try:
            artifact = Artifact(program, inputs, outputs)
            answer = [artifact.run(sample) for sample in samples]
            answer = [{name: np.asarray(value) for name, value in result.items()} for result in answer]
            artifact.close()
        except (tf.errors.OpError, ValueError, PbcompileError) as error:
            answer = str(error).splitlines()[0]
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    _serve()
