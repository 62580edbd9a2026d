"""Files that are no models, or not whole: one clear answer each, and no TensorFlow needed to give it."""

from __future__ import annotations

import io
import json
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pbcompile.errors import ModelError, PbcompileError, SpecError
from pbcompile.models import ModelSource, describe_model, load_model


def refused(path: Path, **more: Any) -> tuple[str, str]:
    """The message and the hint that loading this file ends with."""
    with pytest.raises(PbcompileError) as caught:
        load_model(ModelSource(path, **more))
    (problem,) = caught.value.problems
    assert problem.pointer == "/model"
    return problem.message, problem.hint


def dense_config(**input_layer: Any) -> dict[str, Any]:
    shape = {"batch_input_shape": [None, 3], "dtype": "float32", "name": "x"} | input_layer
    dense = {"name": "y", "units": 2, "activation": "linear", "use_bias": True}
    layers = [{"class_name": "InputLayer", "config": shape}, {"class_name": "Dense", "config": dense}]
    return {"class_name": "Sequential", "config": {"name": "s", "layers": layers}}


def write_h5(path: Path, config: Any, weights: dict[str, dict[str, Any]] | None = None, version: str = "2.4.0") -> Path:
    """An `.h5` file as Keras 2 writes it: the config as text, one group per layer."""
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config) if not isinstance(config, str) else config
        file.attrs["keras_version"], file.attrs["backend"] = version, "tensorflow"
        group = file.create_group("model_weights")
        ones = {"y": {"y/kernel:0": np.ones((3, 2), "f"), "y/bias:0": np.zeros(2, "f")}}
        saved = ones if weights is None else weights
        group.attrs["layer_names"] = [name.encode() for name in saved]
        for name, arrays in saved.items():
            layer = group.create_group(name)
            layer.attrs["weight_names"] = [key.encode() for key in arrays]
            for key, array in arrays.items():
                layer.create_dataset(key, data=array)
    return path


WRONG_HEADS = {
    "empty.h5": (b"", "empty.h5 is empty"),
    "pointer.h5": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n",
        "pointer.h5 is a git-lfs pointer, not the model itself",
    ),
    "page.h5": (
        b"\n<!DOCTYPE html><html><body>404</body></html>",
        "page.h5 is a web page, not a model: the download saved the page around the file",
    ),
    "model.tflite": (
        b"\x1c\0\0\0TFL3" + b"\0" * 40,
        "model.tflite is a TensorFlow Lite model, which has lost its Keras layers",
    ),
    "frozen.pb": (
        b"\x0a\x20\x0a\x05image\x12\x0bPlaceholder",
        "frozen.pb is a frozen graph, which is what pbcompile writes, not what it reads",
    ),
    "saved_model.pb": (b"\x08\x01\x12\x10", "saved_model.pb is one part of a SavedModel"),
    "model.pkl": (b"\x80\x04\x95\x10", "model.pkl is a Python pickle; loading one runs code, so pbcompile never does"),
    "notes.h5": (b"these are my notes", "notes.h5 is not a model file: it starts with 'these are my notes'"),
    "model.h5.gz": (b"\x1f\x8b\x08\0", "model.h5.gz is a gzip archive"),
    "spec.json": (
        b'{"version": 1}',
        "spec.json is JSON, but not a Keras architecture: it has no class_name and config",
    ),
    "cut.h5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 60, "cut.h5 is a damaged HDF5 file"),
    "cut.keras": (b"PK\x03\x04" + b"\0" * 60, "cut.keras is a damaged archive: File is not a zip file"),
}


@pytest.mark.parametrize("name", WRONG_HEADS)
def test_what_is_no_model_is_told_apart_by_its_content(name: str, tmp_path: Path) -> None:
    content, message = WRONG_HEADS[name]
    (tmp_path / name).write_bytes(content)
    assert refused(tmp_path / name)[0].startswith(message)


def test_a_missing_file_is_an_error_of_the_spec_with_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "model.h5").touch()
    with pytest.raises(SpecError) as caught:
        load_model(ModelSource(tmp_path / "modell.h5"))
    assert caught.value.problems[0].code == "file-missing"
    assert caught.value.problems[0].hint == "in that folder: model.h5"


def test_directories_without_saved_model_pb(tmp_path: Path) -> None:
    assert refused(tmp_path)[0] == f"{tmp_path.name}/ is a directory without saved_model.pb, so not a SavedModel"
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"")
    assert refused(tmp_path)[1] == f"give {tmp_path.name}/1 instead"


def test_an_architecture_alone_and_weights_alone(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps(dense_config()))
    message, hint = refused(tmp_path / "model.json")
    assert message == "model.json is an architecture without weights"
    assert hint == 'give both: "model": {"path": "model.json", "weights": "weights.h5"}'
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file.attrs["layer_names"] = [b"y"]
    assert refused(tmp_path / "weights.h5")[0] == "weights.h5 holds weights but no architecture"


def test_weights_left_over_on_either_side(tmp_path: Path) -> None:
    two = {"y": {"y/kernel:0": np.ones((3, 2)), "y/bias:0": np.ones(2)}, "z": {"z/kernel:0": np.ones((2, 2))}}
    message, _ = refused(write_h5(tmp_path / "more.h5", dense_config(), two))
    assert message == "more.h5 has weights for z, which the architecture does not have"
    assert refused(write_h5(tmp_path / "none.h5", dense_config(), {}))[0] == "none.h5 has no weights for y"


