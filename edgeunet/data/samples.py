"""Which files make a sample: an image, its mask, and its instances, by their names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ..errors import DatasetError, printable
from ..listing import Listing, list_images, natural_key
from ..metrics import IGNORE, Mask
from .masks import Coding

STEM = "{stem}"

MASK_NAMES = (
    STEM,
    *(f"{STEM}{mark}{word}" for word in ("mask", "masks", "label", "labels") for mark in "_-"),
    *(f"{STEM}_{word}" for word in ("gt", "seg", "segmentation", "annotation", "groundtruth")),
    f"mask_{STEM}",
    f"label_{STEM}",
)
"""Names of a mask, without suffix, that are looked for if `dataset.json` names no pattern."""


ANY_IDS = Coding(tuple(range(IGNORE)))
"""Masks that hold class ids, of however many classes."""


class Labels(Protocol):
    """Where the class of each pixel of an image comes from."""

    @property
    def path(self) -> Path:
        """The file that holds the labels, for errors and reports."""

    def read(self) -> Mask:
        """Class ids (H, W) of the layout, and `IGNORE`; DatasetError or SourceError if wrong."""


@dataclass(frozen=True)
class MaskFile:
    """Labels in an image of their own. coding: what its values mean."""

    path: Path
    coding: Coding = field(default=ANY_IDS, repr=False)

    def read(self) -> Mask:
        """Class ids (H, W); errors as of `Coding.read`."""
        return self.coding.read(self.path)


@dataclass(frozen=True)
class Sample:
    """An image, its labels, and a file of its instances if there is one.

    ids: maps the labels' class ids to those of the data set, with `IGNORE` for those that do not
    count; None if they are the same.
    """

    image: Path
    labels: Labels
    instances: Path | None = None
    ids: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Split:
    """Samples in natural order of their images, and a text for each kind of file left out."""

    samples: tuple[Sample, ...]
    skipped: tuple[str, ...] = ()


def list_split(folder: Path, *, image: str = STEM, mask: str | None = None) -> Split:
    """Match the files in `images`, `masks` and, if it exists, `instances` by their names.

    Args:
        image, mask: names without suffix, where `{stem}` is what the files of a sample have in
            common. Without `mask`, each of `MASK_NAMES` is looked for.

    Raises:
        DatasetError: no images; two images of one name; an image without a mask, or with several
            files that may be its mask.

    Example:
        >>> from pathlib import Path; from edgeunet.data.samples import list_split
        >>> for name in ("images/a.jpg", "masks/a_mask.png"):
        ...     Path(name).parent.mkdir(); Path(name).touch()
        >>> list_split(Path(".")).samples[0].labels.path.name
        'a_mask.png'
    """
    images = _listed(folder / "images")
    if not images.images:
        raise DatasetError(f"{folder / 'images'} holds no image.{_in_brackets(images)}")
    masks = _listed(folder / "masks")
    stems = _stems(images.images, image)
    found = _match(stems, masks, (mask,) if mask else MASK_NAMES)
    without = [path for stem, path in stems.items() if stem not in found]
    if without:
        raise DatasetError(_missing(folder / "masks", without, stems, found, masks, mask))
    skipped = [_skipped("images", images), _skipped("masks", masks, set(found.values()))]
    instances: dict[str, Path] = {}
    if (folder / "instances").is_dir():
        listed = _listed(folder / "instances")
        instances = _match(stems, listed, (STEM,))
        skipped.append(_skipped("instances", listed, set(instances.values())))
        if instances and len(instances) < len(stems):
            skipped.append(f"instances: none for {len(stems) - len(instances)} images")
    return Split(
        tuple(
            Sample(path, MaskFile(found[stem]), instances.get(stem)) for stem, path in stems.items()
        ),
        tuple(text for text in skipped if text),
    )


def list_samples(folder: Path) -> list[Sample]:
    """The samples of `list_split`."""
    return list(list_split(folder).samples)


def _listed(folder: Path) -> Listing:
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a directory.")
    return list_images(folder)


def _key(name: str) -> str:
    """A name as it compares: macOS writes accents in another way."""
    return unicodedata.normalize("NFC", name)


def _stems(images: Sequence[Path], pattern: str) -> dict[str, Path]:
    """Images by what `pattern` has as `{stem}`."""
    before, after = (re.escape(_key(part)) for part in pattern.split(STEM))
    stems: dict[str, Path] = {}
    for path in images:
        fit = re.fullmatch(f"{before}(.+){after}", _key(path.stem), re.DOTALL)
        if fit is None:
            raise DatasetError(
                f'{printable(path)} does not fit "image": "{pattern}" of dataset.json. Move it '
                "elsewhere, or correct the pattern."
            )
        if fit[1] in stems:
            raise DatasetError(
                f"{printable(stems[fit[1]])} and {printable(path.name)} have one name, so that a "
                "mask belongs to both. Rename one of them, and its mask."
            )
        stems[fit[1]] = path
    return stems


def _match(stems: Iterable[str], listing: Listing, patterns: Sequence[str]) -> dict[str, Path]:
    """The file of each stem that has one; DatasetError if several fit."""
    by_name: dict[str, list[Path]] = {}
    for path in listing.images:
        by_name.setdefault(_key(path.stem), []).append(path)
        if STEM not in patterns:  # a pattern of `dataset.json` may have a suffix
            by_name.setdefault(_key(path.name), []).append(path)
    stems = list(stems)
    # `a_mask.png` is the mask of the image `a_mask.jpg`, not another one of `a.jpg`.
    taken = {path for stem in stems for path in by_name.get(stem, ())}
    found = {}
    for stem in stems:
        own = by_name.get(stem, ()) if STEM in patterns else ()
        names = [pattern.replace(STEM, stem) for pattern in patterns if pattern != STEM]
        others = [path for name in names for path in by_name.get(name, ())]
        if STEM in patterns:
            others = [path for path in others if path not in taken or path in own]
        fits = sorted({*own, *others}, key=natural_key)
        if len(fits) > 1:
            raise DatasetError(
                f"{printable(fits[0])} and {printable(fits[1].name)} may both be the mask of "
                f"{printable(stem)}. Remove one, or name the pattern in dataset.json, such as "
                '"mask": "{stem}_mask".'
            )
        if fits:
            found[stem] = fits[0]
    return found


def _missing(
    folder: Path,
    without: Sequence[Path],
    stems: dict[str, Path],
    found: dict[str, Path],
    masks: Listing,
    pattern: str | None,
) -> str:
    """What to say of images without a mask."""
    first = without[0]
    stem = next(stem for stem, path in stems.items() if path == first)
    names = [each.replace(STEM, stem) for each in ((pattern,) if pattern else MASK_NAMES)]
    message = (
        f"{folder} has no mask for {len(without)} images, {printable(first.name)} the first. "
        f"Looked for {', '.join(map(printable, names))}, as PNG or another image."
    )
    left = [path for path in masks.images if path not in set(found.values())]
    like = next((path for path in left if stem in _key(path.stem)), None)
    if like is not None:
        guess = _key(like.stem).replace(stem, STEM, 1)
        return f'{message} If {printable(like.name)} is it, set "mask": "{guess}" in dataset.json.'
    if left:
        message += (
            f" {len(left)} files there belong to no image, {printable(left[0].name)} the first."
        )
    return message + _in_brackets(masks)


def _skipped(name: str, listing: Listing, used: set[Path] | None = None) -> str:
    """What is not used of a folder, or empty."""
    told = [listing.skipped()]
    left = [] if used is None else [path for path in listing.images if path not in used]
    if left:
        told.insert(0, f"{len(left)} without an image ({printable(left[0].name)}, ...)")
    text = ", ".join(part for part in told if part)
    return f"{name}: {text}" if text else ""


def _in_brackets(listing: Listing) -> str:
    skipped = listing.skipped()
    return f" Skipped there: {skipped}." if skipped else ""
