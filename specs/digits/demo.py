"""`make demo`: compile the digit reader of this folder, then read 500 scans with the `.pb` and in the usual ways.

Everything printed is measured in this run.  The accuracy of each program is taken over the same JPEG files; each
latency is taken in a process of its own, which this file starts as `demo.py --time NAME`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scans import Scan, write_held_out

from pbcompile.bench import time_calls, time_in_turn
from pbcompile.cli import import_tensorflow

if TYPE_CHECKING:
    import keras

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent.parent / "build" / "digits"
PB = BUILD / "digits.pb"
REPORT = BUILD / "digits.html"
SCANS = BUILD / "scans"
SIZE = 32

Reader = Callable[[bytes], NDArray[np.float32]]
"""The bytes of a JPEG file in, ten probabilities out."""


def with_opencv(jpeg: bytes) -> NDArray[np.uint8]:
    """What the model was trained behind, up to the /255: EXIF applied, gray, [32, 32]."""
    import cv2

    gray = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    return cv2.resize(gray, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)


def with_pillow(jpeg: bytes) -> NDArray[np.uint8]:
    """The same in Pillow, each call with its defaults: EXIF not looked at, bicubic over all pixels."""
    import io

    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("L").resize((SIZE, SIZE)))


def with_tf_image(jpeg: bytes) -> NDArray[np.float32]:
    """The same in tf.image, each call with its defaults: EXIF not looked at, fast JPEG, float bilinear."""
    import tensorflow as tf

    gray = tf.image.rgb_to_grayscale(tf.io.decode_jpeg(jpeg, channels=3))
    return tf.image.resize(gray, (SIZE, SIZE)).numpy()[..., 0]


def keras_model() -> keras.Model:
    import keras

    return keras.models.load_model(HERE / "model.keras")


def usual_frozen() -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """The network alone, frozen as everybody does it; takes [n, 32, 32, 1] in 0..1."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    model = keras_model()
    spec = tf.TensorSpec([None, SIZE, SIZE, 1], tf.float32)
    frozen = convert_variables_to_constants_v2(tf.function(model).get_concrete_function(spec))
    return lambda batch: frozen(tf.constant(batch))[0].numpy()


def reader(name: str) -> Reader:
    """A whole program for one scan, ready to be timed."""
    if name == "fused":
        import pbcompile

        program = pbcompile.load(PB)
        return lambda jpeg: program.run({"scan": jpeg}, ["probabilities"])["probabilities"][0]

    def batch(jpeg: bytes) -> NDArray[np.float32]:
        return (with_opencv(jpeg).astype(np.float32) / 255.0)[None, ..., None]

    if name == "unfused_frozen":
        frozen = usual_frozen()
        return lambda jpeg: frozen(batch(jpeg))[0]
    model = keras_model()
    if name == "unfused_predict":
        return lambda jpeg: model.predict(batch(jpeg), verbose=0)[0]
    import tensorflow as tf

    function = tf.function(model)
    return lambda jpeg: function(tf.constant(batch(jpeg)))[0].numpy()


TIMED = {
    "unfused_predict": "OpenCV + model.predict",
    "unfused_function": "OpenCV + tf.function(model)",
    "unfused_frozen": "OpenCV + frozen network",
    "fused": "the .pb on the JPEG bytes",
}


@dataclass(frozen=True)
class Answers:
    """What one program says to all scans: probabilities [n, 10]."""

    program: str
    probabilities: NDArray[np.float32]

    def right(self, scans: list[Scan], sideways: bool | None = None) -> float:
        """The share of right answers, over all scans or over those held sideways or not."""
        hits = [
            answer == scan.digit
            for answer, scan in zip(self.probabilities.argmax(1), scans, strict=True)
            if sideways in (None, scan.orientation != 1)
        ]
        return float(np.mean(hits))

    def changed(self, trained: Answers) -> int:
        """How many answers are not those of `trained`."""
        return int((self.probabilities.argmax(1) != trained.probabilities.argmax(1)).sum())

    def off_by(self, trained: Answers, scans: list[Scan], upright_only: bool = False) -> float:
        """The largest difference of a probability from the one that `trained` gives."""
        chosen = [not upright_only or scan.orientation == 1 for scan in scans]
        return float(np.abs(self.probabilities - trained.probabilities)[chosen].max())


