"""The spec: JSON with positions, its schema, and the frozen data it becomes."""

from pbcompile.spec.load import emitted_names, emitted_parts, load_spec
from pbcompile.spec.schema import assemble_schema
from pbcompile.spec.spec import InputSpec, ModelSource, OutputSpec, Spec, VerifySpec

__all__ = [
    "InputSpec",
    "ModelSource",
    "OutputSpec",
    "Spec",
    "VerifySpec",
    "assemble_schema",
    "emitted_names",
    "emitted_parts",
    "load_spec",
]
