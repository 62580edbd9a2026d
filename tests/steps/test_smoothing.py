"""Blur against cv2.GaussianBlur."""

from __future__ import annotations

import pytest

from pbcompile.errors import SpecError
from pbcompile.reference.smoothing import REFERENCE
from pbcompile.steps.smoothing import Blur
from pbcompile.tensor_type import TensorType
from tests.steps.differential import CONTENTS, Differential, picture

differential = Differential(REFERENCE)


@pytest.mark.parametrize(
    "step",
    [Blur(size=n) for n in (1, 3, 5, 7, 9, 11, 31)]
    + [Blur(sigma=s) for s in (0.5, 0.8, 1.0, 1.7, 4.2)]
    + [Blur(size=(3, 9)), Blur(size=(1, 5), sigma=0.6), Blur(size=(15, 3), sigma=2.0), Blur(size=21, sigma=5.0)],
    ids=str,
)
def test_blur_gives_the_pixels_of_opencv(step: Blur) -> None:
    for index, size in enumerate(((40, 53), (5, 4), (1, 9), (9, 1), (1, 1), (2, 30))):
        differential.check(step, picture(CONTENTS[index], (1 + index % 2, *size, (1, 3, 4)[index % 3])))


@pytest.mark.parametrize(
    ("step", "dtype", "message"),
    [
        (Blur(), "uint8", '"size" or "sigma"'),
        (Blur(size=4), "uint8", "odd, not 4"),
        (Blur(size=3), "float32", "takes uint8"),
    ],
)
def test_what_is_wrong(step: Blur, dtype: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        step.check(TensorType(dtype, (None, 8, 8, 3), "NHWC", "RGB"))
