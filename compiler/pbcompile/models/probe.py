"""A first reading of an HDF5 file in a child process: damaged bytes make the HDF5 library loop for ever or crash."""

from __future__ import annotations

import os
import select
import signal
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import io

SECONDS = 5
"""What walking through a file may take; a thousand layers take some 0.2 s."""
MAX_OBJECTS = 200_000

_known_good: set[tuple[object, ...]] = set()


def fault_of_h5(file: Path | io.BytesIO) -> str:
    """Why the HDF5 library cannot be let near `file` in this process, "" where it can.

    Every link, attribute and chunked array is read once, in a forked child that is killed after `SECONDS`.  What the
    library reports as an error is no fault: the reading that follows meets it again.
    """
    key: tuple[object, ...] = ()
    if isinstance(file, Path):
        found = file.stat()
        key = (str(file.resolve()), found.st_size, found.st_mtime_ns, found.st_ino)
        if key in _known_good:
            return ""
    import h5py  # noqa: F401  (imported here, so that the child need not)

    ready, done = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of threads; the child takes no lock
        child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, 2 * SECONDS)  # should the parent be killed meanwhile
            _walk(file)
        finally:
            os._exit(0)
    os.close(done)
    ended = False
    try:
        ended = bool(select.select([ready], [], [], SECONDS)[0])  # the pipe closes as the child ends
    finally:
        os.close(ready)
        if not ended:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if not ended:
        return "reading it does not end"
    if os.WIFSIGNALED(status):
        return f"reading it crashes the HDF5 library ({signal.Signals(os.WTERMSIG(status)).name})"
    if key:
        _known_good.add(key)
    return ""


def _walk(source: Path | io.BytesIO) -> None:
    import h5py

    with h5py.File(source, "r") as file:
        pending: list[Any] = [file]
        for _ in range(MAX_OBJECTS):
            if not pending:
                return
            item = pending.pop()
            for name in list(item.attrs):
                try:
                    item.attrs[name]
                except Exception:
                    continue  # reading it again gives the same error, with its sentence
            if isinstance(item, h5py.Dataset):
                if item.chunks is not None:
                    item[()]
            elif isinstance(item, h5py.Group):
                for name in item:
                    if isinstance(item.get(name, getlink=True), h5py.HardLink):
                        try:
                            pending.append(item[name])
                        except Exception:
                            continue
