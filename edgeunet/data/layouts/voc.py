"""PASCAL VOC: `JPEGImages`, `SegmentationClass` and lists in `ImageSets/Segmentation`.

Masks hold indices of a palette, or its colours; 255, the border of objects, does not count. CVAT's
"Segmentation mask" has the same folders, and its classes and colours in `labelmap.txt`.

Everingham et al., "The PASCAL Visual Object Classes Challenge", IJCV 2010.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import DatasetError, printable
from ..description import Colour, Declared
from ..headers import form_of
from ..images import read_bytes
from ..samples import STEM
from .base import Family, Layout, split_name
from .classes import is_void, listed_classes, names_beside
from .files import read_lines
from .pairs import list_pairs, patterns
from .splits import divide, names_of

CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
    *("cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)


def colour(index: int) -> Colour:
    """Colour of an index in VOC's palette: its bits, spread over red, green and blue in turn.

    Example:
        >>> from edgeunet.data.layouts.voc import colour
        >>> colour(1), colour(15), colour(255)
        ((128, 0, 0), (192, 128, 128), (224, 224, 192))
    """
    red = green = blue = 0
    for bit in range(8):
        red |= (index >> 3 * bit & 1) << 7 - bit
        green |= (index >> 3 * bit + 1 & 1) << 7 - bit
        blue |= (index >> 3 * bit + 2 & 1) << 7 - bit
    return red, green, blue


def read(root: Path, declared: Declared) -> Layout:
    """Classes are those of `labelmap.txt` or another list, else VOC's own."""
    image, mask = patterns(declared, f"JPEGImages/{STEM}", f"SegmentationClass/{STEM}")
    pairs = list_pairs(root, image, mask, partial=True)
    lists = {
        path.stem: path
        for path in sorted((root / "ImageSets" / "Segmentation").glob("*.txt"))
        if split_name(path.stem) in ("train", "val")
    }
    colours = form_of(read_bytes(pairs.masks[0])).several
    names = names_beside(root)
    if (root / "labelmap.txt").is_file():
        found = _labelmap(root / "labelmap.txt")
    elif names is not None:
        found = listed_classes(names)
        if "mask_values" not in found:
            found["palette"] = [colour(index) for index in range(len(names))]
    elif colours:  # the border has a colour too
        found = {
            "classes": [*CLASSES, "void"],
            "palette": [colour(index) for index in (*range(len(CLASSES)), 255)],
            "ignore": len(CLASSES),
        }
    else:
        found = {
            "classes": CLASSES,
            "palette": [colour(index) for index in range(len(CLASSES))],
            "mask_values": "ids",
        }
    return divide(
        "voc",
        declared.described(**found),
        pairs.samples,
        lists={split_name(name): names_of(path) for name, path in lists.items()},
        unused=pairs.unused,
    )


def _labelmap(path: Path) -> dict[str, object]:
    """Names and colours of lines such as `car:0,0,128::`; "#" begins the heading."""
    names: list[str] = []
    colours: list[list[int]] = []
    for line in read_lines(path):
        name, _, rest = line.partition(":")
        numbers = rest.partition(":")[0].split(",")
        if line.startswith("#"):
            continue
        if len(numbers) != 3 or not all(each.strip().isdecimal() for each in numbers):
            raise DatasetError(
                f"{printable(path)} has the line {printable(line)!r}; expected NAME:R,G,B::."
            )
        names.append(name)
        colours.append([int(each) for each in numbers])
    # CVAT sorts the lines by name, but stores colours, or indices of a palette of these.
    ignore = [index for index, name in enumerate(names) if is_void(name)]
    found: dict[str, object] = {"classes": names, "palette": colours, "mask_values": "palette"}
    return {**found, "ignore": ignore} if ignore else found


FAMILY = Family(
    "voc",
    "JPEGImages, SegmentationClass, ImageSets/Segmentation/{train,val}.txt",
    (("JPEGImages", "SegmentationClass"),),
    read,
)
