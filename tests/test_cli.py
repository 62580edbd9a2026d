"""The command line: exit codes, one clear sentence per mistake, JSON for programs, and nothing else on stdout."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.networks import natural_batch


@pytest.fixture(scope="module")
def compiled(small) -> Path:
    """The artifact of `small`, written without the gate."""
    from pbcompile import compile_spec

    return compile_spec(small / "spec.json", small / "compiled.pb", verify=False).artifact


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A folder with a small trained-looking model and a spec that fits it."""
    import keras
    from keras import layers

    from tests.networks import set_statistics

    keras.utils.set_random_seed(1)
    folder = tmp_path_factory.mktemp("small")
    image = keras.Input((24, 24, 3), name="picture")
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(image)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(4, activation="softmax", name="scores")(x))
    set_statistics(model, natural_batch(4, 24))
    model.save(folder / "small.keras")
    write_spec(folder)
    cv2.imwrite(str(folder / "photo.png"), natural_batch(1, 60)[0])
    return folder


def write_spec(folder: Path, name: str = "spec.json", **changes: object) -> Path:
    steps = [{"op": "resize", "size": [24, 24], "method": "linear", "like": "opencv"}]
    document = {
        "version": 1,
        "model": "small.keras",
        "inputs": {"image": {"channels": "BGR", "preprocess": steps}},
        "outputs": {
            "probabilities": {"from": "scores"},
            "top": {"from": "scores", "postprocess": [{"op": "top_k", "k": 2, "labels": ["a", "b", "c", "d"]}]},
        },
        "verify": {"count": 3},
    } | changes
    (folder / name).write_text(json.dumps(document))
    return folder / name


def test_compile_json_has_every_promised_field(small, run) -> None:
    done = run("spec.json", "--json", cwd=small)
    assert done.code == 0, done.err
    report = done.json()
    assert {"artifact", "bytes", "sha256", "inputs", "outputs", "nodes", "batch_norm", "verify", "seconds"} <= set(
        report
    )
    assert report["inputs"] == [{"name": "image", "dtype": "uint8", "shape": [None, None, None, 3]}]
    assert [item["name"] for item in report["outputs"]] == ["probabilities", "top_labels", "top_scores", "top_indices"]
    assert report["batch_norm"] == {"found": 1, "folded": 1, "kept": []}
    assert report["nodes"]["after"] < report["nodes"]["before"]
    gate = report["verify"]
    assert gate["passed"] is True
    assert gate["samples"] == 3
    assert gate["preprocess"]["image"] == {"max_level_difference": 0.0, "differing_fraction": 0.0}
    assert {"max_abs", "max_rel", "cosine", "top1_agreement"} <= set(gate["outputs"]["probabilities"])
    assert gate["first_divergence"] is None


def test_terminal_shows_stages_on_stderr_and_no_tensorflow_log(small, run_process) -> None:
    done = run_process("compile", "spec.json", "-o", "other.pb", cwd=small)
    assert done.code == 0
    assert "verified on 3 samples" in done.out
    stages = [line.split(":")[0] for line in done.err.splitlines()]
    assert stages == ["start TensorFlow", "read", "load model", "trace and freeze", "optimize", "verify", "write"]
    assert (small / "other.pb").exists()


def test_inspect_and_predict_read_what_compile_wrote(small, compiled, run) -> None:
    seen = run("inspect", compiled, "--json", cwd=small).json()
    assert seen["contract"]["labels"] == {"top": ["a", "b", "c", "d"]}
    assert {"inputs", "outputs", "ops", "bytes", "sha256", "contract"} <= set(seen)
    said = run("predict", compiled, "photo.png", "--json", cwd=small)
    assert said.code == 0
    (result,) = said.json()["results"]
    assert result["input"] == "photo.png"
    assert np.isclose(sum(result["outputs"]["probabilities"][0]), 1, atol=1e-5)
    assert result["outputs"]["top_labels"][0][0] in "abcd"


