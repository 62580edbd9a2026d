"""The same pixels as the libraries of every age?  Runs the differential tests of the steps against other versions.

    python benchmarks/versions.py [--opencv 4.5.5.64 4.12.0.88 ...] [--pillow 9.5.0 ...] [--python python3.11]

Pictures and what pbcompile makes of them are written here; each version of cv2 and Pillow then makes its own from the
same pictures in an environment of its own (under build/versions, installed with pip), and differing values are counted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "versions"
sys.path.insert(0, str(ROOT))  # for tests.steps.differential

TARGETS = ((224, 224), (31, 50), (7, 5))
SHAPES = ((480, 640, 3), (60, 70, 4), (333, 200, 1), (9, 150, 3), (1, 40, 3), (448, 448, 3))
OPENCV = ("nearest", "linear", "cubic", "area", "lanczos")
PILLOW = ("nearest", "box", "linear", "hamming", "cubic", "lanczos")

LIBRARY = """
import json, sys
import numpy as np
folder = sys.argv[1]
cases = json.load(open(folder + "/cases.json"))
try:
    import cv2
    codes = {"nearest": cv2.INTER_NEAREST, "linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC,
             "area": cv2.INTER_AREA, "lanczos": cv2.INTER_LANCZOS4}
except ImportError:
    cv2 = None
try:
    from PIL import Image
    filters = dict(nearest=0, lanczos=1, linear=2, cubic=3, box=4, hamming=5)
except ImportError:
    Image = None
counts = {}
for case in cases:
    x, want = np.load(f"{folder}/{case['picture']}.npy"), np.load(f"{folder}/{case['name']}.npy")
    height, width = want.shape[:2]
    if case["like"] == "opencv" and cv2 is not None:
        if case["op"] == "resize":
            have = cv2.resize(x, (width, height), interpolation=codes[case["method"]])
        elif case["op"] == "blur":
            have = cv2.GaussianBlur(x, (case["size"], case["size"]), 0)
        else:
            have = cv2.cvtColor(x, getattr(cv2, "COLOR_RGB2" + {"LAB": "Lab"}.get(case["to"], case["to"])))
    elif case["like"] != "opencv" and Image is not None:
        import PIL
        if (case["like"] == "pillow") != (int(PIL.__version__.split(".")[0]) >= 13):
            continue
        picture = Image.fromarray(x[..., 0] if x.shape[2] == 1 else x)
        have = np.asarray(picture.resize((width, height), filters[case["method"]]))
    else:
        continue
    differ = (have.reshape(want.shape) != want)
    key = case["like"] + " " + (case["method"] if case["op"] == "resize" else case["op"])
    entry = counts.setdefault(key, [0, 0, 0])
    entry[0] += int(differ.sum())
    entry[1] += want.size
    entry[2] = max(entry[2], int(np.abs(have.reshape(want.shape).astype(int) - want).max()))
print(json.dumps(counts))
"""


def make_cases() -> None:
    """Pictures, and what the steps make of them, as .npy files."""
    import numpy as np
    import tensorflow as tf
    from tests.steps.differential import picture

    from pbcompile.steps.colour import ConvertColor
    from pbcompile.steps.resampling import Resize
    from pbcompile.steps.smoothing import Blur
    from pbcompile.tensor_type import TensorType

    BUILD.mkdir(parents=True, exist_ok=True)
    cases: list[dict[str, Any]] = []
    for number, shape in enumerate(SHAPES):
        x = picture(("noise", "photo")[number % 2], (1, *shape))
        np.save(BUILD / f"picture{number}.npy", x[0])
        channels = {1: "GRAY", 3: "RGB", 4: "RGBA"}[shape[2]]
        given = TensorType("uint8", x.shape, "NHWC", channels, (0, 255))
        steps: list[tuple[Any, dict[str, Any]]] = []
        for like, methods in (("opencv", OPENCV), ("pillow", PILLOW), ("pillow-12", PILLOW)):
            for method in methods:
                for size in TARGETS:
                    step = Resize(size=size, method=method, like=like)
                    steps.append((step, {"op": "resize", "like": like, "method": method}))
        steps += [(Blur(size=k), {"op": "blur", "like": "opencv", "size": k}) for k in (3, 5, 11)]
        if channels == "RGB":
            for to in ("GRAY", "YUV", "YCrCb", "HSV", "LAB"):
                step = ConvertColor(to=to, like="opencv" if to == "GRAY" else "")
                steps.append((step, {"op": f"to {to}", "like": "opencv", "to": to}))
        for step, case in steps:
            name = f"result{len(cases)}"
            np.save(BUILD / f"{name}.npy", step.emit(tf.constant(x), given).numpy()[0])
            cases.append({**case, "name": name, "picture": f"picture{number}"})
    (BUILD / "cases.json").write_text(json.dumps(cases))
    (BUILD / "library.py").write_text(LIBRARY)


def count(package: str, version: str, python: str) -> dict[str, list[int]]:
    """Differing values against one version of one package, in an environment made for it."""
    folder = BUILD / f"{package}-{version}"
    if not (folder / "bin" / "python").exists():
        subprocess.run([python, "-m", "venv", folder], check=True)
        needs = [f"{package}=={version}", "numpy<2" if version.startswith(("4.5", "9.")) else "numpy"]
        subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "-q", *needs], check=True)
    done = subprocess.run(
        [folder / "bin" / "python", BUILD / "library.py", BUILD], capture_output=True, text=True, check=True
    )
    counts: dict[str, list[int]] = json.loads(done.stdout.splitlines()[-1])
    return counts


def main() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--opencv", nargs="*", default=["4.5.5.64", "4.12.0.88", "5.0.0.93"])
    parser.add_argument("--pillow", nargs="*", default=["9.5.0", "12.0.0", "13.0.0"])
    parser.add_argument("--python", default="python3.11", help="an interpreter that all these versions have wheels for")
    options = parser.parse_args()
    make_cases()
    wanted = [("opencv-python-headless", v) for v in options.opencv] + [("pillow", v) for v in options.pillow]
    for package, version in wanted:
        print(f"{package} {version}")
        for name, (differ, total, most) in sorted(count(package, version, options.python).items()):
            print(
                f"    {name:20} {differ:6} of {total} values differ" + (f", by up to {most}" if differ else ""),
                flush=True,
            )


if __name__ == "__main__":
    main()
