"""How long does preprocessing take inside the graph, and in the library whose pixels it gives?

    python benchmarks/preprocess.py [--chain NAME ...] [--size 480x640 ...] [--rounds 5] [--seconds 1] [--json FILE]

Each chain of steps (to 224x224) on frames of 640x480, 1920x1080 and 3840x2160:

    library   cv2, PIL and NumPy, the references that `verify` runs
    fixed     a frozen graph whose frame size stands in the spec, in a stock TensorFlow session
    open      the same with the size known only when fed

One process per contender, chain and size, in turn, several rounds; the figure is the median of each round's median, and
the graph's time is without what feeding the same frame to an empty graph takes (`feed`).  The ratios are those of
`fixed` and of `open` to the library.  Values are compared first: a contender that differs from the library says so.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIZES = {"480x640": (480, 640), "1080x1920": (1080, 1920), "2160x3840": (2160, 3840)}
CONTENDERS = ("library", "fixed", "open")


def resize(method: str, like: str) -> dict[str, Any]:
    return {"op": "resize", "size": [224, 224], "method": method, "like": like}


MEAN = {"op": "subtract_mean", "mean": [103.939, 116.779, 123.68]}
NORMALIZE = [
    {"op": "rescale", "scale": 1 / 255, "offset": 0.0},
    {"op": "normalize", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
]
PILLOW = ("nearest", "box", "linear", "hamming", "cubic", "lanczos")
CHAINS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    **{f"opencv {m}": ("BGR", [resize(m, "opencv")]) for m in ("nearest", "linear", "cubic", "area", "lanczos")},
    **{
        f"pillow {m}": ("RGB", [resize(m, "pillow")])
        for m in ("nearest", "box", "linear", "hamming", "cubic", "lanczos")
    },
    "opencv gray": ("BGR", [{"op": "convert_color", "to": "GRAY", "like": "opencv"}]),
    "opencv blur": ("BGR", [{"op": "blur", "size": 5}]),
    "letterbox": ("BGR", [{"op": "letterbox", "size": [640, 640], "method": "linear", "like": "opencv"}]),
    "bgr, resize, mean": ("BGR", [resize("linear", "opencv"), MEAN]),
    "nv12, resize, rescale": ("NV12", [resize("linear", "opencv"), NORMALIZE[0]]),
    "jpeg, opencv linear, normalise": ("jpeg", [resize("linear", "opencv"), *NORMALIZE]),
    "jpeg, pillow linear, normalise": ("jpeg", [resize("linear", "pillow"), *NORMALIZE]),
}


def frame(height: int, width: int) -> Any:
    """A picture with smooth parts, edges and grain, uint8 [H, W, 3]."""
    import numpy as np

    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = 120 + 70 * np.sin(y / 41)[..., None] * np.cos(x[..., None] / 57 + np.arange(3, dtype=np.float32))
    return np.clip(waves + 40 * ((x // 97 + y // 83) % 2)[..., None] + rng.normal(0, 6, waves.shape), 0, 255).astype(
        "u1"
    )


def steps_of(chain: str) -> list[Any]:
    from pbcompile.steps import STEPS

    by_name = {step.op: step for step in STEPS}
    return [by_name[values["op"]].from_json(values, "", Path()) for values in CHAINS[chain][1]]


def child(contender: str, chain: str, size: str, seconds: float) -> dict[str, Any]:
    """Times one contender in this process."""
    import cv2
    import numpy as np

    from pbcompile.reference.camera import encode_camera
    from pbcompile.tensor_type import CHANNEL_COUNT, TensorType

    kind, steps = CHAINS[chain][0], steps_of(chain)
    height, width = SIZES[size]
    picture = frame(height, width)
    fed: Any = picture[np.newaxis]
    if kind == "jpeg":
        fed = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
    elif kind == "NV12":
        fed = encode_camera(fed, kind)
    channels = "RGB" if kind in ("jpeg", "NV12") else kind
    known = contender == "fixed" and kind != "jpeg"
    shape = (1, height, width, 3) if known else (1, None, None, CHANNEL_COUNT[channels])
    entry = TensorType("uint8", shape, "NHWC", channels, (0, 255))
    library = _library(kind, steps, entry)
    if contender == "library":
        return {"ms": _time(lambda: library(fed), seconds), "feed": 0.0, "differ": 0}
    call, empty = _graph(kind, steps, entry, fed)
    want, have = library(fed), call(fed)
    differ = int((np.abs(want.astype(np.float64) - have) > 1e-5 * np.abs(want).max() * (want.dtype != np.uint8)).sum())
    return {"ms": _time(lambda: call(fed), seconds), "feed": _time(lambda: empty(fed), seconds / 4), "differ": differ}


def _library(kind: str, steps: list[Any], entry: Any) -> Callable[[Any], Any]:
    from pbcompile.reference import REFERENCE
    from pbcompile.reference.camera import decode_camera

    types = [entry]
    for step in steps:
        types.append(step.check(types[-1]))

    def run(fed: Any) -> Any:
        x = _decode(fed, steps[0].like) if kind == "jpeg" else decode_camera(fed, kind) if kind == "NV12" else fed
        for step, given in zip(steps, types, strict=False):
            x = REFERENCE[type(step)](step, x, given)
        return x

    return run


def _decode(contents: bytes, like: str) -> Any:
    """uint8 RGB [1, H, W, 3] by the library's quickest call; `reference` turns BGR around in NumPy, which is slow."""
    import cv2
    import numpy as np
    from PIL import Image

    if like == "pillow":
        return np.asarray(Image.open(io.BytesIO(contents)))[np.newaxis]
    return cv2.imdecode(np.frombuffer(contents, np.uint8), cv2.IMREAD_COLOR_RGB)[np.newaxis]


