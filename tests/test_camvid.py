"""The promises on real data: the committed `camvid` weights on CamVid val."""

from __future__ import annotations

from itertools import islice
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
from edgeunet.parity import measure
from edgeunet.runtime.options import DEFAULTS, LoadOptions
from edgeunet.runtime.run import run
from edgeunet.runtime.sources.labelled import labelled_frames
from support.media import read_mask_png

pytestmark = [pytest.mark.data, pytest.mark.slow(seconds=90)]

FRAMES = 101


def test_weights_keep_what_their_card_and_design_promise(camvid: Path, tmp_path: Path) -> None:
    """One test, so that one worker makes the export, which takes a minute.

    Every third frame is compared with PyTorch. The masks of the FP32 graph, which are PyTorch's,
    then tell what PyTorch reaches on all frames.
    """
    bundle = tmp_path / "bundle"
    options = ExportOptions("mobile_unet", "camvid", "int8", calib=camvid)
    exported = export_bundle(bundle, options)  # with the graphs for TensorRT, on its golden frames
    assert exported.first_failure is None, exported.table()
    opened = open_bundle(bundle)
    samples = labelled_frames(
        camvid, classes=opened.manifest.classes, fit=Fit(opened.manifest.input)
    )
    report, _ = measure(opened, islice(samples, 0, None, 3), data="camvid")
    assert report.frames == 34
    for stage, agreement, drop in (
        ("fp32", 0.9999, 0.05),
        ("fp16", 0.999, 0.05),
        ("int8", 0.99, 0.5),
    ):
        found = next(entry for entry in report.stages if entry.name == stage)
        assert found.agreement >= agreement, stage
        assert found.drop <= drop, stage
    exact = LoadOptions(precision="fp32")
    reached = miou(camvid, bundle, camvid / "val" / "images", tmp_path / "images", exact)
    assert reached >= 77.0  # they were trained on these frames, too
    card = read_card(find_weights("mobile_unet", "camvid"))
    assert card.training["with_val"] and card.metrics == {}
    film = tmp_path / "film"
    assert miou(camvid, bundle, camvid / "val.mp4", film) == pytest.approx(reached, abs=1.0)
    names = [path.name for path in sorted(film.glob("[!.]*"))]
    assert names == [f"{index:06d}.png" for index in range(FRAMES)]


def miou(
    camvid: Path, bundle: Path, frames: Path, output: Path, options: LoadOptions = DEFAULTS
) -> float:
    """Points of the masks that `run` writes of the validation frames."""
    summary = run(bundle, frames, str(output), options=options)
    assert summary.frames == FRAMES
    confusion = np.zeros((11, 11), np.int64)
    files = sorted(output.glob("[!.]*"))
    for path, sample in zip(files, open_dataset(camvid).samples("val"), strict=True):
        mask = read_mask_png(path)
        truth = read_labels(sample, num_classes=11)
        confusion += confusion_matrix(truth, mask, num_classes=11)
    return 100 * mean_iou(confusion)
