"""Procedural phase-contrast microscopy of living cells, with exact masks.

Cells crawl (persistent random walk), grow, deform, press against each other and divide: a cell
rounds up, turns bright, lines up its chromosomes and splits in two. `time_lapse` films a colony and
moves the stage to empty medium once in a while. `snapshots` makes independent training samples, and
`write_dataset` stores them. Nothing is downloaded. The same seed gives the same bytes if numpy and
OpenCV are the same. Coordinates are x, y in pixels, angles radians, times frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ...errors import UsageError
from ...files import new_directory, write_json
from ...metrics import IGNORE
from .colony import Colony
from .microscope import CellFrame, Microscope, Optics

NAME = "cells"
"""Name of the data set. Weights trained on it can be calibrated and verified without any data."""

CLASSES = ("background", "cell", "dividing")
PALETTE = ((0, 0, 0), (32, 178, 170), (255, 140, 66))
"""RGB by class id: black, teal, orange."""

_MOVE = 0.1  # share of a period that the stage takes to move one way


@dataclass(frozen=True)
class Scene:
    """What a time-lapse shows.

    height, width: pixels. cells: mean number in view at the start. radius: of a cell, pixels.
    empty: share of the frames that show medium without any cell, 0..0.7. period: frames from one
    visit to the empty place to the next. A period ends with the visit.
    """

    height: int = 256
    width: int = 320
    cells: int = 18
    seed: int = 0
    radius: float = 17.0
    empty: float = 0.2
    period: int = 300

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1 or self.cells < 0 or self.radius < 4:
            raise UsageError(f"{self}: expected sizes from 1, cells from 0, radius from 4.")
        if not 0 <= self.empty <= 0.7 or self.period < 20:
            raise UsageError(f"{self}: expected empty in 0..0.7, period of 20 frames or more.")


def time_lapse(scene: Scene, frames: int) -> Iterator[CellFrame]:
    """Film one colony. The film starts on it and visits empty medium once a period."""
    size, rng = (scene.height, scene.width), np.random.default_rng([scene.seed, 0, 1])
    colony = Colony(rng, size, cells=scene.cells, radius=scene.radius)
    # So far away that not even a cell at the colony's rim is in view.
    travel = int(scene.width + colony.margin + 4 * scene.radius)
    microscope = Microscope(rng, size, optics=Optics.draw(rng, variety=0.5), travel=travel)
    for frame in range(frames):
        yield microscope.expose(
            colony.cells, frame=frame, left=round(travel * _stage(scene, frame))
        )
        colony.advance()


def snapshots(count: int, *, height: int, width: int, seed: int = 0) -> Iterator[CellFrame]:
    """Independent samples of varied colonies and optics. About one in six shows no cell."""
    for index in range(count):
        size, rng = (height, width), np.random.default_rng([seed, index, 2])
        radius = rng.uniform(10, 24)
        cover = rng.uniform(0.06, 0.6) if rng.random() < 5 / 6 else 0.0
        cells = int(np.ceil(cover * height * width / (np.pi * radius**2)))
        colony = Colony(rng, size, cells=cells, radius=radius)
        microscope = Microscope(rng, size, optics=Optics.draw(rng, variety=1.0), travel=0)
        yield microscope.expose(colony.cells, frame=0, left=0)


def write_dataset(
    root: Path, *, train: int, val: int, height: int, width: int, seed: int = 0
) -> None:
    """Write `snapshots` as a data set, whole or not at all. The splits share no sample.

    Raises:
        OutputExistsError: `root` exists.
    """
    with new_directory(root, force=False) as folder:
        for number, (split, count) in enumerate((("train", train), ("val", val))):
            for kind in ("images", "masks", "instances"):
                (folder / split / kind).mkdir(parents=True)
            samples = snapshots(count, height=height, width=width, seed=2 * seed + number)
            for index, sample in enumerate(samples):
                _write_png(folder / split / "images" / f"{index:06}.png", sample.image[..., ::-1])
                _write_png(folder / split / "masks" / f"{index:06}.png", sample.mask)
                _write_png(folder / split / "instances" / f"{index:06}.png", sample.instances)
        info = {"name": NAME, "classes": CLASSES, "palette": PALETTE, "ignore": IGNORE}
        write_json(folder / "dataset.json", info)


def _write_png(path: Path, pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> None:
    # Not `imwrite`, which crashes on names that are not UTF-8.
    path.write_bytes(cv2.imencode(".png", np.ascontiguousarray(pixels))[1].tobytes())


def _stage(scene: Scene, frame: int) -> float:
    """Position of the stage: 0 at the colony, 1 at the empty place, smooth in between."""
    if not scene.empty:
        return 0.0
    left = 1 - frame % scene.period / scene.period  # of the period
    ramp = min((scene.empty + 2 * _MOVE - left) / _MOVE, left / _MOVE)  # there, and back
    ramp = min(max(ramp, 0.0), 1.0)
    return ramp * ramp * (3 - 2 * ramp)
