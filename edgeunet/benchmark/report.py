"""What a benchmark found: rows, the front of speed and accuracy, and which row to use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..bundle.golden import PROMISED
from ..bundle.manifest import Precision


@dataclass(frozen=True)
class Row:
    """One candidate in one setting. What could not be measured is None, and `problem` says why.

    name: engine and precision, such as "openvino INT8". threads, batch: the setting.
    depth: of a net that has several. tiled: whether frames are cut into tiles.
    peer: whether it is another project's tool. contends: whether `auto` may choose it, which takes
    no peer, and no FP16 that is computed in FP32.
    p50, p99: milliseconds of a frame in the net. calls: of the net, that these come from.
    rate: frames per second through the net. whole_rate: with pre- and post-processing in turn.
    agreement: share of the golden pixels as the reference's; of tiles, as those of FP32 in tiles.
    iou_lost: points of mIoU that the FP32 graph has more on labelled frames.
    size_mb: of the files that it reads. memory_mb, start_s: largest resident set, and seconds from
    an empty process to the first mask.
    """

    name: str
    precision: Precision
    threads: int
    batch: int
    depth: int | None = None
    tiled: bool = False
    peer: bool = False
    contends: bool = True
    p50: float | None = None
    p99: float | None = None
    calls: int = 0
    whole_rate: float | None = None
    agreement: float | None = None
    iou_lost: float | None = None
    size_mb: float | None = None
    memory_mb: float | None = None
    start_s: float | None = None
    problem: str | None = None

    @property
    def title(self) -> str:
        """Its name, with depth and tiles."""
        depth = f", depth {self.depth}" if self.depth is not None else ""
        return f"{self.name}{depth}{', tiles' if self.tiled else ''}"

    @property
    def rate(self) -> float | None:
        """Frames per second through the net."""
        return None if self.p50 is None else 1000 / self.p50

    @property
    def keeps_promise(self) -> bool:
        """Whether as many pixels agree as its precision promises."""
        return self.agreement is not None and self.agreement >= PROMISED[self.precision]


@dataclass(frozen=True)
class Setting:
    """Rows of one number of threads and one batch size, the fastest first, failures last."""

    threads: int
    batch: int
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        """Such as "2 threads, batch 8"."""
        return f"{self.threads} thread{'s' if self.threads > 1 else ''}, batch {self.batch}"

    @property
    def timed(self) -> tuple[Row, ...]:
        """Rows that were timed."""
        return tuple(row for row in self.rows if row.p50 is not None)


@dataclass(frozen=True)
class BenchmarkReport:
    """All rows of a bundle on a machine.

    data: what was labelled, None without labels. frame_size: (height, width) of the timed frames.
    missing: peers that are not installed, with the command that installs each.
    use: title of the row to use, and `why`, by title of the setting.
    """

    bundle: str
    model: str
    weights: str
    input_size: tuple[int, int]
    frame_size: tuple[int, int]
    data: str | None
    settings: tuple[Setting, ...]
    missing: dict[str, str]
    use: dict[str, str]
    why: dict[str, str]
    environment: dict[str, str]

    @property
    def peers_took_part(self) -> bool:
        """Whether any peer has a row."""
        return any(row.peer for setting in self.settings for row in setting.rows)

    def to_json(self) -> dict[str, Any]:
        """For JSON; rows say whether they are on the front."""
        found = asdict(self)
        for setting, shown in zip(self.settings, found["settings"], strict=True):
            on_front = front(setting.rows)
            shown["rows"] = [
                {**line, "title": row.title, "rate": row.rate, "front": row in on_front}
                for row, line in zip(setting.rows, shown["rows"], strict=True)
            ]
        return found


def loss(row: Row) -> float | None:
    """What a row loses: points of mIoU if they were measured, else percent of the pixels."""
    if row.iou_lost is not None:
        return row.iou_lost
    return None if row.agreement is None else 100 * (1 - row.agreement)


def front(rows: Sequence[Row]) -> list[Row]:
    """Rows that no other beats in both speed and accuracy, the fastest first.

    Example:
        >>> from edgeunet.benchmark.report import Row, front
        >>> def row(name, ms, agreement):
        ...     return Row(name, "int8", 1, 1, p50=ms, agreement=agreement)
        >>> [each.name for each in front([row("a", 9, 1.0), row("b", 5, 0.99), row("c", 7, 0.98)])]
        ['b', 'a']
    """
    found: list[Row] = []
    best = float("inf")
    known = [(row.p50, lost, row) for row in rows if row.p50 is not None and _counts(row)
             for lost in (loss(row),) if lost is not None]  # fmt: skip
    for _, lost, row in sorted(known, key=lambda each: each[:2]):
        if lost < best:
            found.append(row)
            best = lost
    return found


def _counts(row: Row) -> bool:
    """Whether a row's accuracy can be compared with the others': of tiles only by labels."""
    return not row.tiled or row.iou_lost is not None


def sort_rows(rows: Sequence[Row]) -> Iterator[Row]:
    """The fastest first, then those without a time."""
    yield from sorted((row for row in rows if row.p50 is not None), key=lambda row: row.p50 or 0)
    yield from (row for row in rows if row.p50 is None)
