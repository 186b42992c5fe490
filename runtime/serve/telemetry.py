"""What the page, /healthz and /metrics tell, sampled once a second."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

from edgeunet.bundle.manifest import Manifest

from ..backends import Backend
from ..backends.steering import SteeredBackend
from .board import Board, BoardReport
from .hub import Hub
from .player import Player, Status, Totals

# Samples that rates are taken over: some seconds, so that they are calm and still current.
_SAMPLES = 6
_EVERY = 1.0


@dataclass(frozen=True)
class About:
    """What does not change: the bundle, and what the source is called, without its secrets."""

    manifest: Manifest
    source: str
    live: bool


@dataclass(frozen=True)
class Sample:
    """One moment. fps: frames segmented a second. busy: share of the time by stage."""

    status: Status
    totals: Totals
    fps: float
    busy: dict[str, float]
    board: BoardReport


class Telemetry:
    """Samples the player and the board, and keeps the newest sample in `now`."""

    def __init__(self, about: About, player: Player, hub: Hub, board: Board) -> None:
        self.about = about
        self._player = player
        self._hub = hub
        self._board = board
        self._started = time.monotonic()
        self._history: deque[tuple[float, Totals]] = deque(maxlen=_SAMPLES)
        self.now = self._sample(BoardReport({}, {}))

    @property
    def status(self) -> Status:
        """How the stream is at this very moment."""
        return self._player.status

    @property
    def uptime(self) -> float:
        """Seconds since the server began."""
        return time.monotonic() - self._started

    async def run(self) -> None:
        """Sample for ever."""
        while True:
            # A bus of sensors may take its time.
            self.now = self._sample(await asyncio.to_thread(self._board.report))
            await asyncio.sleep(_EVERY)

    def _sample(self, board: BoardReport) -> Sample:
        totals, moment = self._player.totals(), time.monotonic()
        self._history.append((moment, totals))
        earlier, before = self._history[0]
        seconds = max(moment - earlier, 1e-9)
        busy = {
            name: (value - before.busy.get(name, 0.0)) / seconds
            for name, value in totals.busy.items()
        }
        fps = (totals.segmented - before.segmented) / seconds
        return Sample(self.status, totals, fps, busy, board)

    def stats(self, net: Backend) -> dict[str, Any]:
        """JSON-ready form, as the page polls it."""
        manifest, sample, status = self.about.manifest, self.now, self.status
        stages = {
            name: {
                "p50": round(stage.p50, 3),
                "p99": round(stage.p99, 3),
                "busy": round(sample.busy.get(name, 0.0), 4),
            }
            for name, stage in sample.totals.stages.items()
        }
        encoding = self._hub.encoding
        return {
            "status": {**asdict(status), "well": status.well},
            "model": manifest.model,
            "weights": manifest.weights,
            "precision": manifest.precision,
            "backend": net.name,
            "input": [manifest.input.height, manifest.input.width],
            "source": {"name": self.about.source, "live": self.about.live},
            "classes": [
                {"name": name, "colour": colour, "threshold": threshold}
                for name, colour, threshold in zip(
                    manifest.classes,
                    manifest.palette,
                    manifest.gate or [None] * len(manifest.classes),
                    strict=True,
                )
            ],
            "uptime": round(self.uptime, 1),
            "viewers": self._hub.viewers,
            "fps": round(sample.fps, 2),
            "frames": {
                name: getattr(sample.totals, name)
                for name in ("read", "segmented", "dropped", "skipped", "reconnects")
            },
            "depths": frames_by_depth(net),
            "stages": stages,
            "encode": {"p50": round(encoding.p50, 3), "p99": round(encoding.p99, 3)},
            "board": {
                "temperatures": {k: round(v, 1) for k, v in sample.board.temperatures.items()},
                "power": {k: round(v, 3) for k, v in sample.board.power.items()},
            },
        }


def frames_by_depth(net: Backend) -> dict[int, int]:
    """Frames that each depth has segmented, empty where no rate is held."""
    return net.frames if isinstance(net, SteeredBackend) else {}
