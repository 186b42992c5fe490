"""What a pruning gave: the nets before and after, for a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .rounds import Round

_TITLES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


@dataclass(frozen=True)
class PruneRow:
    """A net before or after: `latency_ms` on the report's engine, `miou` in percent or None."""

    name: str
    parameters: int
    gflops: float
    latency_ms: float
    miou: float | None


@dataclass(frozen=True)
class LatencyRounds:
    """How a target was approached.

    target, reached: shares of the latency before; reached is that of the rows. rounds: with the
    share that each of them left when it was timed.
    """

    target: float
    reached: float
    rounds: tuple[Round, ...]


@dataclass(frozen=True)
class PruneReport:
    """Rows `before`, `pruned` and, if it was, `fine-tuned`; latencies are from one run.

    engine, precision: what the latencies were measured on. teacher: of the fine-tuning, in words.
    val_seen: whether the weights before were trained on the images that mIoU is measured on.
    """

    checkpoint: str
    model: str
    weights: str
    depth: int | None
    ratio: float | None
    to_latency: LatencyRounds | None
    input: tuple[int, int]
    data: str | None
    teacher: str | None
    engine: str
    precision: str
    val_seen: bool
    rows: tuple[PruneRow, ...]
    environment: dict[str, str]

    def table(self) -> str:
        """Aligned text for a terminal; percentages are relative to the net before."""
        first = self.rows[0]
        engine = f"{_TITLES[self.engine]} {self.precision.upper()}"
        lines = [
            f"{self.model} {self.weights}, {self._what()}; input {self.input[0]}x{self.input[1]}, "
            f"{engine} on {self.environment['processor']}; mIoU on {self.data or 'no data'}",
            f"{'':<12}{'parameters':>18}{'GFLOPs':>15}{'latency ms':>15}{'mIoU %':>9}",
        ]
        for row in self.rows:
            miou = "-" if row.miou is None else f"{row.miou:.2f}"
            lines.append(
                f"{row.name:<12}{row.parameters:>12,}{row.parameters / first.parameters:>6.0%}"
                f"{row.gflops:>9.3f}{row.gflops / first.gflops:>6.0%}"
                f"{row.latency_ms:>9.2f}{row.latency_ms / first.latency_ms:>6.0%}{miou:>9}"
            )
        if self.val_seen:
            lines.append(
                "The weights were trained on val too: mIoU tells what pruning costs, not how the "
                "net does on images that it has not seen. The card has none."
            )
        return "\n".join([*lines, *self._rounds()])

    def _what(self) -> str:
        if self.depth is not None:
            what = f"depth {self.depth}"
        elif self.ratio is not None:
            what = f"channels by {self.ratio:g}"
        else:
            assert self.to_latency is not None
            what = f"channels to {self.to_latency.target:.0%} of the latency"
        return what if self.teacher is None else f"{what}, taught by {self.teacher}"

    def _rounds(self) -> Iterator[str]:
        """A line for each round, with all that it removed, and one for the target."""
        if self.to_latency is None:
            return
        for number, each in enumerate(self.to_latency.rounds, start=1):
            removed = ", ".join(f"{name} -{gone}" for name, gone in each.removed.items())
            yield f"round {number}: {each.share:.0%} of the latency; channels: {removed}"
        yield f"target {self.to_latency.target:.0%}, reached {self.to_latency.reached:.0%}"