def test_predict_goes_on_after_an_image_that_is_no_image(small, compiled, run) -> None:
    (small / "text.jpg").write_text("I am no image")
    done = run("predict", compiled, "text.jpg", "photo.png", cwd=small)
    assert done.code == 2
    assert "photo.png" in done.out
    assert done.err == "image-unreadable: text.jpg is no image that OpenCV reads\n"


def test_diff_shows_what_changed(small, compiled, run) -> None:
    """Nothing for two builds of one spec; the constants and the contract's entry for another spec."""
    same = run("diff", compiled, compiled, "--json", cwd=small)
    assert (same.code, same.json()["same"]) == (0, True)
    steps = [
        {"op": "resize", "size": [24, 24], "method": "linear", "like": "opencv"},
        {"op": "normalize", "mean": 1, "std": 2},
    ]
    write_spec(small, "other.json", inputs={"image": {"channels": "BGR", "preprocess": steps}})
    assert run("other.json", "--no-verify", cwd=small).code == 0
    done = run("diff", compiled, "other.pb", "--json", cwd=small)
    assert done.code == 1
    report = done.json()
    assert report["contract"]["/spec/inputs/image/preprocess/1/std"] == [None, 2]
    assert report["weights"]["changed"] or report["weights"]["added"]
    assert not report["inputs"]
    said = run("diff", compiled, "other.pb", cwd=small).out
    assert "/spec/inputs/image/preprocess/1/std: – → 2" in said


