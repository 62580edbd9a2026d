"""How long does one camera frame take, fused and unfused?

    python benchmarks/latency.py [--models resnet50 mobilenetv2 ...] [--seconds 3] [--rounds 3] [--json FILE]

For each model of keras.applications (random weights: time does not depend on what they say), a 640x480 BGR frame goes

    unfused_predict    through OpenCV and NumPy, then model.predict
    unfused_function   through OpenCV and NumPy, then the model as a tf.function
    unfused_frozen     through OpenCV and NumPy, then the network frozen as everybody does it
    fused              into the .pb of level canonical
    fused_cpu          into the .pb of level tensorflow-cpu

each in a process of its own, in turn; the figures are medians over the rounds.  The specs are those in
`specs/keras_applications`; models and artifacts are kept in `build/latency`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pbcompile.bench import time_calls, time_in_turn
from pbcompile.cli import import_tensorflow

ROOT = Path(__file__).resolve().parents[1]
GALLERY = ROOT / "specs" / "keras_applications"
BUILD = ROOT / "build" / "latency"

BUILDERS = {
    "densenet121": "DenseNet121",
    "efficientnetb0": "EfficientNetB0",
    "inceptionv3": "InceptionV3",
    "mobilenetv2": "MobileNetV2",
    "resnet50": "ResNet50",
}
LEVELS = {"fused": "canonical", "fused_cpu": "tensorflow-cpu"}
VARIANTS = ("unfused_predict", "unfused_function", "unfused_frozen", *LEVELS)


def prepare(model: str) -> None:
    """The model file, and the artifact of each level."""
    import keras

    from pbcompile import compile_spec

    BUILD.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    getattr(keras.applications, BUILDERS[model])(weights=None).save(BUILD / f"{model}.h5")
    spec = json.loads((GALLERY / f"{model}.json").read_text())
    for variant, level in LEVELS.items():
        path = BUILD / f"{model}_{variant}.json"
        path.write_text(json.dumps({**spec, "optimize": {"level": level}, "artifact": f"{model}_{variant}.pb"}))
        compile_spec(path, verify=False)


def program(model: str, variant: str) -> Callable[[Any], object]:
    """One contender: a frame in, probabilities out."""
    import tensorflow as tf

    if variant in LEVELS:
        from pbcompile import load

        artifact = load(BUILD / f"{model}_{variant}.pb")
        return lambda frame: artifact.run({"image": frame[None]}, ["probabilities"])

    import keras
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    from pbcompile.reference.program import preprocess_reference
    from pbcompile.spec import load_spec

    (fed,) = load_spec(GALLERY / f"{model}.json").inputs
    network = keras.models.load_model(BUILD / f"{model}.h5", compile=False)
    if variant == "unfused_predict":
        return lambda frame: network.predict(preprocess_reference(fed, frame[None]), verbose=0)
    function = tf.function(network)
    if variant == "unfused_frozen":
        size = (1, *fed.result.shape[1:])
        frozen = convert_variables_to_constants_v2(function.get_concrete_function(tf.TensorSpec(size, tf.float32)))
        return lambda frame: frozen(tf.constant(preprocess_reference(fed, frame[None]), tf.float32))[0].numpy()
    return lambda frame: function(tf.constant(preprocess_reference(fed, frame[None]), tf.float32)).numpy()


def environment() -> dict[str, object]:
    """Under what the figures were measured."""
    from importlib.metadata import version

    packages = {name: version(name) for name in ("tensorflow", "keras", "numpy", "opencv-python-headless")}
    return {
        "cpu": cpu_name(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        **packages,
    }


def cpu_name() -> str:
    """The processor's name as Linux tells it."""
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return names[0] if names else platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=BUILDERS, default=["mobilenetv2", "resnet50"])
    parser.add_argument("--seconds", type=float, default=3.0, help="how long to time each program in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("--time", nargs=2, metavar=("MODEL", "VARIANT"), help="time one program in this process")
    arguments = parser.parse_args()
    import_tensorflow()
    if arguments.time:
        frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
        print(time_calls(program(*arguments.time), [frame], arguments.seconds).as_json())
        return

    from rich.console import Console
    from rich.table import Table

    console, report = Console(), {"environment": environment(), "models": {}}
    for model in arguments.models:
        console.print(f"{model}: compiling ...")
        prepare(model)
        command = [sys.executable, __file__, "--seconds", str(arguments.seconds), "--time", model]
        timings = time_in_turn({variant: [*command, variant] for variant in VARIANTS}, arguments.rounds)
        table = Table(
            "program", "first", "min", "median", "90 %", "99 %", "against fused", title=f"{model}, ms for a frame"
        )
        for variant, timing in timings.items():
            figures = (timing.first_ms, timing.min_ms, timing.p50_ms, timing.p90_ms, timing.p99_ms)
            ratio = timing.p50_ms / timings["fused"].p50_ms
            table.add_row(variant, *(f"{figure:.1f}" for figure in figures), f"{ratio:.2f}")
        console.print(table)
        ratios = {name: timing.p50_ms / timings["fused"].p50_ms for name, timing in timings.items()}
        report["models"][model] = {"variants": {name: asdict(t) for name, t in timings.items()}, "ratios": ratios}
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
