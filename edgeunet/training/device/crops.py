"""Images and masks on a device, and the crops of a training step from them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...bundle.manifest import InputSpec
from ...data.datasets import read_labels
from ...data.fit import Fit
from ...data.normalise import Normalisation
from ...data.resize import resize_frame
from ...metrics import IGNORE, Mask
from ..crops import Crops, silent
from ..unlabelled import UnlabelledCrops
from .drawings import Drawings
from .images import Images, coordinates, inner, onto
from .light import relit

_READERS = min(8, os.cpu_count() or 1)
_CHUNK = 64  # images that are read before they are counted and moved


@dataclass(frozen=True, eq=False)
class DeviceCrops:
    """Makes the crops of `Crops`, and of frames without labels, in batches on a device.

    images: at the net's size, those with labels first. masks: of those, at their own size.
    weights: their weight maps, None without. numbers: centre, gain, shift and outside of the
    `Normalisation` of each image, (N, 4, C). labels: the masks again, on the host.
    """

    spec: InputSpec
    size: tuple[int, int]
    margin: int
    images: Images
    masks: Images
    weights: Images | None
    numbers: Tensor
    labels: list[Mask]
    sizes: list[tuple[int, int]]

    @property
    def depth(self) -> np.dtype[np.generic]:
        """Of the images' values."""
        return np.dtype(self.spec.depth)

    @torch.no_grad()
    def make(self, drawn: Drawings, labelled: int) -> tuple[list[Tensor], Tensor | None]:
        """The crops of a step, of which the first are `labelled`.

        Returns:
            As collated from `Crops`: images (L, C, h, w), class ids (L, h, w), and weights if there
            are any; and images (B - L, C, h, w) of frames without labels, None if there are none.
        """
        at = coordinates(drawn.matrix, drawn.bend, self.size)
        images = self._images(drawn, at).movedim(-1, 1)
        with_labels = drawn.image[:labelled]
        sizes = self.images.sizes[with_labels]
        x, y = inner(at, self.margin)
        within = onto((x[:labelled], y[:labelled]), sizes, self.masks.sizes[with_labels])
        ids = self.masks.nearest(with_labels, within, outside=IGNORE)[..., 0].long()
        batch = [images[:labelled], ids]
        if self.weights is not None:
            batch.append(self.weights.bilinear(with_labels, within)[..., 0])
        return batch, images[labelled:] if len(images) > labelled else None

    def _images(self, drawn: Drawings, at: tuple[Tensor, Tensor]) -> Tensor:
        """(B, h, w, C), normalised."""
        spec, depth = self.spec, self.depth
        crops = self.images.bilinear(drawn.image, at)
        if depth == np.uint8:
            crops = (crops + 0.5).floor_()
        elif depth.kind != "f":
            crops = crops.round_()
        crops = relit(crops, drawn, spec.levels, depth)
        numbers = self.numbers[drawn.image][:, :, None, None]
        centre, gain, shift, outside = numbers.unbind(1)
        images = (crops - centre) * gain + shift
        if spec.statistics is not None and spec.statistics.pixels != "all":
            filled = crops != 0
            if spec.statistics.pixels != "nonzero":
                filled = filled.any(-1, keepdim=True)
            images = images.where(filled, _empty(spec).to(images.device))
        if spec.fills:
            images = outside.where(self.images.outside(drawn.image, at), images)
        return images


def load(
    crops: Crops, frames: UnlabelledCrops | None, device: torch.device, *, room: int
) -> DeviceCrops | None:
    """Read all images and masks onto a device; None if they take more than `room` bytes there."""
    images, masks, weights, numbers = [], [], [], []
    labels: list[Mask] = []
    taken = 0
    for loaded in _read(crops, frames):
        taken += sum(each.nbytes for each in loaded[:3] if each is not None)
        if taken > room:
            return None
        images.append(torch.from_numpy(loaded.image).to(device))
        numbers.append(loaded.numbers)
        if loaded.mask is not None:
            labels.append(loaded.mask)
            masks.append(torch.from_numpy(loaded.mask).to(device)[..., None])
        if loaded.weights is not None:
            weights.append(torch.from_numpy(loaded.weights).to(device)[..., None])
    return DeviceCrops(
        crops.spec,
        crops.augment.size,
        crops.augment.margin,
        Images.of(images),
        Images.of(masks),
        Images.of(weights) if weights else None,
        torch.from_numpy(np.stack(numbers)).to(device),
        labels,
        [(each.shape[0], each.shape[1]) for each in images],
    )


class _Loaded(NamedTuple):
    image: np.ndarray
    mask: Mask | None
    weights: np.ndarray | None
    numbers: np.ndarray


def _read(crops: Crops, frames: UnlabelledCrops | None) -> Iterator[_Loaded]:
    """Images with labels and then those without, some at a time."""
    fit = Fit(crops.spec, channels=crops.spec.channels, tell=silent)

    def labelled(index: int) -> _Loaded:
        sample = crops.samples[index]
        mask = read_labels(sample, num_classes=crops.num_classes)
        weights = None if crops.weight_maps is None else crops.weight_maps(sample, mask)
        return _loaded(fit, sample.image)._replace(mask=mask, weights=weights)

    files: Sequence[Path] = () if frames is None else frames.frames.files
    with ThreadPoolExecutor(_READERS) as pool:
        for start in range(0, len(crops), _CHUNK):
            yield from pool.map(labelled, range(start, min(start + _CHUNK, len(crops))))
        for start in range(0, len(files), _CHUNK):
            yield from pool.map(lambda path: _loaded(fit, path), files[start : start + _CHUNK])


def _loaded(fit: Fit, path: Path) -> _Loaded:
    """An image at the net's size, and how it is normalised."""
    image, spec = fit.read(path), fit.spec
    own = Normalisation.of(list(np.moveaxis(image, -1, 0)), spec)
    resized = resize_frame(image, spec.fitted_size(*image.shape[:2]), spec.filter)
    if resized.dtype != np.uint8:
        resized = resized.astype(np.float32)  # which holds 16 bit, and which PyTorch indexes
    return _Loaded(
        np.ascontiguousarray(resized),
        None,
        None,
        np.stack([own.centre, own.gain, own.shift, own.outside]),
    )


def _empty(spec: InputSpec) -> Tensor:
    """What pixels become that are not measured, (C,), see `Normalisation`."""
    return -torch.tensor(spec.mean, dtype=torch.float32) / torch.tensor(spec.std)
