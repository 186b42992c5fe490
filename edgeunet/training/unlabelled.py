"""Frames without labels, which a teacher answers for, and the crops of them.

Images stay where they are. Frames of a video are written into the run's folder once, because
seeking in a video is not exact, and a crop needs the same frame in every epoch.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from ..bundle.manifest import InputSpec
from ..data.datasets import is_dataset, open_dataset
from ..data.fit import Fit
from ..data.images import decode_only, read_bytes
from ..data.resize import resize_frame
from ..errors import FrameError, SourceError, UsageError, printable
from ..files import sha256, write_bytes, write_json
from ..listing import MASK_FOLDERS, list_images_below
from ..runtime.sources import Frames
from .augment import Augmentation
from .crops import Drawn, cut, silent
from .group import ALONE, Group
from .photometry import Photometry

MOST_FRAMES = 2000
"""Frames of a video that are used at most, evenly spaced: neighbours are nearly alike."""

_TOLD = 10  # frames that are left out and named
_LIST = "frames.json"  # what was written of a video, once all of it is there

_log = logging.getLogger(__name__)

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Unlabelled:
    """Frames without labels.

    name: what a card calls them. files: an image each, all of which can be read. hashes: SHA-256 of
    their contents. unreadable: number of frames that were left out.

    Example:
        >>> from pathlib import Path; from edgeunet.bundle.manifest import InputSpec
        >>> from edgeunet.data import cells; from edgeunet.training.unlabelled import Unlabelled
        >>> cells.write_dataset(Path("cells"), train=2, val=1, height=64, width=96)
        >>> len(Unlabelled.open("cells/val/images", InputSpec(64, 96), Path("run")).files)
        1
    """

    name: str
    files: tuple[Path, ...]
    hashes: tuple[str, ...]
    unreadable: int = 0

    @classmethod
    def open(
        cls, where: str | Path, spec: InputSpec, folder: Path, *, tell: Tell = _log.warning
    ) -> Unlabelled:
        """Find the frames at a path, and read each of them once.

        Args:
            where: an image, a folder of images and of folders with images, except `MASK_FOLDERS`, a
                glob of images, a data set, of which the training images are taken, or a video.
            spec: of the net that is trained.
            folder: receives the frames of a video.
            tell: gets a note of each of the first frames that are left out, and their number.

        Raises:
            SourceError: nothing there, or no frame that can be read, with the reason of the first.
            UsageError: neither images nor a video. DatasetError: a damaged data set.
        """
        files, unreadable = _files_at(Path(where), where, spec, folder, tell)
        fit = Fit(spec, channels=spec.channels, tell=tell)
        hashes, readable, faults = [], [], []
        for path in files:
            try:
                content = read_bytes(path)
                fit.picture(decode_only(content, name=str(path)), name=str(path))
            except (FrameError, SourceError) as error:
                faults.append(str(error))
                continue
            hashes.append(hashlib.sha256(content).hexdigest())
            readable.append(path)
        if not readable:
            raise SourceError(
                f"none of the {len(files)} frames of {printable(where)} can be used. "
                f"The first: {faults[0]}"
            )
        _tell_of(faults, len(faults), len(files), where, tell)
        name = printable(Path(where).absolute().name)
        return cls(name, tuple(readable), tuple(hashes), unreadable + len(faults))

    def without(self, images: Sequence[Path]) -> Unlabelled:
        """The frames that are none of these images, by their contents.

        Raises:
            UsageError: none is left.
        """
        known = {sha256(path) for path in images}
        pairs = zip(self.files, self.hashes, strict=True)
        kept = [(path, content) for path, content in pairs if content not in known]
        if not kept:
            raise UsageError(
                f"all {len(self.files)} frames of --unlabelled {self.name} are held-out images of "
                "a fold, which its net must not see. Pass other frames."
            )
        files, hashes = zip(*kept, strict=True)
        return replace(self, files=files, hashes=hashes)

    @property
    def sha256(self) -> str:
        """Of all contents, in this order."""
        return hashlib.sha256(b"".join(map(bytes.fromhex, self.hashes))).hexdigest()

    @property
    def record(self) -> dict[str, Any]:
        """What a card and a run keep of them."""
        return {
            "name": self.name,
            "frames": len(self.files),
            "unreadable": self.unreadable,
            "sha256": self.sha256,
        }


@dataclass(eq=False)
class UnlabelledCrops(TorchDataset[Tensor]):
    """Random crops of frames without labels: images (C, h, w), as those of `Crops`.

    A crop and its frame depend on `epoch_seed` and its index alone, so that a resumed run sees the
    same crops. All frames are equally likely.

    size: crops in a training step. steps: in an epoch.
    """

    frames: Unlabelled
    spec: InputSpec
    augment: Augmentation
    photometry: Photometry
    _: KW_ONLY
    size: int
    steps: int
    epoch_seed: int = 0
    _fit: Fit = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Whoever opened the frames was told what there is to tell.
        self._fit = Fit(self.spec, channels=self.spec.channels, tell=silent)

    def __len__(self) -> int:
        return self.size * self.steps

    def __getitem__(self, index: int) -> Tensor:
        rng, number = self._turn(self.epoch_seed, index)
        image = self._fit.read(self.frames.files[number])
        drawn = self._drawn(number, self.spec.fitted_size(*image.shape[:2]), rng)
        warp = drawn.geometry.warp(*self.augment.size)
        return cut(image, warp, drawn.light, spec=self.spec)

    def draw(self, seed: int, index: int, sizes: Sequence[tuple[int, int]]) -> Drawn:
        """The crop of an index in the epoch of a seed, with the (H, W) of all frames at the net."""
        rng, number = self._turn(seed, index)
        return self._drawn(number, sizes[number], rng)

    def _turn(self, seed: int, index: int) -> tuple[np.random.Generator, int]:
        """The crop's own generator, and its frame."""
        rng = np.random.default_rng((seed, 1, index))  # 1: not those of labelled crops
        return rng, int(rng.integers(len(self.frames.files)))

    def _drawn(self, number: int, size: tuple[int, int], rng: np.random.Generator) -> Drawn:
        geometry = self.augment.draw(size, rng)
        shape = (*self.augment.size, len(self.spec.channels))
        return Drawn(number, geometry, self.photometry.draw(shape, rng, self.spec.levels))

    def batches(self, seed: int, workers: int, group: Group = ALONE) -> DataLoader[Tensor]:
        """The crops of an epoch, step by step.

        Args:
            workers: processes that make them. group: whose processes share those of each step.
        """
        self.epoch_seed = seed
        # Drawing from PyTorch's own would shuffle the labelled crops by the number of workers.
        own = torch.Generator().manual_seed(seed)
        shares = list(self.shares(group))
        return DataLoader(self, batch_sampler=shares, num_workers=workers, generator=own)

    def shares(self, group: Group) -> Iterator[list[int]]:
        """Indices of the crops that a process of the group makes, step by step."""
        for step in range(self.steps):
            first = step * self.size
            yield list(range(first, first + self.size)[group.mine(self.size)])

    def among(self, files: Sequence[Path], *, labelled: int) -> list[Path]:
        """Image files and frames without labels, evenly mixed and in the shares of a training step.

        Args:
            labelled: crops with labels in a training step.
        """
        count, own = round(len(files) * self.size / labelled), self.frames.files
        spread = [own[index * len(own) // count] for index in range(count)]
        placed = [
            ((index + 0.5) / len(group), path)
            for group in (files, spread)
            for index, path in enumerate(group)
        ]
        return [path for _, path in sorted(placed, key=lambda each: each[0])]


def _files_at(
    path: Path, where: str | Path, spec: InputSpec, folder: Path, tell: Tell
) -> tuple[Sequence[Path], int]:
    """Image files, and the number of frames that were left out already."""
    if is_dataset(path):
        return [sample.image for sample in open_dataset(path).samples("train")], 0
    if path.is_dir():
        listing = list_images_below(path, leave_out=MASK_FOLDERS)
        if told := listing.skipped():
            tell(f"{printable(where)}: not read: {told}.")
        if not listing.images:
            raise SourceError(f"{printable(where)} holds no image. Pass a folder of images.")
        return listing.images, 0
    frames = Frames.open(where)
    if frames.kind == "video" and not frames.remote:
        return _written(frames, spec, folder, tell)
    if frames.kind not in ("image", "glob"):
        raise UsageError(
            f"{frames.name} is of the kind {frames.kind}; expected images or a video file as "
            "--unlabelled. Unpack or record it first."
        )
    return frames.files, 0


def _written(
    frames: Frames, spec: InputSpec, folder: Path, tell: Tell
) -> tuple[Sequence[Path], int]:
    """Write at most `MOST_FRAMES` frames of a video as images of the net's size, once."""
    (video,) = frames.files
    key = hashlib.sha256(f"{sha256(video)} {spec}".encode()).hexdigest()[:32]
    folder = folder / "unlabelled" / key
    if (folder / _LIST).is_file():
        known = json.loads((folder / _LIST).read_text("utf-8"))
        return [folder / name for name in known["frames"]], known["unreadable"]
    kept: list[Path] = []
    faults: list[str] = []
    seen, step = 0, 1
    with frames.read(skip_damaged=True) as source:
        try:
            for frame in source:
                seen += 1
                if (seen - 1) % step:
                    continue
                path = folder / f"{frame.index:06d}.png"
                _write(path, np.asarray(frame.image), spec)
                kept.append(path)
                if len(kept) > MOST_FRAMES:
                    for path in kept[1::2]:
                        path.unlink()
                    kept, step = kept[::2], 2 * step
        except SourceError as error:  # a video that ends too early, or cannot be read at all
            if not kept:
                raise
            faults.append(str(error))
        faults = [*source.damaged, *faults]
        unreadable = source.skipped + len(faults) - len(source.damaged)
    _tell_of(faults, unreadable, unreadable + seen, video, tell)
    write_json(folder / _LIST, {"frames": [path.name for path in kept], "unreadable": unreadable})
    return kept, unreadable


def _write(path: Path, rgb: npt.NDArray[np.uint8], spec: InputSpec) -> None:
    """Write a frame at the net's size as PNG."""
    resized = resize_frame(rgb, spec.fitted_size(*rgb.shape[:2]), spec.filter)
    bgr = cv2.cvtColor(resized, cv2.COLOR_RGB2BGR)
    write_bytes(path, cv2.imencode(".png", bgr)[1].tobytes(), sync=False)


def _tell_of(faults: Sequence[str], count: int, total: int, where: str | Path, tell: Tell) -> None:
    """Name the first frames that are left out, and tell how many of all there are."""
    for fault in faults[:_TOLD]:
        tell(f"left out: {fault}")
    if count:
        tell(f"{printable(where)}: {count} of {total} frames are left out.")
