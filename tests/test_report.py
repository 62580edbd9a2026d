"""`--report`: one page that needs nothing else, says everything, and fits on a phone and on a desk."""

from __future__ import annotations

import json
import re
import shutil
import string
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pbcompile.bench.benchmark import BenchReport
from pbcompile.bench.environment import environment
from pbcompile.pipeline import build
from pbcompile.report import plots
from pbcompile.side_by_side import EQUAL, LEAST_DECADE
from pbcompile.stages import Stages
from tests.conftest import SHARED_MODELS, needs_shared_models
from tests.networks import natural_batch, set_statistics
from tests.test_bench import record

HOSTILE = "<script>document.title='taken'</script>&amp;\"'><img src=x onerror=alert(1)>"
SECTIONS = (
    "given", "pipeline", "steps", "decisions", "parity", "latency", "norms", "graph", "exactness", "environment",
)  # fmt: skip
VOID = {"meta", "img", "br", "link", "input", "hr"}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with two heads and two batch norms, one of which cannot be folded; images; a spec with labels."""
    import keras
    from keras import layers

    folder = tmp_path_factory.mktemp("report")
    keras.utils.set_random_seed(3)
    image = keras.Input((20, 24, 3), name="picture")
    x = layers.Conv2D(8, 3, use_bias=False, name="conv")(image)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.MaxPooling2D(2)(layers.ReLU()(x))
    x = layers.BatchNormalization(name="late")(layers.ReLU()(layers.Flatten()(x)))
    x = layers.LayerNormalization()(x)
    heads = [layers.Dense(6, activation="softmax", name=name)(x) for name in ("left", "right")]
    model = keras.Model(image, heads)
    set_statistics(model, natural_batch(6, 24)[:, :20] / 255)
    model.save(folder / "net.keras")
    (folder / "images").mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / "images" / f"{index}.jpg"), natural_batch(1, 60 + 9 * index, index)[0][:50])
    write(folder, "spec")
    return folder


def write(folder: Path, name: str, **verify: Any) -> Path:
    steps = [
        {"op": "resize", "size": [20, 24], "method": "cubic", "like": "opencv"},
        {"op": "rescale", "scale": 0.00392156862745098},
    ]
    labels = ["a", "b", "c", "d", HOSTILE, "f"]
    document = {
        "version": 1,
        "model": "net.keras",
        "inputs": {"photo": {"channels": "RGB", "shape": [None, 50, 60, 3], "preprocess": steps}},
        "outputs": {
            "left": {},
            "first": {"from": "left", "postprocess": [{"op": "top_k", "k": 2, "labels": labels}]},
            "right": {"postprocess": [{"op": "argmax"}]},
        },
        "verify": {"images": "images/*.jpg", **verify},
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(document, indent=2))
    return path


class Read(HTMLParser):
    """A page as a browser takes it: tags, attributes, the text of each section; fails where tags do not match."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {"": ""}
        self.section = ""
        self.styles = ""
        self.feed(path.read_text())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self.section = dict(attrs)["id"] or ""
            self.text[self.section] = ""
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["style"]:
            self.styles += data
        else:
            self.text[self.section] += data

    def require_alone(self) -> None:
        """Nothing in it asks for anything outside of it, and nothing in it runs."""
        for tag, attributes in self.tags:
            assert tag not in ("script", "iframe", "link", "object", "embed", "base", "form"), tag
            for name, value in attributes.items():
                assert not name.startswith("on"), (tag, name)
                if name in ("src", "href", "srcset", "action", "xlink:href", "poster", "background"):
                    assert (value or "").startswith(("data:image/png;base64,", "#")), value
        assert "url(" not in self.styles
        assert "@import" not in self.styles

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


@pytest.fixture(scope="module")
def page(place: Path) -> tuple[Path, dict[str, Any]]:
    """The page of a compile, and the JSON that was printed beside it."""
    from click.testing import CliRunner

    from pbcompile.cli import cli

    done = CliRunner().invoke(
        cli, ["compile", str(place / "spec.json"), "--report", str(place / "page.html"), "--json"]
    )
    assert done.exit_code == 0, done.output
    return place / "page.html", json.loads(done.stdout)


