"""What a person reads on the terminal: reports as lines of text.  Nothing here prints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pbcompile.errors import Problem

Report = Mapping[str, Any]


def compiled_lines(report: Report) -> list[str]:
    """`compile`: the artifact, its ends, its batch norms, what the gate found, seconds by stage."""
    norms, nodes, gate = report["batch_norm"], report["nodes"], report["verify"]
    lines = [
        f"{report['artifact']}  {report['bytes'] / 1e6:.2f} MB  sha256 {report['sha256'][:16]}…",
        *(f"  in   {_tensor(item)}" for item in report["inputs"]),
        *(f"  out  {_tensor(item)}" for item in report["outputs"]),
        f"  nodes {nodes['before']} → {nodes['after']}, batch norms folded {norms['folded']} of {norms['found']}",
        *_kept(norms["kept"]),
        *(f"  repaired: {repair}" for repair in report["repairs"]),
    ]
    lines += ["  not verified (--no-verify)"] if gate is None else ["  " + line for line in gate_lines(gate)]
    return [*lines, "  " + ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in report["seconds"].items())]


def explained(problems: Sequence[Problem]) -> str:
    """Where each code of an error is explained."""
    codes = dict.fromkeys(problem.code for problem in problems)
    return "explained by: " + ", ".join(f"pbcompile help {code}" for code in codes)


def begun_lines(report: Report) -> list[str]:
    """`init`: what was recognised, what was taken for granted, and what to do next."""
    lines = ["recognised", *(f"  {sentence}" for sentence in report["recognised"])]
    if report["assumed"]:
        lines += ["check", *(f"  {sentence}" for sentence in report["assumed"])]
    spec = report["spec"]
    return [*lines, f"wrote {spec}", f"next: pbcompile check {spec}, then pbcompile {spec}"]


def gate_lines(gate: Report) -> list[str]:
    """`verify`, and the part of `compile` about it."""
    word = "verified on" if gate["passed"] else "NOT the original on"
    lines = [f"{word} {gate['samples']} samples, against {gate['original']} behind the real libraries:"]
    for name, parity in gate["preprocess"].items():
        level, share = parity["max_level_difference"], parity["differing_fraction"]
        lines.append(f"  {name}: pixels differ by {level:.3g} levels in {share:.2%} of the values")
    for name, parity in gate["outputs"].items():
        numbers = [f"{key} {value:.3g}" for key, value in parity.items() if isinstance(value, (int, float))]
        lines.append(f"  {name}: {', '.join(numbers) or 'compared exactly'}")
    return lines + [f"  note: {note}" for note in gate["notes"]]


def pipeline_lines(report: Report) -> list[str]:
    """`check`: every stage with its type, range and the library it matches, then what is probably not meant."""
    lines = []
    for item in report["inputs"]:
        feeds = f" feeds {item['feeds']}" if item["feeds"] else ""
        lines.append(f"{item['name']}  ({item['kind']}){feeds}")
        stages = item["stages"]
        width = max(len(stage["stage"]) for stage in stages)
        wide = max(len(stage["type"]) for stage in stages)
        for stage in stages:
            values = "" if stage["range"] is None else f"{stage['range'][0]:.6g} … {stage['range'][1]:.6g}"
            line = f"  │ {stage['stage']:<{width}}  {stage['type']:<{wide}}  {values:<20}  {stage['match'] or ''}"
            lines.append(line.rstrip())
        lines.append("  ▼")
    read = "" if report["model_read"] else " (not read: its inputs are checked by compile)"
    lines.append(f"model  {report['model']}{read}")
    lines += [f"  │ inside: {layer}" for layer in report["inside"]]
    lines.append("  ▼")
    for item in report["outputs"]:
        source = f" from {item['from']}" if item["from"] else ""
        through = "".join(f" → {step}" for step in item["steps"])
        lines.append(f"{item['name']}{source}{through}" + (f"  {item['type']}" if item["type"] else ""))
    lines.append(f"→ {report['artifact']}  (level {report['optimize']})")
    for word in ("warning", "note"):
        for problem in report[f"{word}s"]:
            where = ":".join(str(problem[key]) for key in ("file", "line", "column"))
            lines.append(f"{word}: {where}: {problem['code']} at {problem['pointer']}: {problem['message']}")
            lines += [f"      hint: {problem['hint']}"] if problem["hint"] else []
    return lines


def preview_lines(rows: Sequence[Report], output: str) -> list[str]:
    """`preview`: each step with its type and how far the graph is from the library."""
    lines = []
    for row in rows:
        equal = f"differs by {row['max_difference']:.3g}" if row["max_difference"] else "equal"
        lines.append(f"{row['step']:<20}  {row['type']:<32}  {equal}")
    return [*lines, f"→ {output}"]


def inspected_lines(report: Report) -> list[str]:
    """`inspect`: ends, ops and contract."""
    lines = [f"{report['artifact']}  {report['bytes'] / 1e6:.2f} MB  sha256 {report['sha256']}"]
    for key, word in (("inputs", "in "), ("outputs", "out")):
        lines += [f"  {word}  {_tensor(item)}" for item in report[key]]
    ops = ", ".join(f"{count} {op}" for op, count in report["ops"].items())
    lines.append(f"  {report['nodes']} nodes: {ops}")
    contract = report["contract"]
    if contract is None:
        return [*lines, "  no contract: this file was not written by pbcompile"]
    norms = contract["batch_norm"]
    return [
        *lines,
        f"  pbcompile {contract['pbcompile']}, TensorFlow {contract['tensorflow']}",
        f"  spec {contract['spec_sha256'][:16]}…, model {contract['model_sha256'][:16]}…",
        f"  batch norms folded {norms['folded']} of {norms['found']}",
        *_kept(norms["kept"], most=len(norms["kept"])),
    ]


def difference_lines(report: Report) -> list[str]:
    """`diff`: one line per entry that differs."""
    if report["same"]:
        return ["the same bytes"]
    lines = [f"bytes  {report['bytes'][0]} → {report['bytes'][1]}"]
    for key in ("inputs", "outputs", "ops", "contract"):
        for name, (before, after) in report[key].items():
            lines.append(f"{key}  {name}: {_short(before)} → {_short(after)}")
    for entry in report["weights"]["changed"]:
        if "differing" in entry:
            share = "" if entry["relative"] is None else f", {entry['relative']:.2e} of its norm"
            numbers = f"{entry['differing']} of {entry['of']} values, by up to {entry['max_abs']:.3g}{share}"
        else:
            numbers = f"{entry['shape'][0]} → {entry['shape'][1]}"
        lines.append(f"constant  {entry['name']}: {numbers}")
    for word in ("removed", "added"):
        names = report["weights"][word]
        if names:
            more = f" and {len(names) - 8} more" if len(names) > 8 else ""
            lines.append(f"constants {word}: {', '.join(names[:8])}{more}")
    return lines


def answer_lines(name: str, outputs: Mapping[str, Any]) -> list[str]:
    """`predict`: one input and its outputs: labels and scores as a table, small tensors whole, large ones in short."""
    lines = [name]
    for key, value in outputs.items():
        stem = key.removesuffix("_scores")
        if stem != key and f"{stem}_indices" in outputs:
            lines += _table(stem, outputs)
        elif not any(key.endswith(end) and f"{key.removesuffix(end)}_scores" in outputs for end in _PARTS):
            lines.append(f"  {key}: {_values(value)}")
    return lines


_PARTS = ("_labels", "_indices")


def _table(stem: str, outputs: Mapping[str, Any]) -> list[str]:
    """The rows of a top_k: rank, label or index, score."""
    scores, indices = outputs[f"{stem}_scores"], outputs[f"{stem}_indices"]
    labels = outputs.get(f"{stem}_labels")
    lines = []
    for item in range(len(scores)):
        words = [f"{i}" if labels is None else _text(labels[item][rank]) for rank, i in enumerate(indices[item])]
        width = max(len(word) for word in words)
        lines += [f"  {word:<{width}}  {score:.4g}" for word, score in zip(words, scores[item], strict=True)]
    return lines


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _values(value: Any) -> str:
    """A tensor in one line: its numbers where they are few, else its type, range and mean."""
    shape, flat = list(getattr(value, "shape", ())), getattr(value, "ravel", lambda: [value])()
    if len(flat) <= 16:
        return json.dumps(value.tolist() if hasattr(value, "tolist") else _text(value), default=_text)
    if value.dtype.kind not in "biuf":
        return f"{value.dtype} {shape}"
    return f"{value.dtype} {shape}, {value.min():.4g} … {value.max():.4g}, mean {value.mean():.4g}"


def _kept(kept: Sequence[Report], most: int = 3) -> list[str]:
    """The batch norms that stay, with their reasons; the rest of a long list in one line."""
    lines = [f"    kept {item['layer']}: {item['reason']}" for item in kept[:most]]
    return lines + ([f"    and {len(kept) - most} more (pbcompile inspect lists them)"] if len(kept) > most else [])


def _tensor(item: Report) -> str:
    if item["dtype"] is None:
        return str(item["name"])
    shape = item["shape"]
    dims = "any shape" if shape is None else "[" + ", ".join("?" if d is None else str(d) for d in shape) + "]"
    return f"{item['name']}  {item['dtype']} {dims}"


def _short(value: Any) -> str:
    text = "–" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"
