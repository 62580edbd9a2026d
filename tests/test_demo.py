"""The digit reader of `make demo`: what the README prints of it is what it does."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pbcompile

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "specs" / "digits"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """The scans, and the answers of the demo's programs to them."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DIGITS)
        import demo
        import scans

        patch.setattr(
            demo, "PB", pbcompile.compile_spec(DIGITS / "spec.json", folder / "digits.pb", verify=False).artifact
        )
        made = scans.make_scans(held_out=True, per_digit=1, seed=2026)
        yield made, demo.read_all(made)
    for name in ("demo", "scans"):
        sys.modules.pop(name, None)


def test_the_artifact_reads_every_scan_as_the_original_does(measured: tuple[Any, Any]) -> None:
    scans, (trained, fused, *_) = measured
    assert fused.changed(trained) == 0
    # Five convolutions of at most 9 * 64 products and a softmax in another order of float32 sums.
    assert fused.off_by(trained, scans) <= 2e-5


def test_the_readme_prints_the_figures_of_this_run(measured: tuple[Any, Any]) -> None:
    """To two scans of 500: other versions of the libraries may decide a close one differently."""
    scans, answers = measured
    readme = (ROOT / "README.md").read_text()
    for given in answers:
        (row,) = re.findall(rf"^ +{re.escape(given.program)} +(\S+)% +(\S+)% +(\S+)% +(\d+)", readme, re.MULTILINE)
        said = np.array(row, float)
        now = [100 * given.right(scans, which) for which in (None, False, True)] + [given.changed(answers[0])]
        np.testing.assert_array_less(np.abs(said - now), [0.5, 0.6, 2.1, 2.1], err_msg=given.program)


def test_the_scans_are_the_same_every_time() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DIGITS)
        import scans

        ink, labels = scans.digits(held_out=True)
        first, again = ([scans.make_scan(ink[i], int(labels[i]), i, seed=3) for i in range(7)] for _ in range(2))
    assert first == again
    assert [scan.orientation for scan in first].count(1) == 6
