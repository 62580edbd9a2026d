"""A C program without Python runs the frozen graphs, by the names in them (the README shows part of `loader.c`)."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SOURCE = Path(__file__).with_name("loader.c")

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`loader.c`, compiled against the headers and libraries inside the TensorFlow wheel."""
    import tensorflow as tf

    program = tmp_path_factory.mktemp("loader") / "loader"
    libraries = tf.sysconfig.get_lib()
    build = ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-isystem", tf.sysconfig.get_include(), str(SOURCE)]
    build += [
        f"-L{libraries}",
        f"-Wl,-rpath,{libraries}",
        "-l:libtensorflow_cc.so.2",
        "-l:libtensorflow_framework.so.2",
    ]
    subprocess.run([*build, "-o", str(program)], check=True)
    return program


def call(loader: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(loader), *map(str, words)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph with a pixel input, a string input, and outputs of three types."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        pixels = v1.placeholder(tf.uint8, [None, None, None, 3], "pixels")
        tf.reduce_mean(tf.cast(pixels, tf.float32), [1, 2], name="mean")
        jpeg = v1.placeholder(tf.string, [], "jpeg")
        tf.shape(tf.io.decode_jpeg(jpeg, dct_method="INTEGER_ACCURATE"), name="size")
        tf.strings.substr(jpeg, 6, 4, name="magic")
    path = tmp_path_factory.mktemp("frozen") / "small.pb"
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return path


def test_an_array_goes_in_and_floats_come_out(loader: Path, frozen: Path, tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), np.uint8)
    (tmp_path / "samples").write_bytes(samples.tobytes())
    said = call(loader, frozen, "pixels", tmp_path / "samples", "mean", *samples.shape)
    assert said.returncode == 0, said.stderr
    got = np.array(said.stdout.split(), np.float32).reshape(2, 3)
    # Sums of 35 integers are exact in float32; the mean is one rounding, of the quotient or of 1/35.
    np.testing.assert_allclose(got, samples.mean(axis=(1, 2)), rtol=2 * np.finfo(np.float32).eps)


def test_an_image_file_goes_in_as_it_is(loader: Path, frozen: Path, tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (31, 17)).save(file, "JPEG")
    (tmp_path / "image.jpg").write_bytes(file.getvalue())
    said = call(loader, frozen, "jpeg", tmp_path / "image.jpg", "size")
    assert (said.returncode, said.stdout.split()) == (0, ["17", "31", "3"]), said.stderr
    said = call(loader, frozen, "jpeg", tmp_path / "image.jpg", "magic")
    assert (said.returncode, said.stdout) == (0, "JFIF\n"), said.stderr


def test_what_is_wrong_is_said(loader: Path, frozen: Path, tmp_path: Path) -> None:
    (tmp_path / "samples").write_bytes(bytes(12))
    wrong = {
        (frozen, "pixel", tmp_path / "samples", "mean", 1, 2, 2, 3): "the graph has no pixel",
        (frozen, "pixels", tmp_path / "samples", "means", 1, 2, 2, 3): "the graph has no means",
        (
            frozen,
            "pixels",
            tmp_path / "samples",
            "mean",
            1,
            3,
            2,
            3,
        ): "these dimensions make 18 bytes, and the file has 12",
        (frozen, "jpeg", tmp_path / "samples", "size"): "size: ",
        (tmp_path / "samples", "jpeg", tmp_path / "samples", "size"): f"{tmp_path / 'samples'}: ",
    }
    for words, message in wrong.items():
        said = call(loader, *words)
        assert said.returncode == 1
        assert message in said.stderr