def _graph(kind: str, steps: list[Any], entry: Any, fed: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    import tensorflow as tf

    from pbcompile.steps.camera import decode_camera
    from pbcompile.steps.decoding import decode

    spec = tf.TensorSpec([], tf.string)
    if kind == "NV12":
        spec = tf.TensorSpec(fed.shape if entry.size[0] else [1, None, None, 1], tf.uint8)
    elif kind != "jpeg":
        spec = tf.TensorSpec(entry.shape, tf.uint8)

    @tf.function(input_signature=[spec], autograph=False)
    def run(x: tf.Tensor) -> tf.Tensor:
        x = decode(x, "RGB") if kind == "jpeg" else decode_camera(x, kind) if kind == "NV12" else x
        given = entry
        for step in steps:
            x, given = step.emit(x, given), step.check(given)
        return x

    @tf.function(input_signature=[spec], autograph=False)
    def nothing(x: tf.Tensor) -> tf.Tensor:
        return tf.strings.length(x) if kind == "jpeg" else x[:, :1, :1]

    return _session(run), _session(nothing)


def _session(function: Any) -> Callable[[Any], Any]:
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    frozen = convert_variables_to_constants_v2(function.get_concrete_function())
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(frozen.graph.as_graph_def(), name="")
    session = tf.compat.v1.Session(graph=graph)
    return session.make_callable(frozen.outputs[0].name, [frozen.inputs[0].name])


def _time(call: Callable[[], Any], seconds: float) -> float:
    """Median milliseconds, after three calls to warm up."""
    for _ in range(3):
        call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 7 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def measure(contender: str, chain: str, size: str, seconds: float) -> dict[str, Any]:
    """One contender in its own process."""
    command = [
        sys.executable,
        __file__,
        "--child",
        contender,
        "--chain",
        chain,
        "--size",
        size,
        "--seconds",
        str(seconds),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chain", nargs="+", default=list(CHAINS), choices=list(CHAINS))
    parser.add_argument("--size", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child, options.chain[0], options.size[0], options.seconds)))
        return
    rows = []
    print(
        f"{'chain':32} {'frame':10} {'library':>9} {'fixed':>9} {'open':>9} {'ratio':>7} {'ratio':>7} {'feed':>7}  "
        "differing values"
    )
    for chain in options.chain:
        for size in options.size:
            rounds = [{c: measure(c, chain, size, options.seconds) for c in CONTENDERS} for _ in range(options.rounds)]
            feed = statistics.median(round_["fixed"]["feed"] for round_ in rounds)
            ms = {c: statistics.median(r[c]["ms"] - r[c]["feed"] for r in rounds) for c in CONTENDERS}
            differ = max(round_[c]["differ"] for round_ in rounds for c in CONTENDERS)
            ratios = {f"{c}_ratio": ms[c] / ms["library"] for c in ("fixed", "open")}
            rows.append({"chain": chain, "frame": size, **ms, **ratios, "feed": feed, "differ": differ})
            figures = " ".join(f"{ms[c]:9.2f}" for c in CONTENDERS)
            compared = " ".join(f"{ratio:7.2f}" for ratio in ratios.values())
            print(f"{chain:32} {size:10} {figures} {compared} {feed:7.2f}  {differ}", flush=True)
    if options.json:
        cpu = platform.processor() or platform.machine()
        options.json.write_text(json.dumps({"cpu": cpu, "cpus": os.cpu_count(), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
