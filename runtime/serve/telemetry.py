"""Numbers about the stream and the board, sampled once a second for the page and /metrics."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from anyio import sleep, to_thread

from edgeunet.bundle.manifest import Manifest

from .comparison import Comparison
from .hub import Hubs
from .player import Player, Totals
from .recording import Recordings

# Rates are taken over this many samples: steady to read, and at most some seconds old.
_SAMPLES = 6
_EVERY = 1.0
FATES = ("read", "segmented", "dropped", "skipped", "reconnects")
"""What is counted of each source."""


@dataclass(frozen=True)
class About:
    """What never changes. sources: what each name stands for, without secrets."""

    manifest: Manifest
    sources: Mapping[str, str]


@dataclass(frozen=True)
class Sample:
    """One moment. fps: frames segmented per second, by source. busy: share of time, by stage."""

    totals: Totals
    fps: dict[str, float]
    busy: dict[str, float]
    board: BoardReport


class Telemetry:
    """Samples the player and the board. `now` is the newest sample.

    recordings, comparison: None if the server was started without them.
    """

    def __init__(
        self,
        about: About,
        player: Player,
        hubs: Hubs,
        board: Board,
        *,
        recordings: Recordings | None = None,
        comparison: Comparison | None = None,
    ) -> None:
        self.about = about
        self.player = player
        self.hubs = hubs
        self.recordings = recordings
        self.comparison = comparison
        self._board = board
        self._started = time.monotonic()
        self._history: deque[tuple[float, Totals]] = deque(maxlen=_SAMPLES)
        self.now = self._sample(BoardReport({}, {}))

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            # In a thread, because sensors on a bus may be slow.
            self.now = self._sample(await to_thread.run_sync(self._board.report))
            await sleep(_EVERY)

    def _sample(self, board: BoardReport) -> Sample:
        totals, now = self.player.totals(), time.monotonic()
        self._history.append((now, totals))
        earlier, before = self._history[0]
        seconds = max(now - earlier, 1e-9)
        busy = {
            name: (value - before.busy.get(name, 0.0)) / seconds
            for name, value in totals.busy.items()
        }
        fps = {
            name: (counts.segmented - before.sources[name].segmented) / seconds
            for name, counts in totals.sources.items()
        }
        return Sample(totals, fps, busy, board)

    def stats(self) -> dict[str, Any]:
        """What the page polls, JSON-ready."""
        manifest, sample = self.about.manifest, self.now
        stages = {
            name: {**stage.quantiles, "busy": round(sample.busy.get(name, 0.0), 4)}
            for name, stage in sample.totals.stages.items()
        }
        return {
            "model": manifest.model,
            "weights": manifest.weights,
            "precision": manifest.precision,
            "backend": self.player.backend,
            "input": [manifest.input.height, manifest.input.width],
            "sources": [self._of_source(name) for name in self.about.sources],
            "classes": [
                {"name": name, "colour": colour, "threshold": threshold}
                for name, colour, threshold in zip(
                    manifest.classes,
                    manifest.palette,
                    manifest.gate or [None] * len(manifest.classes),
                    strict=True,
                )
            ],
            "uptime": round(time.monotonic() - self._started, 1),
            "viewers": self.hubs.viewers,
            "depths": self.player.depths,
            "stages": stages,
            "recordings": None if self.recordings is None else self.recordings.report(),
            "compare": None if self.comparison is None else self.comparison.report(),
            "board": {
                "temperatures": {k: round(v, 1) for k, v in sample.board.temperatures.items()},
                "power": {k: round(v, 3) for k, v in sample.board.power.items()},
            },
        }

    def _of_source(self, name: str) -> dict[str, Any]:
        status, hub, counts = (
            self.player.status(name),
            self.hubs[name],
            self.now.totals.sources[name],
        )
        return {
            "name": name,
            "where": self.about.sources[name],
            "live": self.player.health(name).live,
            "status": {**asdict(status), "well": status.well},
            "fps": round(self.now.fps[name], 2),
            "latency": {
                "p50": round(counts.latency_p50, 3),
                "p99": round(counts.latency_p99, 3),
            },
            "frames": {fate: getattr(counts, fate) for fate in FATES},
            "viewers": hub.viewers,
            "encode": hub.encoding.quantiles,
        }


SYS_CLASS = Path("/sys/class")
# Sensors that are off report values near absolute zero. No running board leaves this range.
_COLDEST, _HOTTEST = -40.0, 150.0


@dataclass(frozen=True)
class BoardReport:
    """temperatures: degrees Celsius by sensor. power: watts by rail. Empty without sensors."""

    temperatures: dict[str, float]
    power: dict[str, float]


class Board:
    """The sensors in `/sys/class`."""

    def __init__(self, sys_class: Path = SYS_CLASS) -> None:
        self._root = sys_class

    def report(self) -> BoardReport:
        """Read all sensors, except those that do not answer."""
        temperatures: dict[str, float] = {}
        power: dict[str, float] = {}
        _add(temperatures, self._zones())
        for chip in sorted(self._root.glob("hwmon/hwmon*")):
            name = _text(chip / "name") or chip.name
            if name not in temperatures:  # thermal zones appear here again
                _add(temperatures, _temperatures(chip, name))
            _add(power, _powers(chip, name))
        return BoardReport(temperatures, power)

    def _zones(self) -> Iterator[tuple[str, float]]:
        for zone in sorted(self._root.glob("thermal/thermal_zone*"), key=_number):
            value = _reading(zone / "temp", 1e3)
            if value is not None and _COLDEST < value < _HOTTEST:
                yield (_text(zone / "type") or zone.name).removesuffix("-thermal"), value


def _add(readings: dict[str, float], more: Iterator[tuple[str, float]]) -> None:
    """Add readings; a name that exists gets a number."""
    for name, value in more:
        free, count = name, 2
        while free in readings:
            free, count = f"{name} {count}", count + 1
        readings[free] = value


def _temperatures(chip: Path, name: str) -> Iterator[tuple[str, float]]:
    for path in sorted(chip.glob("temp*_input"), key=_number):
        value = _reading(path, 1e3)
        if value is not None and _COLDEST < value < _HOTTEST:
            label = _text(path.with_name(path.name.replace("_input", "_label")))
            yield f"{name} {label}" if label else name, value


def _powers(chip: Path, name: str) -> Iterator[tuple[str, float]]:
    for path in sorted([*chip.glob("power*_input"), *chip.glob("power*_average")], key=_number):
        value = _reading(path, 1e6)
        if value is not None:
            label = _text(path.with_name(re.sub("_(input|average)$", "_label", path.name)))
            yield label or name, value
    # A Jetson's INA3221 reports mV and mA, and labels the voltage.
    for path in sorted(chip.glob("curr*_input"), key=_number):
        volts = path.with_name(path.name.replace("curr", "in"))
        current, voltage = _reading(path, 1e3), _reading(volts, 1e3)
        label = _text(volts.with_name(volts.name.replace("_input", "_label")))
        if current is not None and voltage is not None and label:
            yield label, current * voltage


def _number(path: Path) -> tuple[int, str]:
    """Sort key: the number in the name, so that 2 comes before 10."""
    found = re.search(r"\d+", path.name)
    return (int(found[0]) if found else 0, path.name)


def _reading(path: Path, unit: float) -> float | None:
    text = _text(path)
    try:
        return float(text) / unit if text else None
    except ValueError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
