"""Every family of keras.applications: batch norms folded, and how far from the truth Keras is and the artifact is.

    python benchmarks/families.py [--families ResNet50 …] [--levels canonical tensorflow-cpu] [--json FILE]

The truth is the same network in float64.  Weights are random, batch norm statistics come from images, some gammas are
negative and some variances tiny (tests/networks.py).  Compared are the logits, before any softmax could hide an error.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FAMILIES: dict[str, tuple[int, str | None]] = {
    "ConvNeXtTiny": (96, None),
    "DenseNet121": (96, "torch"),
    "EfficientNetB0": (96, None),
    "EfficientNetV2B0": (96, None),
    "InceptionResNetV2": (96, "tf"),
    "InceptionV3": (96, "tf"),
    "MobileNet": (96, "tf"),
    "MobileNetV2": (96, "tf"),
    "MobileNetV3Large": (96, None),
    "MobileNetV3Small": (96, None),
    "NASNetMobile": (96, "tf"),
    "ResNet50": (96, "caffe"),
    "ResNet50V2": (96, "tf"),
    "VGG16": (64, "caffe"),
    "Xception": (96, "tf"),
}


def build(name: str, size: int, dtype: str) -> Any:
    import keras

    keras.config.set_floatx(dtype)
    keras.utils.set_random_seed(7)
    keras.backend.clear_session()
    return getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=100, classifier_activation=None
    )


def measure(name: str, levels: list[str]) -> dict[str, Any]:
    """One family in this process."""
    import keras
    import numpy as np

    sys.path.insert(0, str(ROOT))
    from tests.networks import natural_batch, set_statistics

    import pbcompile

    size, mode = FAMILIES[name]
    images = natural_batch(8, size).astype("float32")
    if mode is not None:
        images = keras.src.applications.imagenet_utils.preprocess_input(images, data_format="channels_last", mode=mode)
    model = build(name, size, "float32")
    set_statistics(model, images)
    weights = model.get_weights()
    probe = images[:4]
    keras32 = np.asarray(model(probe, training=False))
    result: dict[str, Any] = {"family": name, "parameters": model.count_params(), "levels": {}}
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/net.keras")
        made = {}
        for level in levels:
            spec = {
                "version": 1,
                "model": "net.keras",
                "inputs": {"x": {"kind": "tensor", "shape": [None, size, size, 3]}},
                "outputs": {"logits": {}},
                "optimize": {"level": level},
            }
            Path(folder, "spec.json").write_text(json.dumps(spec))
            started = time.perf_counter()
            compiled = pbcompile.compile_spec(Path(folder, "spec.json"), verify=False)
            made[level] = pbcompile.load(compiled.artifact)(x=probe)["logits"]
            result["batch_norm"] = compiled.as_json()["batch_norm"]
            result["levels"][level] = {
                "nodes": compiled.as_json()["nodes"]["after"],
                "seconds": round(time.perf_counter() - started, 1),
            }
        oracle_model = build(name, size, "float64")
        oracle_model.set_weights(weights)
        oracle = np.asarray(oracle_model(probe.astype("float64"), training=False))
    scale = np.abs(oracle).max()
    result["spread"] = float(np.ptp(oracle, axis=0).max() / scale)
    result["keras_error"] = float(np.sqrt(np.mean((keras32 - oracle) ** 2)) / scale)
    for level, logits in made.items():
        error = float(np.sqrt(np.mean((logits - oracle) ** 2)) / scale)
        result["levels"][level] |= {"error": error, "ratio": error / result["keras_error"]}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", nargs="+", choices=sorted(FAMILIES), default=sorted(FAMILIES))
    parser.add_argument("--levels", nargs="+", default=["canonical", "tensorflow-cpu"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.levels)))
        return
    rows = []
    print(f"{'family':<18} {'norms':>9} {'Keras f32':>10}  " + "  ".join(f"{level:>24}" for level in options.levels))
    for name in options.families:
        command = [sys.executable, __file__, "--one", name, "--levels", *options.levels]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"})
        if done.returncode:
            print(f"{name:<18} failed: {done.stderr.strip().splitlines()[-1][:140]}", flush=True)
            rows.append({"family": name, "failed": done.stderr.strip().splitlines()[-1]})
            continue
        row = json.loads(done.stdout.splitlines()[-1])
        rows.append(row)
        norms = row["batch_norm"]
        cells = [f"{v['error']:.1e} = {v['ratio']:.2f} of Keras" for v in row["levels"].values()]
        print(
            f"{name:<18} {norms['folded']:>4}/{norms['found']:<4} {row['keras_error']:>10.1e}  "
            + "  ".join(f"{cell:>24}" for cell in cells),
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
