"""Classes and functions of the user's own, imported only where the spec says that their code may run."""

from __future__ import annotations

import importlib
from typing import Any

from pbcompile.errors import Problem, SpecError
from pbcompile.models.loaded import ModelSource


def custom_objects(source: ModelSource) -> dict[str, Any]:
    """`custom_objects` of the spec, imported.  SpecError at a name that cannot be; nothing without `trust_code`."""
    if source.custom_objects and not source.trust_code:
        message = '"custom_objects" imports Python code, which needs "trust_code": true'
        raise SpecError(Problem("code-not-trusted", message, f"{source.pointer}/custom_objects"))
    found: dict[str, Any] = {}
    problems = []
    for name, path in source.custom_objects.items():
        pointer = f"{source.pointer}/custom_objects/{name.replace('~', '~0').replace('/', '~1')}"
        module, _, attribute = path.partition(":")
        try:
            found[name] = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            hint = "written as module:attribute, importable from here"
            problems.append(Problem("code-not-found", f'"{path}" cannot be imported: {error}', pointer, hint))
    if problems:
        raise SpecError(*problems)
    return found
