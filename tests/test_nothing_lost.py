"""Whatever ends a compile, the old artifact is whole or the new one is, and nothing else is left."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pbcompile.artifact import PARTS, write_atomically
from pbcompile.errors import PbcompileError
from tests.conftest import ROOT
from tests.killing import EARLIER

OLD = hashlib.sha256(EARLIER).hexdigest()


def killing(mode: str, folder: Path) -> tuple[Any, str]:
    command = [sys.executable, "-m", "tests.killing", mode, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    return json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    import keras
    from keras import layers

    folder = tmp_path_factory.mktemp("killed")
    keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.GlobalMaxPooling2D()]).save(folder / "net.h5")
    step = {"op": "resize", "size": [8, 8], "method": "linear", "like": "opencv"}
    document = {"version": 1, "model": "net.h5", "inputs": {"image": {"channels": "RGB", "preprocess": [step]}}}
    (folder / "spec.json").write_text(json.dumps(document))
    (folder / "tmp").mkdir()
    return folder


def test_a_hundred_killed_writers(tmp_path) -> None:
    """The artifact is always one of the two; what a kill between two system calls left, the next write removes."""
    result, _ = killing("write", tmp_path)
    assert len(result["found"]) == 100
    assert set(result["found"]) == set(result["whole"]), "never another, and each of the two was seen"
    assert len(result["left"]) <= 10, "a file has a name only for the moment before it is renamed"
    assert result["files"] == ["net.pb"]


def test_killed_compiles_two_at_once_and_no_room(folder) -> None:
    """Killed from the start to the end of a compile; then two to one artifact; then one that may not write as much."""
    result, said = killing("compile", folder)
    assert set(result["found"]) <= {OLD, result["new"]}
    assert result["found"][0] == OLD
    assert result["litter"] == []
    assert (result["codes"], result["both"]) == ([0, 0], result["new"])
    assert result["limited"] == [1, OLD, True]
    assert "net.pb cannot be written: File too large" in said


def test_a_compile_killed_at_the_gate_leaves_no_file_and_no_child(folder, tmp_path) -> None:
    """The gate runs in a second process, which ends by itself; what it runs is in no file."""
    (folder / "gate.pb").write_bytes(EARLIER)
    before = sorted(path.name for path in folder.iterdir())
    process = subprocess.Popen(
        [sys.executable, "-m", "pbcompile.cli", "spec.json", "-o", "gate.pb"],
        cwd=folder, stderr=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert process.stderr is not None
    while not process.stderr.readline().startswith("optimize:"):
        assert process.poll() is None
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    ended = subprocess.run(["timeout", "60", "tail", f"--pid={child}", "-f", "/dev/null"], check=False)
    assert ended.returncode == 0
    assert (folder / "gate.pb").read_bytes() == EARLIER
    assert sorted(path.name for path in folder.iterdir()) == before
    assert list(tmp_path.iterdir()) == []


FULL = """
import sys
from pathlib import Path
from pbcompile.artifact import require_folder, write_atomically
from pbcompile.errors import PbcompileError
target = Path(sys.argv[1])
for data in (b"old", bytes(200_000)):
    try:
        require_folder(target)
        write_atomically(target, data)
    except PbcompileError as error:
        print(error)
print(target.read_bytes(), len(list(target.parent.iterdir())))
"""


@pytest.mark.parametrize(
    ("mount", "reason"),
    [("", "No space left on device"), ("; mount -o remount,ro {0}", "the folder {0} is not writable")],
)
def test_a_full_and_a_read_only_disk(tmp_path, mount, reason) -> None:
    """A disk of 64 KB, mounted for this test alone; one sentence, and the earlier artifact is whole."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = f"mount -t tmpfs -o size=64k none {disk} && echo -n old > {disk}/net.pb" + mount.format(disk)
    script = f'{mounted} && exec "$@"'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*command, mounted], capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here")
    program = [sys.executable, "-c", FULL, str(disk / "net.pb")]
    done = subprocess.run([*command, script, "sh", *program], capture_output=True, text=True, check=True)
    *said, last = done.stdout.splitlines()
    assert last == "b'old' 1"
    assert said[-1] == f"file-unwritable: {disk / 'net.pb'} cannot be written: {reason.format(disk)}"


def test_a_file_system_without_nameless_files(tmp_path, monkeypatch) -> None:
    """As NFS: the part has a name from the start, and goes with an error all the same."""
    from pbcompile import artifact

    honest = os.open

    def without(path: Any, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(artifact.errno.EOPNOTSUPP, "not here")
        return honest(path, flags, mode)

    monkeypatch.setattr(os, "open", without)
    write_atomically(tmp_path / "net.pb", b"one")
    assert (tmp_path / "net.pb").read_bytes() == b"one"
    (tmp_path / "net.pb").unlink()
    (tmp_path / "net.pb").mkdir()
    with pytest.raises(PbcompileError, match="cannot be written"):
        write_atomically(tmp_path / "net.pb", b"two")
    assert [path.name for path in tmp_path.iterdir()] == ["net.pb"]


def test_parts_of_the_dead_go_and_those_of_the_living_stay(tmp_path) -> None:
    import fcntl

    dead, alive = (tmp_path / PARTS.replace("*", word) for word in ("dead", "alive"))
    dead.touch()
    with alive.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write_atomically(tmp_path / "net.pb", b"one")
        assert sorted(path.name for path in tmp_path.iterdir()) == [alive.name, "net.pb"]
