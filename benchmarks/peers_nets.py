"""The nets of `peers.py`: bundles of them, and the same nets in PyTorch.

Nets without weights of their own get a minute of training on procedural cells. Random weights
decide nothing: whatever rounds flips their masks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import update_bn

import edgeunet
from edgeunet import ExportOptions, export_bundle
from edgeunet.bundle.bundle import CHECKPOINT_NAME, Bundle, open_bundle
from edgeunet.bundle.calibration_table import TABLE_NAME
from edgeunet.bundle.card import Card
from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.cells import CLASSES, PALETTE, snapshots, write_dataset
from edgeunet.data.fit import Fit
from edgeunet.errors import BundleError, CalibrationError
from edgeunet.exporting.int8.calibration.frames import CHOSEN, describe_source, select
from edgeunet.models import create_model
from edgeunet.models.checkpoints import Checkpoint, save_checkpoint
from edgeunet.models.reference import to_input
from edgeunet.runtime.backends.preprocess import Preprocessor
from edgeunet.training.losses import Target, cross_entropy_dice

SIZE = (352, 480)
SPEC = InputSpec(*SIZE)
_CROP, _STEPS, _BATCH = (96, 128), 120, 8
_ANY_LOSS = 100.0  # points of mIoU: a minute of training is no net to be judged by labels

CELLS = "cells"
"""Folder of the data set that nets of other libraries are calibrated on."""

Images = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """One net.

    model: a variant; None for a net of another library, which `build` makes.
    weights: a tag; None trains for a minute. width: of a variant without weights. depth: that
    U-Net++ is cut to.
    """

    name: str
    model: str | None = None
    weights: str | None = None
    width: int | None = None
    depth: int | None = None
    build: Callable[[], nn.Module] | None = None

    @property
    def of_camvid(self) -> bool:
        """Whether its weights were trained on CamVid."""
        return self.weights is not None and self.weights.startswith("camvid")


def _smp(encoder: str) -> nn.Module:
    import segmentation_models_pytorch as smp

    net: nn.Module = smp.Unet(encoder, encoder_weights=None, classes=len(CLASSES))
    return net


class _Yolo(nn.Module):
    """YOLO26-sem of Ultralytics with logits at the size of the image, as its exports have."""

    def __init__(self, scale: str) -> None:
        super().__init__()
        from ultralytics.nn.tasks import SemanticSegmentationModel

        self.net = SemanticSegmentationModel(f"yolo26{scale}-sem.yaml", 3, len(CLASSES), False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) -> logits."""
        found = self.net(image)
        logits: torch.Tensor = found[0] if isinstance(found, tuple) else found
        return functional.interpolate(logits, image.shape[2:], mode="bilinear")


ROWS = {
    row.name: row
    for row in (
        Row("mobile_unet camvid", "mobile_unet", "camvid"),
        Row("eff_unet camvid", "eff_unet", "camvid"),
        Row("mobile_unet light camvid", "mobile_unet", "camvid_light"),
        Row("unet 8", "unet", "cells"),
        Row("unet 32", "unet", width=32),
        *(Row(f"unetpp depth {depth}", "unetpp", "cells", depth=depth) for depth in (1, 2, 3, 4)),
        Row("unet3p", "unet3p", "cells"),
        Row("resunet 16", "resunet", "cells"),
        Row("resunet 32", "resunet", width=32),
        Row("eff_unet 16", "eff_unet", "cells"),
        Row("eff_unet 32", "eff_unet", width=32),
        Row("smp.Unet(mobilenet_v2)", build=partial(_smp, "mobilenet_v2")),
        Row("smp.Unet(resnet34)", build=partial(_smp, "resnet34")),
        Row("yolo26n-sem", build=partial(_Yolo, "n")),
    )
}
"""All nets, at their usual widths."""


@dataclass(frozen=True)
class Kept:
    """What `prepare` leaves of one net."""

    row: Row
    folder: Path

    @property
    def bundle_path(self) -> Path:
        """Folder of the INT8 bundle, which holds all graphs."""
        return self.folder / "bundle"

    @property
    def bundle(self) -> Bundle:
        """The INT8 bundle, opened."""
        return open_bundle(self.bundle_path)

    def net(self) -> nn.Module:
        """The net in PyTorch: (N, 3, H, W) -> logits."""
        if self.row.build is not None:
            return _load(self.row.build(), self.folder / "weights.safetensors").eval()
        return Checkpoint.open(self.bundle_path / CHECKPOINT_NAME).net.eval()


def keep(row: Row, cache: Path) -> Kept:
    """Where a net lies in the cache."""
    return Kept(row, cache / row.name.replace(" ", "-").replace("(", "-").replace(")", ""))


