"""What a bundle says of the frames that it was made with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.statistics import statistics_of
from edgeunet.exporting import ExportOptions, export_bundle
from edgeunet.models.checkpoints import Checkpoint, save_checkpoint


def test_bundle_says_what_its_frames_were_like(fp32_bundle: Path) -> None:
    bundle = open_bundle(fp32_bundle)
    found, golden = bundle.manifest.frames, statistics_of(bundle.golden().frames)
    assert found is not None
    for wide, narrow in zip(
        found.mean + found.deviation, golden.mean + golden.deviation, strict=True
    ):
        assert wide[0] <= narrow[0] <= narrow[1] <= wide[1]


def test_procedural_frames_do_not_speak_for_other_data(checkpoint: Path, tmp_path: Path) -> None:
    opened = Checkpoint.open(checkpoint)
    save_checkpoint(tmp_path / "mine.safetensors", opened.net, replace(opened.card, data="mine"))
    options = ExportOptions("mobile_unet", str(tmp_path / "mine.safetensors"))
    export_bundle(tmp_path / "bundle", options)
    assert open_bundle(tmp_path / "bundle").manifest.frames is None
