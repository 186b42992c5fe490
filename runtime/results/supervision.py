"""Regions for Roboflow's supervision, which draws, tracks and counts them."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeunet.errors import MissingDependencyError
from edgeunet.metrics import Mask
from edgeunet.shapes.regions import Legend, labelled


def detections(
    mask: Mask,
    legend: Legend,
    *,
    background: bool = False,
    min_area: int = 1,
    confidence: npt.NDArray[np.uint8] | None = None,
) -> Any:
    """`supervision.Detections` with one entry for each region of a mask (H, W).

    xyxy: left, top, right and bottom in pixels. mask: (n, H, W) of booleans, a byte for each pixel
    of each region: pass `min_area` if there are many. class_id; data["class_name"]; confidence:
    0 to 1, None unless it was computed.

    Args:
        background, min_area, confidence: see `regions_of`.

    Raises:
        MissingDependencyError: supervision is not installed.
    """
    try:
        supervision = importlib.import_module("supervision")
    except ImportError:
        raise MissingDependencyError("supervision") from None
    labels, regions = labelled(
        mask, legend, background=background, min_area=min_area, confidence=confidence
    )
    if not regions:
        return supervision.Detections.empty()
    boxes = np.array([region.box for region in regions], np.float32)
    boxes[:, 2:] += boxes[:, :2]
    numbers = np.arange(1, len(regions) + 1, dtype=labels.dtype)
    return supervision.Detections(
        xyxy=boxes,
        mask=labels == numbers[:, None, None],
        class_id=np.array([region.class_id for region in regions]),
        confidence=None
        if confidence is None
        else np.array([region.confidence for region in regions], np.float32),
        data={"class_name": np.array([region.label for region in regions])},
    )