def make_bundle(
    kept: Kept, cache: Path, data: Path, *, again: bool, report: Callable[[str], None]
) -> None:
    """Write the INT8 bundle if none can be opened, or `again`, calibrated as the first time.

    Args:
        data: CamVid; without it the rows that are trained on it are left out by the caller.
    """
    if not again and is_whole(kept):
        return
    table = kept.folder / TABLE_NAME
    found = table if table.exists() else None
    try:
        _write(kept, cache, data, found, report)
    except CalibrationError:
        if found is None:
            raise
        report("the calibration of another graph: calibrating again")
        _write(kept, cache, data, None, report)
    table.write_bytes((kept.bundle_path / TABLE_NAME).read_bytes())


def is_whole(kept: Kept) -> bool:
    """Whether the bundle opens: an older version of edgeunet may have written another form."""
    try:
        return kept.bundle.manifest.precision == "int8"
    except BundleError:
        return False


def _write(
    kept: Kept, cache: Path, data: Path, table: Path | None, report: Callable[[str], None]
) -> None:
    kept.folder.mkdir(parents=True, exist_ok=True)
    row, weights = kept.row, kept.folder / "weights.safetensors"
    if row.build is not None:
        torch.manual_seed(0)
        net = row.build()
        if not weights.exists():
            _train(net, net)
            save_file({key: value.contiguous() for key, value in net.state_dict().items()}, weights)
        cells = cache / CELLS
        if not cells.exists():
            write_dataset(cells, train=CHOSEN + 8, val=4, height=SIZE[0], width=SIZE[1])
        edgeunet.export(
            _load(net, weights).eval(),
            kept.bundle_path,
            size=SIZE,
            classes=CLASSES,
            precision="int8",
            calib=cells,
            calib_table=table,
            max_iou_drop=_ANY_LOSS,
            force=True,
            report=report,
        )
        return
    if row.weights is None and not weights.exists():
        _train_variant(row, weights)
    options = ExportOptions(
        row.model,
        row.weights or str(weights),
        "int8",
        depth=row.depth,
        size=SIZE,
        calib=data if row.of_camvid else None,
        data=data if row.of_camvid else None,
        calib_table=table,
        max_iou_drop=_ANY_LOSS if row.weights is None else 0.5,
    )
    export_bundle(kept.bundle_path, options, force=True, report=report)


def calibration_images(kept: Kept, data: Path) -> Images:
    """The frames that the bundle was calibrated on, as the net's input (N, 3, H, W)."""
    spec, classes = kept.bundle.manifest.input, len(kept.bundle.manifest.classes)
    source = data if kept.row.of_camvid else kept.folder.parent / CELLS
    if kept.row.model is None or kept.row.of_camvid:
        chosen = select(describe_source(source, num_classes=classes, fit=Fit(spec))).chosen.frames
    else:
        chosen = tuple(f.image for f in snapshots(CHOSEN, height=SIZE[0], width=SIZE[1], seed=1))
    return Preprocessor(spec)(list(chosen))


def _load(net: nn.Module, weights: Path) -> nn.Module:
    net.load_state_dict(load_file(weights))
    return net


def _train_variant(row: Row, path: Path) -> None:
    """Write a checkpoint of a variant at the row's width."""
    assert row.model is not None
    arguments = {"num_classes": len(CLASSES), "in_channels": 3, "width": row.width}
    torch.manual_seed(0)
    net = create_model(row.model, **arguments)
    _train(net, lambda images: net.run(images).heads[0])
    card = Card(
        model=row.model,
        arguments=arguments,
        classes=CLASSES,
        palette=PALETTE,
        input=SPEC,
        data="cells",
    )
    save_checkpoint(path, net, card)


def _train(net: nn.Module, logits: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Train on small procedural frames, then take the batch statistics of whole ones."""
    small = InputSpec(*_CROP)
    drawn = list(snapshots(96, height=_CROP[0], width=_CROP[1], seed=2))
    images = torch.cat([to_input(frame.image, small) for frame in drawn])
    masks = torch.stack([torch.from_numpy(frame.mask).long() for frame in drawn])
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=_STEPS)
    net.train()
    for _ in range(_STEPS):
        batch = torch.randperm(len(images))[:_BATCH]
        optimizer.zero_grad()
        cross_entropy_dice(logits(images[batch]), Target(masks[batch])).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        schedule.step()
    whole = list(snapshots(4, height=SIZE[0], width=SIZE[1], seed=3))
    update_bn([torch.cat([to_input(frame.image, SPEC) for frame in whole])], net)
    net.eval()
