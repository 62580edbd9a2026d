"""One contender in a process of its own: `python -m pbcompile.bench.child JOB`.

It gets ready, says how long that took, and then does what it is told, a JSON object a line: to time calls, to write its
answers, to tell its memory.  Between two orders it waits on its pipe, so that the others have the machine.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from pbcompile.bench.contender import Contender
from pbcompile.bench.feeds import make_feeds
from pbcompile.bench.timing import milliseconds
from pbcompile.errors import PbcompileError
from pbcompile.spec import Spec, load_spec

WARM_UP = 10
"""Calls after the first one that are not counted: TensorFlow plans, tunes and grows its pools in them."""

LEAST_CALLS = 3
"""Of a turn, however slow they are."""


def serve(contender: Contender, orders: TextIO, answers: TextIO) -> None:
    """Be the contender until `orders` ends."""

    def say(**facts: Any) -> None:
        answers.write(json.dumps(facts) + "\n")
        answers.flush()

    spec = load_spec(contender.spec)
    feeds = make_feeds(spec, contender.image)
    import_ms = milliseconds(lambda: _prepare_process(contender, spec))
    program: Any = None

    def load() -> None:
        nonlocal program
        from pbcompile.bench.programs import make_program

        program = make_program(contender, spec, feeds)

    try:
        load_ms = milliseconds(load)
    except PbcompileError as error:
        say(unable=error.problems[0].message)
        return
    first_ms = milliseconds(lambda: program(feeds))
    for _ in range(WARM_UP):
        program(feeds)
    parts = program.parts()
    say(import_ms=import_ms, load_ms=load_ms, first_ms=first_ms, parts=sorted(parts))
    batches = {None: feeds}
    for line in orders:
        order = json.loads(line)
        if order["do"] == "time":
            batch = order["batch"]
            if batch not in batches:
                batches = {None: feeds, batch: make_feeds(spec, contender.image, batch)}
            fed = batches[batch]
            call = parts[order["part"]] if order["part"] else program
            say(times=_turn(lambda call=call, fed=fed: call(fed), order["seconds"]))  # type: ignore[misc]
        elif order["do"] == "memory":
            say(peak_mb=peak_memory() / 2**20)
        else:
            found = program(feeds) | {f"prepared/{name}": value for name, value in program.prepared(feeds).items()}
            with Path(order["path"]).open("wb") as file:
                np.savez(file, **{name: _storable(value) for name, value in found.items()})
            say(written=sorted(found))


def _prepare_process(contender: Contender, spec: Spec) -> None:
    """Import what the program needs, and give every library the same number of threads."""
    import cv2

    cv2.setNumThreads(contender.threads)
    steps = {step.op for item in spec.inputs for step in item.preprocess}
    if contender.kind != "pb" and ("keras_applications" in steps or contender.kind in ("predict", "function")):
        import keras  # noqa: F401 - `preprocess_input` is Keras's own
    if contender.kind in ("openvino", "openvino_preprocessor"):
        import openvino  # noqa: F401
    elif contender.kind == "onnxruntime":
        import onnxruntime  # noqa: F401
    elif contender.kind == "litert":
        import ai_edge_litert.interpreter  # noqa: F401
    else:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(contender.threads)
        tf.config.threading.set_inter_op_parallelism_threads(contender.threads)
        if not contender.grappler:
            tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def _turn(call: Callable[[], object], seconds: float) -> list[float]:
    """Milliseconds of calls until `seconds` are over.  One before is not counted: others had the caches meanwhile."""
    call()
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < LEAST_CALLS or time.perf_counter() < until:
        times.append(milliseconds(call))
    return times


def peak_memory() -> int:
    """The most bytes that this process has held.  `ru_maxrss` would count what it was forked from, too."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held if sys.platform == "darwin" else held * 1024


def _storable(value: Any) -> Any:
    """Strings as bytes of fixed width: an .npz holds no objects that could be anything."""
    array = np.asarray(value)
    return array.astype("S") if array.dtype == object else array


def main() -> None:
    """Serve on stdin and stdout; whatever libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(Contender.from_json(sys.argv[1]), sys.stdin, answers)


if __name__ == "__main__":
    main()
