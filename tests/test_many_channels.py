"""Nets of other channels and depths than RGB of 8 bit, from images to masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from edgeunet.bundle.bundle import CHECKPOINT_NAME, open_bundle
from edgeunet.bundle.manifest import RGB
from edgeunet.data.datasets import open_dataset, read_labels
from edgeunet.data.fit import Fit
from edgeunet.data.images import read_ids, read_picture
from edgeunet.errors import FrameError
from edgeunet.exporting import ExportOptions, export_bundle
from edgeunet.metrics import pixel_agreement
from edgeunet.models.checkpoints import Checkpoint
from edgeunet.models.reference import reference_mask
from edgeunet.parity import measure
from edgeunet.runtime.options import LoadOptions
from edgeunet.runtime.run import run
from edgeunet.runtime.segmenter import load
from edgeunet.runtime.sources.labelled import labelled_frames
from edgeunet.training.config import TrainConfig
from edgeunet.training.train import train

pytestmark = pytest.mark.slow

SIZE = (64, 96)
NIR = (*RGB, "nir")
CONFIG = TrainConfig(
    crop=(32, 64), epochs=30, batch_size=4, validate_every=10, learning_rate=1e-2, amp=False
)


EXACT = LoadOptions(precision="fp32")


def scene(seed: int) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint8]]:
    """Discs that only the fourth band shows, (H, W, 4) of 12 bit, and their mask."""
    rng = np.random.default_rng(seed)
    bands = rng.normal(900, 120, (*SIZE, 4))
    bands += cv2.GaussianBlur(rng.normal(0, 6000, (*SIZE, 4)), (0, 0), 6)
    mask = np.zeros(SIZE, np.uint8)
    for _ in range(3):
        x, y, radius = (
            int(rng.integers(10, 86)),
            int(rng.integers(10, 54)),
            int(rng.integers(6, 12)),
        )
        cv2.circle(mask, (x, y), radius, 1, -1)
    bands[..., 3] += 2200.0 * mask
    return np.clip(bands, 0, 4095).astype(np.uint16), mask


def written(root: Path, bands: slice) -> Path:
    for split, count in (("train", 12), ("val", 3)):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for index in range(count):
            image, mask = scene(index + 100 * (split == "val"))
            image = image[..., bands]
            kind: dict[str, Any] = {"planarconfig": "contig"} if image.shape[2] > 1 else {}
            tifffile.imwrite(
                root / split / "images" / f"{index}.tif",
                image if image.shape[2] > 1 else image[..., 0],
                photometric="minisblack",
                **kind,
            )
            assert cv2.imwrite(str(root / split / "masks" / f"{index}.png"), mask)
    (root / "dataset.json").write_text(json.dumps({"name": "bands", "classes": ["land", "disc"]}))
    return root


FORMS = {"rgb+nir": (slice(4), NIR), "gray": (slice(3, 4), ("gray",))}


@pytest.fixture(scope="module", params=sorted(FORMS))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, and the bundle, of all precisions, of a net trained on it."""
    folder = tmp_path_factory.mktemp("many")
    bands, channels = FORMS[request.param]
    data = written(folder / "data", bands)
    card = train(
        "mobile_unet",
        data,
        folder / "run",
        config=CONFIG,
        size=SIZE,
        channels=channels,
        levels=(0, 4095),
        width=8,
    )
    assert (card.input.channels, card.input.levels) == (channels, (0, 4095))
    assert (card.input.depth, card.arguments["in_channels"]) == ("uint16", len(channels))
    assert card.metrics["iou"][1] > 60, "the fourth band was not used"
    options = ExportOptions(
        "mobile_unet",
        weights=str(folder / "run" / "best.safetensors"),
        precision="int8",
        calib=data,
        calib_method="percentile",
        data=data,
        max_iou_drop=5.0,
    )
    export_bundle(folder / "bundle", options)
    return folder


def masks_of_the_reference(made: Path) -> dict[str, npt.NDArray[np.uint8]]:
    opened = Checkpoint.open(made / "bundle" / CHECKPOINT_NAME)
    fit = Fit(opened.card.input)
    paths = sorted((made / "data" / "val" / "images").iterdir())
    return {p.stem: reference_mask(opened.net, fit.read(p), opened.card.input) for p in paths}


def test_files_give_the_masks_of_pytorch(made: Path, tmp_path: Path) -> None:
    images, masks = made / "data" / "val" / "images", str(tmp_path / "masks")
    summary = run(made / "bundle", images, masks, options=EXACT)
    assert summary.frames == 3
    wanted = np.stack(list(masks_of_the_reference(made).values()))
    found = np.stack([read_ids(path) for path in sorted((tmp_path / "masks").glob("*.png"))])
    assert pixel_agreement(wanted, found.astype(np.uint8)) >= 0.9999


def test_arrays_give_the_masks_of_files_and_int8_is_near(made: Path) -> None:
    paths = sorted((made / "data" / "val" / "images").iterdir())
    frames = [read_picture(path).pixels for path in paths]
    wanted = np.stack(list(masks_of_the_reference(made).values()))
    with load(made / "bundle", precision="fp32") as segmenter:
        assert pixel_agreement(wanted, segmenter(frames).masks) >= 0.9999
    with load(made / "bundle") as segmenter:
        assert segmenter.self_check() >= 0.98
        assert pixel_agreement(wanted, segmenter(frames).masks) >= 0.95


def test_parity_holds_on_the_data(made: Path) -> None:
    opened = open_bundle(made / "bundle")
    samples = labelled_frames(
        made / "data", classes=opened.manifest.classes, fit=Fit(opened.manifest.input)
    )
    report, worst = measure(opened, samples, data="bands")
    fp32 = next(stage for stage in report.stages if stage.name == "fp32")
    assert fp32.agreement >= 0.9999
    assert worst[0].image.dtype == np.uint8 and worst[0].image.shape == (*SIZE, 3)


def test_golden_frames_keep_depth_and_channels(made: Path) -> None:
    bundle = open_bundle(made / "bundle")
    frames = bundle.golden().frames
    assert frames.dtype == np.uint16
    assert frames.shape[3] == len(bundle.manifest.input.channels)
    assert frames.max() > 2000


def test_frames_of_other_levels_are_told_or_refused(made: Path) -> None:
    sample = open_dataset(made / "data").samples("val")[0]
    frame = read_picture(sample.image).pixels
    labels = read_labels(sample, num_classes=2)
    unit = (frame / np.float32(4095)).astype(np.float32)
    eight = np.rint(unit * 255).astype(np.uint8)
    with load(made / "bundle", precision="fp32") as segmenter:
        wanted = segmenter([frame]).masks[0]
        for other in (unit, eight):
            with pytest.raises(FrameError, match=r"the net takes uint16.*--levels LO,HI"):
                segmenter([other])
    assert pixel_agreement(labels, wanted) > 0.9
    for other, levels in ((unit, (0, 1)), (eight, (0, 255)), (frame, (0, 4095))):
        with load(made / "bundle", precision="fp32", levels=levels) as segmenter:
            assert segmenter.self_check() >= 0.999
            assert pixel_agreement(wanted, segmenter([other]).masks[0]) > 0.99


def test_overlay_shows_the_frame(made: Path, tmp_path: Path) -> None:
    run(made / "bundle", made / "data" / "val" / "images", str(tmp_path / "a.mp4"))
    assert (tmp_path / "a.mp4").stat().st_size > 1000