def read_all(scans: list[Scan]) -> list[Answers]:
    """Every program on every scan; the first is the one that the model was trained behind."""
    jpegs = [scan.jpeg for scan in scans]
    opencv, pillow, tf_image = (
        np.stack([make(jpeg) for jpeg in jpegs])[..., None].astype(np.float32)
        for make in (with_opencv, with_pillow, with_tf_image)
    )
    frozen = usual_frozen()
    fused = reader("fused")
    return [
        Answers("Keras + OpenCV, as trained", keras_model().predict(opencv / 255.0, verbose=0)),
        Answers("the .pb on the JPEG bytes", np.stack([fused(jpeg) for jpeg in jpegs])),
        Answers("frozen alone + tf.image", frozen(tf_image / 255.0)),
        Answers("frozen alone + Pillow", frozen(pillow / 255.0)),
        Answers("frozen alone, fed raw", frozen(opencv)),
    ]


LEGEND = """\
as trained:  cv2.imdecode(IMREAD_GRAYSCALE), cv2.resize to 32x32, /255
the .pb:     one session.run on the bytes; all of the above in the graph
tf.image:    decode_jpeg, rgb_to_grayscale, resize, all by default; /255
Pillow:      Image.open, convert("L"), resize, all by default; /255
fed raw:     as trained, the /255 forgotten
changed:     answers that differ from the first line's
off by:      the largest difference of a probability from the first line's"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Compile the digit reader and measure it against the usual ways.")
    parser.add_argument("--time", choices=list(TIMED), help="time one program in this process and print JSON")
    parser.add_argument("--seconds", type=float, default=1.5, help="how long to time each program in each round")
    parser.add_argument("--rounds", type=int, default=2, help="how often to time each program")
    arguments = parser.parse_args()
    if arguments.time:
        import_tensorflow()
        some = [path.read_bytes() for path in sorted(SCANS.rglob("*.jpg"))[::5]]
        print(time_calls(reader(arguments.time), some, arguments.seconds).as_json())
        return

    from rich import box
    from rich.console import Console
    from rich.table import Table

    def make_table(title: str, *columns: str) -> Table:
        table = Table(*columns, title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
        for column in table.columns[1:]:
            column.justify = "right"
        return table

    console = Console(highlight=False)
    started = time.perf_counter()
    scans = write_held_out(SCANS)
    sideways = sum(scan.orientation != 1 for scan in scans)
    console.print(f"{len(scans)} JPEG scans of digits that the model has not seen, {sideways} of them held sideways")

    command = [str(Path(sys.executable).with_name("pbcompile")), "compile", str(HERE / "spec.json"), "-o", str(PB)]
    subprocess.run([*command, "--report", str(REPORT)], check=True)

    console.print("\nreading every scan with every program ...")
    import_tensorflow()
    answers = read_all(scans)
    trained, _, tf_image, pillow, _ = answers
    table = make_table("Which digit is it?", "program", "right", "upright", "sideways", "changed", "off by")
    for given in answers:
        shares = (f"{given.right(scans, which):.1%}" for which in (None, False, True))
        table.add_row(given.program, *shares, str(given.changed(trained)), f"{given.off_by(trained, scans):.1g}")
    console.print(table)
    upright = (f"{given.off_by(trained, scans, upright_only=True):.2f}" for given in (tf_image, pillow))
    console.print("Off by on upright scans alone: {} (tf.image), {} (Pillow)\n".format(*upright))
    console.print(LEGEND)

    console.print("\ntiming every program in a process of its own ...")
    command = [sys.executable, __file__, "--seconds", str(arguments.seconds), "--time"]
    times = time_in_turn({name: [*command, name] for name in TIMED}, arguments.rounds)
    table = make_table(
        "From JPEG bytes to probabilities, one scan at a time", "program", "first", "median", "90 %", "ratio"
    )
    for name, timing in times.items():
        figures = (f"{value:.2f} ms" for value in (timing.first_ms, timing.p50_ms, timing.p90_ms))
        table.add_row(TIMED[name], *figures, f"{timing.p50_ms / times['fused'].p50_ms:.2f}")
    console.print(table)
    console.print(f"{under()}; ratio: median against the .pb's")
    pb, page = (path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path for path in (PB, REPORT))
    console.print(f"\ndone in {time.perf_counter() - started:.0f} s; try: .venv/bin/pbcompile inspect {pb}")
    console.print(f"the report: {page}")


def under() -> str:
    """Under what the figures were measured."""
    from importlib.metadata import version

    return f"{os.cpu_count()} CPUs, TensorFlow {version('tensorflow')}, OpenCV {version('opencv-python-headless')}"


if __name__ == "__main__":
    main()
