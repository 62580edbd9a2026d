"""The same spec and model are the same bytes everywhere, and the bytes say of which spec, model and labels."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import shutil
import socket
import sys
from pathlib import Path

import pytest

import pbcompile
from tests.networks import natural_batch, set_statistics

LABELS = ["Äpfel", "梨", "plums"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An architecture with its weights, labels that are no ASCII, and a spec of a constant that is computed."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(2)
    folder = tmp_path_factory.mktemp("bytes")
    image = keras.Input((16, 16, 3))
    x = layers.BatchNormalization()(layers.Conv2D(64, 3, use_bias=False)(image))
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    model = keras.Model(image, layers.Dense(3, activation="softmax", name="scores")(x))
    set_statistics(model, natural_batch(4, 16))
    (folder / "net.json").write_text(model.to_json())
    model.save_weights(folder / "net.weights.h5")
    model.save(folder / "other.h5")
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in LABELS), "utf-8")
    spec(folder)
    return folder


def spec(folder: Path, at: str = "") -> Path:
    """A spec whose paths are relative, or absolute below `at`."""
    document = {
        "version": 1,
        "model": {"path": f"{at}net.json", "weights": f"{at}net.weights.h5"},
        "inputs": {
            "image": {
                "channels": "BGR",
                "preprocess": [
                    {"op": "resize", "size": [16, 16], "method": "linear", "like": "opencv"},
                    {"op": "convert_color", "to": "RGB"},
                    {"op": "normalize", "mean": [9, 8, 7], "std": 50},
                ],
            }
        },
        "outputs": {"top": {"from": "scores", "postprocess": [{"op": "top_k", "k": 2, "labels": f"{at}labels.txt"}]}},
    }
    path = folder / ("absolute.json" if at else "spec.json")
    path.write_text(json.dumps(document))
    return path


@pytest.fixture(scope="module")
def artifact(folder) -> Path:
    return pbcompile.compile_spec(folder / "spec.json", verify=False).artifact


def test_the_same_bytes_everywhere(folder, artifact, run_process, tmp_path) -> None:
    """Another process, hash seed, working directory, place of the files, locale, time zone, home, number of threads."""
    again = pbcompile.compile_spec(folder / "spec.json", tmp_path / "again.pb", verify=False)
    assert again.artifact.read_bytes() == artifact.read_bytes()
    moved = shutil.copytree(folder, tmp_path / "Ort, der anders heißt")
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TZ": "Asia/Kathmandu", "HOME": "/"}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    turkish = {"LC_ALL": "tr_TR.UTF-8", "PYTHONHASHSEED": "12345", "TF_NUM_INTRAOP_THREADS": "7"}
    for where, environment in ((tmp_path, plain | threads | {"PYTHONHASHSEED": "0"}), (moved, turkish)):
        done = run_process(
            os.path.relpath(moved / "spec.json", where), "-o", "here.pb", "--no-verify", "--json",
            cwd=where, **environment,
        )  # fmt: skip
        assert done.code == 0, done.err
        assert (where / "here.pb").read_bytes() == artifact.read_bytes()


def test_nothing_of_the_building_machine_is_in_it(folder, artifact, tmp_path) -> None:
    """Neither where TensorFlow lies nor who built it; absolute paths of the spec are in it by their last part."""
    absolute = pbcompile.compile_spec(spec(folder, f"{folder}/"), tmp_path / "absolute.pb", verify=False)
    data = absolute.artifact.read_bytes()
    for word in (folder, Path(pbcompile.__file__).parent, sys.prefix, Path.home(), socket.gethostname()):
        assert len(str(word)) < 4 or str(word).encode() not in data
    assert f"/{getpass.getuser()}/".encode() not in data
    assert data == artifact.read_bytes()


def test_the_contract_holds_a_hash_of_each_file(folder, artifact) -> None:
    """Those that `sha256sum` says; the spec's is that of its canonical JSON, which the contract holds too."""
    contract = pbcompile.inspect(artifact)["contract"]
    found = {key: hashlib.sha256((folder / key).read_bytes()).hexdigest() for key in os.listdir(folder)}
    assert contract["model_sha256"] == found["net.json"]
    assert contract["weights_sha256"] == found["net.weights.h5"]
    assert contract["labels_sha256"] == {"top": found["labels.txt"]}
    canonical = json.dumps(contract["spec"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert contract["spec_sha256"] == hashlib.sha256(canonical.encode()).hexdigest()


def test_verify_hash_knows_its_model(folder, artifact, run) -> None:
    """Exit code 0 for the files that it was made of, 1 for another model, 2 for one that is missing."""
    own = ["--verify-hash", "net.json", "--verify-hash", "net.weights.h5"]
    assert run("inspect", artifact, *own, cwd=folder).code == 0
    done = run("inspect", artifact, *own, "--verify-hash", "other.h5", "--json", cwd=folder)
    assert done.code == 1
    (problem,) = done.json()["error"]["problems"]
    assert problem["code"] == "hash-differs"
    assert "was not made of other.h5" in problem["message"]
    done = run("inspect", artifact, "--verify-hash", "none.h5", cwd=folder)
    assert (done.code, done.err.splitlines()[0]) == (2, "file-missing: there is no file none.h5")


@pytest.mark.parametrize("what", ["spec", "labels"])
def test_verify_hash_finds_a_contract_that_was_changed(folder, artifact, run, tmp_path, what) -> None:
    """Both are bytes in the graph that anybody can edit."""
    import tensorflow as tf

    graph_def = tf.compat.v1.GraphDef.FromString(artifact.read_bytes())
    (node,) = (node for node in graph_def.node if node.name == "pbcompile/contract")
    contract = json.loads(node.attr["value"].tensor.string_val[0])
    contract[what].popitem()
    node.attr["value"].tensor.string_val[0] = json.dumps(contract).encode()
    (tmp_path / "changed.pb").write_bytes(graph_def.SerializeToString())
    done = run("inspect", tmp_path / "changed.pb", "--verify-hash", "net.json", cwd=folder)
    assert done.code == 1
    assert f"hash-differs: the {what} in " in done.err
