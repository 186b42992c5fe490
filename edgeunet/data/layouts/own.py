"""Our own layout: `DIR/{train,val}/{images,masks}` and `DIR/dataset.json`.

Also `DIR/{images,masks}` with a share or lists of samples, or any folders by patterns with a path.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..description import Declared, Description
from ..samples import STEM, Split, list_split
from .base import Family, Layout
from .pairs import list_pairs
from .splits import divide


@dataclass(frozen=True)
class Folders(Layout):
    """Folders of the splits, listed when they are asked for: one may be used without the other."""

    def split(self, name: str) -> Split:
        """Errors as of `list_split`."""
        described = self.description
        return list_split(self.root / name, image=described.image, mask=described.mask)


def read(root: Path, declared: Declared) -> Layout:
    """Read `dataset.json`; the folders are listed when a split is asked for."""
    description = declared.described()
    paths = [each for each in (description.image, description.mask) if each and "/" in each]
    if not paths and not description.division.given:
        return Folders("own", description)
    if paths:
        mask = description.mask or f"masks/{STEM}"
        pairs = list_pairs(root, _below(description.image, "images"), _below(mask, "masks"))
        return divide("own", description, pairs.samples, unused=pairs.unused)
    found = {name: _listed(root / name, description) for name in ("", "train", "val")}
    listed = {name: each.samples for name, each in found.items() if each.samples}
    unused = [text for each in found.values() for text in each.skipped]
    if not listed:  # the error for what is missing
        list_split(root, image=description.image, mask=description.mask)
    return divide("own", description, listed, unused=unused)


def _below(pattern: str, folder: str) -> str:
    return pattern if "/" in pattern else f"{folder}/{pattern}"


def _listed(folder: Path, description: Description) -> Split:
    if not (folder / "images").is_dir():
        return Split(())
    return list_split(folder, image=description.image, mask=description.mask)


FAMILY = Family(
    "own",
    "dataset.json, train/images, train/masks, val/images, val/masks",
    (("dataset.json", "train/images", "train/masks"),),
    read,
)
