"""The calibration table of a bundle: calibration.json <-> frozen dataclasses."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import CalibrationError
from .schema import SchemaError, encode, read

TABLE_NAME = "calibration.json"
TABLE_VERSION = 1

Method = Literal["mse", "percentile", "entropy", "minmax"]


@dataclass(frozen=True)
class MethodScore:
    """How the CPU's INT8 graph does with a method's ranges.

    miou: against labels, percent, at most the FP32 graph's; None without labels. agreement: share
    of the pixels on which the FP32 graph says the same, 0..1.
    """

    method: Method
    miou: float | None
    agreement: float


@dataclass(frozen=True)
class CalibrationTable:
    """Contents of calibration.json.

    model: variant. graph: SHA-256 of the FP32 graph that the ranges belong to. method: how a range
    was made of the values seen. source, frames: where the frames came from, and how many.
    compared_on: what the methods were compared on, None where one was asked for; scores: what came
    of it. ranges: (lowest, highest) by the name of the activation; each holds 0, so that padding
    is exact.
    """

    model: str
    graph: str
    method: Method
    source: str
    frames: int
    ranges: dict[str, tuple[float, float]]
    compared_on: str | None = None
    scores: tuple[MethodScore, ...] = ()
    schema_version: int = TABLE_VERSION

    def __post_init__(self) -> None:
        if re.fullmatch(r"[0-9a-f]{64}", self.graph) is None:
            raise ValueError(f"graph is {self.graph!r}; a SHA-256 was wanted")
        if self.frames < 1:
            raise ValueError(f"frames is {self.frames}; it must be at least 1")
        if not self.ranges:
            raise ValueError("ranges holds no activation")
        for name, (lowest, highest) in self.ranges.items():
            finite = math.isfinite(lowest) and math.isfinite(highest)
            if not finite or not lowest <= 0 <= highest or lowest == highest:
                raise ValueError(
                    f"range of {name} is {lowest} to {highest}; it must hold 0 and be wider"
                )


def table_json(table: CalibrationTable) -> dict[str, Any]:
    """JSON-ready form of a table, schema version first."""
    data: dict[str, Any] = encode(table)
    return {"schema_version": data.pop("schema_version"), **data}


def read_table(path: Path) -> CalibrationTable:
    """Read and validate a table.

    Raises:
        CalibrationError: missing, not JSON, of an unknown schema version, or not in the schema.
    """
    try:
        return read(CalibrationTable, path, version=TABLE_VERSION)
    except FileNotFoundError:
        problem = "does not exist"
    except SchemaError as error:
        problem = f"is no calibration table: it {error}"
    raise CalibrationError(
        f"{path} {problem}. Pass BUNDLE/{TABLE_NAME} of an INT8 bundle, or --calib with frames."
    )
