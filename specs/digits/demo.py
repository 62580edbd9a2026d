"""`make demo`: compile the digit reader of this folder, then read 500 scans with the `.pb` and in the usual ways.

Everything printed is measured in this run.  The accuracy of each program is taken over the same JPEG files; each
latency is taken in a process of its own, which this file starts as `demo.py --time NAME`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from numpy.typing import NDArray
from scans import Scan, make_scans, write_held_out

if TYPE_CHECKING:
    import keras

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent.parent / "build" / "digits"
PB = BUILD / "digits.pb"
SIZE = 32

Reader = Callable[[bytes], NDArray[np.float32]]
"""The bytes of a JPEG file in, ten probabilities out."""


def with_opencv(jpeg: bytes) -> NDArray[np.uint8]:
    """What the model was trained behind, up to the /255: EXIF applied, gray, [32, 32]."""
    import cv2

    gray = cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2GRAY)
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
        return lambda jpeg: program(scan=jpeg)["probabilities"][0]

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
    "unfused_predict": "OpenCV, then model.predict",
    "unfused_function": "OpenCV, then the model as a tf.function",
    "unfused_frozen": "OpenCV, then the network frozen alone",
    "fused": "the .pb, from the JPEG bytes",
}


def time_here(name: str, seconds: float) -> dict[str, float]:
    """Milliseconds per scan of one program, over as many of the first 100 scans as fit into `seconds`."""
    jpegs = [scan.jpeg for scan in make_scans(held_out=True, per_digit=1, seed=2026)[:100]]
    read = reader(name)
    times: list[float] = []
    for jpeg in jpegs[:20]:
        started = time.perf_counter()
        read(jpeg)
        times.append(time.perf_counter() - started)
    first, times = times[0], []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for jpeg in jpegs:
            started = time.perf_counter()
            read(jpeg)
            times.append(time.perf_counter() - started)
    deciles = statistics.quantiles(times, n=10)
    return {"first_ms": 1e3 * first, "p50_ms": 1e3 * statistics.median(times), "p90_ms": 1e3 * deciles[8]}


def time_apart(rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    """`time_here` of every program, each in its own process, in turn; the median of the rounds."""
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in TIMED}
    for _ in range(rounds):
        for name, results in measured.items():
            command = [sys.executable, __file__, "--time", name, "--seconds", str(seconds)]
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            results.append(json.loads(answer.splitlines()[-1]))
    return {
        name: {key: statistics.median(result[key] for result in results) for key in results[0]}
        for name, results in measured.items()
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
        Answers("Keras behind OpenCV: what was trained", keras_model().predict(opencv / 255.0, verbose=0)),
        Answers("the compiled .pb, fed the JPEG bytes", np.stack([fused(jpeg) for jpeg in jpegs])),
        Answers("frozen alone, behind tf.image's defaults, /255", frozen(tf_image / 255.0)),
        Answers("frozen alone, behind Pillow's defaults, /255", frozen(pillow / 255.0)),
        Answers("frozen alone, behind OpenCV, the /255 forgotten", frozen(opencv)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Compile the digit reader and measure it against the usual ways.")
    parser.add_argument("--time", choices=list(TIMED), help="time one program in this process and print JSON")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long to time each program in each round")
    parser.add_argument("--rounds", type=int, default=2, help="how often to time each program")
    arguments = parser.parse_args()
    if arguments.time:
        print(json.dumps(time_here(arguments.time, arguments.seconds)))
        return

    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    started = time.perf_counter()
    scans = write_held_out(BUILD / "scans")
    sideways = sum(scan.orientation != 1 for scan in scans)
    shown = BUILD.relative_to(Path.cwd()) if BUILD.is_relative_to(Path.cwd()) else BUILD
    console.print(f"{len(scans)} JPEG scans of digits that the model has not seen: {shown / 'scans'}")

    command = [str(Path(sys.executable).with_name("pbcompile")), "compile", str(HERE / "spec.json"), "-o", str(PB)]
    subprocess.run(command, check=True)

    console.print("\nreading every scan with each program ...")
    answers = read_all(scans)
    table = Table(title="Which digit is it?", caption=f"{sideways} of {len(scans)} scans are held sideways (EXIF)")
    for title in ("program", "right", "of upright", "of sideways", "answers changed", "probability off by"):
        table.add_column(title, justify="left" if title == "program" else "right")
    trained = answers[0].probabilities
    for given in answers:
        changed = int((given.probabilities.argmax(1) != trained.argmax(1)).sum())
        off = float(np.abs(given.probabilities - trained).max())
        shares = (given.right(scans, which) for which in (None, False, True))
        table.add_row(given.program, *(f"{share:.1%}" for share in shares), str(changed), f"{off:.1g}")
    console.print(table)

    console.print("timing each program in a process of its own ...")
    times = time_apart(arguments.rounds, arguments.seconds)
    table = Table(title="From JPEG bytes to probabilities, one scan at a time", caption=environment())
    for title in ("program", "first", "median", "90 %", "against the .pb"):
        table.add_column(title, justify="left" if title == "program" else "right")
    for name, row in times.items():
        figures = (f"{row[key]:.2f} ms" for key in ("first_ms", "p50_ms", "p90_ms"))
        table.add_row(TIMED[name], *figures, f"{row['p50_ms'] / times['fused']['p50_ms']:.2f} x")
    console.print(table)
    console.print(f"done in {time.perf_counter() - started:.0f} s; the .pb is {shown / PB.name}")


def environment() -> str:
    """Under what the figures were measured."""
    from importlib.metadata import version

    return f"{os.cpu_count()} CPUs, TensorFlow {version('tensorflow')}, OpenCV {version('opencv-python-headless')}"


if __name__ == "__main__":
    main()
