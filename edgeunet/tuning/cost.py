"""Predicts the time of a frame from what a net computes, and says how far off that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

Times = Mapping[str, float]
"""Milliseconds of a frame by the way that computes it, such as "openvino INT8"."""

FEWEST = 4
"""Measured nets below which nothing is known of the error: three would fit exactly."""


@dataclass(frozen=True)
class Work:
    """What a net does for a frame: billions of FLOPs, and millions of values that it writes.

    Depthwise convolutions take the time of their values, others that of their FLOPs.
    """

    gflops: float
    melements: float

    @property
    def row(self) -> tuple[float, float, float]:
        """What the coefficients of a fit belong to."""
        return 1.0, self.gflops, self.melements


class CostModel:
    """Milliseconds = fixed + a * FLOPs + b * values, fitted to measured nets, for each way.

    No coefficient is negative, and the relative errors are what is minimised.

    Args:
        measured: what nets do, and how long that took. Ways that are missing anywhere are left out.

    error: largest relative error, over all nets and ways, of a prediction of a net by a fit to the
    others; infinite if there are too few nets to tell.

    Example:
        >>> from edgeunet.tuning.cost import CostModel, Work
        >>> nets = [(Work(n, n), {"onnxruntime FP32": 1 + 2 * n}) for n in (1, 2, 3, 4)]
        >>> round(CostModel(nets).predict(Work(10, 10))["onnxruntime FP32"], 6)
        21.0
    """

    def __init__(self, measured: Sequence[tuple[Work, Times]]) -> None:
        assert measured
        common = set.intersection(*(set(times) for _, times in measured))
        self.ways = tuple(way for way in measured[0][1] if way in common)
        rows = np.array([work.row for work, _ in measured])
        times = {way: np.array([each[way] for _, each in measured]) for way in self.ways}
        self._coefficients = {way: _fit(rows, times[way]) for way in self.ways}
        self.error = math.inf
        if len(measured) >= FEWEST:
            self.error = max((_left_out(rows, each) for each in times.values()), default=math.inf)

    def predict(self, work: Work) -> dict[str, float]:
        """Milliseconds of a frame by way."""
        return {way: float(each @ work.row) for way, each in self._coefficients.items()}


def _left_out(rows: npt.NDArray[np.float64], times: npt.NDArray[np.float64]) -> float:
    """The largest relative error of a net that was left out of the fit."""
    errors = []
    for index in range(len(times)):
        others = np.arange(len(times)) != index
        predicted = rows[index] @ _fit(rows[others], times[others])
        errors.append(abs(predicted / times[index] - 1))
    return float(max(errors))


def _fit(rows: npt.NDArray[np.float64], times: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Coefficients (3,), none negative, with the least squares of the relative errors.

    The best solution has some columns at 0 and solves the others freely, and there are 7 choices.
    """
    scaled = rows / times[:, None]
    best, found = math.inf, np.zeros(3)
    for count in (1, 2, 3):
        for columns in combinations(range(3), count):
            solution = np.linalg.lstsq(scaled[:, columns], np.ones(len(times)), rcond=None)[0]
            if (solution < 0).any():
                continue
            squares = float(((scaled[:, columns] @ solution - 1) ** 2).sum())
            if squares < best - 1e-12:
                best, found = squares, np.zeros(3)
                found[list(columns)] = solution
    return found
