"""Rules of the house, executed: import directions, no TensorFlow on quick paths, nothing forgotten, no long files."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from pbcompile.steps import POST_STEPS, STEPS

PACKAGE = Path(__file__).parents[1] / "compiler" / "pbcompile"
ORDER = (
    "version",
    "errors",
    "tensor_type",
    "steps",
    "spec",
    "reference",
    "models",
    "plan",
    "advice",
    "check",
    "graph",
    "control_edges",
    "variables",
    "control_flow",
    "graft",
    "freeze",
    "passes",
    "quantize",
    "artifact",
    "start",
    "inspection",
    "difference",
    "session",
    "samples",
    "nearness",
    "measures",
    "side_by_side",
    "verify",
    "result",
    "diagnose",
    "gate",
    "preview",
    "stages",
    "pipeline",
    "bench",
    "report",
    "predict",
    "manual",
    "rendering",
    "arguments",
    "bars",
    "cli",
)
"""The rooms in the order the data flows: a module may import only from rooms before its own."""

FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """Rooms of pbcompile that the file imports, also inside functions; imports for type checkers alone do not count."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = [ast.Pass()]
    rooms = set()
    for node in ast.walk(tree):
        modules = []
        if isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module] + [f"{node.module}.{name.name}" for name in node.names]
        elif isinstance(node, ast.Import):
            modules = [name.name for name in node.names]
        rooms |= {module.split(".")[1] for module in modules if module.startswith("pbcompile.")}
    return {room for room in rooms if room in ORDER}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_upwards(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return
    assert room in ORDER, f"say where {room} stands in the order of the rooms"
    below = {other for other in imported_rooms(path) if ORDER.index(other) > ORDER.index(room)}
    assert not below


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_can_be_read_in_one_go(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 500


def test_only_the_command_line_prints_or_exits() -> None:
    for path in FILES:
        if path.name == "cli.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            assert not (isinstance(called, ast.Name) and called.id in ("print", "exit")), path
            assert not (isinstance(called, ast.Attribute) and ast.unparse(called) == "sys.exit"), path


def test_only_graph_and_freeze_touch_tensorflow_s_internals() -> None:
    for path in FILES:
        if room_of(path) in ("graph", "freeze"):
            continue
        assert "tensorflow.python" not in path.read_text(), path


def test_the_pipeline_fits_on_a_screen() -> None:
    lines = (PACKAGE / "pipeline.py").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("def compile_spec"))
    end = next(i for i in range(start + 1, len(lines)) if lines[i].startswith("def "))
    assert end - start <= 50


@pytest.mark.parametrize("step", sorted({*STEPS, *POST_STEPS}, key=lambda s: s.__name__), ids=lambda s: s.op)
def test_every_step_is_whole(step: type) -> None:
    """A step has a doc with in and out, a schema for each of its keys, a reference, and a test that names it."""
    from pbcompile.reference import PARTS_REFERENCE, REFERENCE

    doc = inspect.getdoc(step) or ""
    assert "in:" in doc
    assert "out:" in doc
    assert all("description" in schema for schema in step.properties.values())
    assert set(step.required) <= set(step.properties)
    assert step in REFERENCE or step in PARTS_REFERENCE
    tests = [p.read_text() for p in (Path(__file__).parent / "steps").glob("test_*.py")]
    assert any(step.__name__ in text for text in tests), f"no test in tests/steps names {step.__name__}"


def test_every_rule_is_used() -> None:
    """A rule that no pass makes, or a file of passes that nothing imports, is dead code."""
    sources = {path: path.read_text() for path in (PACKAGE / "passes").glob("*.py")}
    everything = "\n".join(sources.values())
    for path, text in sources.items():
        assert path.stem == "__init__" or f"pbcompile.passes.{path.stem} import" in everything, path
        for node in ast.parse(text).body:
            if (
                isinstance(node, ast.ClassDef)
                and not node.name.startswith("_")
                and "Rule" in map(ast.unparse, node.bases)
            ):
                assert f"{node.name}(" in everything.replace(f"class {node.name}(", ""), node.name
