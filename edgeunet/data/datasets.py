"""Data sets: `DIR/{train,val}/images/*`, `DIR/{train,val}/masks/*.png`, `DIR/dataset.json`.

Optional `DIR/{train,val}/instances/*.png`, 16 bit, 0 = none, separate instances of one class.

A folder with only a `dataset.json` is a view of another data set, with some of its classes merged:
`{"source": "../tiles", "merge": {"defect": ["crack", "fray"]}}`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import DatasetError
from ..files import IMAGE_SUFFIXES
from ..metrics import IGNORE, Mask
from . import images

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """Paths of one image, its mask, and its instances if there are any.

    ids: maps the ids in the mask's file to class ids, None if they are the same.
    """

    image: Path
    mask: Path
    instances: Path | None = None
    ids: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Dataset:
    """A data set in the layout above.

    root: folder of the splits. classes: names by class id. palette: RGB colours by class id.
    ids: for a view, maps the class ids of its source to its own.
    """

    root: Path
    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ids: tuple[int, ...] | None = None

    def samples(self, split: str) -> list[Sample]:
        """Images of `train` or `val` with their masks, sorted by name."""
        return [replace(sample, ids=self.ids) for sample in list_samples(self.root / split)]

    def check_classes(self, expected: int, owner: str) -> None:
        """DatasetError unless there are as many classes as expected. owner: "the net has"."""
        if len(self.classes) != expected:
            raise DatasetError(f"{self.root} has {len(self.classes)} classes, {owner} {expected}.")


def open_dataset(root: str | Path) -> Dataset:
    """Read `dataset.json`; DatasetError says what is missing."""
    path = Path(root) / "dataset.json"
    info = _read_info(path)
    return _view(path, info) if "source" in info else _dataset(path, info)


def _read_info(path: Path) -> dict[str, Any]:
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(
            f"{path} does not exist. A data set is DIR/dataset.json with DIR/{{train,val}}/images "
            "and DIR/{train,val}/masks."
        ) from None
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read as JSON: {error}") from None
    if isinstance(info, dict) and ("source" in info or isinstance(info.get("classes"), list)):
        return info
    raise DatasetError(f'{path} has no list "classes" of class names.')


def _dataset(path: Path, info: dict[str, Any]) -> Dataset:
    classes = tuple(str(name) for name in info["classes"])
    if not 2 <= len(classes) <= IGNORE:
        raise DatasetError(f"{path} names {len(classes)} classes; 2 to {IGNORE} are possible.")
    return Dataset(
        root=path.parent,
        name=str(info.get("name", path.parent.name)),
        classes=classes,
        palette=_palette(info.get("palette"), len(classes), path),
    )


def _view(path: Path, info: dict[str, Any]) -> Dataset:
    """The data set that a view names as its source, with some of its classes merged."""
    merge = info.get("merge")
    if (
        set(info) - {"source", "name", "merge", "palette"}
        or not isinstance(info["source"], str)
        or not isinstance(merge, dict)
        or not all(isinstance(members, list) for members in merge.values())
    ):
        raise DatasetError(
            f'{path} is not a view of a data set: expected {{"source": DIR, "merge": {{NAME: '
            f'[CLASS, ...]}}}}, optionally with "name" and "palette"; got {json.dumps(info)}.'
        )
    source_path = path.parent / info["source"] / "dataset.json"
    source_info = _read_info(source_path)
    if "source" in source_info:
        raise DatasetError(
            f"{path} is a view of {source_path}, which is a view too. Name its source."
        )
    source = _dataset(source_path, source_info)
    merged = {old: new for new, members in merge.items() for old in members}
    if odd := sorted(set(merged) - set(source.classes)):
        raise DatasetError(
            f'{path}: "merge" names {odd[0]!r}; {source.root} has: {", ".join(source.classes)}.'
        )
    names = [merged.get(name, name) for name in source.classes]
    classes = tuple(dict.fromkeys(names))  # in order of first appearance
    if len(classes) < 2:
        raise DatasetError(f"{path} leaves one class, {classes[0]!r}; expected two or more.")
    return Dataset(
        root=source.root,
        name=str(info.get("name", source.name)),
        classes=classes,
        palette=_palette(info.get("palette"), len(classes), path),
        ids=tuple(classes.index(name) for name in names),
    )


def list_samples(folder: Path) -> list[Sample]:
    """Samples of `images/NAME.*`, `masks/NAME.png` and, if it exists, `instances/NAME.png`."""
    images = folder / "images"
    if not images.is_dir():
        raise DatasetError(f"{images} is not a directory.")
    samples = []
    for image in sorted(images.iterdir()):
        if image.suffix.lower() in IMAGE_SUFFIXES:
            mask, instances = (folder / n / f"{image.stem}.png" for n in ("masks", "instances"))
            samples.append(Sample(image, mask, instances if instances.exists() else None))
    if not samples:
        raise DatasetError(f"{images} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    without = [sample.image.name for sample in samples if not sample.mask.exists()]
    if without:
        raise DatasetError(
            f"{folder / 'masks'} has no mask for {len(without)} images, {without[0]} the first."
        )
    return samples


def read_image(path: Path, *, channels: int = 3) -> Image:
    """Read an image as 8 bit: RGB (H, W, 3), or gray (H, W, 1) computed from RGB as `run` does."""
    rgb = images.read_image(path)
    if channels == 3:
        return rgb
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[..., None]  # type: ignore[return-value]


def read_mask(path: Path, *, num_classes: int) -> Mask:
    """Read class ids (H, W); DatasetError if an id is neither a class nor 255."""
    mask = images.read_ids(path)
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise DatasetError(
            f"{path} is not an 8-bit single-channel image of class ids; it {_form(mask)}."
        )
    wrong = mask[(mask >= num_classes) & (mask != IGNORE)]
    if wrong.size:
        raise DatasetError(
            f"{path} holds class id {int(wrong.max())}; there are {num_classes} classes "
            f"(0..{num_classes - 1}, {IGNORE} = ignore)."
        )
    return mask.astype(np.uint8, copy=False)


def read_labels(sample: Sample, *, num_classes: int) -> Mask:
    """Read the class ids (H, W) of a sample, mapped by its `ids`; errors as of `read_mask`."""
    if sample.ids is None:
        return read_mask(sample.mask, num_classes=num_classes)
    new_ids = np.full(IGNORE + 1, IGNORE, np.uint8)
    new_ids[: len(sample.ids)] = sample.ids
    labels: Mask = new_ids[read_mask(sample.mask, num_classes=len(sample.ids))]
    return labels


def read_instances(path: Path) -> npt.NDArray[np.int32]:
    """Read instance ids (H, W), 0 = none."""
    instances = images.read_ids(path)
    if instances.ndim != 2 or instances.dtype not in (np.uint8, np.uint16):
        raise DatasetError(
            f"{path} is not a single-channel image of instance ids, 8 or 16 bit; it "
            f"{_form(instances)}."
        )
    return instances.astype(np.int32)


def _form(ids: npt.NDArray[np.integer[Any]]) -> str:
    """What an image holds instead of ids."""
    return f"has {1 if ids.ndim == 2 else ids.shape[2]} channel(s) of {ids.dtype}"


def _palette(given: object, num_classes: int, path: Path) -> tuple[tuple[int, int, int], ...]:
    if given is None:
        return default_palette(num_classes)
    if not isinstance(given, list) or len(given) != num_classes:
        raise DatasetError(f'{path}: "palette" must list one [r, g, b] for each class.')
    for entry in given:
        numbers = entry if isinstance(entry, list) and len(entry) == 3 else [None]
        if not all(type(value) is int and 0 <= value <= 255 for value in numbers):
            raise DatasetError(f'{path}: "palette" holds {entry!r}; expected [r, g, b], 0..255.')
    return tuple((red, green, blue) for red, green, blue in given)


def default_palette(num_classes: int) -> tuple[tuple[int, int, int], ...]:
    """Black for class 0 and hues at golden-ratio steps for the others, RGB."""
    colours = [(0, 0, 0)]
    for index in range(1, num_classes):
        hue = int(180 * (index * 0.618034 % 1.0))
        value = 255 - 50 * (index // 64)  # hues have 180 steps: too few for 255 classes
        pixel = np.array([[[hue, 200, value]]], dtype=np.uint8)
        red, green, blue = (int(value) for value in cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0])
        colours.append((red, green, blue))
    return tuple(colours)