def test_the_page_is_whole_and_alone(place: Path, page: tuple[Path, dict[str, Any]]) -> None:
    """Every section says what it is for, with the figures of the JSON; `report` names the file."""
    path, report = page
    assert report["report"] == str(path)
    found = Read(path)
    found.require_alone()
    assert tuple(name for name in found.text if name) == SECTIONS
    said = {name: re.sub(r"\s+", " ", text) for name, text in found.text.items()}
    assert "The gate says yes" in said[""]
    for text in (report["sha256"], "spec.json", '"op": "resize"'):
        assert text in said["given"]
    for text in ("uint8 [n, 20, 24, 3] RGB", "float32 [n, 20, 24, 3] RGB", "opencv cubic", "first_labels"):
        assert text in said["pipeline"]
    assert said["steps"].count("graphlibrarydifference") == 3
    for name in ("left", "first_scores", "right"):
        assert name in said["parity"]
    for text in ("KL, nats", f"{report['verify']['outputs']['left']['max_abs']:.3g}", " to 1e-0"):
        assert text in said["parity"]
    folded, found_norms = report["batch_norm"]["folded"], report["batch_norm"]["found"]
    assert f"{folded} of {found_norms} are folded" in said["norms"]
    assert found_norms == 2
    assert "folded into" in said["norms"]
    for kept in report["batch_norm"]["kept"]:
        assert kept["reason"] in said["norms"]
    for text in (f"{report['nodes']['before']} nodes", "Conv2D", "fold-scale-into-conv", "remove-identities"):
        assert text in said["graph"]
    assert "photo: resize (opencv cubic" in said["exactness"]
    assert "photo: rescale" in said["exactness"]
    for text in ("cpu", "tensorflow", "python"):
        assert text in said["environment"]
    assert found.count("img") == 3 * 3 + 3  # three stages in three views, and three samples
    assert found.count("svg") > 20
    assert "prefers-color-scheme: dark" in found.styles
    assert "@media print" in found.styles


def test_what_the_spec_says_is_text_whatever_it_says(page: tuple[Path, dict[str, Any]]) -> None:
    found = Read(page[0])
    assert HOSTILE.replace('"', '\\"') in found.text["given"]  # the spec itself, as JSON writes it
    named = re.sub(r"\s", "", found.text["decisions"])
    assert HOSTILE.replace(" ", "") in named, "no image is of the hostile class: choose another seed"


def test_a_no_is_reported_too_and_nothing_is_written(place: Path, run: Any) -> None:
    """No tolerance at all: float32 sums in another order are then not the original's."""
    spec = write(place, "strict", atol=0.0, rtol=0.0)
    done = run("compile", spec, "--report", "no.html", "--json")
    assert done.code == 1, done.err
    assert done.json()["report"] == "no.html"
    assert done.json()["error"]["code"] == "parity-exceeded"
    assert not (place / "strict.pb").exists()
    found = Read(Path("no.html"))
    found.require_alone()
    assert "The gate says no" in found.text[""]
    assert "The artifact was not written" in found.text[""]
    assert done.json()["error"]["problems"][0]["message"] in found.text[""]
    assert set(SECTIONS) < set(found.text)


def test_verify_reports_on_the_file_that_it_was_given(place: Path, page: Any, run: Any) -> None:
    """Byte for byte what the spec compiles to, or said not to be."""
    done = run("verify", place / "spec.json", "--report", "v.html")
    assert done.code == 0, done.err
    assert "report: v.html" in done.err
    assert "byte for byte what this spec compiles to" in Read(Path("v.html")).text["given"]


def test_verify_shows_the_decisions_that_are_not_the_original_s(place: Path, run: Any) -> None:
    """A file whose heads are swapped: other bytes and other classes.

    The search for the cause once ended in a traceback where an output holds labels.
    """
    document = json.loads((place / "spec.json").read_text())
    outputs = document["outputs"]
    for output, head in (("left", "right"), ("first", "right"), ("right", "left")):
        outputs[output] = {**outputs[output], "from": head}
    (place / "swapped.json").write_text(json.dumps(document))
    assert run("compile", place / "swapped.json", "--no-verify", "--report", "unproven.html").code == 0
    assert "Not verified" in Read(Path("unproven.html")).text[""]
    done = run("verify", place / "spec.json", "--pb", place / "swapped.pb", "--report", "swapped.html", "--json")
    assert done.code == 1, done.err
    found = Read(Path("swapped.html"))
    assert "The gate says no" in found.text[""]
    assert done.json()["error"]["problems"][0]["message"] in found.text[""]
    assert "not the bytes that this spec compiles to" in found.text["given"]
    assert any(attributes.get("class") == "decision off" for _, attributes in found.tags)


@pytest.mark.parametrize("command", ["compile", "verify", "bench"])
def test_a_missing_folder_is_told_before_the_work(place: Path, run: Any, command: str) -> None:
    done = run(command, place / "spec.json", "--report", "nowhere/page.html")
    assert done.code == 2
    assert done.err.splitlines()[0].endswith("nowhere/page.html cannot be written: the folder nowhere does not exist")
    assert "TensorFlow" not in done.err


@pytest.fixture
def timed(place: Path, monkeypatch: pytest.MonkeyPatch) -> BenchReport:
    """`bench` with made-up times in the place of measured ones; the rest of the command is its own."""
    generator = np.random.default_rng(0)

    def rounds(scale: float) -> list[list[float]]:
        return [list(scale * generator.lognormal(0, 0.1, 40)) for _ in range(6)]

    records = {
        "unfused_predict": record(*rounds(60), prepare=[5.0], decode=[3.0]),
        "unfused_function": record(*rounds(12), prepare=[5.0], decode=[3.0]),
        "fused": record(*rounds(4)),
        "fused_preprocess_only": record(*rounds(1), decode=[0.5]),
    }
    said = {"artifact": "a.pb", "level": "canonical", "grappler": True, "threads": 2, "image": "x", "feeds": {}}
    found = BenchReport(records, {"litert": "not <here>"}, {"fused": 1e-7}, environment(2), said, ["a note"])

    def measured(spec: Any, *_: Any, witness: Any, **__: Any) -> BenchReport:
        witness(build(spec, Stages(None)), None)
        return found

    monkeypatch.setattr("pbcompile.bench.benchmark.bench_spec", measured)
    return found


