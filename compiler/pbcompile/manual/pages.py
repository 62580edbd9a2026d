"""The pages themselves: for the terminal, and as Markdown with pictures."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pbcompile.errors import Problem, SpecError, did_you_mean
from pbcompile.manual.codes import CODES
from pbcompile.steps import POST_STEPS, STEPS, Step
from pbcompile.steps.base import PartsStep
from pbcompile.steps.examples import PICTURES, RESIZE_OUTPUT, SCORES, example_of
from pbcompile.tensor_type import TensorType

PHOTO = TensorType("uint8", (1, 64, 96, 3), "NHWC", "RGB", (0, 255))
THREE_SCORES = TensorType("float32", (1, 3))
WRONG = (
    TensorType("float32", (1, 3)),
    TensorType("float32", (1, 64, 96, 3), "NHWC", "RGB", (0, 1)),
    TensorType("uint8", (1, 3, 64, 96), "NCHW", "RGB", (0, 255)),
    TensorType("int64", (1, 4, 4, 1), "NHWC", "", None),
)
"""Things that steps are given by mistake; what each says to them is printed as it says it."""
Page = Mapping[str, Any]


def all_steps() -> dict[str, type[Step]]:
    """Every step by its topic: its op, with "-output" where another step of `preprocess` has that name."""
    steps = {step.op: step for step in STEPS}
    for step in POST_STEPS:
        steps[step.op if steps.get(step.op, step) is step else f"{step.op}-output"] = step
    return steps


def topics() -> list[str]:
    """Everything that `help` knows."""
    return [*all_steps(), *CODES]


def page_of(topic: str) -> Page:
    """One page as data.  Raises SpecError for a topic that is none."""
    if topic in CODES:
        return {"topic": topic, "kind": "error code", "meaning": CODES[topic]}
    step = all_steps().get(topic)
    if step is None:
        raise SpecError(Problem("call-invalid", f'there is no step and no error code "{topic}"',
                                hint=did_you_mean(topic, topics())))  # fmt: skip
    example = RESIZE_OUTPUT if topic == "resize-output" else example_of(step.op)
    shown = topic in PICTURES or topic in SCORES
    given, emitted, match = "", {}, ""
    if shown and not issubclass(step, PartsStep):
        made, kind = step.from_json(example, "", Path()), given_of(topic)
        given, emitted, match = str(kind), {topic: str(made.check(kind))}, made.exactness(kind)
    return {
        "topic": topic,
        "kind": " and ".join(n for n, s in (("preprocess", STEPS), ("postprocess", POST_STEPS)) if step in s),
        "meaning": inspect.getdoc(step) or "",
        "keys": [_key(name, schema, step) for name, schema in step.properties.items()],
        "example": example,
        "given": given,
        "emitted": emitted,
        "match": match,
        "errors": list(_errors(step, example)) if emitted else [],
    }


def given_of(op: str) -> TensorType:
    """What the example of a step is shown on."""
    return PHOTO if op in PICTURES else THREE_SCORES


def _key(name: str, schema: Mapping[str, Any], step: type[Step]) -> dict[str, Any]:
    kinds = schema.get("type") or [choice.get("type") for choice in schema.get("oneOf", [])]
    return {
        "key": name,
        "values": schema["enum"] if "enum" in schema else kinds if isinstance(kinds, list) else [kinds],
        "required": name in step.required,
        "default": schema.get("default"),
        "description": schema["description"],
    }


def _errors(step: type[Step], example: Mapping[str, Any]) -> Iterator[str]:
    """What the step says to what it is often given by mistake, and to a missing `like`, each once."""
    said = []
    cases = [(example, given) for given in WRONG]
    cases += [({k: v for k, v in example.items() if k != "like"}, given_of(step.op))] if "like" in example else []
    for values, given in cases:
        try:
            made = step.from_json(values, "", Path())
            made.check(given)
        except SpecError as error:
            said += [p.message + (f" (hint: {p.hint})" if p.hint else "") for p in error.problems]
    yield from dict.fromkeys(said)


def page_lines(page: Page) -> list[str]:
    """A page for the terminal."""
    if page["kind"] == "error code":
        return [f"{page['topic']}  (error code)", "", page["meaning"]]
    lines = [f"{page['topic']}  ({page['kind']})", "", *page["meaning"].splitlines(), ""]
    for key in page["keys"]:
        lines.append(f"  {key['key']}  {_values(key)}")
        lines.append(f"      {key['description']}")
    lines += ["", f"example  {json.dumps(page['example'])}"]
    if not page["emitted"]:
        return lines
    lines.append(f"  {page['given']}")
    lines += [
        f"    → {kind}" + (f"  {name}" if len(page["emitted"]) > 1 else "") for name, kind in page["emitted"].items()
    ]
    lines += [f"match    {page['match']}"]
    return lines + (["errors", *(f"  {message}" for message in page["errors"])] if page["errors"] else [])


def _values(key: Mapping[str, Any]) -> str:
    words = " | ".join(str(value) for value in key["values"])
    default = "" if key["default"] is None else f", default {json.dumps(key['default'])}"
    return words + (", required" if key["required"] else default)


def reference_page() -> str:
    """Every step and every error code as one Markdown page."""
    lines = [
        "# Steps and error codes",
        "",
        "Made from the steps themselves; `pbcompile help STEP` prints one of them.",
        "",
    ]
    lines += [", ".join(f"[{op}](#{op})" for op in all_steps()), ""]
    for op in all_steps():
        page = page_of(op)
        lines += [f"## {op}", "", f"*{page['kind']}*", "", "```text", page["meaning"], "```", ""]
        if op in PICTURES:
            lines += [f"![{op}: before and after](pictures/{op}.png)", ""]
        if page["keys"]:
            lines += ["| key | value | meaning |", "|---|---|---|"]
            for key in page["keys"]:
                values = _values(key).replace("|", "\\|")
                lines.append(f"| `{key['key']}` | {values} | {key['description'].replace('|', chr(92) + '|')} |")
            lines.append("")
        lines += ["```json", json.dumps(page["example"]), "```", ""]
        if page["emitted"]:
            lines += [f"{page['given']} → " + ", ".join(page["emitted"].values()) + f"; {page['match']}.", ""]
        lines += [*(f"- {message}" for message in page["errors"]), ""] if page["errors"] else []
    lines += ["## Error codes", ""]
    for code, meaning in CODES.items():
        lines += [f"### {code}", "", meaning, ""]
    return "\n".join(lines).rstrip("\n") + "\n"
