"""Augmented training crops as a torch data set."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from ..manifest import InputSpec
from .augment import Augmentation
from .data import Sample, read_image, read_mask


class Crops(TorchDataset[tuple[Tensor, Tensor]]):
    """One random crop of every sample: image (C, h, w) normalised, class ids (h, w).

    The crops depend on `epoch_seed` and the index alone, so that a resumed run sees the same ones.
    """

    def __init__(
        self, samples: list[Sample], spec: InputSpec, *, num_classes: int, augment: Augmentation
    ) -> None:
        self.samples = samples
        self.spec = spec
        self.num_classes = num_classes
        self.augment = augment
        self.epoch_seed = 0

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((self.epoch_seed, index))
        sample = self.samples[index]
        image = read_image(sample.image, channels=self.spec.channels)
        mask = read_mask(sample.mask, num_classes=self.num_classes)
        image, mask = self.augment(image, mask, rng)
        if self.spec.color == "bgr":
            image = image[..., ::-1]
        mean, std = (np.asarray(v, np.float32) for v in (self.spec.mean, self.spec.std))
        pixels = (image.astype(np.float32) / 255 - mean) / std
        return torch.from_numpy(pixels).movedim(-1, 0), torch.from_numpy(mask).long()
