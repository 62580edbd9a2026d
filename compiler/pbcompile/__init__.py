"""pbcompile: a Keras image model and its preprocessing, compiled into one self-contained TensorFlow graph file.

    result = pbcompile.compile_spec("spec.json")     # writes the .pb, after proving it
    model = pbcompile.load(result.artifact)          # a callable with named inputs and outputs
    model(image=pixels)["probabilities"]

TensorFlow is imported by the first call that needs it, not by `import pbcompile`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pbcompile.errors import ModelError, ParityError, PassError, PbcompileError, Problem, SpecError
from pbcompile.spec import Spec, load_spec
from pbcompile.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from pbcompile.pipeline import compile_spec, verify_spec
    from pbcompile.session import Artifact

__all__ = [
    "ModelError",
    "ParityError",
    "PassError",
    "PbcompileError",
    "Problem",
    "Spec",
    "SpecError",
    "__version__",
    "check",
    "compile_spec",
    "inspect",
    "load",
    "load_spec",
    "verify_spec",
]


def __getattr__(name: str) -> Any:
    if name in ("compile_spec", "verify_spec"):
        from pbcompile import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module 'pbcompile' has no attribute {name!r}")


def check(path: str | Path) -> dict[str, Any]:
    """The pipeline of a spec with the type after every step, as `pbcompile check --json` prints it."""
    from pbcompile.check import check_spec

    return check_spec(load_spec(path))


def load(path: str | Path) -> Artifact:
    """A `.pb` as a callable with named inputs and outputs.  Raises PbcompileError for what is no graph file."""
    from pbcompile.session import Artifact

    return Artifact(path)


def inspect(path: str | Path) -> dict[str, Any]:
    """Inputs, outputs, ops, size, hash and contract of a `.pb`, without running it."""
    from pbcompile.inspection import inspect_artifact

    return inspect_artifact(path)
