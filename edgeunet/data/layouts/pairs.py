"""Images and masks that belong together by their paths, whatever folders they stand in."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ...errors import DatasetError, printable
from ...listing import IMAGE_SUFFIXES
from ..description import Declared
from ..samples import STEM, MaskFile, Sample
from .base import counted, first_of
from .files import files_below

SPLIT = "{split}"


@dataclass(frozen=True)
class Pairs:
    """Samples by the name of their split, "" if the pattern has none, and what is left out.

    without: images that have no mask.
    """

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    without: tuple[Path, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def masks(self) -> list[Path]:
        """All masks."""
        return [sample.labels.path for samples in self.samples.values() for sample in samples]


@dataclass(frozen=True)
class Pattern:
    """A path below the data set, with `{stem}` and perhaps `{split}`.

    `{stem}` may hold folders, `{split}` is one. Without a suffix, any image fits.
    """

    text: str

    @property
    def folder(self) -> str:
        """The folder that holds all that fits."""
        parts = PurePosixPath(self.text).parts
        fixed = next(index for index, part in enumerate(parts) if "{" in part)
        return str(PurePosixPath(*parts[:fixed]))

    def matches(self, root: Path) -> dict[tuple[str, str], Path]:
        """Files by split and stem; DatasetError if two differ in their suffix only."""
        text = re.escape(unicodedata.normalize("NFC", self.text))
        text = text.replace(re.escape(SPLIT), "(?P<split>[^/]+)")
        text = text.replace(re.escape(STEM), "(?P<stem>.+)")
        if PurePosixPath(self.text).suffix.lower() not in IMAGE_SUFFIXES:
            text += r"(?P<suffix>\.[^./]+)"
        known = re.compile(text, re.DOTALL)
        found: dict[tuple[str, str], Path] = {}
        where = root / self.folder
        for path in files_below(root, where) if where.is_dir() else ():
            name = unicodedata.normalize("NFC", path.relative_to(root).as_posix())
            fit = known.fullmatch(name)
            if fit is None or path.suffix.lower() not in IMAGE_SUFFIXES:
                continue
            key = (fit.groupdict().get("split", ""), fit["stem"])
            if key in found:
                raise DatasetError(
                    f"{printable(found[key])} and {printable(path.name)} both fit {self.text!r}. "
                    "Remove one, or write the suffix into the pattern."
                )
            found[key] = path
        return found


def list_pairs(
    root: Path,
    image: str,
    mask: str,
    *,
    partial: bool = False,
    optional: Sequence[str] = ("test", "testing"),
) -> Pairs:
    """Match images and masks below a folder by two patterns.

    Args:
        partial: images may lack a mask; they are left out, and counted.
        optional: splits whose images may lack one.

    Raises:
        DatasetError: no images, an image without a mask, or two files for one place.

    Example:
        >>> from pathlib import Path; from edgeunet.data.layouts.pairs import list_pairs
        >>> for name in ("imgs/a.jpg", "masks/a_m.png"):
        ...     Path(name).parent.mkdir(); Path(name).touch()
        >>> len(list_pairs(Path("."), "imgs/{stem}", "masks/{stem}_m").samples[""])
        1
    """
    masks, images = Pattern(mask).matches(root), Pattern(image).matches(root)
    of_masks = set(masks.values())
    images = {key: path for key, path in images.items() if path not in of_masks}
    if not images:
        raise DatasetError(f"{printable(root)} holds no image that fits {image!r}.")
    samples: dict[str, list[Sample]] = {}
    without: list[Path] = []
    told: list[str] = []
    used = set()
    for (split, stem), path in images.items():
        found = masks.get((split, stem)) or masks.get(("", stem))
        if found is not None:
            used.add(found)
            samples.setdefault(split, []).append(Sample(path, MaskFile(found)))
        elif partial or split in optional:
            without.append(path)
        else:
            wanted = mask.replace(SPLIT, split).replace(STEM, stem)
            lack = [
                key
                for key in images
                if key not in masks and ("", key[1]) not in masks and key[0] not in optional
            ]
            raise DatasetError(
                f"{printable(root)} has no mask for {counted(len(lack), 'image')}, "
                f"{printable(path.relative_to(root))} the first. Looked for {printable(wanted)}. "
                'Add it, or name the pattern of the masks as "mask" in dataset.json.'
            )
    if without:
        told.append(f"{counted(len(without), 'image')} without a mask {first_of(without)}")
    if left := [path for path in masks.values() if path not in used]:
        told.append(f"{counted(len(left), 'mask')} without an image {first_of(left)}")
    if not samples:
        raise DatasetError(
            f"{printable(root)}: no image that fits {image!r} has a mask that fits {mask!r}; "
            f"{printable(without[0].name)} is the first without."
        )
    return Pairs(samples, tuple(without), tuple(told))


def patterns(declared: Declared, image: str, mask: str) -> tuple[str, str]:
    """The patterns of a layout, or those that `dataset.json` names instead."""
    return _path(declared, "image", image), _path(declared, "mask", mask)


def _path(declared: Declared, key: str, usual: str) -> str:
    given = declared.pattern(key)
    if given is None:
        return usual
    # A name alone stands in the layout's folder.
    return given if "/" in given else str(PurePosixPath(usual).parent / given)
