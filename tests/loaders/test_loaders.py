"""C and C++ programs without Python run the graphs, by the names in them (the README shows part of each program)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pbcompile

HERE = Path(__file__).parent
DIGITS = HERE.parents[1] / "specs" / "digits" / "spec.json"


def build(compiler: list[str], source: str, folder: Path) -> Path:
    """A program compiled against the headers and libraries inside the TensorFlow wheel."""
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"needs {compiler[0]}")
    import tensorflow as tf

    program, libraries = folder / Path(source).stem, tf.sysconfig.get_lib()
    command = [*compiler, "-Wall", "-Wextra", "-Werror", "-isystem", tf.sysconfig.get_include(), str(HERE / source)]
    # The library registers its session when it is loaded; a linker that drops what seems unused would leave it out.
    command += [f"-L{libraries}", f"-Wl,-rpath,{libraries}", "-Wl,--no-as-needed"]
    command += ["-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2", "-o", str(program)]
    subprocess.run(command, check=True)
    return program


def call(program: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(program), *map(str, words)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(["gcc", "-std=c11"], "loader.c", tmp_path_factory.mktemp("c"))


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


@pytest.fixture(scope="module")
def digit_reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of `make demo`."""
    path = tmp_path_factory.mktemp("digits") / "digits.pb"
    return pbcompile.compile_spec(DIGITS, path, verify=False).artifact


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JPEG with something in it."""
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(noise).resize((31, 17)).save(path)
    return path


def test_an_array_goes_in_and_floats_come_out(loader: Path, frozen: Path, tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), np.uint8)
    (tmp_path / "samples").write_bytes(samples.tobytes())
    said = call(loader, frozen, "pixels", tmp_path / "samples", "mean", *samples.shape)
    assert said.returncode == 0, said.stderr
    got = np.array(said.stdout.split(), np.float32).reshape(2, 3)
    # Sums of 35 integers are exact in float32; the mean is one rounding, of the quotient or of 1/35.
    np.testing.assert_allclose(got, samples.mean(axis=(1, 2)), rtol=2 * np.finfo(np.float32).eps)


def test_an_image_file_goes_in_as_it_is(loader: Path, frozen: Path, photo: Path) -> None:
    said = call(loader, frozen, "jpeg", photo, "size")
    assert (said.returncode, said.stdout.split()) == (0, ["17", "31", "3"]), said.stderr
    said = call(loader, frozen, "jpeg", photo, "magic")
    assert (said.returncode, said.stdout) == (0, "JFIF\n"), said.stderr


def test_an_artifact_gives_c_the_values_that_it_gives_python(loader: Path, digit_reader: Path, photo: Path) -> None:
    wanted = pbcompile.load(digit_reader)(scan=photo.read_bytes())
    said = call(loader, digit_reader, "scan", photo, "probabilities")
    assert said.returncode == 0, said.stderr
    # The same graph in the same runtime; nine digits print a float32 without loss.
    np.testing.assert_array_equal(np.array(said.stdout.split(), np.float32), wanted["probabilities"][0])
    said = call(loader, digit_reader, "scan", photo, "digit_labels")
    assert said.stdout.split() == [label.decode() for label in wanted["digit_labels"][0]]


def test_an_artifact_gives_cpp_the_values_that_it_gives_python(digit_reader: Path, photo: Path, tmp_path: Path) -> None:
    loader = build(["g++", "-std=c++17"], "loader.cc", tmp_path)
    said = call(loader, digit_reader, "scan", photo, "probabilities")
    assert said.returncode == 0, said.stderr
    wanted = pbcompile.load(digit_reader)(scan=photo.read_bytes())["probabilities"][0]
    np.testing.assert_array_equal(np.array(said.stdout.split(), np.float32), wanted)


def test_what_is_wrong_is_said(loader: Path, frozen: Path, tmp_path: Path) -> None:
    samples = tmp_path / "samples"
    samples.write_bytes(bytes(12))
    wrong = {
        (frozen, "pixel", samples, "mean", 1, 2, 2, 3): "the graph has no pixel",
        (frozen, "pixels", samples, "means", 1, 2, 2, 3): "the graph has no means",
        (frozen, "pixels", samples, "mean", 1, 3, 2, 3): "these dimensions make 18 bytes, and the file has 12",
        (frozen, "jpeg", samples, "size"): "size: ",
        (samples, "jpeg", samples, "size"): f"{samples}: ",
        (frozen, "jpeg", tmp_path / "missing", "size"): f"{tmp_path / 'missing'}: No such file",
    }
    for words, message in wrong.items():
        said = call(loader, *words)
        assert said.returncode == 1
        assert message in said.stderr
