"""How long does one camera frame take, fused and unfused, and in other runtimes?

    python benchmarks/latency.py [--models resnet50 mobilenetv2 ...] [--sizes 224 ...] [--seconds 60] [--json FILE]
                                 [--plot FILE.png] [--batch 1 8 32] [--threads N] [--without NAME ...]

For each family of keras.applications (random weights with statistics set from images), a 640x480 BGR frame goes

    unfused_predict    through OpenCV and NumPy, then model.predict
    unfused_function   through OpenCV and NumPy, then the model as a tf.function
    unfused_frozen     through OpenCV and NumPy, then the network frozen as everybody does it
    layers_frozen      into a graph of TensorFlow preprocessing layers and the network, frozen as everybody does it
    fused_none         into the .pb of level none
    fused              into the .pb of level canonical
    fused_cpu          into the .pb of level tensorflow-cpu
    openvino, ...      into the peers that are installed (pip install 'pbcompile[peers]')

measured as `pbcompile bench` measures: each in a process of its own, in turn, with equal threads, until every median is
known to 3 % or the time is over.  The specs are those in `specs/keras_applications`; files are kept in `build/latency`.
`--render FILE` prints the tables of an earlier `--json FILE` again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
GALLERY = ROOT / "specs" / "keras_applications"
BUILD = ROOT / "build" / "latency"
sys.path.insert(0, str(ROOT))  # for tests.networks

from pbcompile.bench.contender import PEERS, Contender, why_missing  # noqa: E402
from pbcompile.bench.environment import available_cpus, environment, load  # noqa: E402
from pbcompile.bench.table import columns, number, render  # noqa: E402
from pbcompile.cli import import_tensorflow  # noqa: E402

BUILDERS = {
    "convnexttiny": "ConvNeXtTiny",
    "densenet121": "DenseNet121",
    "efficientnetb0": "EfficientNetB0",
    "efficientnetv2b0": "EfficientNetV2B0",
    "inceptionresnetv2": "InceptionResNetV2",
    "inceptionv3": "InceptionV3",
    "mobilenet": "MobileNet",
    "mobilenetv2": "MobileNetV2",
    "mobilenetv3large": "MobileNetV3Large",
    "mobilenetv3small": "MobileNetV3Small",
    "nasnetmobile": "NASNetMobile",
    "resnet50": "ResNet50",
    "resnet50v2": "ResNet50V2",
    "vgg16": "VGG16",
    "xception": "Xception",
}
LEVELS = {"fused_none": "none", "fused": "canonical", "fused_cpu": "tensorflow-cpu"}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def write_model(model: str, size: int | None) -> Path:
    """The model file and a spec of each level for this input size, in a folder of their own."""
    document = json.loads((GALLERY / f"{model}.json").read_text())
    (fed,) = document["inputs"].values()
    resize = next(step for step in fed["preprocess"] if step["op"] == "resize")
    if size is not None:
        resize["size"] = [size, size]
    folder = BUILD / f"{model}_{resize['size'][0]}"
    folder.mkdir(parents=True, exist_ok=True)
    document["model"] = f"{model}.h5"
    for name, level in LEVELS.items():
        (folder / f"{name}.json").write_text(
            json.dumps({**document, "optimize": {"level": level}, "artifact": f"{name}.pb"})
        )
    if not (folder / document["model"]).exists():
        from tests.networks import application

        say(f"{folder.name}: making the model")
        application(BUILDERS[model], folder / document["model"], resize["size"][0], classes=1000)
    return folder


def layers_frozen(spec: Any, model: Any, base: Contender, path: Path) -> Contender:
    """The same steps as Keras and TensorFlow preprocessing, in one graph with the network, plainly frozen.

    What a user gets who gives up on the pixels of OpenCV: near them, not the same.
    """
    import keras
    import tensorflow as tf

    from pbcompile.freeze import freeze_plainly

    (item,) = spec.inputs

    def program(frame: tf.Tensor) -> list[tf.Tensor]:
        x = tf.cast(frame, tf.float32)
        for step in item.preprocess:
            if step.op == "resize":
                x = keras.layers.Resizing(*step.size)(x)
            elif step.op == "convert_color":
                x = tf.reverse(x, [-1])
            elif step.op == "subtract_mean":
                x = x - tf.constant(step.mean, tf.float32)
            else:
                x = keras.src.applications.imagenet_utils.preprocess_input(x, "channels_last", step.mode)
        given = model.call({model.inputs[0].name: x})
        return [given[tensor.name] for tensor in model.outputs]

    concrete = tf.function(program).get_concrete_function(tf.TensorSpec([None, None, None, 3], tf.uint8))
    graph_def, inputs, outputs = freeze_plainly(concrete)
    path.write_bytes(graph_def.SerializeToString())
    names = {"probabilities": outputs[0]}
    return replace(base, kind="pb", file=path, inputs={item.name: inputs[0]}, outputs=names)


def contenders_of(folder: Path, threads: int, peers: list[str]) -> tuple[dict[str, Contender], dict[str, str]]:
    """Every program for one model, with its files written; and one sentence for each that cannot take part."""
    from pbcompile.bench.feeds import bench_image
    from pbcompile.bench.prepare import network_contenders, preprocess_contender
    from pbcompile.pipeline import build
    from pbcompile.spec import load_spec
    from pbcompile.stages import Stages

    for old in folder.glob("network.*"):
        old.unlink()
    fused, made = {}, None
    for name, level in LEVELS.items():
        say(f"{folder.name}: compiling, level {level}")
        spec = load_spec(folder / f"{name}.json")
        base = Contender("pb", spec.path, bench_image(spec, folder), threads)
        built = build(spec, Stages(None))
        spec.artifact.write_bytes(built.data)
        fused[name] = replace(base, file=spec.artifact)
        if level == "canonical":
            made, canonical = built, base
    assert made is not None  # canonical is one of the levels
    say(f"{folder.name}: converting for {', '.join(peers) or 'no peer'}")
    networks, skipped = network_contenders(made.model, peers, canonical, folder)
    return {
        "unfused_predict": replace(canonical, kind="predict"),
        "unfused_function": replace(canonical, kind="function"),
        "unfused_frozen": networks.pop("unfused_frozen"),
        "layers_frozen": layers_frozen(made.plan.spec, made.model, canonical, folder / "layers.pb"),
        **fused,
        "fused_preprocess_only": preprocess_contender(made, canonical, folder),
        **networks,
    }, skipped


def measure_model(folder: Path, arguments: argparse.Namespace, peers: list[str]) -> dict[str, Any]:
    """The report of one model, as JSON."""
    from pbcompile.bench.benchmark import BenchReport, compare_answers, run_contenders
    from pbcompile.bench.rounds import Settings

    threads = arguments.threads or available_cpus()
    contenders, skipped = contenders_of(folder, threads, peers)
    contenders = {name: found for name, found in contenders.items() if name not in arguments.without}
    about = environment(threads)
    seen: list[str] = []

    def progress(what: str, done: int, total: int) -> None:
        if what not in seen or what.startswith("start"):
            seen.append(what)
            say(f"{folder.name}: {what} ({done} of {total} s)")

    settings = Settings(arguments.seconds, arguments.processes, arguments.batch)
    with tempfile.TemporaryDirectory() as name:
        records, failed = run_contenders(contenders, settings, Path(name), progress, ["fused"])
        differences = compare_answers(Path(name), list(records))
    about["load_after"] = round(load(), 2)
    said = {
        "artifact": folder.name,
        "level": "canonical for fused",
        "seconds": arguments.seconds,
        "processes": arguments.processes,
        "threads": threads,
        "grappler": True,
        "image": "built-in frame",
        "feeds": {"image": {"dtype": "uint8", "shape": [1, 480, 640, 3]}},
    }
    return BenchReport(records, skipped | failed, differences, about, said).as_json()


def summary(reports: dict[str, Any]) -> list[str]:
    """One column a model: how many times longer than the .pb of level canonical / of level tensorflow-cpu."""
    names = list(dict.fromkeys(name for report in reports.values() for name in report["ratios"]))
    rows = [["times fused / fused_cpu", *reports]]
    for name in names:
        row = [name]
        for report in reports.values():
            ratios, cpu = report["ratios"], report["ratios"].get("fused_cpu")
            both = [ratios[name], *([ratios[name] / cpu] if cpu else [])] if name in ratios else []
            row.append(" / ".join(f"{ratio:.2f}" for ratio in both))
        rows.append(row)
    return columns(rows)


def smallest(reports: dict[str, Any]) -> list[str]:
    """The smallest time of each program, in ms: what a disturbed machine says best."""
    names = list(dict.fromkeys(name for report in reports.values() for name in report["variants"]))
    rows = [["smallest ms", *reports]]
    for name in names:
        variants = [report["variants"].get(name) for report in reports.values()]
        rows.append([name, *(number(variant["min_ms"]) if variant else "" for variant in variants)])
    return columns(rows)


def plot(reports: dict[str, Any], path: Path) -> None:
    """Medians with their intervals, and throughput, one row a model."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(reports), 2, figsize=(12, 4 * len(reports)), squeeze=False)
    for (left, right), (model, report) in zip(axes, reports.items(), strict=True):
        names = list(report["ratios"])[::-1]
        variants = [report["variants"][name] for name in names]
        medians = [variant["p50_ms"] for variant in variants]
        low = [max(0.0, v["p50_ms"] - v["interval_ms"][0]) for v in variants]
        high = [max(0.0, v["interval_ms"][1] - v["p50_ms"]) for v in variants]
        colours = ["tab:green" if name.startswith("fused") else "tab:gray" for name in names]
        left.barh(names, medians, xerr=[low, high], color=colours, ecolor="black", capsize=3)
        for index, (median, more) in enumerate(zip(medians, high, strict=True)):
            left.text(median + more, index, f"  {number(median)}", va="center")
        left.set_xlim(right=1.15 * max(median + more for median, more in zip(medians, high, strict=True)))
        left.set_title(f"{model}: ms for a frame, median and its interval")
        batches = list(dict.fromkeys(batch for variant in variants for batch in variant["throughput"]))
        for position, batch in enumerate(batches):
            height = 0.8 / len(batches)
            at = [index + 0.4 - height * (position + 0.5) for index in range(len(names))]
            right.barh(at, [v["throughput"].get(batch, 0) for v in variants], height, label=f"{batch} at once")
        right.set_yticks(range(len(names)), names)
        right.set_title("frames in a second")
        if batches:
            right.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=BUILDERS, default=["mobilenetv2", "resnet50"])
    parser.add_argument("--sizes", nargs="+", type=int, help="input sizes instead of the family's own")
    parser.add_argument("--seconds", type=float, default=60.0, help="the most that is measured for each model")
    parser.add_argument("--processes", type=int, default=2, help="fresh processes for each program")
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8, 32], help="sizes to take the throughput at")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--without", nargs="+", default=[], metavar="NAME", help="programs to leave out")
    parser.add_argument("--json", type=Path, help="write all figures here; models that stand there are kept")
    parser.add_argument("--plot", type=Path, help="write a picture here (needs matplotlib)")
    parser.add_argument("--render", type=Path, help="print an earlier --json again, and measure nothing")
    arguments = parser.parse_args()
    reports: dict[str, Any] = {}
    kept = arguments.render or arguments.json
    if kept and kept.exists():
        reports = json.loads(kept.read_text())
    if not arguments.render:
        import_tensorflow()
        for peer in PEERS:
            if why := why_missing(peer):
                say(f"{peer} takes no part: {why}")
        peers = [peer for peer in PEERS if why_missing(peer) is None and peer not in arguments.without]
        for model in arguments.models:
            for size in arguments.sizes or [None]:
                folder = write_model(model, size)
                reports[folder.name] = measure_model(folder, arguments, peers)
                print(render(reports[folder.name]), flush=True)
                if arguments.json:  # after every model, so that a stopped run keeps what it has
                    arguments.json.write_text(json.dumps(reports, indent=1, allow_nan=False) + "\n")
    else:
        print("\n\n".join(render(report) for report in reports.values()))
    print("\n" + "\n".join([*summary(reports), "", *smallest(reports)]))
    if arguments.plot:
        plot(reports, arguments.plot)


if __name__ == "__main__":
    main()