def test_bench_shows_every_program_on_one_axis(place: Path, run: Any, timed: BenchReport) -> None:
    done = run("bench", place / "spec.json", "--report", place / "bench.html", "--json")
    assert done.code == 0, done.err
    assert done.json()["report"] == str(place / "bench.html")
    found = Read(place / "bench.html")
    found.require_alone()
    latency = found.text["latency"]
    for name, variant in timed.as_json()["variants"].items():
        assert name in latency
        for key in ("min_ms", "p50_ms", "p90_ms", "p99_ms"):
            assert plots.short(variant[key]) in latency
    assert "not <here>" in latency
    assert "a note" in latency
    places = [float(a["cx"][:-1]) for tag, a in found.tags if tag == "circle" and a.get("class") == "p50"]
    assert places == sorted(places, reverse=True)
    assert len(places) == 4
    assert all(0 < place < 100 for place in places)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (Debian: apt install chromium)")
@pytest.mark.parametrize("width", [360, 1400])
@pytest.mark.parametrize("name", ["page", "bench"])
def test_nothing_overflows_in_a_browser(
    place: Path, page: Any, run: Any, timed: Any, tmp_path: Path, width: int, name: str
) -> None:
    """No error in the console, every picture decoded, and nothing wider than the window but inside its own box."""
    if name == "bench" and not (place / "bench.html").exists():
        assert run("bench", place / "spec.json", "--report", place / "bench.html").code == 0
    text = (place / f"{name}.html").read_text()
    policy = re.search(r'<meta http-equiv="Content-Security-Policy"[^>]*>', text)
    assert policy is not None
    measure = """<script>onload = () => parent.postMessage(JSON.stringify({
        width: innerWidth, needs: document.documentElement.scrollWidth,
        undecoded: [...document.images].filter(image => !image.naturalWidth).length,
        unseen: [...document.querySelectorAll('svg')].filter(svg => svg.getBoundingClientRect().width < 20).length,
        }), '*')</script>"""
    (tmp_path / "page.html").write_text(text.replace(policy.group(), "").replace("</body>", measure + "</body>"))
    frame = tmp_path / "frame.html"  # a window of Chromium's own is never narrower than 500 pixels
    frame.write_text(
        "<!doctype html><title></title><script>onmessage = said => { document.title = said.data }</script>"
        f'<iframe src="page.html" style="border: 0; width: {width}px; height: 900px"></iframe>'
    )
    done = subprocess.run(
        [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1500,900", "--virtual-time-budget=5000",
         "--dump-dom", frame.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    title = re.findall(r"<title>(.*?)</title>", done.stdout)[0]
    seen = json.loads(title)
    assert seen["width"] == width
    assert seen["needs"] <= seen["width"], seen
    assert seen["undecoded"] == 0
    assert seen["unseen"] == 0
    assert "CONSOLE" not in done.stderr, done.stderr


def test_differences_are_counted_by_their_power_of_ten() -> None:
    bars = plots.histogram({EQUAL: 3, LEAST_DECADE: 1, -7.0: 4})
    assert [(bar.label, bar.count) for bar in bars] == [("equal", 3), ("below 1e-11", 1), ("1e-07 to 1e-06", 4)]
    assert 'width="50.00%"' in bars[2].svg


@needs_shared_models
def test_five_heads_read_as_a_row_of_letters(tmp_path: Path, run: Any) -> None:
    """Original and artifact both read what the network's author read, letter by letter (a "k" for a "v" is his)."""
    folder = SHARED_MODELS / "captcha_five_outputs"
    labels = list(string.ascii_lowercase + string.ascii_uppercase + string.digits)
    heads = {f"char_{place}": {"postprocess": [{"op": "top_k", "k": 1, "labels": labels}]} for place in range(1, 6)}
    steps = [{"op": "rescale", "scale": 0.00392156862745098}]
    document = {
        "version": 1,
        "model": str(folder / "model_v4_1.h5"),
        "inputs": {"image": {"channels": "GRAY", "shape": [None, 30, 120, 1], "preprocess": steps}},
        "outputs": heads,
        "verify": {"images": str(folder / "*.png")},
    }
    (tmp_path / "captcha.json").write_text(json.dumps(document))
    done = run("captcha.json", "--report", "captcha.html")
    assert done.code == 0, done.err
    said = Read(tmp_path / "captcha.html").text["decisions"].split()
    golden = np.load(folder / "golden_hamster_captcha.npz")
    names = ("13IC3.png", "50rKo.png", "5u85b.png", "037Bv.png")
    for index, name in enumerate(names):
        text = "".join(labels[golden[f"y{index}_{place}"].argmax()] for place in range(5))
        row = said.index(name)
        assert said[row + 1 : row + 3] == [f"original{text}", f"artifact{text}"]
