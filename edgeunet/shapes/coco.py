"""Masks as annotations of COCO, which pycocotools and tools for labels read.

The format: cocodataset.org/#format-data. A region is an annotation, with its exact pixels as
compressed run lengths. Ids of categories are class ids; those of images and annotations begin at 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..metrics import Mask
from .regions import Legend, labelled
from .runs import compressed_runs

INFO = {"description": "masks of edgeunet, one annotation for each connected region"}


def categories_of(legend: Legend, *, background: bool = False) -> list[dict[str, Any]]:
    """One record for each class, without the background unless it is asked for."""
    return [
        {"id": class_id, "name": legend.classes[class_id], "supercategory": ""}
        for class_id in legend.ids(background=background)
    ]


def image_of(
    image_id: int, file_name: str, size: tuple[int, int], *, frame: int, time: float | None
) -> dict[str, Any]:
    """The record of an image or of a frame of a video.

    Args:
        size: height and width. frame: its number from 0. time: in seconds, None without one.
    """
    height, width = size
    record = {"id": image_id, "file_name": file_name, "height": height, "width": width}
    return {**record, "frame": frame} if time is None else {**record, "frame": frame, "time": time}


def annotations_of(
    mask: Mask,
    legend: Legend,
    *,
    image_id: int,
    first_id: int,
    background: bool = False,
    min_area: int = 1,
    confidence: npt.NDArray[np.uint8] | None = None,
) -> list[dict[str, Any]]:
    """One record for each region of a mask (H, W); `score` if the confidence is known.

    Args:
        image_id: of the image. first_id: of the first annotation, and the others count on.
        Others: see `regions_of`.

    Example:
        >>> from edgeunet.shapes.coco import annotations_of
        >>> from edgeunet.shapes.regions import Legend
        >>> legend = Legend(["background", "cell"], [(0, 0, 0), (255, 0, 0)])
        >>> mask = np.array([[0, 1, 1]], np.uint8)
        >>> (record,) = annotations_of(mask, legend, image_id=1, first_id=7)
        >>> record["id"], record["bbox"], record["segmentation"]
        (7, [1, 0, 2, 1], {'size': [1, 3], 'counts': '12'})
    """
    labels, regions = labelled(
        mask, legend, background=background, min_area=min_area, confidence=confidence
    )
    runs = compressed_runs(labels)
    records = []
    for number, region in enumerate(regions, 1):
        record = {
            "id": first_id + number - 1,
            "image_id": image_id,
            "category_id": region.class_id,
            "segmentation": {"size": list(mask.shape), "counts": runs[number]},
            "area": region.area,
            "bbox": list(region.box),
            "iscrowd": 0,
        }
        if region.confidence is not None:
            record["score"] = round(region.confidence, 4)
        records.append(record)
    return records
