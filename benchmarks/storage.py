"""What weights in fewer bits cost and save: MobileNetV2 (random weights, statistics from images) from a 640x480 frame.

python benchmarks/storage.py
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for tests.networks

STEPS = [
    {"op": "resize", "size": [224, 224], "method": "linear", "like": "opencv"},
    {"op": "convert_color", "to": "RGB"},
    {"op": "keras_applications", "mode": "tf"},
]


def main() -> None:
    from tests.networks import application

    import pbcompile

    made, programs = {}, {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        application("MobileNetV2", folder / "net.keras", 224, classes=1000)
        for form in ("float32", "float16", "int8"):
            document = {
                "version": 1,
                "model": "net.keras",
                "inputs": {"image": {"channels": "BGR", "preprocess": STEPS}},
                "outputs": {"probabilities": {}},
                "optimize": {"level": "tensorflow-cpu"},
                "artifact": f"{form}.pb",
            }
            if form != "float32":
                document["quantize"] = {"weights": form}
            spec = folder / f"{form}.json"
            spec.write_text(json.dumps(document))
            made[form] = pbcompile.compile_spec(spec)
            programs[form] = pbcompile.load(made[form].artifact)
    frame = np.random.default_rng(0).integers(0, 256, (1, 480, 640, 3), dtype=np.uint8)
    times: dict[str, list[float]] = {form: [] for form in programs}
    for turn in range(8):
        for form, program in programs.items():
            for _ in range(12):
                started = time.perf_counter()
                program(image=frame)
                if turn:
                    times[form].append(1e3 * (time.perf_counter() - started))
    whole = len(made["float32"].made.data)
    for form, result in made.items():
        parity = result.verify.outputs["probabilities"]
        size = len(result.made.data)
        print(
            f"{form:<8} {size / 1e6:6.2f} MB ({size / whole:.3f})  min {min(times[form]):.2f} ms, median "
            f"{np.median(times[form]):.2f} ms  max_abs {parity.max_abs:.1e}, cosine {parity.cosine:.5f}, top-1 "
            f"{parity.top1_agreement:.2f}, tolerance {result.made.tolerance:.1e}"
        )


if __name__ == "__main__":
    main()