def test_a_weight_of_another_shape(tmp_path: Path) -> None:
    wide = {"y": {"y/kernel:0": np.ones((4, 2)), "y/bias:0": np.ones(2)}}
    message, _ = refused(write_h5(tmp_path / "wide.h5", dense_config(), wide))
    assert message == "wide.h5: kernel of the layer y takes the shape [3, 2], and the file has [4, 2]"


def test_a_sequential_without_input_layer_has_one_batch_axis(tmp_path: Path) -> None:
    """Keras 3 loads such a file silently as (None, None, 3)."""
    config = dense_config()
    config["config"]["layers"] = config["config"]["layers"][1:]
    config["config"]["layers"][0]["config"]["batch_input_shape"] = [None, 3]
    model = load_model(ModelSource(write_h5(tmp_path / "m.h5", config, version="2.2.4")))
    assert model.inputs[0].shape == (None, 3)
    assert model.outputs[0].shape == (None, 2)
    assert "Sequential without InputLayer given one (s)" in model.repairs


@pytest.mark.parametrize("shape", [[None, -3], [None, 1 << 40], [None] * 9, [None, "3"], [None, 1.5], [None, True]])
def test_absurd_shapes_are_refused_before_anything_is_built(shape: list[Any], tmp_path: Path) -> None:
    message, _ = refused(write_h5(tmp_path / "m.h5", dense_config(batch_input_shape=shape)))
    assert "the layer x has the" in message


def test_a_config_that_never_ends(tmp_path: Path) -> None:
    deep = '{"class_name": "Sequential", "config": ' + "[" * 100_000 + "]" * 100_000 + "}"
    (tmp_path / "deep.keras").write_bytes(archive({"config.json": deep.encode()}))
    assert refused(tmp_path / "deep.keras")[0] == "the config.json of deep.keras is nested too deeply to be a model"
    nested: dict[str, Any] = dense_config()
    for _ in range(40):
        nested = {"class_name": "Sequential", "config": {"name": "s", "layers": [nested]}}
    assert refused(write_h5(tmp_path / "nested.h5", nested))[0] == "nested.h5: models are nested more than 32 deep"


def archive(members: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as content:
        for name, data in members.items():
            content.writestr(name, data)
    return made.getvalue()


@pytest.mark.parametrize("member", ["../outside.h5", "/etc/passwd", "a/../../b", "..\\windows", "C:/x"])
def test_archive_members_outside_of_the_archive(member: str, tmp_path: Path) -> None:
    config = json.dumps(dense_config()).encode()
    (tmp_path / "m.keras").write_bytes(archive({"config.json": config, member: b"x"}))
    assert refused(tmp_path / "m.keras")[0].endswith("which points outside of it")


def test_links_out_of_an_hdf5_file_are_not_followed(tmp_path: Path) -> None:
    write_h5(tmp_path / "other.h5", dense_config())
    path = write_h5(tmp_path / "m.h5", dense_config())
    with h5py.File(path, "a") as file:
        del file["model_weights/y/y/kernel:0"]
        file["model_weights/y/y/kernel:0"] = h5py.ExternalLink("other.h5", "/model_weights/y/y/kernel:0")
    assert "links y/kernel:0 to another file, other.h5, which is never followed" in refused(path)[0]


def test_numbers_kept_in_another_file_are_not_read(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "m.h5", dense_config())
    (tmp_path / "raw.bin").write_bytes(bytes(24))
    with h5py.File(path, "a") as file:
        del file["model_weights/y/y/kernel:0"]
        outside = [(str(tmp_path / "raw.bin"), 0, 24)]
        file["model_weights/y"].create_dataset("y/kernel:0", (3, 2), "f", external=outside)
    assert refused(path)[0] == "m.h5 keeps y/kernel:0 in another file, which is never read"


def test_mutated_files_end_in_a_sentence(tmp_path: Path) -> None:
    """Cut, zeroed and flipped bytes: a model or a ModelError, never a traceback."""
    whole = write_h5(tmp_path / "m.h5", dense_config()).read_bytes()
    random = np.random.default_rng(0)
    for _ in range(120):
        data = bytearray(whole)
        start = int(random.integers(len(data)))
        kind = int(random.integers(3))
        if kind == 0:
            del data[start:]
        elif kind == 1:
            data[start : start + 16] = bytes(16)
        else:
            data[start] ^= 1 << int(random.integers(8))
        (tmp_path / "bad.h5").write_bytes(bytes(data))
        with suppress(ModelError):
            describe_model(ModelSource(tmp_path / "bad.h5"))


def test_describing_needs_no_tensorflow(tmp_path: Path) -> None:
    import subprocess
    import sys

    write_h5(tmp_path / "m.h5", dense_config())
    code = (
        "import sys; from pathlib import Path; from pbcompile.models import ModelSource, describe_model;"
        f"said = describe_model(ModelSource(Path({str(tmp_path / 'm.h5')!r})));"
        "print(said.inputs[0].name, said.inputs[0].shape, said.outputs[0].name, 'tensorflow' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "x (None, 3) y False"
