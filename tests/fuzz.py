"""Mutated and generated input in great numbers: each case ends well or in a PbcompileError with a sentence, in time.

`python -m tests.fuzz` runs all targets (`--cases`, `--seed`, `--target NAME …`); `make fuzz` is the long run, and
test_fuzz.py a short one.  A case is made from (target, seed, number) alone, so that every find can be made again:
`--only NUMBER` runs that case and shows its traceback.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import copy
import io
import json
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pbcompile.check import check_spec
from pbcompile.errors import EXIT_MODEL, EXIT_NO, EXIT_SPEC, PbcompileError
from pbcompile.models import ModelSource, describe_model, load_model
from pbcompile.models.lambda_code import expression
from pbcompile.models.marshal_reader import UnreadableError, read_code
from pbcompile.spec import assemble_schema, load_spec
from pbcompile.spec.formula import FormulaError, parse_formula

HERE = Path(__file__).parent
SECONDS = 15
"""What one case may take: 10 and the time of the machine's other work."""
EXTRA_BYTES = 2 << 30
"""What the whole run may grow by: no case keeps what it made."""
ODD = (None, True, False, 0, 1, -1, 3, 1 << 31, -(1 << 63), 10**400, 0.5, -0.0, 1e308, "", "x", "RGB", "a/b~c", "\x00",
       "é\U0001f600", "../x", "/dev/null", "." * 5000, [], {}, [[]], [None], {"op": "resize"}, [0, 0],
       ["a", 1])  # fmt: skip


class CaseTooLongError(Exception):
    """A case took longer than it may."""


# -- how input is changed


