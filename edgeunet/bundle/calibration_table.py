"""The calibration table of a bundle: calibration.json as frozen dataclasses."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import CalibrationError
from .schema import SchemaError, read

TABLE_NAME = "calibration.json"
TABLE_VERSION = 1

Method = Literal["mse", "percentile", "entropy", "minmax"]


@dataclass(frozen=True)
class MethodScore:
    """How good the worse of the INT8 graphs is with the ranges of one method, CPU's or TensorRT's.

    miou: against the labels, in percent, capped at the FP32 graph's; None without labels.
    agreement: share of the pixels with the same class as by the FP32 graph, 0..1.
    """

    method: Method
    miou: float | None
    agreement: float


@dataclass(frozen=True)
class CalibrationTable:
    """Contents of calibration.json.

    model: variant. graph: SHA-256 of the FP32 graph that the ranges belong to.
    method: how the ranges were made from the observed values.
    source, frames: where the calibration frames came from, and how many.
    ranges: (lowest, highest) by activation. Each includes 0, so that padding is exact.
    compared_on, scores: what the methods were compared on, and the results; None and empty if the
        user chose the method.
    left_out: classes that no mIoU of the scores is averaged over, because no label there has them.
    """

    model: str
    graph: str
    method: Method
    source: str
    frames: int
    ranges: dict[str, tuple[float, float]]
    compared_on: str | None = None
    scores: tuple[MethodScore, ...] = ()
    left_out: tuple[str, ...] = ()
    schema_version: int = TABLE_VERSION

    def __post_init__(self) -> None:
        if re.fullmatch(r"[0-9a-f]{64}", self.graph) is None:
            raise ValueError(f"graph: expected a SHA-256, got {self.graph!r}")
        if self.frames < 1:
            raise ValueError(f"frames is {self.frames}; it must be at least 1")
        if not self.ranges:
            raise ValueError("ranges is empty; it must hold at least one activation")
        for name, (lowest, highest) in self.ranges.items():
            finite = math.isfinite(lowest) and math.isfinite(highest)
            if not finite or not lowest <= 0 <= highest or lowest == highest:
                raise ValueError(
                    f"range of {name} is {lowest} to {highest}; it must include 0 and be finite "
                    "and not empty"
                )


def read_table(path: Path) -> CalibrationTable:
    """Read and validate a table.

    Raises:
        CalibrationError: missing, not JSON, of another schema version, or it does not fit the
            schema.
    """
    try:
        return read(CalibrationTable, path, version=TABLE_VERSION)
    except FileNotFoundError:
        problem = "does not exist"
    except SchemaError as error:
        problem = f"is not a calibration table: it {error}"
    raise CalibrationError(
        f"{path} {problem}. Pass BUNDLE/{TABLE_NAME} of an INT8 bundle, or --calib with frames."
    )