MISTAKES = {
    "no such spec": (
        ["nowhere.json"],
        2,
        "file-missing: there is no file nowhere.json\n      hint: name a spec, such as spec.json\n",
    ),
    "a graph that is none": (
        ["inspect", "small.keras"],
        2,
        "artifact-unreadable: small.keras is no TensorFlow graph file\n      hint: name a .pb that pbcompile wrote\n",
    ),
    "no spec at all": (
        ["compile"],
        2,
        "call-invalid: Missing argument 'SPEC'.\n      hint: pbcompile --help\n",
    ),
    "no such graph": (["predict", "no.pb", "photo.png"], 2, "file-missing: there is no file no.pb\n"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_wrong_call_gets_one_answer(small, run, case) -> None:
    arguments, code, answer = MISTAKES[case]
    done = run(*arguments, cwd=small)
    *_, last = done.err.splitlines(keepends=True)
    assert (done.code, done.err.removesuffix(last), done.out) == (code, answer, "")
    assert last == f"explained by: pbcompile help {answer.partition(':')[0]}\n"


WRONG_SPECS = {
    "output that does not exist": (
        {"outputs": {"p": {"from": "score"}}},
        2,
        'wrong.json:1:198: output-unknown at /outputs/p/from: the model has no output "score"',
        "its outputs: scores",
    ),
    "model that is a text file": (
        {"model": "text.h5"},
        3,
        "wrong.json:1:25: model-unreadable at /model: "
        "text.h5 is not a model file: it starts with 'this is a text file'",
        "hint: give a Keras .h5 or .keras file, an architecture .json with weights, or a SavedModel directory",
    ),
    "model that is missing": (
        {"model": "none.h5"},
        2,
        "wrong.json:1:25: file-missing at /model: there is no file none.h5",
        "",
    ),
    "wrong number of channels": (
        {"inputs": {"image": {"channels": "GRAY", "shape": [None, 24, 24, 1]}}},
        2,
        'the model\'s input "picture" takes float32 [?, 24, 24, 3], '
        "and what comes out of the last step is uint8 [?, 24, 24, 1] GRAY",
        "convert_color",
    ),
    "open size into a fixed model": (
        {"inputs": {"image": {"channels": "RGB"}}},
        2,
        'the model\'s input "picture" takes float32 [?, 24, 24, 3]',
        '{"op": "resize", "size": [24, 24]',
    ),
    "verify images that are none": ({"verify": {"images": "nothing/*.jpg"}}, 2, "images-missing at /verify/images", ""),
}


@pytest.mark.parametrize("case", WRONG_SPECS)
def test_a_wrong_spec_gets_one_answer_and_writes_nothing(small, run, case) -> None:
    changes, code, message, hint = WRONG_SPECS[case]
    (small / "text.h5").write_text("this is a text file")
    write_spec(small, "wrong.json", **changes)
    done = run("wrong.json", cwd=small)
    assert done.code == code, done.err
    assert message in done.err
    assert hint in done.err
    assert "Traceback" not in done.err
    assert not (small / "wrong.pb").exists()
    told = run("wrong.json", "--json", cwd=small)
    problem = told.json()["error"]["problems"][0]
    assert set(problem) == {"code", "message", "pointer", "file", "line", "column", "hint"}


def test_a_missing_folder_is_told_before_the_work(small, run) -> None:
    done = run("spec.json", "-o", "nowhere/model.pb", cwd=small)
    assert done.code == 2
    assert "nowhere/model.pb cannot be written: the folder nowhere does not exist" in done.err
    assert "load model" not in done.err


def test_an_unknown_output_is_told_before_tensorflow_starts(small, run) -> None:
    """`check` reads the model's config alone."""
    write_spec(small, "wrong.json", outputs={"p": {"from": "score"}})
    done = run("check", "wrong.json", cwd=small)
    assert done.code == 2
    assert 'the model has no output "score"' in done.err


def test_the_gate_says_no_and_keeps_the_old_file(small, run) -> None:
    """Exit 1, what differs and where; the earlier artifact stays as it was."""
    write_spec(small, "strict.json", verify={"count": 2, "atol": 0, "rtol": 0})
    (small / "strict.pb").write_bytes(b"the earlier artifact")
    done = run("strict.json", cwd=small)
    if done.code == 0:
        pytest.fail("float32 sums in another order gave equal bits; make the test's tolerance negative")
    assert done.code == 1
    assert "parity-exceeded at /outputs/probabilities" in done.err
    assert (small / "strict.pb").read_bytes() == b"the earlier artifact"
    assert not list(small.glob(".*"))


@pytest.mark.parametrize("command", [["--help"], ["check", "spec.json"], ["schema"]])
def test_quick_commands_import_no_tensorflow(small, command) -> None:
    """What answers at once may not load what takes seconds."""
    import subprocess
    import sys

    code = (
        "import sys, pbcompile.cli as c\n"
        "try: c.main(sys.argv[1:])\n"
        "except SystemExit as e: assert e.code in (0, None), e.code\n"
        "assert not {'tensorflow', 'keras', 'cv2'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, *command], check=True, cwd=small, stdout=subprocess.DEVNULL)


def test_schema_command_prints_the_committed_schema(run) -> None:
    committed = Path(__file__).parents[1] / "specs" / "pbcompile.schema.json"
    assert run("schema").out == committed.read_text()


def test_ctrl_c_ends_cleanly_and_leaves_nothing(small) -> None:
    """One sentence, exit code 130, no traceback, no child left behind, the earlier artifact untouched."""
    import os
    import signal
    import subprocess
    import sys
    import time

    (small / "stopped.pb").write_bytes(b"earlier")
    # A shell's background jobs ignore Ctrl-C, and so would their children: the process in between undoes that.
    undo = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.executable, sys.argv[1:])"
    )
    command = [sys.executable, "-m", "pbcompile.cli", "spec.json", "-o", "stopped.pb"]
    process = subprocess.Popen(
        [sys.executable, "-c", undo, *command], cwd=small, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    seen = [process.stderr.readline() for _ in range(2)]  # until TensorFlow runs and the spec is read
    assert seen[1].startswith("read:"), seen
    os.killpg(process.pid, signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(60) == 130
    assert rest.splitlines()[-1] == "interrupted: stopped; nothing was written"
    assert "Traceback" not in rest
    assert (small / "stopped.pb").read_bytes() == b"earlier"
    for _ in range(300):  # a child that was just starting ends when it finds that nobody talks to it
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("a child process stays behind")
