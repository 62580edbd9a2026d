"""Gathers what a command has found, and writes it as one self-contained HTML page."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbcompile.artifact import CONTRACT, read_artifact, require_folder, sha256_of, write_atomically
from pbcompile.bench.environment import available_cpus, environment
from pbcompile.report import plots
from pbcompile.spec import Spec

if TYPE_CHECKING:
    from pbcompile.result import Compiled
    from pbcompile.verify import VerifyReport

MOST_ROWS = 64
"""Decisions shown; the parity table counts all of them."""
MOST_PICTURES = 16
"""Samples shown with a picture."""


class Page:
    """One page in the making; without a path it takes everything and writes nothing.

    command:  "compile", "verify" or "bench".
    checked:  the report of `check_spec`.
    artifact: the `.pb` that is looked at, or for "compile" where it goes; None is what was just made.
    timed:    the JSON of `bench`, to be set before `write`.
    Raises PbcompileError when the folder of `path` is not there or not writable.
    """

    def __init__(
        self, command: str, spec: Spec, checked: Mapping[str, Any], path: Path | None, artifact: Path | None = None
    ) -> None:
        if path is not None:
            require_folder(path)
        self.path = path
        self.timed: Mapping[str, Any] | None = None
        self._command, self._spec, self._checked, self._artifact = command, spec, checked, artifact
        self._made: Compiled | None = None
        self._found: VerifyReport | None = None

    def see(self, made: Compiled, found: VerifyReport | None) -> None:
        """Keep what was made and what the gate found."""
        self._made, self._found = made, found

    def as_json(self) -> dict[str, Any]:
        """The field `report` of `--json`; nothing without a path."""
        return {"report": str(self.path)} if self.path else {}

    def write(self) -> None:
        """Write the page, whole or not at all, if there is a path and something to say."""
        if self.path is not None and self._made is not None:
            write_atomically(self.path, self._render(self._made).encode())

    def _render(self, made: Compiled) -> str:
        from jinja2 import Environment, PackageLoader, StrictUndefined

        jinja = Environment(
            loader=PackageLoader("pbcompile", "report"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        jinja.filters |= {"short": plots.short, "size": plots.size}
        return jinja.get_template("page.html").render(self._facts(made))

    def _facts(self, made: Compiled) -> dict[str, Any]:
        """Everything that the template reads."""
        from pbcompile.report.pictures import all_steps, sample_pictures
        from pbcompile.samples import make_samples

        spec, found = self._spec, self._found
        samples = make_samples(spec)
        rows = found.answers.rows[:MOST_ROWS] if found and found.answers else ()
        return {
            "command": self._command,
            "spec": spec,
            "checked": self._checked,
            "made": made,
            "file": self._file(made),
            "found": found,
            "gate": found.as_json() if found else None,
            "problems": found.problems if found else (),
            "rows": rows,
            "more_rows": len(found.answers.rows) - len(rows) if found and found.answers else 0,
            "columns": list(dict.fromkeys(name for row in rows for name in row.original)),
            "names": found.answers.names if found and found.answers else (),
            "pictures": sample_pictures(spec, samples, rows, MOST_PICTURES),
            "errors": {name: plots.histogram(counts) for name, counts in found.answers.errors.items()}
            if found and found.answers
            else {},
            "steps": all_steps(made, samples[0]),
            "sample": samples[0].name,
            "exactness": _exactness(self._checked),
            "timed": self.timed,
            "latency": plots.latency(self.timed["variants"]) if self.timed else None,
            "environment": self.timed["environment"] if self.timed else environment(available_cpus()),
            "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        }

    def _file(self, made: Compiled) -> dict[str, Any]:
        """The artifact looked at: hash, size, ops, and the batch norms that its own contract or this compile tells."""
        data = made.data if self._artifact is None or self._command == "compile" else self._artifact.read_bytes()
        graph_def, contract = read_artifact(data)
        is_made = data == made.data
        norms: dict[str, Any] = (contract or {}).get("batch_norm", {"found": 0, "folded": 0, "kept": []})
        fates = []
        if is_made:  # a contract does not say into what
            fates = [
                (norm.layer, "folded into " + (", ".join(norm.into) or "constants"), True)
                for norm in made.report.batch_norm.folded
            ]
        fates += [(norm["layer"], f"kept: {norm['reason']}", False) for norm in norms["kept"]]
        after = Counter(node.op for node in graph_def.node if node.name != CONTRACT)
        return {
            "path": str(self._artifact or self._spec.artifact),
            "sha256": sha256_of(data),
            "bytes": len(data),
            "is_made": is_made,
            "is_foreign": contract is None,
            "norms": norms,
            "fates": fates,
            "nodes": after.total(),
            "ops": plots.op_bars(made.report.ops_before, after),
        }


def _exactness(checked: Mapping[str, Any]) -> dict[str, list[str]]:
    """What `check` says about every step, sorted into what is exact and what is near."""
    found: dict[str, list[str]] = {"exact": [], "near": []}
    for item in checked["inputs"]:
        for stage in item["stages"]:
            if stage["match"]:
                word = "exact" if stage["match"].startswith("exact") else "near"
                said = stage["match"].removeprefix("exact").lstrip(": ")
                found[word].append(f"{item['name']}: {stage['stage']}" + (f" ({said})" if said else ""))
    return found
