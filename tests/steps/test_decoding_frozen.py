"""The decoder inside an artifact: its loops and branches as plain nodes, in a session of another process."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pbcompile.freeze import freeze
from pbcompile.gate import head_of
from pbcompile.graft import graft_preprocessing
from pbcompile.reference.decoding import decode as reference
from pbcompile.session import Artifact
from pbcompile.spec import load_spec
from tests.steps.image_files import bitmaps, gifs, jpegs, pngs
from tests.steps.odd_files import animated_png, cmyk_jpegs, odd_bitmaps, odd_gifs, odd_pngs

FILES = [
    jpegs()["restart markers"],
    cmyk_jpegs()["YCCK, subsampling 1, progressive"],
    cmyk_jpegs()["CMYK behind a profile, subsampling 0"],
    pngs()["interlaced"],
    odd_pngs()["colour 0, 16 bit, 21x34"],
    animated_png(3),
    bitmaps()["24 bit"],
    odd_bitmaps()["565"],
    odd_bitmaps()["runs of 4 bit, 1, wild, 9x64"],
    gifs()["three frames"],
    odd_gifs()["comments"],
]


@pytest.mark.parametrize(("channels", "like"), [("BGR", "opencv"), ("GRAY", "opencv"), ("RGB", "pillow")])
def test_a_frozen_decoder_reads_every_kind_of_file(tmp_path, channels: str, like: str) -> None:
    item = {"kind": "encoded", "channels": channels, "like": like}
    (tmp_path / "spec.json").write_text(json.dumps({"version": 1, "model": "none.h5", "inputs": {"x": item}}))
    spec = load_spec(tmp_path / "spec.json")
    tap = spec.taps[0].node
    frozen = freeze(graft_preprocessing(spec), ["x"], [tap])
    (tmp_path / "head.pb").write_bytes(head_of(spec, frozen))
    head = Artifact(tmp_path / "head.pb", ["x"])
    try:
        for data in FILES:
            got = head.run({"x": data}, [tap])[tap]
            np.testing.assert_array_equal(got, reference(data, channels, spec.inputs[0].exif, like))
    finally:
        head.close()
