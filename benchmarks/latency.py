"""How long does one camera frame take, fused and unfused, in every family of keras.applications?

    python benchmarks/latency.py [--models resnet50 ...] [--levels canonical ...] [--against openvino ...] [--json FILE]

Each model has random weights (time does not depend on what they say) and the spec in `specs/keras_applications`;
`pbcompile bench` does the timing.  Models, specs and artifacts are kept in `build/latency`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

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
LEVELS = ("canonical", "tensorflow-cpu")


def prepare(model: str, level: str) -> Path:
    """The spec of one model at one level, beside its model file and its artifact."""
    import keras

    from pbcompile import compile_spec

    BUILD.mkdir(parents=True, exist_ok=True)
    file = BUILD / f"{model}.h5"
    if not file.exists():
        keras.utils.set_random_seed(0)
        getattr(keras.applications, BUILDERS[model])(weights=None).save(file)
    spec = json.loads((GALLERY / f"{model}.json").read_text())
    path = BUILD / f"{model}_{level}.json"
    path.write_text(json.dumps({**spec, "artifact": f"{model}_{level}.pb", "optimize": {"level": level}}, indent=2))
    compile_spec(path, verify=False)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=BUILDERS, default=["mobilenetv2", "resnet50"])
    parser.add_argument("--levels", nargs="+", choices=LEVELS, default=LEVELS)
    parser.add_argument(
        "--against", nargs="+", default=(), metavar="PEER", help="other runtimes, as in pbcompile bench"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="the most that is measured for a model and level")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    arguments = parser.parse_args()
    import_tensorflow()
    from pbcompile.bench.benchmark import bench_spec
    from pbcompile.bench.table import render

    reports: dict[str, Any] = {}
    for model in arguments.models:
        for level in arguments.levels:
            spec = prepare(model, level)
            report = bench_spec(spec, against=arguments.against, seconds=arguments.seconds).as_json()
            reports[f"{model} {level}"] = report
            print(render(report), end="\n\n", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(reports, indent=2) + "\n")


if __name__ == "__main__":
    main()
