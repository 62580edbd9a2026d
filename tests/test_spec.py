"""Specs: every file of spec/valid loads; every file of spec/invalid says exactly what its .txt says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbcompile.errors import Problem, SpecError
from pbcompile.spec import assemble_schema, load_spec
from pbcompile.spec.text import parse_json

HERE = Path(__file__).parent / "spec"
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("path", sorted((HERE / "valid").glob("*.json")), ids=lambda p: p.stem)
def test_valid_spec_loads(path: Path) -> None:
    spec = load_spec(path)
    assert spec.inputs


@pytest.mark.parametrize("path", sorted((HERE / "invalid").glob("*.json")), ids=lambda p: p.stem)
def test_invalid_spec_says_exactly_this(path: Path, golden, monkeypatch) -> None:
    monkeypatch.chdir(path.parent)
    with pytest.raises(SpecError) as caught:
        load_spec(path.name)
    golden(path.with_suffix(".txt"), str(caught.value) + "\n")


def test_defaults() -> None:
    """What the contract's table says is there when it is left out."""
    spec = load_spec(HERE / "valid" / "shortest.json")
    (image,) = spec.inputs
    assert (image.kind, image.fed.dtype, image.fed.shape) == ("pixels", "uint8", (None, None, None, 3))
    assert spec.artifact == HERE / "valid" / "shortest.pb"
    assert (spec.level, spec.outputs, spec.verify.count, spec.verify.min_top1_agreement) == ("canonical", (), 64, 1.0)


def test_committed_schema_is_the_assembled_one(golden) -> None:
    golden(ROOT / "specs" / "pbcompile.schema.json", json.dumps(assemble_schema(), indent=2) + "\n")


def test_schema_describes_every_property() -> None:
    """Editors show these sentences; one that is missing is a hole in the reference."""

    def holes(schema: object, path: str) -> list[str]:
        if not isinstance(schema, dict):
            return []
        found = []
        for name, value in schema.get("properties", {}).items():
            if isinstance(value, dict) and "const" not in value and "description" not in value and "$ref" not in value:
                found.append(f"{path}/{name}")
            found += holes(value, f"{path}/{name}")
        for case in schema.get("allOf", []):
            found += holes(case["then"], f"{path}:{case['if']['properties']['op']['const']}")
        for key in ("items", "additionalProperties"):
            found += holes(schema.get(key), f"{path}/{key}")
        for name, value in schema.get("$defs", {}).items():
            found += holes(value, f"{path}#{name}")
        return found

    assert holes(assemble_schema(), "") == []


def test_schema_is_valid_json_schema() -> None:
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(assemble_schema())


def test_loading_a_spec_imports_no_tensorflow() -> None:
    code = "import sys, pbcompile; pbcompile.load_spec(sys.argv[1]); assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(HERE / "valid" / "readme.json")], check=True)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(json_values, st.sampled_from([None, 1, "\t"]))
@settings(derandomize=True, deadline=None, max_examples=200)
def test_every_pointer_has_its_position(value: object, indent: object) -> None:
    """The text at the offset of a pointer parses to the value that the pointer names."""
    text = json.dumps(value, indent=indent)
    parsed = parse_json(text)

    def walk(node: object, pointer: str) -> None:
        decoded, _ = json.JSONDecoder().raw_decode(text[parsed.values[pointer] :])
        assert decoded == node
        if isinstance(node, dict):
            for key, inner in node.items():
                where = f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}"
                assert json.JSONDecoder().raw_decode(text[parsed.keys[where] :])[0] == key
                walk(inner, where)
        if isinstance(node, list):
            for index, inner in enumerate(node):
                walk(inner, f"{pointer}/{index}")

    walk(value, "")


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@settings(derandomize=True, deadline=None, max_examples=200)
def test_any_bytes_give_a_sentence(tmp_path_factory, data: bytes) -> None:
    """Whatever the file holds, the answer is a SpecError."""
    path = tmp_path_factory.mktemp("spec") / "spec.json"
    path.write_bytes(data)
    with pytest.raises(SpecError):
        load_spec(path)


@given(st.data())
@settings(derandomize=True, deadline=None, max_examples=200)
def test_mutated_specs_load_or_say_why(tmp_path_factory, data: st.DataObject) -> None:
    """A valid spec with one value replaced, one key dropped or one added loads, or is a SpecError with a position."""
    source = data.draw(st.sampled_from(sorted((HERE / "valid").glob("*.json"))))
    document = json.loads(source.read_text())
    parents = [document]
    for node in parents:
        inner = node.values() if isinstance(node, dict) else node
        parents += [value for value in inner if isinstance(value, (dict, list)) and value]
    target = data.draw(st.sampled_from(parents))
    key = data.draw(st.sampled_from(sorted(target) if isinstance(target, dict) else list(range(len(target)))))
    action = data.draw(st.sampled_from(["replace", "drop", "add"]))
    if action == "drop":
        del target[key]
    elif action == "add" and isinstance(target, dict):
        target[data.draw(st.text(max_size=6))] = data.draw(json_values)
    else:
        target[key] = data.draw(json_values | st.sampled_from(["RGB", "GRAY", "encoded", -1, 0, 1e300, "a.npy"]))
    path = tmp_path_factory.mktemp("spec") / "spec.json"
    path.write_text(json.dumps(document))
    try:
        load_spec(path)
    except SpecError as error:
        for problem in error.problems:
            assert problem.line >= 1, problem
            assert problem.message, problem


def test_a_problem_renders_with_its_place() -> None:
    problem = Problem("spec-invalid", "it is wrong", "/a", "mend it", "spec.json", 2, 3, "  wrong")
    assert problem.render() == (
        "spec.json:2:3: spec-invalid at /a: it is wrong\n        wrong\n        ^\n      hint: mend it"
    )
