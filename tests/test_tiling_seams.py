"""Trained nets on large images: no seams, and masks that hardly depend on the tiles' size.

The reference is the net run on the whole image at once. Measured over all variants, sizes from
128x160 to 256x320 and both ways of blending, `Tiling()` and "valid" of the same overlap differ
from it on 0.004 to 0.32 % of the pixels; without overlap it is 0.08 to 0.63 %.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from edgeunet.bundle.bundle import CHECKPOINT_NAME, Bundle
from edgeunet.bundle.card import Card
from edgeunet.bundle.manifest import InputSpec, Manifest
from edgeunet.catalogue import WEIGHTS_DIR
from edgeunet.data.cells import CLASSES, PALETTE, Scene, time_lapse, write_dataset
from edgeunet.exporting import ExportOptions, export_bundle
from edgeunet.models import create_model
from edgeunet.models.checkpoints import Checkpoint, save_checkpoint
from edgeunet.models.reference import to_input
from edgeunet.runtime import Tiling, load
from edgeunet.runtime.backends import Backend, create_backend
from edgeunet.runtime.backends.tiling import TiledBackend
from edgeunet.runtime.backends.tiling.plan import spans
from edgeunet.runtime.frames import Batch, Frame
from edgeunet.runtime.options import Blend

Mask = npt.NDArray[np.uint8]

SIZES = ((128, 160), (192, 192), (256, 320))
BLENDS: tuple[Blend, ...] = ("gaussian", "valid")
SIZE = 500, 610  # of the image: no multiple of 32
# Share of pixels that may differ between two sizes of tiles, and from the whole image.
TOLERANCE = 0.005


@pytest.fixture(scope="module")
def image() -> Frame:
    height, width = SIZE
    scene = Scene(height, width, cells=height * width // 4500, empty=0.0, seed=3)
    return next(time_lapse(scene, 1)).image


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("weights")
    opened = Checkpoint.open(WEIGHTS_DIR / "mobile_unet.cells.safetensors")
    net, card = opened.net, opened.card
    save_checkpoint(root / CHECKPOINT_NAME, net, card)
    return root


def of_size(folder: Path, height: int, width: int) -> Backend:
    """The net in PyTorch, which takes any size, as a bundle of this input size."""
    card = Checkpoint.open(folder / CHECKPOINT_NAME).card
    step = 2 if card.model == "mobile_unet" else 1  # pixels of the input by pixel of the logits
    manifest = Manifest(
        reference="checkpoint",
        origin="PyTorch",
        model=card.model,
        arguments=card.arguments,
        weights="cells",
        precision="fp32",
        classes=card.classes,
        palette=card.palette,
        input=replace(card.input, height=height, width=width),
        logits_size=(height // step, width // step),
        max_batch=8,
        files={},
        versions={},
    )
    return create_backend("pytorch", Bundle(folder, manifest))


@pytest.fixture(scope="module")
def reference(folder: Path, image: Frame) -> Mask:
    """Mask of the whole image at once, mirrored to sides that the net can take."""
    height, width = (-(-side // 32) * 32 for side in SIZE)
    mirrored = np.pad(image, ((0, height - SIZE[0]), (0, width - SIZE[1]), (0, 0)), mode="reflect")
    mask: Mask = of_size(folder, height, width).segment(Batch.of([mirrored])).masks[0]
    return mask[: SIZE[0], : SIZE[1]]


def tiled(folder: Path, image: Frame, size: tuple[int, int], tiling: Tiling) -> Mask:
    mask: Mask = TiledBackend(of_size(folder, *size), tiling).segment(Batch.of([image])).masks[0]
    return mask


Masks = Callable[[tuple[int, int], Tiling], Mask]


@pytest.fixture(scope="module")
def masks(folder: Path, image: Frame) -> Masks:
    """Mask of the image by tiles of a size; each is computed once. Do not change it."""
    return cache(partial(tiled, folder, image))


def borders(length: int, tile: int, tiling: Tiling) -> list[int]:
    """First pixels behind the lines on which a tile begins or ends to have a say."""
    plan = spans(length, tile, tiling)
    return sorted({line for span in plan for line in span[1:] if 0 < line < length})


def changes(mask: Mask, rows: list[int], columns: list[int]) -> int:
    """Pixels on these lines whose class is not that of the pixel before."""
    behind, before = np.array(rows), np.array(rows) - 1
    right, left = np.array(columns), np.array(columns) - 1
    return int((mask[behind] != mask[before]).sum() + (mask[:, right] != mask[:, left]).sum())


@pytest.mark.parametrize("blend", BLENDS)
def test_result_hardly_depends_on_the_size_of_the_tiles(
    masks: Masks, reference: Mask, blend: Blend
) -> None:
    found = [masks(size, Tiling(blend=blend)) for size in SIZES]
    for one, other in combinations([reference, *found], 2):
        assert np.mean(one != other) < TOLERANCE
    assert np.mean(reference > 0) > 0.1


@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_no_seam_where_tiles_meet(
    masks: Masks, reference: Mask, size: tuple[int, int], blend: Blend
) -> None:
    """Across a seam the class changes more often than in the whole image's mask."""

    def excess(tiling: Tiling) -> float:
        rows, columns = (borders(n, m, tiling) for n, m in zip(SIZE, size, strict=True))
        mask = masks(size, tiling)
        return changes(mask, rows, columns) / changes(reference, rows, columns)

    assert excess(Tiling(blend=blend)) < 1.25
    assert excess(Tiling(overlap=0, blend=blend)) > 1.5, "nothing to find"


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_no_more_is_wrong_where_tiles_meet_than_elsewhere(
    masks: Masks, reference: Mask, size: tuple[int, int]
) -> None:
    def shares(tiling: Tiling) -> tuple[float, float]:
        """Of pixels that differ from the whole image's mask: within 4 of a border, elsewhere."""
        near = np.zeros(SIZE, bool)
        rows, columns = (borders(n, m, tiling) for n, m in zip(SIZE, size, strict=True))
        for line in rows:
            near[max(line - 4, 0) : line + 4] = True
        for line in columns:
            near[:, max(line - 4, 0) : line + 4] = True
        wrong = masks(size, tiling) != reference
        return float(wrong[near].mean()), float(wrong[~near].mean())

    near, elsewhere = shares(Tiling())
    assert near < elsewhere + 0.001
    near, elsewhere = shares(Tiling(overlap=0))
    assert near > elsewhere + 0.005, "nothing to find"


