"""A sheet of the first crops of a training, each beside its labels, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from ..bundle.manifest import Filter, InputSpec, Resize
from ..data.datasets import Dataset
from ..data.description import Palette
from ..data.fit import visible
from ..data.images import Rgb
from ..data.page import coloured, reduced
from ..errors import UsageError, printable
from ..files import write_bytes
from ..metrics import IGNORE, Mask
from .config import TrainConfig
from .feed import open_feed
from .loop import Trainer
from .recipe import open_recipe, tell_of_size
from .unlabelled import Unlabelled

CROPS = 12
"""On a sheet."""

_COLUMNS, _GAP, _BACKGROUND = 3, 12, 128


def write_preview(
    path: Path,
    model: str,
    data: str | Path | Dataset,
    output: Path | None = None,
    *,
    config: TrainConfig,
    size: tuple[int, int] | None = None,
    channels: Sequence[str] | None = None,
    levels: Sequence[float] | None = None,
    resize: Resize | None = None,
    fill: float | None = None,
    filter: Filter | None = None,  # noqa: A002
    initial: str | Path | None = None,
    raw: bool = False,
    unlabelled: str | Path | None = None,
    **arguments: Any,
) -> int:
    """Write the first crops of a training as a PNG, as its net would get them on a CPU.

    Each image has its labels on the right, in the colours of the classes. Striped pixels do not
    count: outside of the frame, around the labels of a net that takes context, or a whole crop of a
    frame without labels.

    Args:
        path: ends with .png; replaced if it exists.
        output: folder of the run, which keeps what it can use, such as procedural frames and weight
            maps. None: a temporary one.
        config, and so on: as of `train`, also for the errors.

    Returns:
        The number of crops: `CROPS`, or as many as an epoch has.

    Raises:
        UsageError: another kind of file.

    Example:
        >>> from pathlib import Path; from edgeunet.data import cells
        >>> from edgeunet.training.config import TrainConfig
        >>> from edgeunet.training.preview import write_preview
        >>> cells.write_dataset(Path("set"), train=4, val=2, height=96, width=96, seed=3)
        >>> config = TrainConfig(crop=(32, 32), batch_size=2)
        >>> write_preview(Path("crops.png"), "unet", "set", config=config, width=4)
        4
    """
    if path.suffix.lower() != ".png":
        raise UsageError(f"{printable(path)} is no name of a PNG; expected one such as crops.png.")
    with TemporaryDirectory(prefix="edgeunet-preview-") as temporary:
        folder = Path(temporary) if output is None else output
        recipe, dataset = open_recipe(
            model,
            data,
            folder,
            config=config,
            size=size,
            channels=channels,
            levels=levels,
            resize=resize,
            fill=fill,
            filter=filter,
            initial=initial,
            raw=raw,
            arguments=arguments,
        )
        folder.mkdir(parents=True, exist_ok=True)
        if unlabelled is not None:
            frames = Unlabelled.open(unlabelled, recipe.spec, folder)
            recipe = replace(recipe, unlabelled=frames)
        trainer = recipe.trainer(dataset, folder, teacher=None)
        if size is None:
            tell_of_size(trainer.contents, trainer.spec)
        crops = list(islice(first_crops(trainer), CROPS))
    write_bytes(path, _png(sheet(crops, trainer.spec, dataset.palette)))
    return len(crops)


def first_crops(trainer: Trainer) -> Iterator[tuple[Tensor, Mask]]:
    """Images (C, H, W) as the net takes them, and class ids (h, w), of a trainer's next epoch."""
    seed = trainer.seeds[0]
    torch.manual_seed(seed)
    for step in next(open_feed(trainer.plan, torch.device("cpu")).epochs([seed])):
        images, labels, *_ = step.batch
        yield from zip(images, labels.numpy().astype(np.uint8), strict=True)
        for image in () if step.more is None else step.more:
            yield image, np.full(labels.shape[1:], IGNORE, np.uint8)


def sheet(crops: Sequence[tuple[Tensor, Mask]], spec: InputSpec, palette: Palette) -> Rgb:
    """The picture of crops (H, W, 3): each image with its labels on the right, in rows."""
    pairs = [_pair(image, labels, spec, palette) for image, labels in crops]
    height, width = pairs[0].shape[:2]
    columns = min(_COLUMNS, len(pairs))
    rows = -(-len(pairs) // columns)
    shape = rows * (height + _GAP) + _GAP, columns * (width + _GAP) + _GAP, 3
    picture: Rgb = np.full(shape, _BACKGROUND, np.uint8)
    for index, pair in enumerate(pairs):
        row, column = divmod(index, columns)
        top, left = _GAP + row * (height + _GAP), _GAP + column * (width + _GAP)
        picture[top : top + height, left : left + width] = pair
    return picture


def picture_of(image: Tensor, spec: InputSpec) -> Rgb:
    """RGB (H, W, 3) of what a net takes (C, H, W), with its normalisation undone.

    Of images that are normalised by their own statistics the darkest value is black and the
    brightest white, since the statistics are gone.
    """
    values = image.movedim(0, -1).numpy()
    if spec.statistics is not None:
        low, high = float(values.min()), float(values.max())
        return visible(values, spec.channels, (low, max(high, low + 1e-6)))
    black, white = spec.levels
    mean, std = (np.asarray(each, np.float32) for each in (spec.mean, spec.std))
    return visible((values * std + mean) * (white - black) + black, spec.channels, spec.levels)


def _pair(image: Tensor, labels: Mask, spec: InputSpec, palette: Palette) -> Rgb:
    picture = picture_of(image, spec)
    margin = (picture.shape[0] - labels.shape[0]) // 2
    whole = np.pad(labels, margin, constant_values=IGNORE)
    small, ids = reduced(picture, whole)
    return np.hstack([small, coloured(ids, palette)])


def _png(picture: Rgb) -> bytes:
    encoded: bytes = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))[1].tobytes()
    return encoded
