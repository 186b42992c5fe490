"""The promises on real data: the committed `camvid` weights on CamVid val."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgeunet.data.datasets import open_dataset, read_labels
from edgeunet.export import ExportOptions, export_bundle
from edgeunet.metrics import confusion_matrix, mean_iou
from edgeunet.models.checkpoints import find_weights, read_card
from edgeunet.parity import ParityReport
from edgeunet.runtime.run import run
from support.media import read_mask_png

# One worker: the export takes minutes.
pytestmark = [pytest.mark.data, pytest.mark.slow, pytest.mark.xdist_group("camvid")]


@pytest.fixture(scope="module")
def exported(camvid: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ParityReport]:
    bundle = tmp_path_factory.mktemp("camvid") / "bundle"
    options = ExportOptions("mobile_unet", "camvid", "int8", calib=camvid, data=camvid)
    return bundle, export_bundle(bundle, options)


def test_weights_reach_67_points_and_what_their_card_claims(
    exported: tuple[Path, ParityReport],
) -> None:
    report = exported[1]
    card = read_card(find_weights("mobile_unet", "camvid"))
    assert report.frames == 101
    assert report.reference_miou >= 67.0
    # The card's figure was taken under BF16 autocast, the report's in FP32.
    assert report.reference_miou == pytest.approx(card.metrics["miou"], abs=0.2)


@pytest.mark.parametrize(
    ("stage", "agreement", "drop"),
    [("fp32", 0.9999, 0.05), ("fp16", 0.999, 0.05), ("int8", 0.99, 0.5)],
)
def test_precisions_keep_their_promise(
    exported: tuple[Path, ParityReport], stage: str, agreement: float, drop: float
) -> None:
    found = next(entry for entry in exported[1].stages if entry.name == stage)
    assert found.agreement >= agreement
    assert found.drop <= drop


def test_the_report_in_the_bundle_is_the_one_measured(exported: tuple[Path, ParityReport]) -> None:
    bundle, report = exported
    assert json.loads((bundle / "parity.json").read_text())["frames"] == report.frames


def test_video_masks_score_as_the_images_do(
    exported: tuple[Path, ParityReport], camvid: Path, tmp_path: Path
) -> None:
    bundle, report = exported
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
