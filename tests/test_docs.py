"""The README says what is so: its programs run, its snippets are the tested files, its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = [
    (language, title, text)
    for language, title, text in re.findall(r"^```(\S+)(?: (\S+))?\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
]
FIRST_LINE = {text: README.count("\n", 0, README.index(text)) + 1 for _, _, text in BLOCKS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What a reader has: the specs of the README, a photo, and a small model in the place of ResNet50."""
    import keras

    folder = tmp_path_factory.mktemp("reader")
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((224, 224, 3)),
            layers.Conv2D(8, 7, 4),
            layers.BatchNormalization(
                gamma_initializer="random_normal",
                moving_mean_initializer="random_normal",
                moving_variance_initializer=keras.initializers.RandomUniform(0.5, 2.0),
            ),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(1000, "softmax", kernel_initializer=keras.initializers.RandomNormal(stddev=0.01)),
        ]
    )
    model.layers[-1].name = "predictions"
    model.save(folder / "resnet50.h5")
    photo = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    Image.fromarray(photo).resize((640, 480), Image.Resampling.BICUBIC).save(folder / "photo.jpg")
    for language, title, text in BLOCKS:
        if language == "json":
            (folder / title).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.mark.parametrize(
    ("language", "text"),
    [
        pytest.param(language, text, id=f"line{FIRST_LINE[text]}")
        for language, _, text in BLOCKS
        if language in ("python", "sh")
    ],
)
def test_what_the_reader_types_works(
    folder: Path, capsys: pytest.CaptureFixture[str], language: str, text: str
) -> None:
    """In the order of the README: later programs use the files of earlier ones."""
    if language == "sh":
        for line in text.splitlines():
            program, *words = line.split("#")[0].split()
            assert program == "pbcompile"
            subprocess.run([sys.executable, "-m", "pbcompile.cli", *words], cwd=folder, check=True)
        return
    exec(compile(text, "README.md", "exec"), {})
    promised = re.findall(r"^print\(.*\)  # (.*)$", text, re.MULTILINE)  # the comment after a print is what it prints
    assert capsys.readouterr().out.splitlines() == promised


def test_the_mistake_in_the_readme_is_answered_in_its_words(tmp_path: Path) -> None:
    (spec,) = (text for _, title, text in BLOCKS if title == "resnet50.json")
    (tmp_path / "resnet50.json").write_text(spec.replace("[224, 224]", "[224, 0]"))
    command = [sys.executable, "-m", "pbcompile.cli", "check", "resnet50.json"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert said.returncode == 2
    (answer,) = (text for language, _, text in BLOCKS if language == "text" and text.startswith("resnet50.json:"))
    assert said.stderr == answer


@pytest.mark.parametrize("path", re.findall(r"^<!-- region: (\S+) -->$", README, re.MULTILINE))
def test_a_snippet_is_the_marked_part_of_the_program_that_is_tested(path: str) -> None:
    (shown,) = re.findall(rf"<!-- region: {re.escape(path)} -->\n```\S+\n(.*?)```", README, re.DOTALL)
    (marked,) = re.findall(
        r"^\S+ README(?: \*/)?\n(.*?)^\S+ README", (ROOT / path).read_text(), re.MULTILINE | re.DOTALL
    )
    assert shown == marked


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_commands_that_the_readme_names_exist() -> None:
    from pbcompile.cli import cli

    shown = "".join(text for language, _, text in BLOCKS if language == "sh")
    named = set(re.findall(r"`pbcompile ([a-z]+)", README)) | set(
        re.findall(r"^pbcompile ([a-z]+) ", shown, re.MULTILINE)
    )
    assert {"check", "compile", "bench"} <= named <= set(cli.commands)
