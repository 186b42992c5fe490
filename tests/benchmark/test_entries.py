"""What takes part."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeunet.benchmark import entries
from edgeunet.benchmark.entries import Entry, entries_of, peer_called
from edgeunet.bundle.bundle import open_bundle
from edgeunet.runtime.backends.candidates import Candidate
from edgeunet.runtime.options import LoadOptions, Tiling

ONE = LoadOptions(threads=1)


def test_every_precision_at_every_depth(depths_bundle: Path) -> None:
    found = list(entries_of(open_bundle(depths_bundle), ONE))
    ours = [e for e in found if e.candidate == Candidate("onnxruntime", "fp32")]
    assert [entry.depth for entry in ours] == [3, 2, 1], "the deepest first"
    assert [e.bundle.manifest.arguments["depth"] for e in ours] == [3, 2, 1]
    assert ours[0].name == "onnxruntime FP32"


def test_a_named_precision_is_the_only_one(int8_bundle: Path) -> None:
    found = entries_of(open_bundle(int8_bundle), replace(ONE, precision="int8"))
    assert {entry.precision for entry in found} == {"int8"}


def test_tensorrt_takes_part_on_a_gpu(int8_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = open_bundle(int8_bundle)
    assert not any(e.name.startswith("tensorrt") for e in entries_of(bundle, ONE))
    monkeypatch.setattr(entries, "has_gpu", lambda: True)
    monkeypatch.setattr(entries, "is_installed", lambda name: name == "tensorrt")
    names = [entry.name for entry in entries_of(bundle, ONE)]
    assert [name for name in names if "rtx" in name] == []
    assert [n for n in names if n.startswith("tensorrt")] == [
        "tensorrt FP32", "tensorrt FP16", "tensorrt INT8",
    ]  # fmt: skip


def test_providers_of_this_machine_take_part(
    fp32_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeunet.runtime.backends.providers.usable_providers", lambda: ["cuda"])
    found = entries_of(open_bundle(fp32_bundle), ONE)
    assert "onnxruntime cuda FP32" in [entry.name for entry in found]


def test_an_entry_opens_whole_or_in_tiles(fp32_bundle: Path) -> None:
    bundle = open_bundle(fp32_bundle)
    whole = Entry(bundle, ONE, Candidate("onnxruntime", "fp32"))
    tiled = replace(whole, options=replace(ONE, tiling=Tiling(overlap=0.0)))
    frame = np.tile(bundle.golden().frames[0], (2, 1, 1))
    with whole.open() as segmenter:
        assert not segmenter.backend.tiles
        assert segmenter.self_check() > 0.999
    with tiled.open() as segmenter:
        assert segmenter.backend.tiles
        assert segmenter([frame]).masks.shape == (1, 128, 96)
        assert segmenter.self_check() > 0.999


def test_peers_are_called_by_their_names() -> None:
    assert peer_called("MNN").install == "pip install MNN"
