"""The command `init`: draft, check, write."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from pbcompile.artifact import require_folder, write_atomically
from pbcompile.check import check_spec
from pbcompile.errors import PbcompileError, Problem, SpecError
from pbcompile.models import ModelSource
from pbcompile.spec import assemble_schema, load_spec
from pbcompile.start.draft import Ask, draft_spec
from pbcompile.start.importers import import_preprocessing

SCHEMA_FILE = "pbcompile.schema.json"


def spec_path(model: Path, output: Path | None) -> Path:
    """Where the spec goes: `output`, else the model's name in the working directory, never the model itself."""
    if output is not None:
        return output
    stem = model.resolve().name if model.is_dir() else model.stem
    return Path(f"{stem}_spec.json" if model.suffix == ".json" else f"{stem}.json")


def begin(
    model: Path, target: Path, config: str | None = None, *, weights: Path | None = None, force: bool = False,
    ask: Ask | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write a first spec of `model` to `target`; what was recognised and assumed, for `init --json`.

    config: what to import, a path or the words themselves.  Raises SpecError where `target` exists, unless `force`.
    """
    require_folder(target)
    if target.exists() and not force:
        hint = "say -o OTHER.json, or --force to write over it"
        raise SpecError(Problem("file-exists", f"{target} exists already", hint=hint))
    if target.exists() and model.exists() and target.samefile(model):
        raise SpecError(Problem("file-exists", f"{target} is the model itself", hint="say -o OTHER.json"))
    imported = None if config is None else import_preprocessing(config)
    weights = weights or _weights_beside(model)
    draft = draft_spec(ModelSource(model, weights), target.parent.resolve(), imported, ask)
    text = json.dumps(draft.document, indent=2, ensure_ascii=False) + "\n"
    problems = _check(text, target)
    schema = target.parent / SCHEMA_FILE
    if not schema.exists():
        write_atomically(schema, (json.dumps(assemble_schema(), indent=2) + "\n").encode())
    write_atomically(target, text.encode())
    return {
        "spec": str(target),
        "document": draft.document,
        "recognised": draft.recognised,
        "assumed": draft.assumed + [f"this does not fit yet: {problem.message}" for problem in problems],
    }


def _weights_beside(model: Path) -> Path | None:
    """For a `.json` architecture: the one file of weights that lies beside it."""
    if model.suffix != ".json" or not model.is_file():
        return None
    beside = [path for path in sorted(model.parent.iterdir()) if path.suffix in (".h5", ".hdf5")]
    same = [path for path in beside if path.stem.strip("_").startswith(model.stem) and "weights" in path.stem]
    named = same or [path for path in beside if path.stem.rstrip("_") == model.stem and path.stem != model.stem]
    return named[0] if named else beside[0] if len(beside) == 1 else None


def _check(text: str, target: Path) -> tuple[Problem, ...]:
    """What is wrong with the spec before it is written: an import that does not fit the model is told at once."""
    with tempfile.NamedTemporaryFile("w", dir=target.parent, prefix=".init.", suffix=".json", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        try:
            check_spec(load_spec(file.name))
        except PbcompileError as error:
            return error.problems
    return ()
