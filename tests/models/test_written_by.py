"""Files that old releases wrote themselves: the same answers today, from Keras and from a frozen graph."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pbcompile.models import ModelSource, load_model

WRITTEN = Path(__file__).parent / "written_by"
KNOWN_DIFFERENT = {
    # Theano pads "same" evenly on both sides; TensorFlow, which Keras runs on today, pads what is missing (reported).
    ("keras-1.2.2-theano-channels-first", "conv.h5"),
}
LOOPS = ("rnn", "seq1d", "cells", "convlstm", "emb", "gru2", "tdconv", "nested4")


def cases() -> Iterator[Any]:
    for archive in sorted(WRITTEN.glob("*.zip")):
        with zipfile.ZipFile(archive) as content:
            names = sorted(name for name in content.namelist() if name.endswith((".h5", ".keras")))
        for name in names:
            if "_w." not in name and (archive.stem, name) not in KNOWN_DIFFERENT:
                yield pytest.param(archive, name, id=f"{archive.stem}/{name}")


def unpacked(archive: Path, name: str, folder: Path) -> tuple[Path, list[Any], list[Any]]:
    """The model file, the inputs and the release's own outputs."""
    with zipfile.ZipFile(archive) as content:
        content.extract(name, folder)
        golden = np.load(io.BytesIO(content.read(f"{Path(name).stem}.npz")))
    given = [golden[key] for key in sorted(golden) if key.startswith("x")]
    wanted = [golden[key] for key in sorted(golden) if key.startswith("y")]
    return folder / name, given, wanted


def relative(got: Any, want: Any) -> float:
    assert got.shape == want.shape
    return float(np.abs(got - want).max() / np.abs(want).max())


@pytest.mark.parametrize(("archive", "name"), cases())
def test_answers_as_the_release_did(archive: Path, name: str, tmp_path: Path) -> None:
    """Within 1e-5 of the largest output; measured 7e-7 at most but for Theano's own rounding."""
    path, given, wanted = unpacked(archive, name, tmp_path)
    model = load_model(ModelSource(path))
    got = model.predict({tensor.name: x for tensor, x in zip(model.inputs, given, strict=True)})
    for value, want in zip(got.values(), wanted, strict=True):
        assert relative(value, want) < 1e-5


def with_loops() -> list[Any]:
    """One archive of each kind of file is enough: the layers built are the same."""
    archives = ("keras-1.2.2-tensorflow", "tensorflow-1.15", "tensorflow-2.13")
    found = [case for case in cases() if case.values[1].startswith(LOOPS) and case.values[1].endswith(".h5")]
    return [case for case in found if case.values[0].stem in archives]


@pytest.mark.parametrize(("archive", "name"), with_loops())
def test_recurrent_models_freeze_without_functions(archive: Path, name: str, tmp_path: Path) -> None:
    """Loops, initial states and open lengths in a stock session."""
    from tests.models.frozen import frozen_answers

    path, given, wanted = unpacked(archive, name, tmp_path)
    for value, want in zip(frozen_answers(load_model(ModelSource(path)), given), wanted, strict=True):
        assert relative(value, want) < 1e-5


def test_theano_kernels_are_flipped_and_said_to_be(tmp_path: Path) -> None:
    path, _, _ = unpacked(WRITTEN / "keras-1.2.2-theano-channels-first.zip", "conv.h5", tmp_path)
    repairs = load_model(ModelSource(path)).repairs
    assert "kernels flipped, as Theano convolves (2 layers)" in repairs
    assert "padding same with strides as TensorFlow has it, and Theano pads evenly (convolution2d_2)" in repairs


def test_an_architecture_and_its_weights_are_one_model(tmp_path: Path) -> None:
    for archive in ("keras-1.2.2-tensorflow.zip", "keras-2.2.5-channels-first.zip"):
        with zipfile.ZipFile(WRITTEN / archive) as content:
            content.extract("conv.json", tmp_path)
            content.extract("conv_w.h5", tmp_path)
        _, given, wanted = unpacked(WRITTEN / archive, "conv.h5", tmp_path)
        model = load_model(ModelSource(tmp_path / "conv.json", tmp_path / "conv_w.h5"))
        got = next(iter(model.predict({model.inputs[0].name: given[0]}).values()))
        assert relative(got, wanted[0]) < 1e-5


def test_loading_twice_gives_the_same_names(tmp_path: Path) -> None:
    from tests.models.frozen import frozen_graph

    path, _, _ = unpacked(WRITTEN / "tensorflow-2.13.zip", "nested.keras", tmp_path)
    first, second = (frozen_graph(load_model(ModelSource(path)))[0] for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


def test_dict_outputs_keep_their_order_and_keys(tmp_path: Path) -> None:
    """Keras itself sorts them by key."""
    path, _, _ = unpacked(WRITTEN / "tensorflow-2.13.zip", "dicts.keras", tmp_path)
    assert [tensor.name for tensor in load_model(ModelSource(path)).outputs] == ["zeta", "alpha"]
