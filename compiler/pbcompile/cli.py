"""The command line: the only place that prints or exits.  Heavy modules are imported by the command that needs them."""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from pbcompile.arguments import DefaultToCompile, WordLists
from pbcompile.bars import counting, progress_of
from pbcompile.errors import EXIT_BUG, EXIT_DONE, EXIT_NO, EXIT_SPEC, ParityError, PbcompileError, Problem
from pbcompile.rendering import (
    answer_lines,
    begun_lines,
    compiled_lines,
    difference_lines,
    explained,
    gate_lines,
    inspected_lines,
    pipeline_lines,
    preview_lines,
)
from pbcompile.version import __version__

if TYPE_CHECKING:
    from pbcompile.report import Page

EXIT_STOPPED = 130
"""What shells say for Ctrl-C."""

as_json = click.option(
    "--json", "use_json", is_flag=True, help="Print one JSON object on stdout and nothing else there."
)

as_page = click.option(
    "--report", "page_path", type=click.Path(path_type=Path), metavar="FILE.html",
    help="Write what was found as one self-contained page, also when the answer is no.",
)  # fmt: skip


@click.group(cls=DefaultToCompile, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="pbcompile")
def cli() -> None:
    """Compile a Keras image model and its preprocessing into one self-contained TensorFlow .pb.

    `pbcompile SPEC` is short for `pbcompile compile SPEC`.
    """


