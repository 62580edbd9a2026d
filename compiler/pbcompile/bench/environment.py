"""Under what figures were measured: what must be the same before two of them may be compared."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16", "asimd", "asimddp")
"""The processor's abilities that the runtimes choose their code by."""

PACKAGES = (
    "pbcompile", "tensorflow", "keras", "numpy", "opencv-python-headless", "opencv-python", "pillow",
    "openvino", "onnxruntime", "tf2onnx", "ai-edge-litert",
)  # fmt: skip

VARIABLES = (
    "TF_DISABLE", "TF_ENABLE", "TF_NUM", "TF_USE", "TF_XLA", "XLA_", "KERAS_",
    "OMP_", "MKL_", "ONEDNN_", "DNNL_", "OPENBLAS_", "OPENCV_",
)  # fmt: skip
"""Beginnings of the environment variables that change what the libraries do."""


def environment(threads: int) -> dict[str, Any]:
    """CPU, system, versions, load and threads, as JSON."""
    about = _proc("/proc/cpuinfo")
    flags = set(about.get("flags", about.get("Features", "")).split())
    memory = _proc("/proc/meminfo").get("MemTotal", "0").split()[0]
    return {
        "cpu": about.get("model name", platform.processor() or platform.machine()),
        "flags": [flag for flag in FLAGS if flag in flags],
        "cpus": available_cpus(),
        "memory_gb": round(int(memory) / 2**20, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := installed(name))},
        "variables": {key: value for key, value in sorted(os.environ.items()) if key.startswith(VARIABLES)},
        "load": round(load(), 2),
        "threads": threads,
    }


def installed(package: str) -> str | None:
    """The version of a distribution, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def available_cpus() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load() -> float:
    """How many processes wanted a CPU in the last minute; 0 where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _proc(path: str) -> dict[str, str]:
    """The first value of each key in a `key: value` file of Linux; empty elsewhere."""
    try:
        text = Path(path).read_text()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.splitlines())
    found: dict[str, str] = {}
    for key, _, value in pairs:
        found.setdefault(key.strip(), value.strip())
    return found
