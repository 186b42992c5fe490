"""A colony of cells: how they crawl, push, grow and divide, and their outlines.

Coordinates are x, y in pixels, angles radians, times frames.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Cells = npt.NDArray[np.void]

_ROUNDING, _LINED_UP, _PARTING = 24, 18, 26  # frames that the phases of a division take
_DIVISION = _ROUNDING + _LINED_UP + _PARTING
_CYCLE = (320, 620)  # frames from birth to the next division
_SETTLING = 30  # frames before the film starts, in which overlapping founders move apart
_ROUNDED = 0.74  # radius of a rounded cell over its radius when spread out
_LOBES = np.arange(2, 7)  # angular frequencies of an outline
_POINTS = 48  # of an outline
TILE = 256  # pixels, edge of the periodic texture

_CELL = np.dtype(
    [
        ("id", np.uint16),
        ("position", np.float64, (2,)),
        ("heading", np.float64),  # direction in which it crawls
        ("axis", np.float64),  # long axis, along which daughters separate
        ("radius", np.float64),  # pixels, when spread out
        ("adult", np.float64),  # radius that it grows to
        ("stretch", np.float64),  # long half-axis over radius
        ("lobes", np.complex128, (len(_LOBES),)),  # relative amplitudes
        ("clock", np.float64),  # frames since its division started, negative before
        ("glow", np.float64),  # 0 spread out .. 1 round and bright; "dividing" from 0.5
        ("thickness", np.float64),  # optical, relative
        ("nucleus", np.float64, (2,)),  # offset from the centre, in radii
        ("grain", np.float64, (2,)),  # place of its texture in the tile
    ]
)


class Colony:
    """The cells of a dish, simulated frame by frame; the view is 0..width, 0..height."""

    def __init__(
        self, rng: np.random.Generator, size: tuple[int, int], *, cells: int, radius: float
    ) -> None:
        self._rng, self._extent = rng, np.array(size[::-1], dtype=np.float64)
        self.margin = 1.5 * radius  # distance outside the view at which cells are dropped
        dish = float(np.prod(self._extent + 2 * self.margin))  # square pixels
        wanted = cells * dish / (size[0] * size[1])
        confluent = 1 + dish / (np.pi * radius**2)  # the dish is full
        self._capacity = min(1.6 * wanted, 1.3 * confluent)
        self._born = 0
        self.cells = self._found(round(min(wanted, confluent)), radius)
        for _ in range(_SETTLING):
            self.advance()

    def advance(self) -> None:
        """Simulate one frame."""
        cells, rng, count = self.cells, self._rng, len(self.cells)
        if not count:
            return
        calm = 1 - cells["glow"]
        cells["heading"] += rng.normal(0, 0.14, count)
        cells["axis"] += 0.03 * calm * np.sin(2 * (cells["heading"] - cells["axis"]))
        pace = 0.02 * cells["radius"] * calm
        cells["position"] += pace[:, None] * _unit(cells["heading"]) + self._pushes()
        # Ornstein-Uhlenbeck processes, smooth in time; higher harmonics are weaker.
        noise = rng.normal(0, 1, (2, count, len(_LOBES)))
        cells["lobes"] += -0.03 * cells["lobes"] + 0.045 / _LOBES * (noise[0] + 1j * noise[1])
        cells["nucleus"] += -0.02 * cells["nucleus"] + rng.normal(0, 0.015, (count, 2))
        cells["grain"] += rng.normal(0, 0.15, (count, 2))
        cells["radius"] += 0.006 * calm * (cells["adult"] - cells["radius"])
        cells["clock"] += 1
        cells["glow"] += np.where(cells["clock"] > 0, 0.14 * calm, -0.07 * cells["glow"])
        self._divide()
        gone = np.abs(self.cells["position"] - self._extent / 2) > self._extent / 2 + self.margin
        self.cells = self.cells[~gone.any(1)]

    def _found(self, count: int, radius: float) -> Cells:
        """Founders of all ages in loose clumps; about one in seven is dividing."""
        cells, rng = np.zeros(count, dtype=_CELL), self._rng
        low, high = -0.9 * self.margin, self._extent + 0.9 * self.margin
        # Additive recurrence (Roberts' R2 sequence) spreads the clumps evenly over the dish.
        clumps = (rng.random(2) + np.arange(count // 3 + 1)[:, None] * [0.754878, 0.569840]) % 1
        position = low + (high - low) * clumps[rng.integers(0, len(clumps), count)]
        cells["position"] = np.clip(position + rng.normal(0, 2.4 * radius, (count, 2)), low, high)
        cells["heading"] = cells["axis"] = rng.uniform(0, 2 * np.pi, count)
        cells["adult"] = radius * rng.uniform(0.85, 1.2, count)
        cells["radius"] = cells["adult"] * rng.uniform(0.85, 1, count)
        cells["clock"] = rng.uniform(-6 * _DIVISION, _DIVISION, count) - _SETTLING
        return self._individualise(cells)

    def _individualise(self, cells: Cells) -> Cells:
        """Give new cells their ids and traits."""
        rng, count = self._rng, len(cells)
        cells["id"] = (self._born + np.arange(count)) % 65535 + 1
        self._born += count
        cells["stretch"] = rng.uniform(1.0, 1.55, count)
        cells["thickness"] = rng.uniform(0.75, 1.25, count)
        cells["nucleus"] = rng.normal(0, 0.06, (count, 2))
        cells["grain"] = rng.uniform(0, TILE, (count, 2))
        return cells

    def _pushes(self) -> Floats:
        """Displacements (N, 2) by neighbours, which repel when close and attract when near."""
        position, extent = self.cells["position"], _extent(self.cells)
        apart, distance = _pairs(position)
        reach = extent[:, None] + extent
        push = np.maximum(0.12 * (0.9 * reach - distance), -0.003 * reach)
        push[distance > 1.3 * reach] = 0
        # The rim keeps a small colony together; a crowded one sheds cells.
        room = max(0.0, 1.0 - len(position) / self._capacity)
        inward = np.clip(position, 0, self._extent) - position
        shove = (push / distance)[..., None] * apart
        moves: Floats = 0.1 * room * inward - shove.sum(1)
        return moves

    def _divide(self) -> None:
        """Replace each cell whose division is complete by two daughters."""
        cells, rng = self.cells, self._rng
        starting = (cells["clock"] > 0) & (cells["clock"] <= 1)
        if len(cells) >= self._capacity:  # contact inhibition: crowded cells wait
            cells["clock"] -= starting * rng.uniform(1, 200, len(cells))
        done = cells["clock"] >= _DIVISION
        if not done.any():
            return
        daughters = np.repeat(cells[done], 2)
        side = np.tile([1.0, -1.0], len(daughters) // 2)
        daughters["radius"] /= np.sqrt(2)
        offset = _ROUNDED * daughters["radius"] * side  # as drawn by `_discs`
        daughters["position"] += offset[:, None] * _unit(daughters["axis"])
        daughters["heading"] = daughters["axis"] + np.where(side > 0, 0, np.pi)
        daughters["clock"] = -rng.uniform(*_CYCLE, len(daughters))
        self.cells = np.concatenate([cells[~done], self._individualise(daughters)])


def _unit(angle: Floats) -> Floats:
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def _pairs(position: Floats) -> tuple[Floats, Floats]:
    """Vectors (N, N, 2) between all pairs, and lengths (N, N), infinite from a cell to itself."""
    apart = position[None] - position[:, None]
    distance = np.maximum(np.hypot(apart[..., 0], apart[..., 1]), 1e-6)
    np.fill_diagonal(distance, np.inf)
    return apart, distance


def _discs(cells: Cells) -> tuple[Floats, Floats]:
    """Radius (N,) and half the distance (N,) of the two discs that a rounded cell consists of.

    They start as one disc and end side by side. The sum of their areas is constant.
    """
    progress = np.clip((cells["clock"] - _ROUNDING - _LINED_UP) / _PARTING, 0, 1)
    disc = _ROUNDED * cells["radius"] / np.sqrt(1 + progress)
    return disc, progress * disc


def _extent(cells: Cells) -> Floats:
    """Mean radius (N,) as drawn."""
    disc, half = _discs(cells)
    extent: Floats = cells["radius"] + cells["glow"] * (disc + 0.4 * half - cells["radius"])
    return extent


def outlines(cells: Cells) -> Floats:
    """Closed outlines (N, P, 2) of the cells. Two cells that touch share a straight border.

    An outline is a radius by angle: an ellipse with harmonics when spread out, two discs when round
    (`_discs`), blended by the glow.
    """
    angles = np.linspace(0, 2 * np.pi, _POINTS, endpoint=False)
    turned = angles - cells["axis"][:, None]  # (N, P)
    stretch, glow = cells["stretch"][:, None], cells["glow"][:, None]
    ellipse = cells["radius"][:, None] / np.hypot(
        np.cos(turned) / stretch, np.sin(turned) * stretch
    )
    waves = (cells["lobes"] @ np.exp(1j * _LOBES[:, None] * angles)).real  # (N, K) @ (K, P)
    disc, half = (part[:, None] for part in _discs(cells))
    chord = np.sqrt(np.maximum(disc**2 - (half * np.sin(turned)) ** 2, 0))
    radii = (1 - glow) * ellipse * np.clip(1 + waves, 0.55, 1.7)
    radii += glow * (half * np.abs(np.cos(turned)) + chord)
    # The border divides the distance by size. A round cell is stiff and yields less.
    weight = _extent(cells) * (1 + 0.4 * cells["glow"])
    apart, distance = _pairs(cells["position"])
    one, other = np.nonzero(distance < 2 * (weight[:, None] + weight))  # (E,) pairs, `one` ascends
    if len(one):
        share = distance[one, other] * weight[one] / (weight[one] + weight[other])
        towards = np.arctan2(apart[one, other, 1], apart[one, other, 0])
        facing = np.cos(angles - towards[:, None])  # (E, P)
        limit = np.where(facing > 0.05, share[:, None] / np.maximum(facing, 0.05), np.inf)
        starts = np.flatnonzero(np.diff(one, prepend=-1))
        met = one[starts]
        radii[met] = np.minimum(radii[met], np.minimum.reduceat(limit, starts))
    closed: Floats = cells["position"][:, None] + radii[..., None] * _unit(angles)
    return closed


def nuclei_outlines(cells: Cells, side: int) -> Floats:
    """Outlines (N, 20, 2) of the nuclei, or of the chromosomes on `side` 1 or -1 in a division."""
    glow = cells["glow"][:, None]
    _, half = _discs(cells)
    plate = _ROUNDED * np.array([0.17, 0.62])  # chromosomes line up across the axis
    half_axes = cells["radius"][:, None] * ((1 - glow) * [0.46, 0.38] + glow * plate)
    centre = cells["position"] + (1 - glow) * cells["nucleus"] * cells["radius"][:, None]
    centre = centre + side * glow * half[:, None] * _unit(cells["axis"])
    circle = _unit(np.linspace(0, 2 * np.pi, 20, endpoint=False))
    along, across = np.moveaxis(half_axes[:, None] * circle, -1, 0)[..., None]  # (N, 20, 1) each
    first, second = _unit(cells["axis"])[:, None], _unit(cells["axis"] + np.pi / 2)[:, None]
    closed: Floats = centre[:, None] + along * first + across * second
    return closed
