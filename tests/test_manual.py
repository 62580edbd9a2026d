"""`help`, the reference page and the completions: made from the steps themselves, and complete."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pbcompile.manual.codes import CODES
from pbcompile.manual.pages import all_steps, page_of, reference_page, topics
from pbcompile.manual.pictures import draw_all
from pbcompile.steps.examples import OTHERS, PICTURES, SCORES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "compiler" / "pbcompile"


def test_the_reference_page_is_what_the_steps_say(golden) -> None:
    """After a change of a step: pytest tests/test_manual.py --update-golden, and read what it wrote."""
    golden(ROOT / "specs" / "steps.md", reference_page())


def test_the_pictures_show_what_the_steps_do(request: pytest.FixtureRequest) -> None:
    folder = ROOT / "specs" / "pictures"
    for op, picture in draw_all().items():
        if request.config.getoption("--update-golden"):
            folder.mkdir(exist_ok=True)
            picture.save(folder / f"{op}.png", optimize=True)
        with Image.open(folder / f"{op}.png") as kept:
            assert kept.size == picture.size
            apart = np.abs(np.asarray(kept.convert("RGB"), np.int16) - np.asarray(picture, np.int16))
        assert apart.max() <= 3, op  # other releases of the libraries differ by a level


@pytest.mark.parametrize("topic", topics())
def test_every_topic_has_its_page(run, topic: str) -> None:
    done = run("help", topic)
    assert done.code == 0
    assert done.out.startswith(topic)
    page = run("help", topic, "--json").json()
    assert page["meaning"]
    if topic not in CODES:
        assert page["example"]["op"] == topic.removesuffix("-output")


def test_every_step_has_an_example() -> None:
    assert {step.op for step in all_steps().values()} - {*PICTURES, *SCORES, *OTHERS} == set()


def test_a_page_says_what_is_wrong_in_the_words_of_the_step() -> None:
    (said,) = [m for m in page_of("resize")["errors"] if '"like" is missing' in m]
    assert '"like": "pillow"' in said


def codes_in_the_source() -> set[str]:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func).split(".")[-1]
            words = [word.value for word in node.keywords if word.arg == "code"]
            words += node.args[:1] if name == "Problem" else node.args[2:3] if name == "refuse" else []
            found |= {w.value for w in words if isinstance(w, ast.Constant) and isinstance(w.value, str)}
    return {code for code in found if "-" in code or code in CODES}


def test_every_code_that_can_be_raised_is_explained() -> None:
    assert codes_in_the_source() - set(CODES) == set()


def test_an_error_names_the_page_of_its_code(run, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text('{"version": 2}')
    done = run("check", "spec.json")
    assert done.err.splitlines()[-1] == "explained by: pbcompile help spec-invalid"
    assert run("help", "spec-invalid").code == 0


def test_an_unknown_topic_is_answered_with_the_nearest(run) -> None:
    done = run("help", "normalise")
    assert done.code == 2
    assert 'did you mean "normalize"?' in done.err


def test_a_command_and_the_whole_list(run) -> None:
    assert "--from" in run("help", "init").out
    listed = run("help", "--json").json()
    assert {"resize", "top_k"} <= set(listed["steps"])
    assert "compile" in listed["commands"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(run, shell: str) -> None:
    """The script asks pbcompile itself; bash must also be able to read it."""
    done = run("completion", shell)
    assert done.code == 0
    assert f"_PBCOMPILE_COMPLETE={shell}_complete" in done.out
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=done.out, text=True, check=True)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [("pbcompile pre", {"predict", "preview"}), ("pbcompile help conv", {"convert_color"}),
     ("pbcompile completion ", {"bash", "zsh", "fish"}), ("pbcompile init --f", {"--from", "--force"})],
)  # fmt: skip
def test_what_the_shell_asks_is_answered(words: str, wanted: set[str]) -> None:
    environment = {"_PBCOMPILE_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    program = "import sys; from pbcompile.cli import main; main([])"
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert {line.split(",")[1] for line in done.stdout.splitlines()} == wanted


def test_the_schema_explains_and_completes_every_step(run) -> None:
    step = run("schema", "--json").json()["$defs"]["step"]
    labels = {snippet["label"] for snippet in step["defaultSnippets"]}
    assert labels == set(step["properties"]["op"]["enum"])
    assert len(step["properties"]["op"]["enumDescriptions"]) == len(labels)
    for case in step["allOf"]:
        assert case["then"]["description"]
        assert case["then"]["examples"]
        json.dumps(case)