def mutated_bytes(data: bytes, chance: random.Random) -> bytes:
    """`data` with one to eight changes: flipped, overwritten, cut, doubled, or with odd numbers in it."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 8))):
        at = chance.randrange(len(out) + 1)
        kind = chance.randrange(6)
        if kind == 0 and out:
            out[min(at, len(out) - 1)] ^= 1 << chance.randrange(8)
        elif kind == 1:
            out[at : at + chance.choice((1, 4, 16))] = chance.randbytes(chance.choice((1, 4, 16)))
        elif kind == 2:
            del out[at : at + chance.choice((1, 8, 100, len(out)))]
        elif kind == 3:
            out[at:at] = out[at : at + chance.choice((1, 8, 64))]
        elif kind == 4:
            number = chance.choice((0, 1, -1, 0x7F, 0x7FFFFFFF, -0x80000000, 0xFFFF))
            out[at : at + 4] = struct.pack("<i", number)
        else:
            out[at : at + 8] = struct.pack("<q", chance.choice((0, -1, 1 << 62, 1 << 40)))
    return bytes(out)


def mutated_json(value: Any, chance: random.Random) -> Any:
    """A copy of `value` with one to four of its parts removed, replaced, doubled, or put somewhere else."""
    made = json.loads(json.dumps(value))
    for _ in range(chance.choice((1, 1, 2, 4))):
        places = list(_places(made))
        if not places:
            return _odd(chance)
        holder, key = chance.choice(places)
        kind = chance.randrange(5)
        if kind == 0:
            holder.pop(key)
        elif kind == 1:
            holder[key] = _odd(chance)
        elif kind == 2:
            other, other_key = chance.choice(places)
            with contextlib.suppress(KeyError, IndexError):
                holder[key] = json.loads(json.dumps(other[other_key]))
        elif kind == 3 and isinstance(holder, list):
            holder.insert(key, holder[key])
        elif isinstance(holder, dict):
            holder[chance.choice(("name", "op", "config", "class_name", "size", "shape", "zz"))] = _odd(chance)
    return made


def _odd(chance: random.Random) -> Any:
    return copy.deepcopy(chance.choice(ODD))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    pending = [value]
    while pending:
        item = pending.pop()
        keys = list(item) if isinstance(item, dict) else range(len(item)) if isinstance(item, list) else ()
        for key in keys:
            yield item, key
            pending.append(item[key])


# -- specs from the schema


class FromSchema:
    """Values that the schema allows, mostly: a grammar of specs."""

    def __init__(self, schema: Mapping[str, Any], chance: random.Random) -> None:
        self.root = schema
        self.chance = chance

    def value(self, schema: Any, depth: int = 0) -> Any:
        """One value of `schema`; rarely one that it forbids."""
        chance = self.chance
        if chance.random() < 0.01 or schema is True or depth > 12:
            return _odd(chance)
        if "$ref" in schema:
            found = self.root
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            return self.value(found, depth)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return chance.choice(schema["enum"])
        for word in ("oneOf", "anyOf"):
            if word in schema:
                return self.value(chance.choice(schema[word]), depth + 1)
        kind = schema.get("type", "object" if "properties" in schema else None)
        kind = chance.choice(kind) if isinstance(kind, list) else kind
        return getattr(self, f"_{kind}", self._any)(schema, depth)

    def _any(self, schema: Any, depth: int) -> Any:
        return _odd(self.chance)

    def _object(self, schema: Any, depth: int) -> Any:
        chance, made = self.chance, {}
        properties = dict(schema.get("properties", {}))
        required = set(schema.get("required", ()))
        if "op" in properties and schema.get("allOf"):
            op = chance.choice(properties["op"]["enum"])
            case = next(c for c in schema["allOf"] if c["if"]["properties"]["op"]["const"] == op)
            properties, required = dict(case["then"]["properties"]), set(case["then"].get("required", ()))
            made["op"] = op
            properties.pop("op")
        for name, inner in properties.items():
            if name in required or chance.random() < 0.4:
                made[name] = self.value(inner, depth + 1)
        more = schema.get("additionalProperties")
        if isinstance(more, dict):
            for name in chance.sample(["image", "y", "a b", "é", "x/y", "0"], chance.choice((0, 1, 1, 2))):
                made[name] = self.value(more, depth + 1)
        return made

    def _array(self, schema: Any, depth: int) -> Any:
        count = self.chance.randint(schema.get("minItems", 0), min(schema.get("maxItems", 4), 5))
        items = schema.get("items", schema.get("prefixItems", True))
        return [self.value(items, depth + 1) for _ in range(count)] if not isinstance(items, list) else []

    def _string(self, schema: Any, depth: int) -> Any:
        return self.chance.choice(("net.h5", "mean.npy", "labels.txt", "y", "image", "x[0]", "m:C", "", "photos/*.jpg"))

    def _number(self, schema: Any, depth: int) -> Any:
        return self.chance.choice((0, 1, 0.5, -1, 255, 1e-30, 1e30, 127.5))

    def _integer(self, schema: Any, depth: int) -> Any:
        return self.chance.choice((1, 2, 3, 4, 8, 224, 0, -1, 1 << 20, 1 << 40))

    def _boolean(self, schema: Any, depth: int) -> Any:
        return self.chance.random() < 0.5

    def _null(self, schema: Any, depth: int) -> None:
        return None


# -- the targets: each takes a chance and a folder, and does one case

SCHEMA: Any = assemble_schema()
SPECS = [json.loads(path.read_text()) for path in sorted((HERE / "spec" / "valid").glob("*.json"))]
LAMBDAS = json.loads((HERE / "models" / "stored_lambdas.json").read_text())


def _of_archives(suffix: str) -> list[bytes]:
    found = []
    for archive in sorted((HERE / "models").glob("*/*.zip")):
        with zipfile.ZipFile(archive) as content:
            names = [name for name in sorted(content.namelist()) if name.endswith(suffix)]
            found += [content.read(name) for name in names[:: max(1, len(names) // 6)]]
    return [data for data in found if len(data) < 60_000]


def spec_from_grammar(chance: random.Random, folder: Path) -> None:
    """Specs that the schema allows, with odd numbers and in odd orders."""
    document = FromSchema(SCHEMA, chance).value(SCHEMA)
    if isinstance(document, dict) and chance.random() < 0.9:
        document.setdefault("inputs", {}) if chance.random() < 0.1 else None
        document["version"] = 1
        document["model"] = document.get("model") if chance.random() < 0.3 else "net.h5"
    _check(json.dumps(document).encode(), folder)


def spec_from_mutation(chance: random.Random, folder: Path) -> None:
    """Good specs with parts changed."""
    _check(json.dumps(mutated_json(chance.choice(SPECS), chance)).encode(), folder)


def spec_from_bytes(chance: random.Random, folder: Path) -> None:
    """Good specs with bytes changed."""
    _check(mutated_bytes(json.dumps(chance.choice(SPECS)).encode(), chance), folder)


def _check(text: bytes, folder: Path) -> None:
    (folder / "spec.json").write_bytes(text)
    check_spec(load_spec(folder / "spec.json"))


def npy_of_a_mean(chance: random.Random, folder: Path) -> None:
    """`.npy` files with bytes changed, as the mean of a spec."""
    file = io.BytesIO()
    np.save(file, np.ones((4, 4, 3), chance.choice(("f4", "f8", "u1", "i8"))))
    (folder / "mean.npy").write_bytes(mutated_bytes(file.getvalue(), chance))
    steps = [{"op": "subtract_mean", "mean": "mean.npy"}]
    image = {"channels": "RGB", "shape": [None, 4, 4, 3], "preprocess": steps}
    _check(json.dumps({"version": 1, "model": "net.h5", "inputs": {"image": image}}).encode(), folder)


def formula(chance: random.Random, folder: Path) -> None:
    """Formulas with characters changed."""
    text = chance.choice(("K.abs(x[0] - x[1])", "tf.concat([x, -x], axis=-1) ** 2", "(x[..., ::-1] / 3, 'a')"))
    with contextlib.suppress(FormulaError):
        str(parse_formula(mutated_bytes(text.encode(), chance).decode("latin-1")).body)


def stored_code(chance: random.Random, folder: Path) -> None:
    """Marshalled functions of every Python with bytes changed."""
    data = base64.b64decode(chance.choice(list(chance.choice(list(LAMBDAS.values())).values())))
    with contextlib.suppress(UnreadableError):
        str(expression(read_code(mutated_bytes(data, chance))))


def _model(data: bytes, name: str, folder: Path, built: bool) -> None:
    (folder / name).write_bytes(data)
    source = ModelSource(folder / name)
    describe_model(source)
    if built:
        load_model(source)


def h5_bytes(chance: random.Random, folder: Path) -> None:
    """`.h5` files with bytes changed; one in ten is built, too."""
    _model(mutated_bytes(chance.choice(FILES["h5"]), chance), "m.h5", folder, chance.random() < 0.1)


def keras_bytes(chance: random.Random, folder: Path) -> None:
    """`.keras` files with bytes changed."""
    _model(mutated_bytes(chance.choice(FILES["keras"]), chance), "m.keras", folder, chance.random() < 0.1)


def keras_config(chance: random.Random, folder: Path) -> None:
    """`.keras` files whose config is another: good JSON, odd parts; one in four is built."""
    with zipfile.ZipFile(io.BytesIO(chance.choice(FILES["keras"]))) as old:
        members = {name: old.read(name) for name in old.namelist()}
    members["config.json"] = json.dumps(mutated_json(json.loads(members["config.json"]), chance)).encode()
    new = io.BytesIO()
    with zipfile.ZipFile(new, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    _model(new.getvalue(), "m.keras", folder, chance.random() < 0.25)


def h5_config(chance: random.Random, folder: Path) -> None:
    """The same in `.h5` files of old releases."""
    import h5py

    (folder / "m.h5").write_bytes(chance.choice(FILES["h5"]))
    with h5py.File(folder / "m.h5", "a") as file:
        text = file.attrs.get("model_config", "{}")  # a file of weights has none
        config = json.loads(text if isinstance(text, str) else text.decode())
        changed = json.dumps(mutated_json(config, chance))
        if len(changed) < 60_000:
            file.attrs["model_config"] = changed
    _model((folder / "m.h5").read_bytes(), "m.h5", folder, chance.random() < 0.25)


def saved_model(chance: random.Random, folder: Path) -> None:
    """SavedModels, `saved_model.pb` changed."""
    target = folder / "saved"
    if not target.exists():
        with zipfile.ZipFile(HERE / "models" / "written_by" / "saved-model-tensorflow-2.13.zip") as content:
            content.extractall(folder / "whole")
        os.rename(folder / "whole" / "prep_sm", target)
        (folder / "good.pb").write_bytes((target / "saved_model.pb").read_bytes())
    (target / "saved_model.pb").write_bytes(mutated_bytes((folder / "good.pb").read_bytes(), chance))
    load_model(ModelSource(target))


FILES: dict[str, list[bytes]] = {"h5": _of_archives(".h5"), "keras": _of_archives(".keras")}
TARGETS: Mapping[str, tuple[Callable[[random.Random, Path], None], float]] = {
    "spec-grammar": (spec_from_grammar, 1.0),
    "spec-mutation": (spec_from_mutation, 1.0),
    "spec-bytes": (spec_from_bytes, 1.0),
    "npy": (npy_of_a_mean, 0.5),
    "formula": (formula, 1.0),
    "stored-code": (stored_code, 1.0),
    "h5-bytes": (h5_bytes, 0.3),
    "h5-config": (h5_config, 0.1),
    "keras-bytes": (keras_bytes, 0.3),
    "keras-config": (keras_config, 0.1),
    "saved-model": (saved_model, 0.005),
}
"""Each target with its share of `--cases`: building takes longer than reading."""


def run_case(name: str, seed: int, number: int, folder: Path) -> str:
    """One case: "" where it ended well or in a sentence, else what went wrong."""
    chance = random.Random(f"{name} {seed} {number}")
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        TARGETS[name][0](chance, folder)
    except PbcompileError as error:
        if error.exit_code not in (EXIT_NO, EXIT_SPEC, EXIT_MODEL) or not all(p.message for p in error.problems):
            return f"{type(error).__name__}: {error}"
    except CaseTooLongError:
        return f"took more than {SECONDS} s"
    except Exception:
        return traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return ""


def _too_long(number: int, frame: object) -> None:
    raise CaseTooLongError


def fuzz(names: list[str], seed: int, cases: int, seconds: float = 1e9) -> list[tuple[str, int, str]]:
    """Run the targets; every find as (target, number, what went wrong)."""
    before = signal.signal(signal.SIGALRM, _too_long)
    finds = []
    try:
        for name in names:
            until = time.monotonic() + seconds / len(names)
            with tempfile.TemporaryDirectory() as folder:
                for number in range(int(cases * TARGETS[name][1])):
                    found = run_case(name, seed, number, Path(folder))
                    if found:
                        finds.append((name, number, found))
                    if time.monotonic() > until:
                        break
    finally:
        signal.signal(signal.SIGALRM, before)
    return finds


def main() -> None:
    """The long run."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--seed", type=int, default=int(time.time()))
    words.add_argument("--cases", type=int, default=100_000)
    words.add_argument("--target", nargs="*", default=list(TARGETS), choices=list(TARGETS))
    words.add_argument("--only", type=int, help="the number of one case")
    given = words.parse_args()
    print(f"seed {given.seed}", flush=True)
    if given.only is not None:
        signal.signal(signal.SIGALRM, _too_long)
        with tempfile.TemporaryDirectory() as folder:
            print(run_case(given.target[0], given.seed, given.only, Path(folder)) or "ended well")
        return
    count = 0
    for name in given.target:
        start = time.monotonic()
        finds = fuzz([name], given.seed, given.cases)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        cases = int(given.cases * TARGETS[name][1])
        print(
            f"{name:14} {cases:7} cases, {len(finds)} finds, {time.monotonic() - start:.0f} s, {grown} MB", flush=True
        )
        shown = {found.splitlines()[-1]: (number, found) for _, number, found in finds}
        for last, (number, _) in shown.items():
            print(f"    --target {name} --seed {given.seed} --only {number}: {last[:160]}", flush=True)
        count += len(finds)
    sys.exit(1 if count else 0)


if __name__ == "__main__":
    main()
