"""Augmented training crops as a torch data set."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from ..bundle.manifest import InputSpec
from ..data.datasets import Sample, read_image, read_labels
from .augment import Augmentation
from .focus import Focus, random_point
from .weight_map import WeightMaps


class Crops(TorchDataset[tuple[Tensor, ...]]):
    """One random crop of every sample: image (C, h, w) normalised, class ids (h, w).

    With weight maps their weights (h, w) come third. The image is larger than the others by the
    augmentation's margin on every side. Beyond its borders an image is mirrored, or 0 where the
    input pads frames: what the net sees at inference. The crops depend on `epoch_seed` and the
    index alone, so that a resumed run sees the same ones.
    """

    def __init__(
        self,
        samples: list[Sample],
        spec: InputSpec,
        *,
        num_classes: int,
        augment: Augmentation,
        focus: Focus,
        weight_maps: WeightMaps | None = None,
    ) -> None:
        self.samples = samples
        self.spec = spec
        self.num_classes = num_classes
        self.augment = augment
        self.focus = focus
        self.weight_maps = weight_maps
        self.epoch_seed = 0

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        rng = np.random.default_rng((self.epoch_seed, index))
        image_index, class_id = self.focus.choose(index, rng)
        sample = self.samples[image_index]
        image = read_image(sample.image, channels=self.spec.channels)
        mask = read_labels(sample, num_classes=self.num_classes)
        point = None if class_id is None else random_point(mask, class_id, rng)
        warp = self.augment.warp(mask.shape, rng, point=point)
        image = self.augment.colour(warp.image(image), rng)
        if self.spec.color == "bgr":
            image = image[..., ::-1]
        mean, std = (np.asarray(v, np.float32) for v in (self.spec.mean, self.spec.std))
        pixels = (image.astype(np.float32) / 255 - mean) / std
        if self.spec.resize == "pad":
            pixels[warp.outside(mask.shape)] = 0
        within = warp.inner(self.augment.margin)
        crop = [torch.from_numpy(pixels).movedim(-1, 0), torch.from_numpy(within.mask(mask)).long()]
        if self.weight_maps is not None:
            crop.append(torch.from_numpy(within.weights(self.weight_maps(sample, mask))))
        return tuple(crop)