def test_unpadded_net_gives_what_it_gives_for_the_whole_image(
    tmp_path: Path,
) -> None:
    """As in the paper of U-Net: tiles share twice the 92 pixels that its convolutions look at."""
    torch.manual_seed(0)
    image = np.random.default_rng(0).integers(0, 256, (352, 640, 3), np.uint8)
    spec = InputSpec(320, 320)
    arguments = {"num_classes": 3, "width": 4, "padding": "valid"}
    net = create_model("unet", **arguments).eval()
    with torch.no_grad():  # random weights prefer one class
        logits = net.predict(to_input(image, replace(spec, height=352, width=640)))[0]
        net.get_submodule("head").bias -= logits.mean(dim=(0, 2, 3))
    card = Card("unet", arguments, CLASSES, PALETTE, spec, "none")
    save_checkpoint(tmp_path / CHECKPOINT_NAME, net, card)
    whole = of_size(tmp_path, 352, 640).segment(Batch.of([image])).masks[0]
    assert np.bincount(whole.ravel(), minlength=3).min() > 0.1 * whole.size
    found = tiled(tmp_path, image, (320, 320), Tiling(overlap=0.6, blend="valid"))
    assert np.mean(found == whole) >= 0.9999
    less = tiled(tmp_path, image, (320, 320), Tiling(overlap=0, blend="valid"))
    assert np.mean(less == whole) < 0.9999


@pytest.mark.slow
def test_bundles_of_two_sizes_agree(image: Frame, tmp_path: Path) -> None:
    """The same weights, exported at two sizes. Others compare with the image without tiles."""
    write_dataset(tmp_path / "data", train=1, val=2, height=128, width=160)  # for a short proof
    masks = []
    for size in ((160, 224), (256, 256)):
        bundle = tmp_path / f"{size[0]}x{size[1]}"
        export_bundle(bundle, ExportOptions("mobile_unet", size=size, data=tmp_path / "data"))
        with load(bundle, tiling=Tiling()) as segmenter:
            masks.append(segmenter([image[:480, :608]]).masks[0])
    assert np.mean(masks[0] != masks[1]) < TOLERANCE
