"""The promises on real data: the committed `camvid` weights on CamVid val."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeunet.bundle.bundle import open_bundle
from edgeunet.catalogue import find_weights
from edgeunet.data.datasets import open_dataset, read_labels
from edgeunet.data.fit import Fit
from edgeunet.exporting import ExportOptions, export_bundle
from edgeunet.metrics import confusion_matrix, mean_iou
from edgeunet.models.checkpoints import read_card
from edgeunet.parity import ParityReport, measure
from edgeunet.runtime.run import run
from edgeunet.runtime.sources.labelled import labelled_frames
from support.media import read_mask_png

pytestmark = [pytest.mark.data, pytest.mark.slow(seconds=130)]


def test_weights_keep_what_their_card_and_design_promise(camvid: Path, tmp_path: Path) -> None:
    """One test, so that one worker makes the export, which takes minutes."""
    bundle = tmp_path / "bundle"
    options = ExportOptions("mobile_unet", "camvid", "int8", calib=camvid)
    exported = export_bundle(bundle, options)  # with the graphs for TensorRT, on its golden frames
    assert exported.first_failure is None, exported.table()
    opened = open_bundle(bundle)
    samples = labelled_frames(camvid, num_classes=11, fit=Fit(opened.manifest.input))
    report, _ = measure(opened, samples, data="camvid")
    check_reference(report)
    for stage, agreement, drop in (
        ("fp32", 0.9999, 0.05),
        ("fp16", 0.999, 0.05),
        ("int8", 0.99, 0.5),
    ):
        found = next(entry for entry in report.stages if entry.name == stage)
        assert found.agreement >= agreement, stage
        assert found.drop <= drop, stage
    check_video(bundle, report, camvid, tmp_path)


def check_reference(report: ParityReport) -> None:
    """PyTorch reaches 67 points, and what the card claims."""
    card = read_card(find_weights("mobile_unet", "camvid"))
    assert report.frames == 101
    assert report.reference_miou >= 67.0
    # The card's figure was taken under BF16 autocast, the report's in FP32.
    assert report.reference_miou == pytest.approx(card.metrics["miou"], abs=0.2)


def check_video(bundle: Path, report: ParityReport, camvid: Path, tmp_path: Path) -> None:
    """Masks of the video score as those of the images do."""
    summary = run(bundle, camvid / "val.mp4", str(tmp_path / "masks"))
    files = sorted((tmp_path / "masks").glob("[!.]*"))
    assert summary.frames == 101
    assert [path.name for path in files] == [f"{index:06d}.png" for index in range(101)]
    confusion = np.zeros((11, 11), np.int64)
    for path, sample in zip(files, open_dataset(camvid).samples("val"), strict=True):
        mask = read_mask_png(path)
        truth = read_labels(sample, num_classes=11)
        confusion += confusion_matrix(truth, mask, num_classes=11)
    assert 100 * mean_iou(confusion) == pytest.approx(report.candidate.miou, abs=1.0)
