"""Masks as lines of JSON: run lengths, or polygons."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeunet.metrics import Mask
from edgeunet.shapes.regions import Legend, Polygon, polygons_of
from edgeunet.shapes.runs import compressed_runs

from ..frames import Segmented
from .base import Sink
from .lines import LineFile


class _Lines(Sink):
    """Writes one JSON object per frame, one a line; errors are those of `LineFile`."""

    def __init__(self, path: Path, *, force: bool = False) -> None:
        self._lines = LineFile(path, force=force)

    def write(self, segmented: Segmented) -> None:
        """Write one line; OSError if the disk is full."""
        frame, presence = segmented.frame, segmented.presence
        record = {
            "frame": frame.index,
            "name": frame.name,
            "time": frame.time,
            "presence": None if presence is None else [round(float(p), 6) for p in presence],
            **self._shapes(segmented),
        }
        self._lines.write(json.dumps(record) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._lines.close()

    @abstractmethod
    def _shapes(self, segmented: Segmented) -> dict[str, Any]:
        """What the line tells of the mask."""


class JsonLines(_Lines):
    """Writes one JSON object per frame, one a line; no line is left half-written.

    `frame`, `name`, `time` and `presence` come from `Segmented`, `segments` from `segments`.

    Raises:
        UsageError: a directory is in its place. OutputExistsError: the file exists and `force` is
            false. OutputError: another run writes the file.
    """

    def __init__(self, path: Path, *, classes: Sequence[str], force: bool = False) -> None:
        super().__init__(path, force=force)
        self._classes = classes

    def _shapes(self, segmented: Segmented) -> dict[str, Any]:
        return {"segments": segments(segmented.mask, self._classes)}


class PolygonLines(_Lines):
    """Writes lines as `JsonLines` does, with `size` (height, width) and `polygons` of each region.

    See `polygon_record`; black classes are left out. Errors are those of `JsonLines`.
    """

    def __init__(self, path: Path, *, legend: Legend, force: bool = False) -> None:
        super().__init__(path, force=force)
        self._legend = legend

    def _shapes(self, segmented: Segmented) -> dict[str, Any]:
        found = polygons_of(segmented.mask, self._legend, confidence=segmented.confidence)
        return {
            "size": list(segmented.mask.shape),
            "polygons": [polygon_record(polygon) for polygon in found],
        }


def segments(mask: Mask, classes: Sequence[str]) -> list[dict[str, Any]]:
    """One entry for each class in the mask (H, W).

    It has `category_id` and `category`, `area` in pixels, and `segmentation`: compressed run
    lengths in COCO's form, which `pycocotools.mask.decode` reads.

    Example:
        >>> from edgeunet.runtime.sinks.jsonlines import segments
        >>> segments(np.array([[0, 1, 1]], np.uint8), ["background", "cell"])[1]["segmentation"]
        {'size': [1, 3], 'counts': '12'}
    """
    areas = np.bincount(mask.ravel(), minlength=256)
    return [
        {
            "category_id": class_id,
            "category": classes[class_id] if class_id < len(classes) else "",
            "area": int(areas[class_id]),
            "segmentation": {"size": list(mask.shape), "counts": counts},
        }
        for class_id, counts in compressed_runs(mask).items()
    ]


def polygon_record(polygon: Polygon) -> dict[str, Any]:
    """A region with its corners in pixels of the frame, see `Polygon`, for JSON.

    `outline` and each of `holes` are lists of [x, y], not closed; `bbox` is x, y, width, height.

    Example:
        >>> from edgeunet.runtime.sinks.jsonlines import polygon_record
        >>> from edgeunet.shapes.regions import Legend, polygons_of
        >>> legend = Legend(["cell"], [(255, 0, 0)])
        >>> (polygon,) = polygons_of(np.zeros((1, 2), np.uint8), legend)
        >>> polygon_record(polygon)["bbox"]
        [0, 0, 2, 1]
    """
    record = {
        "category_id": polygon.class_id,
        "category": polygon.label,
        "area": polygon.area,
        "bbox": list(polygon.box),
        "centroid": [round(value, 2) for value in polygon.centroid],
        "outline": polygon.outline.tolist(),
        "holes": [hole.tolist() for hole in polygon.holes],
    }
    if polygon.confidence is not None:
        record["score"] = round(polygon.confidence, 4)
    return record
