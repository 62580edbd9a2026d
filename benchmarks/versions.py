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
import io, json, sys
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
counts, refused = {}, {}

def count(key, have, want):
    if have.size != want.size:
        have = np.full(want.shape, 999)  # another size: every value differs
    apart = np.abs(have.reshape(want.shape).astype(np.float64) - want)
    entry = counts.setdefault(key, [0, 0, 0])
    entry[0] += int((apart > 0).sum())
    entry[1] += want.size
    entry[2] = max(entry[2], round(float(apart.max()), 6))

for case in cases:
    want = np.load(f"{folder}/{case['name']}.npy")
    height, width = want.shape[:2]
    if case["op"].startswith("decode"):
        data = open(f"{folder}/{case['file']}", "rb").read()
        is_gray = want.shape[2] == 1
        if case["like"] == "opencv" and cv2 is not None:
            have = cv2.imdecode(np.frombuffer(data, np.uint8), 0 if is_gray else 1)
            have = None if have is None else have if is_gray else have[..., ::-1]
        elif case["like"] != "opencv" and Image is not None:
            try:
                have = np.asarray(Image.open(io.BytesIO(data)).convert("L" if is_gray else "RGB"))
            except OSError:
                have = None
        else:
            continue
        if have is None:
            refused[case["like"] + " " + case["op"]] = refused.get(case["like"] + " " + case["op"], 0) + 1
            continue
        count(case["like"] + " " + case["op"], have, want)
        continue
    x = np.load(f"{folder}/{case['picture']}.npy")
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
        if x.dtype == np.uint8:
            picture = Image.fromarray(x[..., 0] if x.shape[2] == 1 else x)
            have = np.asarray(picture.resize((width, height), filters[case["method"]]))
        else:
            planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(x, 2, 0)]
            planes = [np.asarray(p.resize((width, height), filters[case["method"]])) for p in planes]
            have = np.stack(planes, axis=2)
    else:
        continue
    dtype = "" if x.dtype == np.uint8 else " float32"
    count(case["like"] + " " + (case["method"] if case["op"] == "resize" else case["op"]) + dtype, have, want)
print(json.dumps([counts, refused]))
"""


def make_cases() -> None:
    """Pictures, and what the steps make of them, as .npy files."""
    import numpy as np
    import tensorflow as tf
    from tests.steps import image_files, odd_files
    from tests.steps.differential import picture

    from pbcompile.steps.colour import ConvertColor
    from pbcompile.steps.decoding import decode
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
                    if number in (0, 3):
                        floats = TensorType("float32", x.shape, "NHWC", channels, (0, 255))
                        result = step.emit(tf.constant(x.astype(np.float32)), floats).numpy()[0]
                        case = {"op": "resize", "like": like, "method": method}
                        name = f"result{len(cases)}"
                        np.save(BUILD / f"{name}.npy", result)
                        np.save(BUILD / f"float{number}.npy", x[0].astype(np.float32))
                        cases.append({**case, "name": name, "picture": f"float{number}"})
        steps += [(Blur(size=k), {"op": "blur", "like": "opencv", "size": k}) for k in (3, 5, 11)]
        if channels == "RGB":
            for to in ("GRAY", "YUV", "YCrCb", "HSV", "LAB"):
                step = ConvertColor(to=to, like="opencv" if to == "GRAY" else "")
                steps.append((step, {"op": f"to {to}", "like": "opencv", "to": to}))
        for step, case in steps:
            name = f"result{len(cases)}"
            np.save(BUILD / f"{name}.npy", step.emit(tf.constant(x), given).numpy()[0])
            cases.append({**case, "name": name, "picture": f"picture{number}"})
    kinds = {
        "JPEG": image_files.jpegs() | odd_files.odd_jpegs(),
        "CMYK": {k: v for k, v in odd_files.cmyk_jpegs().items() if "without" not in k},
        "PNG": image_files.pngs() | odd_files.odd_pngs(),
        "BMP": image_files.bitmaps() | odd_files.odd_bitmaps(),
        "GIF": image_files.gifs() | odd_files.odd_gifs(),
    }
    for kind, files in kinds.items():
        for data in files.values():
            for like in ("opencv", "pillow"):
                for channels in ("RGB", "GRAY"):
                    name = f"result{len(cases)}"
                    (BUILD / f"{name}.file").write_bytes(data)
                    np.save(BUILD / f"{name}.npy", decode(tf.constant(data), channels, "ignore", like).numpy()[0])
                    cases.append({"op": f"decode {kind}", "like": like, "name": name, "file": f"{name}.file"})
    (BUILD / "cases.json").write_text(json.dumps(cases))
    (BUILD / "library.py").write_text(LIBRARY)


def count(package: str, version: str, python: str) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Differing values, and refused files, of one version of one package, in an environment made for it."""
    folder = BUILD / f"{package}-{version}"
    if not (folder / "bin" / "python").exists():
        subprocess.run([python, "-m", "venv", folder], check=True)
        needs = [f"{package}=={version}", "numpy<2" if version.startswith(("4.5", "4.6", "4.8", "9.")) else "numpy"]
        subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "-q", *needs], check=True)
    done = subprocess.run(
        [folder / "bin" / "python", BUILD / "library.py", BUILD], capture_output=True, text=True, check=True
    )
    counts, refused = json.loads(done.stdout.splitlines()[-1])
    return counts, refused


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
        counts, refused = count(package, version, options.python)
        for name, (differ, total, most) in sorted(counts.items()):
            more = (f", by up to {most:g}" if differ else "") + (
                f"; {refused[name]} files refused" if name in refused else ""
            )
            print(f"    {name:24} {differ:7} of {total} values differ{more}", flush=True)
        for name in sorted(set(refused) - set(counts)):
            print(f"    {name:24} all {refused[name]} files refused", flush=True)


if __name__ == "__main__":
    main()
