"""Random cases of every step against the real libraries, for as long as you like: what the tests do in seconds.

    python benchmarks/pixels.py [--minutes 5] [--seed 0] [--only resize decode ...]

Sizes 1 to 4096, contents, dtypes, channels and parameters are drawn at random; differing values are counted by kind of
step, and each case that should have been equal and was not is printed, to be made again.  Exit code 1 if there is any.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for tests.steps
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from tests.steps.differential import CONTENTS, Differential, picture  # noqa: E402

from pbcompile.reference import REFERENCE  # noqa: E402
from pbcompile.reference.decoding import decode as decode_reference  # noqa: E402
from pbcompile.reference.resampling import IS_PILLOW_13  # noqa: E402
from pbcompile.steps.colour import ORDERS, SPACES, ConvertColor  # noqa: E402
from pbcompile.steps.decoding import decode  # noqa: E402
from pbcompile.steps.framing import Fit, Letterbox  # noqa: E402
from pbcompile.steps.geometry import CenterCrop, Crop, Flip, Pad, Rotate90  # noqa: E402
from pbcompile.steps.resampling import METHODS, Resize  # noqa: E402
from pbcompile.steps.smoothing import Blur  # noqa: E402
from pbcompile.tensor_type import CHANNEL_COUNT  # noqa: E402

MOST_PIXELS = 1 << 20
PILLOW = "pillow" if IS_PILLOW_13 else "pillow-12"
NEAR = {
    ("opencv", "cubic", "uint8"): 1.0,
    ("opencv", "cubic", "float32"): 1e-3,
    ("opencv", "linear", "float32"): 1.6e-5,
}
"""How far a value may be off where Intel IPP differs by CPU: a level, and some ulp of 255."""

Random = np.random.Generator
Case = tuple[str, Any, np.ndarray, str]
"""A kind, the step, the image and its channels."""


def side(rng: Random, most: int = 4096) -> int:
    return int(np.exp(rng.uniform(0, np.log(most + 0.5))))


def image(rng: Random, channels: int | None = None, dtype: str | None = None, most: int = 4096) -> np.ndarray:
    height = side(rng, most)
    width = min(side(rng, most), max(1, MOST_PIXELS // height))
    count = channels or int(rng.choice([1, 3, 3, 4]))
    shape = (int(rng.choice([1, 1, 2])), height, width, count)
    return picture(
        str(rng.choice(CONTENTS)), shape, dtype or str(rng.choice(["uint8", "float32"])), int(rng.integers(99))
    )


def target(rng: Random) -> tuple[int, int]:
    return side(rng, 500), side(rng, 500)


def resize(rng: Random) -> Case:
    like = str(rng.choice(["opencv", "pillow", "pillow-12", "tensorflow"]))
    method, x = str(rng.choice(METHODS[like])), image(rng)
    options: dict[str, Any] = {"size": target(rng)}
    if rng.random() < 0.25 and max(x.shape[1:3]) < 20 * min(x.shape[1:3]):
        options = {str(rng.choice(["shorter_side", "longer_side"])): side(rng, 300)}
    if like == "tensorflow":
        options["antialias"] = bool(rng.random() < 0.5)
    return f"resize {like} {method} {x.dtype}", Resize(method=method, like=like, **options), x, ""


def frame(rng: Random) -> Case:
    like = str(rng.choice(["opencv", PILLOW, "tensorflow"]))
    method, x = str(rng.choice(("nearest", "linear", "cubic"))), image(rng, 3, "uint8", 1000)
    if rng.random() < 0.5:
        return f"fit {like} {method} uint8", Fit(size=target(rng), method=method, like=like), x, ""
    options: dict[str, Any] = {"align": str(rng.choice(["center", "top-left"]))}
    if like == "opencv":
        options |= {"upscale": bool(rng.random() < 0.5), "rounding": str(rng.choice(["nearest", "down"]))}
    step = Letterbox(size=target(rng), method=method, like=like, fill=float(rng.integers(0, 256)), **options)
    return f"letterbox {like} {method} uint8", step, x, ""


def geometry(rng: Random) -> Case:
    x = image(rng, most=400)
    height, width = x.shape[1:3]
    top, left = int(rng.integers(0, height)), int(rng.integers(0, width))
    sides = [int(n) for n in rng.integers(0, 40, 4)]
    steps = [
        Crop(
            top=top,
            left=left,
            height=int(rng.integers(1, height - top + 1)),
            width=int(rng.integers(1, width - left + 1)),
        ),
        CenterCrop(size=(top + 1, left + 1), like=str(rng.choice(["opencv", "pillow", "tensorflow"]))),
        CenterCrop(fraction=float(rng.uniform(0.3, 1.0))),
        Pad(*sides, mode=str(rng.choice(["constant", "reflect", "symmetric", "edge"]))),
        Flip(axis=str(rng.choice(["horizontal", "vertical", "both"]))),
        Rotate90(turns=int(rng.integers(-4, 5))),
    ]
    step = steps[int(rng.integers(len(steps)))]
    return step.op, step, x, ""


def blur(rng: Random) -> Case:
    size = tuple(int(n) * 2 + 1 for n in rng.integers(0, 16, 2))
    step = Blur(size=size, sigma=float(rng.choice([0.0, rng.uniform(0.3, 6)])))
    return "blur", step, image(rng, dtype="uint8", most=600), ""


def colour(rng: Random) -> Case:
    given = str(rng.choice([*ORDERS, "YUV", "YCrCb", "HSV"]))
    into = ["RGB", "BGR"] if given in SPACES else [*ORDERS, *(() if given == "GRAY" else SPACES)]
    to = str(rng.choice(into))
    like = str(rng.choice(["opencv", "pillow"])) if to == "GRAY" else ""
    return f"{given} to {to}", ConvertColor(to=to, like=like), image(rng, CHANNEL_COUNT[given], "uint8", 600), given


MAKERS: dict[str, Callable[[Random], Case]] = {
    "resize": resize,
    "frame": frame,
    "geometry": geometry,
    "blur": blur,
    "colour": colour,
}


def random_file(rng: Random) -> bytes:
    """A JPEG or PNG of any size, quality and subsampling, written by OpenCV."""
    pixels = image(rng, int(rng.choice([1, 3])), "uint8", 700)[0]
    if rng.random() < 0.3:
        return bytes(cv2.imencode(".png", pixels)[1].tobytes())
    options = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(1, 101)), cv2.IMWRITE_JPEG_PROGRESSIVE, int(rng.integers(2))]
    options += [cv2.IMWRITE_JPEG_RST_INTERVAL, int(rng.choice([0, 0, 1, 7]))]
    if pixels.shape[2] == 3:
        factor = str(rng.choice(["411", "420", "422", "440", "444"]))
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{factor}")]
    return bytes(cv2.imencode(".jpg", pixels, options)[1].tobytes())


class Hunt:
    """Counts differing values by kind, and keeps the cases that should have been equal."""

    def __init__(self) -> None:
        self.differential = Differential(REFERENCE)
        self.counts: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0, 0.0])
        self.misses: list[str] = []
        self.refused = 0

    def step(self, case: Case, said: str) -> None:
        kind, step, x, channels = case
        try:
            want = self.differential.reference(step, x, channels)
        except (cv2.error, ValueError, tf.errors.OpError):
            self.refused += 1
            return
        have = self.differential.emitted(step, x, channels, is_open=False)
        words = kind.split()
        self.compare(kind, have, want, NEAR.get((words[1], words[2], words[3]), 0.0) if len(words) == 4 else 0.0, said)

    def file(self, rng: Random, said: str) -> None:
        data = random_file(rng)
        for like in ("opencv", "pillow"):
            for channels in ("BGR", "GRAY"):
                have = decode(tf.constant(data), channels, "ignore", like).numpy()
                want = decode_reference(data, channels, "ignore", like)
                self.compare(f"decode {like} {channels}", have, want, 0.0, said)

    def compare(self, kind: str, have: np.ndarray, want: np.ndarray, near: float, said: str) -> None:
        apart = np.full(1, np.inf) if have.shape != want.shape else np.abs(have.astype(np.float64) - want)
        entry = self.counts[kind]
        entry[0] += 1
        entry[1] += int((apart > 0).sum())
        entry[2] += want.size
        entry[3] = max(entry[3], float(apart.max(initial=0.0)))
        if apart.max(initial=0.0) > near:
            self.misses.append(
                f"{said}: {kind} on {want.shape}: {int((apart > 0).sum())} differ, by up to {apart.max():g}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=[*MAKERS, "decode"], default=[*MAKERS, "decode"])
    options = parser.parse_args()
    hunt, number, end = Hunt(), 0, time.monotonic() + 60 * options.minutes
    while time.monotonic() < end:
        name = options.only[number % len(options.only)]
        rng, said = (
            np.random.default_rng([options.seed, number]),
            f"seed {options.seed}, case {number} of {options.only}",
        )
        if name == "decode":
            hunt.file(rng, said)
        else:
            case = MAKERS[name](rng)
            hunt.step(case, f"{said}: {case[1]} on {case[2].shape}")
        number += 1
    for kind, (cases, differ, total, most) in sorted(hunt.counts.items()):
        more = f", by up to {most:g}" if differ else ""
        print(f"{kind:34} {cases:5.0f} cases, {differ:8.0f} of {total:11.0f} values differ{more}")
    print(f"{number} cases in {options.minutes:g} minutes, {hunt.refused} of them refused by the library")
    print(f"{len(hunt.misses)} that should have been equal were not")
    print("\n".join(hunt.misses))
    sys.exit(bool(hunt.misses))


if __name__ == "__main__":
    main()
