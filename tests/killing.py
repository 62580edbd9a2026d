"""Processes that are killed while they write or compile: `python -m tests.killing write|compile FOLDER`.

They are forks of one process that has imported everything, so that a hundred of them take seconds.  What is found after
each goes to stdout as JSON; `tests/test_nothing_lost.py` says what it should be.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pbcompile.artifact import write_atomically
from pbcompile.errors import PbcompileError

SIZE = 3_000_000
EARLIER = b"the earlier artifact"


def fork(work: Callable[[], object]) -> int:
    """The process number of a child that does `work` and ends."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except PbcompileError as error:
            print(error, file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    return child


def kill_after(seconds: float, work: Callable[[], object]) -> None:
    child = fork(work)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def seen(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def killed_writers(folder: Path) -> dict[str, object]:
    """A hundred processes that write two artifacts in turn to one path, each killed at another moment."""
    target = folder / "net.pb"
    whole = [bytes([letter]) * SIZE for letter in b"ab"]

    def write() -> None:
        for number in range(1_000_000):
            write_atomically(target, whole[number % 2])

    write_atomically(target, whole[0])
    moments = random.Random(1)
    found = []
    for _ in range(100):
        kill_after(moments.uniform(0, 0.04), write)
        found.append(seen(target))
    left = [path.name for path in folder.iterdir() if path != target]
    write_atomically(target, whole[0])
    files = [path.name for path in folder.iterdir()]
    return {"whole": [hashlib.sha256(data).hexdigest() for data in whole], "found": found, "left": left, "files": files}


def killed_compiles(folder: Path) -> dict[str, object]:
    """Whole compiles of `folder/spec.json`, killed at moments from their start to their end; then two at once."""
    import tensorflow  # noqa: F401 - once, for all of them

    from pbcompile.pipeline import compile_spec

    target, place = folder / "net.pb", folder / "tmp"
    os.environ["TMPDIR"] = str(place)

    def compile_it() -> None:
        compile_spec(folder / "spec.json", target, verify=False)

    started = time.perf_counter()
    assert ended(fork(compile_it)) == 0
    seconds, new = time.perf_counter() - started, seen(target)
    before = sorted(path.name for path in folder.iterdir())
    found, litter = [], set()
    for number in range(12):
        target.write_bytes(EARLIER)
        kill_after(seconds * (number + 0.5) / 11, compile_it)
        found.append(seen(target))
        litter |= {path.name for path in place.iterdir()} | {path.name for path in folder.iterdir()} - set(before)
    target.write_bytes(EARLIER)
    both = [fork(compile_it) for _ in range(2)]
    codes = [ended(child) for child in both]
    result = {"new": new, "found": found, "litter": sorted(litter), "codes": codes, "both": seen(target)}

    def with_small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        compile_it()

    target.write_bytes(EARLIER)
    code = ended(fork(with_small_files))
    files = sorted(path.name for path in folder.iterdir())
    return {**result, "limited": [code, seen(target), files == before]}


if __name__ == "__main__":
    made = {"write": killed_writers, "compile": killed_compiles}[sys.argv[1]](Path(sys.argv[2]))
    print(json.dumps(made))
