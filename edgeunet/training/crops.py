"""Training crops as a torch data set, some of them placed on rare classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from ..bundle.manifest import InputSpec
from ..data.check import Contents
from ..data.datasets import Dataset, read_labels
from ..data.fit import Fit, Frame
from ..data.normalise import Normalisation
from ..data.resize import resize_frame
from ..data.samples import Sample
from ..metrics import Mask
from .augment import Augmentation, Geometry, Point, Warp
from .config import TrainConfig
from .losses import WEIGHTED
from .photometry import PHOTOMETRY, Light, Photometry
from .weight_map import BORDER, WeightMaps, class_weights


@dataclass(frozen=True)
class Focus:
    """Places a share of the crops on classes other than the most common one.

    Isensee et al., "nnU-Net", Nature Methods 18 (2021), online methods: a third of the patches hold
    foreground. Here all classes that occur are equally likely, and so are all images of a class.

    share: of all crops, 0..1. holders: for each class to choose from, its id and the indices of the
    images that hold it.
    """

    share: float
    holders: tuple[tuple[int, tuple[int, ...]], ...]

    def choose(self, index: int, rng: np.random.Generator) -> tuple[int, int | None]:
        """Image to crop when it is the turn of image `index`, and the class to place the crop on.

        The class is None if the crop may lie anywhere.
        """
        if not self.holders or rng.random() >= self.share:
            return index, None
        class_id, images = self.holders[rng.integers(len(self.holders))]
        return images[rng.integers(len(images))], class_id


def focus_on(pixels: npt.NDArray[np.int64], *, share: float) -> Focus:
    """Focus on all classes but the most common one, from the pixels (M, C) of M images."""
    held = pixels > 0
    common = pixels.sum(0).argmax()
    return Focus(
        share,
        tuple(
            (class_id, tuple(int(image) for image in np.flatnonzero(held[:, class_id])))
            for class_id in range(held.shape[1])
            if class_id != common and held[:, class_id].any()
        ),
    )


def random_point(
    mask: Mask, class_id: int, rng: np.random.Generator, size: tuple[int, int] | None = None
) -> Point:
    """Centre of a random pixel of the class, in the mask resized to `size`; None: as it is."""
    found = np.flatnonzero(mask == class_id)
    row, column = divmod(int(found[rng.integers(len(found))]), mask.shape[1])
    height, width = size or mask.shape
    return (row + 0.5) * height / mask.shape[0], (column + 0.5) * width / mask.shape[1]


@dataclass(frozen=True, eq=False)
class Drawn:
    """A crop as it was drawn, before any pixel is read.

    image: its index. geometry: in pixels of the image at the net's size.
    """

    image: int
    geometry: Geometry
    light: Light


def cut(image: Frame, warp: Warp, light: Light, *, spec: InputSpec) -> Tensor:
    """The crop (C, h, w) of an image (H, W, C) of any size, in other light, as the net takes it.

    Args:
        warp: in pixels of the image at the net's size.
    """
    size = spec.fitted_size(*image.shape[:2])
    own = Normalisation.of(list(np.moveaxis(image, -1, 0)), spec)
    resized = resize_frame(image, size, spec.filter)
    pixels = _normalised(light.apply(warp.image(resized), spec.levels), own, spec)
    if spec.fills:
        pixels[warp.outside(size)] = own.outside
    return torch.from_numpy(pixels).movedim(-1, 0)


def _normalised(image: Frame, own: Normalisation, spec: InputSpec) -> npt.NDArray[np.float32]:
    """Pixels (h, w, C) as the net takes them; `own` is that of the whole image."""
    if spec.statistics is not None:
        return np.stack(own(list(np.moveaxis(image, -1, 0))), -1)
    black, white = spec.levels
    mean, std = (np.asarray(v, np.float32) for v in (spec.mean, spec.std))
    return ((image.astype(np.float32) - black) / (white - black) - mean) / std


def silent(note: str) -> None:
    """Tell nobody."""


@dataclass(eq=False)
class Crops(TorchDataset[tuple[Tensor, ...]]):
    """One random crop of every sample: image (C, h, w) normalised, class ids (h, w).

    With weight maps, their weights (h, w) come third. The image is larger than the others by the
    augmentation's margin on every side. Crops are taken from images at the net's size, resized by
    its filter, so that objects have the size that they have at inference. Beyond its borders an
    image is mirrored; if the input pads frames, the padding is there, as at inference. A crop
    depends on `epoch_seed` and its index alone, so that a resumed run sees the same crops.
    """

    samples: list[Sample]
    spec: InputSpec
    _: KW_ONLY
    num_classes: int
    augment: Augmentation
    focus: Focus
    photometry: Photometry = field(default_factory=Photometry)
    weight_maps: WeightMaps | None = None
    epoch_seed: int = 0
    _fit: Fit = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # The check of the data set, which reads all images, tells what there is to tell.
        self._fit = Fit(self.spec, channels=self.spec.channels, tell=silent)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        rng, image_index, class_id = self._turn(self.epoch_seed, index)
        sample = self.samples[image_index]
        image = self._fit.read(sample.image)
        mask = read_labels(sample, num_classes=self.num_classes)
        drawn = self._drawn(image_index, class_id, mask, rng)
        warp = drawn.geometry.warp(*self.augment.size)
        pixels = cut(image, warp, drawn.light, spec=self.spec)
        size = self.spec.fitted_size(*mask.shape)
        within = warp.inner(self.augment.margin).onto(mask.shape, size)
        crop = [pixels, torch.from_numpy(within.mask(mask)).long()]
        if self.weight_maps is not None:
            crop.append(torch.from_numpy(within.weights(self.weight_maps(sample, mask))))
        return tuple(crop)

    def draw(self, seed: int, index: int, masks: Sequence[Mask]) -> Drawn:
        """The crop of an index in the epoch of a seed, with the class ids of all samples."""
        rng, image_index, class_id = self._turn(seed, index)
        return self._drawn(image_index, class_id, masks[image_index], rng)

    def _turn(self, seed: int, index: int) -> tuple[np.random.Generator, int, int | None]:
        """The crop's own generator, its image, and the class that it is placed on."""
        rng = np.random.default_rng((seed, index))
        return rng, *self.focus.choose(index, rng)

    def _drawn(
        self, image_index: int, class_id: int | None, mask: Mask, rng: np.random.Generator
    ) -> Drawn:
        # The net sees frames at this size, so crops are taken from it. The mask keeps its own.
        size = self.spec.fitted_size(*mask.shape)
        point = None if class_id is None else random_point(mask, class_id, rng, size)
        geometry = self.augment.draw(size, rng, point=point)
        shape = (*self.augment.size, len(self.spec.channels))
        return Drawn(image_index, geometry, self.photometry.draw(shape, rng, self.spec.levels))


def crops_for(
    dataset: Dataset,
    contents: Contents,
    output: Path,
    *,
    spec: InputSpec,
    config: TrainConfig,
    margin: int,
) -> Crops:
    """The crops of a run.

    Args:
        contents: of the data set. output: folder of the run. margin: pixels of context that the net
            takes on every side.
    """
    weight_maps = None
    splits = ("train", "val") if config.with_val else ("train",)
    pixels = np.concatenate([getattr(contents, name).by_image for name in splits])
    if config.loss == WEIGHTED:
        border = BORDER if config.border is None else config.border
        balance = class_weights(pixels.sum(0))
        weight_maps = WeightMaps(output / "weight_maps", border=border, balance=balance)
    return Crops(
        [sample for name in splits for sample in dataset.samples(name)],
        spec,
        num_classes=len(dataset.classes),
        augment=Augmentation(
            config.crop,
            scale=config.scale,
            margin=margin,
            elastic=config.elastic,
            flip=config.flip,
        ),
        focus=focus_on(pixels, share=config.focus),
        photometry=PHOTOMETRY[config.photometry],
        weight_maps=weight_maps,
    )
