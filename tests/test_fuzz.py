"""A short run of the fuzzers, and everything that the long ones found, each with the smallest input that shows it."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pbcompile.check import check_spec
from pbcompile.errors import ModelError, SpecError
from pbcompile.models import ModelSource, describe_model, load_model
from pbcompile.models.lambda_code import expression
from pbcompile.models.marshal_reader import Code
from pbcompile.models.probe import fault_of_h5
from pbcompile.spec import load_spec
from tests.fuzz import TARGETS, fuzz
from tests.models.test_files import dense_config, write_h5

SEED = 20261125


@pytest.mark.parametrize("target", TARGETS)
def test_a_short_run_finds_nothing(target: str) -> None:
    """`make fuzz` is the long one; a find names the case, and `python -m tests.fuzz --only` makes it again."""
    assert fuzz([target], SEED, 400, seconds=4) == []


# -- finds


def spec_of(folder: Path, model: str = "net.h5", mean: str | None = None) -> Path:
    steps = [{"op": "subtract_mean", "mean": mean}] if mean else []
    image = {"channels": "RGB", "shape": [None, 2, 2, 3], "preprocess": steps}
    (folder / "spec.json").write_text(json.dumps({"version": 1, "model": model, "inputs": {"image": image}}))
    return folder / "spec.json"


@pytest.mark.parametrize("name", ["n" * 300, "a\x00b"])
def test_a_path_that_no_file_can_have(name: str, tmp_path: Path) -> None:
    """`Path.exists` raised OSError (File name too long)."""
    with pytest.raises(SpecError) as caught:
        check_spec(load_spec(spec_of(tmp_path, model=name)))
    assert caught.value.problems[0].code == "file-missing"


def npy(header: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


@pytest.mark.parametrize(
    "data",
    [
        npy(b"("),
        npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1 1)}"),
        npy(b"{}"),
        b"\x93NUMPY",
        b"",
        b"PK\x03\x04",
    ],
)
def test_a_mean_that_is_no_array(data: bytes, tmp_path: Path) -> None:
    """A header with an open bracket raised tokenize.TokenError through NumPy."""
    (tmp_path / "mean.npy").write_bytes(data)
    with pytest.raises(SpecError) as caught:
        load_spec(spec_of(tmp_path, mean="mean.npy"))
    assert caught.value.problems[0].code == "file-unreadable"
    assert "\n" not in caught.value.problems[0].message


def test_a_mean_beyond_float32(tmp_path: Path) -> None:
    """1e300 became infinity after the check that all numbers are finite."""
    np.save(tmp_path / "mean.npy", np.full((2, 2, 3), 1e300))
    with pytest.raises(SpecError, match=r"no \.npy array of finite float32 numbers"):
        load_spec(spec_of(tmp_path, mean="mean.npy"))


def test_a_pickle_for_a_mean_is_not_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "canary"),)

    np.save(tmp_path / "mean.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(SpecError):
        load_spec(spec_of(tmp_path, mean="mean.npy"))
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("form", ["pickle as text", "pickle as bytes", "expression", "YAML tag"])
def test_labels_are_words_and_never_code(form: str, tmp_path: Path) -> None:
    """A payload in a label file: read as lines of text, or refused where it is none; the first is known to sing."""
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(canary),)

    payload = {
        "pickle as text": pickle.dumps(Bomb(), protocol=0),
        "pickle as bytes": pickle.dumps(Bomb(), protocol=4),
        "expression": f"__import__('os').mkdir({str(canary)!r})\n".encode(),
        "YAML tag": f"!!python/object/apply:os.mkdir [{canary}]\n".encode(),
    }[form]
    (tmp_path / "labels.txt").write_bytes(payload)
    boxes = {"iou_threshold": 0.5, "score_threshold": 0.5}
    for step in ({"op": "top_k", "k": 1}, {"op": "non_max_suppression", **boxes}):
        path = spec_of(tmp_path)
        outputs = {"y": {"from": "y", "postprocess": [{**step, "labels": "labels.txt"}]}}
        path.write_text(json.dumps({**json.loads(path.read_text()), "outputs": outputs}))
        if form == "pickle as bytes":
            with pytest.raises(SpecError, match=r"is no UTF-8 text"):
                load_spec(path)
        else:
            (read,) = load_spec(path).outputs[0].postprocess
            assert read.label_names == tuple(line.strip() for line in payload.decode().splitlines())
    assert not canary.exists()
    if form.startswith("pickle"):
        pickle.loads(payload)
        assert canary.exists()


def test_keyword_names_that_are_no_tuple() -> None:
    """CALL_FUNCTION_KW over None for its names raised AttributeError."""
    code = Code("3.8", 1, bytes([100, 0, 100, 0, 141, 1, 83, 0]), (None,), (), ("x",), (), "f")
    assert expression(code) is None


def test_a_file_that_keeps_the_hdf5_library_busy_for_ever(tmp_path: Path) -> None:
    """Four bytes changed in a file of Keras 2: reading an attribute never came back, and no signal could end it."""
    endless = gzip.decompress((Path(__file__).parent / "models" / "endless.h5.gz").read_bytes())
    (tmp_path / "m.h5").write_bytes(endless)
    start = time.monotonic()
    with pytest.raises(ModelError, match=r"m\.h5 is a damaged HDF5 file: reading it "):
        describe_model(ModelSource(tmp_path / "m.h5"))
    assert time.monotonic() - start < 10


def test_a_good_file_is_probed_once_and_quickly(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "m.h5", dense_config())
    assert fault_of_h5(path) == ""
    start = time.monotonic()
    assert fault_of_h5(path) == ""
    assert time.monotonic() - start < 0.05


@pytest.mark.parametrize("odd", [{}, [], [{}], {"tf": 1}])
def test_an_argument_of_another_kind(odd: Any, tmp_path: Path) -> None:
    """A dict for `dim_ordering` was looked up in a table: unhashable."""
    config = dense_config()
    config["config"]["layers"][1]["config"]["dim_ordering"] = odd
    with pytest.raises(ModelError) as caught:
        load_model(ModelSource(write_h5(tmp_path / "m.h5", config, version="1.2.2")))
    assert caught.value.exit_code == 3


def test_stored_code_of_absurd_depth_is_not_printed() -> None:
    """Ten thousand additions: printing what it computes would have run out of stack."""
    code = Code("3.8", 1, bytes([124, 0]) + bytes([124, 0, 23, 0]) * 10_000 + bytes([83, 0]), (), (), ("x",), (), "f")
    assert expression(code) is None