@cli.command("compile")
@click.argument("spec", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to write, instead of the spec's artifact.")
@click.option("--no-verify", is_flag=True, help="Write without proving the artifact first.")
@as_page
@as_json
def compile_command(spec: Path, output: Path | None, no_verify: bool, page_path: Path | None, use_json: bool) -> None:
    """Compile SPEC, prove the artifact against the original, then write it."""
    from pbcompile.check import check_spec
    from pbcompile.report import Page
    from pbcompile.spec import load_spec

    loaded = load_spec(spec)
    checked = check_spec(loaded, needs_model=True)  # before TensorFlow starts: what the files alone say is told at once
    page = Page("compile", loaded, checked, page_path, output)
    with _paged(page, use_json), progress_of("compiling") as progress:
        progress("start TensorFlow", 0, 1)
        import_tensorflow()
        progress("start TensorFlow", 1, 1)
        from pbcompile.pipeline import compile_spec

        result = compile_spec(loaded, output, verify=not no_verify, progress=progress, witness=page.see)
    for warning in result.made.warnings:
        click.echo(f"warning: {warning.render()}", err=True)
    report = result.as_json() | page.as_json()
    _show(report, compiled_lines, use_json)
    _tell_page(page, use_json)


@cli.command("check")
@click.argument("spec", type=click.Path(path_type=Path))
@as_json
def check_command(spec: Path, use_json: bool) -> None:
    """Validate SPEC and print its pipeline with the shape and dtype after every step."""
    from pbcompile.check import check_spec
    from pbcompile.spec import load_spec

    report = check_spec(load_spec(spec))
    _show(report, pipeline_lines, use_json)


@cli.command("verify")
@click.argument("spec", type=click.Path(path_type=Path))
@click.option("--pb", type=click.Path(path_type=Path), help="The artifact, instead of the spec's.")
@click.option("--images", help="Images to compare on, instead of the spec's: a file, a folder or a glob.")
@as_page
@as_json
def verify_command(spec: Path, pb: Path | None, images: str | None, page_path: Path | None, use_json: bool) -> None:
    """Compare a written artifact with the original model behind the real OpenCV and Pillow."""
    from dataclasses import replace

    from pbcompile.check import check_spec
    from pbcompile.report import Page
    from pbcompile.spec import load_spec

    loaded = load_spec(spec)
    if images is not None:
        loaded = replace(loaded, verify=replace(loaded.verify, images=str(Path(images).absolute())))
    page = Page("verify", loaded, check_spec(loaded, needs_model=True), page_path, pb or loaded.artifact)
    with _paged(page, use_json), progress_of("verifying") as progress:
        progress("start TensorFlow", 0, 1)
        import_tensorflow()
        progress("start TensorFlow", 1, 1)
        from pbcompile.pipeline import verify_spec

        found = verify_spec(loaded, pb, progress=progress, witness=page.see)
    report = found.as_json() | page.as_json()
    if use_json:
        if not found.passed:
            report["error"] = _error_json(EXIT_NO, found.problems)
        _print_json(report)
    else:
        _echo(gate_lines(report))
        for problem in found.problems:
            click.echo(problem.render(), err=True)
        _tell_page(page, use_json)
    if not found.passed:
        sys.exit(EXIT_NO)


@cli.command("preview")
@click.argument("spec", type=click.Path(path_type=Path))
@click.argument("image", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The PNG to write.")
@click.option("--input", "name", help="Which input to look at, where the spec has several.")
@as_json
def preview_command(spec: Path, image: Path, output: Path, name: str | None, use_json: bool) -> None:
    """Show what IMAGE looks like after every step of SPEC, in the graph and by the real library."""
    from pbcompile.spec import load_spec

    loaded = load_spec(spec)
    import_tensorflow()
    from pbcompile.artifact import write_atomically
    from pbcompile.preview import preview

    with loaded.text.locating():
        picture, steps = preview(loaded, image, name)
    write_atomically(output, picture)
    report = {"preview": str(output), "steps": steps}
    _show(report, lambda report: preview_lines(report["steps"], report["preview"]), use_json)


@cli.command("inspect")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--verify-hash", "models", metavar="MODEL", multiple=True, type=click.Path(path_type=Path),
              help="Exit 1 unless FILE was made of MODEL; give an architecture's weights likewise.")  # fmt: skip
@as_json
def inspect_command(file: Path, models: tuple[Path, ...], use_json: bool) -> None:
    """Show inputs, outputs, ops, size and the embedded contract of a .pb.  Runs nothing."""
    import_tensorflow()
    from pbcompile.inspection import inspect_artifact

    report = inspect_artifact(file, models)
    _show(report, inspected_lines, use_json)


@cli.command("bench", cls=WordLists)
@click.argument("spec", type=click.Path(path_type=Path))
@click.option("--pb", type=click.Path(path_type=Path), help="The artifact, instead of the spec's.")
@click.option("--against", multiple=True, metavar="NAME...", help="Other runtimes: openvino, onnxruntime, litert, ...")
@click.option("--batch", "batches", multiple=True, type=click.IntRange(1), metavar="N...", default=(1, 8),
              show_default=True, help="How many images at once, for the throughput.")  # fmt: skip
@click.option("--threads", type=click.IntRange(1), help="For every program alike; all CPUs where left out.")
@click.option("--seconds", type=click.FloatRange(1), default=60.0, show_default=True, help="The most that is measured.")
@click.option("--grappler", type=click.Choice(("on", "off")), default="on", show_default=True,
              help="Whether TensorFlow may optimize graphs as it loads them.")  # fmt: skip
@as_page
@as_json
def bench_command(
    spec: Path,
    pb: Path | None,
    against: tuple[str, ...],
    batches: tuple[int, ...],
    threads: int | None,
    seconds: float,
    grappler: str,
    page_path: Path | None,
    use_json: bool,
) -> None:
    """Time the artifact of SPEC against the programs that it replaces, each in a process of its own."""
    from pbcompile.check import check_spec
    from pbcompile.report import Page
    from pbcompile.spec import load_spec

    loaded = load_spec(spec)
    page = Page("bench", loaded, check_spec(loaded, needs_model=True), page_path, pb)
    with _paged(page, use_json), progress_of("measuring") as progress:
        progress("start TensorFlow", 0, 1)
        import_tensorflow()
        progress("start TensorFlow", 1, 1)
        from pbcompile.bench.benchmark import bench_spec
        from pbcompile.bench.table import render

        found = bench_spec(
            loaded, pb, against=against, batches=batches, seconds=seconds, threads=threads,
            grappler=grappler == "on", progress=progress, witness=page.see,
        )  # fmt: skip
        page.timed = found.as_json()
    report = found.as_json() | page.as_json()
    if use_json:
        _print_json(report)
    else:
        click.echo(render(report))
    _tell_page(page, use_json)


@cli.command("diff")
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@as_json
def diff_command(first: Path, second: Path, use_json: bool) -> None:
    """Show what changed from FIRST to SECOND, two .pb files.  Exit code 1 when something did."""
    import_tensorflow()
    from pbcompile.difference import diff_artifacts

    report = diff_artifacts(first, second)
    _show(report, difference_lines, use_json)
    if not report["same"]:
        sys.exit(EXIT_NO)


@cli.command("schema")
@as_json
def schema_command(use_json: bool) -> None:
    """Print the JSON Schema of a spec."""
    from pbcompile.spec import assemble_schema

    click.echo(json.dumps(assemble_schema(), indent=None if use_json else 2))


def _complete_topic(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    from pbcompile.manual.pages import topics

    return [topic for topic in topics() if topic.startswith(incomplete)]


@cli.command("help")
@click.argument("topic", required=False, shell_complete=_complete_topic)
@as_json
def help_command(topic: str | None, use_json: bool) -> None:
    """Explain TOPIC: a step of the spec, an error code, or a command.  Without one, list them."""
    from pbcompile.manual.codes import CODES
    from pbcompile.manual.pages import all_steps, page_lines, page_of

    command = cli.commands.get(topic or "")
    if command is not None:
        click.echo(command.get_help(click.Context(command, info_name=f"pbcompile {topic}")))
        return
    if topic is None:
        report: dict[str, Any] = {"steps": list(all_steps()), "codes": list(CODES), "commands": list(cli.commands)}
        _show(report, lambda found: [f"{key}: {', '.join(words)}" for key, words in found.items()], use_json)
        return
    _show(page_of(topic), page_lines, use_json)


@cli.command("completion")
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion_command(shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    bash:  eval "$(pbcompile completion bash)"                 in ~/.bashrc
    zsh:   eval "$(pbcompile completion zsh)"                  in ~/.zshrc
    fish:  pbcompile completion fish > ~/.config/fish/completions/pbcompile.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click completes no {shell}")
    script = kind(cli, {}, "pbcompile", "_PBCOMPILE_COMPLETE")
    click.echo(script.source_template % script.source_vars())  # source() would start bash to ask its version


@cli.command("init")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--from", "config", metavar="FILE", help="A preprocessing config to import, or the words themselves: "
              "Hugging Face, timm, torchvision, KerasHub, TFLite, OpenVINO, a preprocess_input.")  # fmt: skip
@click.option("--weights", type=click.Path(path_type=Path), help="The weights of a .json architecture.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The spec to write; left out, MODEL.json here.")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing; take the defaults and say what they were.")
@click.option("--force", is_flag=True, help="Write over an existing spec.")
@as_json
def init_command(
    model: Path, config: str | None, weights: Path | None, output: Path | None, yes: bool, force: bool, use_json: bool
) -> None:
    """Write a first spec for MODEL: what its file says, and what you must decide."""
    from pbcompile.start.begin import begin, spec_path

    target = spec_path(model, output)
    asks = sys.stdin.isatty() and sys.stderr.isatty() and not yes and not use_json
    if target.exists() and not force and asks:
        force = click.confirm(f"{target} exists; write over it?", err=True)
    if model.is_dir():
        import_tensorflow()
    report = begin(model, target, config, weights=weights, force=force, ask=_ask if asks else None)
    _show(report, begun_lines, use_json)


def _ask(question: str, choices: Mapping[str, str], default: str) -> str:
    """One of `choices` by its number, from the person at the terminal."""
    keys = list(choices)
    click.echo(question, err=True)
    for number, key in enumerate(keys, 1):
        click.echo(f"  {number}  {key}: {choices[key]}", err=True)
    chosen: int = click.prompt("  which", type=click.IntRange(1, len(keys)), default=keys.index(default) + 1, err=True)
    return keys[chosen - 1]


@cli.command("predict")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("inputs", nargs=-1, required=True, type=click.Path(allow_dash=True), metavar="INPUT...")
@click.option("--jsonl", is_flag=True, help="Print one JSON object per input, as soon as it is there.")
@click.option("--batch", type=click.IntRange(1), default=16, show_default=True,
              help="How many images of one size to run at once.")  # fmt: skip
@as_json
def predict_command(file: Path, inputs: tuple[str, ...], jsonl: bool, batch: int, use_json: bool) -> None:
    """Run FILE on images, folders of images, .npy arrays, or - for stdin.

    With several inputs in the artifact, give one as NAME=PATH for each of them.  An input that cannot be read is
    reported, and the others go on.
    """
    from pbcompile.artifact import read_file

    read_file(file)  # a missing file is told before TensorFlow starts
    import_tensorflow()
    from pbcompile.predict import Predictor

    predictor = Predictor(file, sys.stdin.buffer if "-" in " ".join(inputs) else None)
    jobs = predictor.jobs(inputs)
    problems: list[Problem] = []
    separator = '{"results": ['
    with counting(len(jobs)) as advance:
        for answer in predictor.answers(jobs, batch):
            advance()
            problems += answer.problems
            if not use_json:
                for problem in answer.problems:
                    click.echo(problem.render(), err=True)
            if jsonl and not use_json:
                said = {"error": _error_json(EXIT_SPEC, answer.problems)} if answer.problems else answer.as_json()
                _print_json({"input": answer.input, **said})
            elif use_json and not answer.problems:
                text = json.dumps(answer.as_json(), ensure_ascii=False, allow_nan=False)
                click.echo(separator + text, nl=False)
                separator = ", "
            elif not answer.problems:
                _echo(answer_lines(answer.input, answer.outputs))
    if use_json:
        error = ""
        if problems:
            error = ', "error": ' + json.dumps(_error_json(EXIT_SPEC, problems), ensure_ascii=False)
        click.echo(("" if separator == ", " else separator) + "]" + error + "}")
    if problems:
        sys.exit(EXIT_SPEC)


def import_tensorflow() -> None:
    """Import TensorFlow without its log on the terminal, unless the user asked for it.

    Some lines are written before any level counts, so stderr itself is held back meanwhile; if the import fails, what
    was written is shown.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") in ("0", "1"):
        return
    for name in ("absl", "tensorflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            import keras  # noqa: F401 - it brings TensorFlow, and lines of its own
            import tensorflow  # noqa: F401
        except ImportError:
            os.lseek(held.fileno(), 0, os.SEEK_SET)
            os.write(terminal, held.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


# ---- JSON, errors and exit codes ------------------------------------------------------------------------------------


def _show(report: Mapping[str, Any], lines: Callable[[Mapping[str, Any]], list[str]], use_json: bool) -> None:
    """The report as JSON for programs, or as lines for people."""
    if use_json:
        _print_json(report)
    else:
        _echo(lines(report))


def _echo(lines: list[str]) -> None:
    click.echo("\n".join(lines))


def _print_json(report: Mapping[str, Any]) -> None:
    click.echo(json.dumps(report, ensure_ascii=False, allow_nan=False, default=str))


@contextmanager
def _paged(page: Page, use_json: bool) -> Iterator[None]:
    """Write the page when the work is done, or when the gate has said no."""
    try:
        yield
    except ParityError as error:
        page.write()
        if use_json and page.path:
            _print_json({"error": _error_json(error.exit_code, error.problems)} | page.as_json())
            sys.exit(error.exit_code)
        _tell_page(page, use_json)
        raise
    page.write()


def _tell_page(page: Page, use_json: bool) -> None:
    if page.path and not use_json:
        click.echo(f"report: {page.path}", err=True)


def _error_json(code: int, problems: tuple[Problem, ...] | list[Problem]) -> dict[str, Any]:
    listed = [problem.as_json() for problem in problems]
    return {"code": problems[0].code, "message": problems[0].message, "exit_code": code, "problems": listed}


def _fail(code: int, problems: tuple[Problem, ...], use_json: bool) -> NoReturn:
    if use_json:
        _print_json({"error": _error_json(code, problems)})
    else:
        click.echo("\n".join(problem.render() for problem in problems), err=True)
        if code != EXIT_STOPPED:
            click.echo(explained(problems), err=True)
    sys.exit(code)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with a code of the contract."""
    arguments = sys.argv[1:] if arguments is None else arguments
    use_json = "--json" in arguments
    try:
        cli.main(arguments, prog_name="pbcompile", standalone_mode=False)
        sys.exit(EXIT_DONE)
    except PbcompileError as error:
        _fail(error.exit_code, error.problems, use_json)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        _fail(EXIT_SPEC, (Problem("call-invalid", error.format_message(), hint="pbcompile --help"),), use_json)
    except (KeyboardInterrupt, click.Abort):
        _fail(EXIT_STOPPED, (Problem("interrupted", "stopped; nothing was written"),), use_json)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_NO)
    except Exception as error:  # the last door: a bug is told as one, with its traceback
        if not use_json:
            traceback.print_exc()
        message = f"{type(error).__name__}: {error}"
        _fail(
            EXIT_BUG,
            (Problem("bug", message, hint="this is a bug in pbcompile; please report it with the spec"),),
            use_json,
        )


if __name__ == "__main__":
    main()
