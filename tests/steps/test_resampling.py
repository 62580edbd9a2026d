"""Resizing against the libraries: 0 differing values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbcompile.errors import SpecError
from pbcompile.reference.resampling import REFERENCE
from pbcompile.steps.resampling import METHODS, Resize
from pbcompile.tensor_type import TensorType
from tests.steps.differential import CONTENTS, Differential, picture

differential = Differential(REFERENCE)

SIDES = st.one_of(st.integers(1, 12), st.integers(1, 200))
TARGETS = ((1, 1), (7, 5), (224, 224), (96, 31), (30, 150))


def cases(examples: int):
    """Random sizes, contents, channels and batches."""
    return lambda test: settings(max_examples=examples, deadline=None, derandomize=True)(
        given(
            height=SIDES,
            width=SIDES,
            target=st.one_of(st.sampled_from(TARGETS), st.tuples(st.integers(1, 40), st.integers(1, 40))),
            content=st.sampled_from(CONTENTS),
            channels=st.sampled_from((1, 3, 4)),
            batch=st.sampled_from((1, 1, 2)),
        )(test)
    )


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("method", METHODS["opencv"])
def test_resize_like_opencv_gives_its_pixels(method: str, dtype: str) -> None:
    @cases(60)
    def check(height, width, target, content, channels, batch):
        x = picture(content, (batch, height, width, channels), dtype)
        # float32: IPP and OpenCV's own loops round differently at their edges
        differential.check(Resize(size=target, method=method, like="opencv"), x, ulps=4 if dtype == "float32" else 0)

    check()
