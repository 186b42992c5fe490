"""Measures every entry of a bundle in every setting, in turns within a setting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ..bundle.bundle import Bundle
from ..doctor import cores, environment
from ..errors import EdgeUNetError, UsageError
from ..metrics import Mask
from ..runtime.backends.candidates import Candidate
from ..runtime.backends.preprocess import Preprocessor
from ..runtime.frames import Frame
from ..runtime.options import LoadOptions, Tiling
from ..runtime.segmenter import Segmenter, check_batch
from .accuracy import Data, golden_agreement, masks_of, mean_agreement, miou
from .conclusion import conclude
from .entries import Entry, check_options, entries_of
from .peers import PEERS, peer_versions
from .report import BenchmarkReport, Row, Setting, sort_rows
from .timing import sampled_latencies
from .tools import Made
from .worker import Worker

TIMED_FRAMES = 8
CALIBRATION_FRAMES = 32
"""Most frames that peers' quantizers see, of the given data, else the golden frames."""


@dataclass(frozen=True)
class Plan:
    """What to measure.

    threads: None for all cores. tiling: also measure frames in tiles. peers: also measure other
    projects' tools. data: frames to judge on besides the golden ones. budget: seconds of timing for
    each row.
    """

    batches: tuple[int, ...] = (1,)
    threads: tuple[int, ...] = ()
    options: LoadOptions = LoadOptions()  # noqa: RUF009  # frozen
    tiling: Tiling | None = None
    peers: bool = False
    data: Data | None = None
    budget: float = 1.5


def measure_all(
    bundle: Bundle, plan: Plan, *, report: Callable[[str], None] = lambda step: None
) -> BenchmarkReport:
    """Time everything that can run a bundle here, and judge its masks.

    Each row is loaded in a process of its own, which tells its memory and start-up, and judged
    here; then the processes of a setting take turns. One that fails anywhere is a row that says
    why.

    Args:
        report: called with the name of each step.

    Raises:
        UsageError: the bundle cannot take a batch, tiles without frames larger than one, or an
        option that no engine here takes.
        DatasetError: labels of fewer than two classes.
    """
    for batch in (*plan.batches, *((plan.tiling.batch,) if plan.tiling else ())):
        check_batch(batch, bundle.manifest)
    check_options(bundle, plan.options)
    with TemporaryDirectory(prefix="edgeunet-bench-") as folder:
        work = _Work(bundle, plan, Path(folder), report)
        settings = [
            work.measure(threads, batch)
            for threads in plan.threads or (cores(),)
            for batch in plan.batches
        ]
        missing = work.missing
        frame = work.frames[0]
    advice = {setting.title: conclude(setting) for setting in settings}
    manifest = bundle.manifest
    return BenchmarkReport(
        bundle=bundle.root.resolve().name,
        model=manifest.model,
        weights=manifest.weights,
        input_size=(manifest.input.height, manifest.input.width),
        frame_size=(frame.shape[0], frame.shape[1]),
        data=plan.data.name if plan.data is not None and plan.data.labelled else None,
        settings=tuple(settings),
        missing=missing,
        use={title: found.use for title, found in advice.items()},
        why={title: found.why for title, found in advice.items()},
        environment=environment() | (peer_versions() if plan.peers else {}),
    )


@dataclass
class _Accuracy:
    """Of an entry; the same in every setting."""

    agreement: float | None = None
    iou_lost: float | None = None


@dataclass(frozen=True)
class _Running:
    """An entry that was judged, and the process that it is timed in."""

    row: Row
    worker: Worker


class _Work:
    """One run of `measure_all`. missing: peers that are not installed."""

    def __init__(
        self,
        bundle: Bundle,
        plan: Plan,
        folder: Path,
        report: Callable[[str], None],
    ) -> None:
        self._bundle, self._plan, self._folder, self._report = bundle, plan, folder, report
        data = plan.data
        golden = list(bundle.golden().frames)
        self.frames: list[Frame] = [s.image for s in data.samples] if data else golden
        size = self.frames[0].shape
        self.frames = [each for each in self.frames if each.shape == size][:TIMED_FRAMES]
        self._timed_on = folder / "frames.npy"
        np.save(self._timed_on, np.stack(self.frames), allow_pickle=False)
        spec = bundle.manifest.input
        if plan.tiling is not None and size[0] <= spec.height and size[1] <= spec.width:
            raise UsageError(
                f"frames of {size[0]}x{size[1]} fit into one tile of {spec.height}x{spec.width}. "
                "Pass larger ones as --data, or leave --tile out."
            )
        self.missing: dict[str, str] = {}
        self._peers: dict[str, Path | str] = {}  # what each made, or why it could not
        if plan.peers:
            self._make_peers()
        self._accuracies: dict[str, _Accuracy] = {}
        self._exact: dict[bool, list[Mask]] = {}  # of FP32, by whether in tiles

    def measure(self, threads: int, batch: int) -> Setting:
        """All rows of a setting."""
        options = replace(self._plan.options, threads=threads)
        entries = list(entries_of(self._bundle, options))
        if self._plan.tiling is not None:
            tiled = replace(options, tiling=self._plan.tiling)
            entries += [replace(each, options=tiled) for each in entries]
        rows: list[Row] = []
        with ExitStack() as stack:
            running: list[_Running] = []
            for entry in [*entries, *self._peer_entries(options, batch, rows, threads)]:
                row = Row(
                    entry.name,
                    entry.precision,
                    threads,
                    batch,
                    depth=entry.depth,
                    tiled=entry.tiling is not None,
                    peer=entry.peer is not None,
                    contends=entry.contends,
                )
                self._report(f"{row.title}, {threads} threads, batch {batch}")
                try:
                    running.append(self._load(entry, row, stack))
                except EdgeUNetError as error:
                    rows.append(replace(row, problem=str(error)))
            self._report(f"timing {len(running)} rows in turns")
            rows += self._time(running)
        return Setting(threads, batch, tuple(sort_rows(rows)))

    def _make_peers(self) -> None:
        graph = self._bundle.model_path("fp32")
        frames = [s.image for s in self._plan.data.samples] if self._plan.data else self.frames
        images = Preprocessor(self._bundle.manifest.input)(frames[:CALIBRATION_FRAMES])
        for peer in PEERS:
            if peer.missing is not None:
                self.missing[peer.name] = peer.missing
                continue
            self._report(f"{peer.name}: converting")
            try:
                self._peers[peer.name] = peer.make(graph, images, self._folder / peer.name)
            except EdgeUNetError as error:
                self._peers[peer.name] = str(error)

    def _peer_entries(
        self, options: LoadOptions, batch: int, rows: list[Row], threads: int
    ) -> Sequence[Entry]:
        """Entries of the peers; those that do not take the graph become rows at once."""
        entries = []
        manifest = self._bundle.manifest
        spec = manifest.input
        shape = batch, len(spec.channels), spec.height, spec.width
        for peer in PEERS:
            found = self._peers.get(peer.name)
            if isinstance(found, str):
                row = Row(peer.label, peer.precision, threads, batch, peer=True, contends=False)
                row = replace(row, problem=found)
                rows.append(row)
            elif found is not None:
                made = Made(found, shape, 1 if manifest.gate is None else 2)
                entries.append(Entry(self._bundle, options, peer=peer, made=made))
        return entries

    def _load(self, entry: Entry, row: Row, stack: ExitStack) -> _Running:
        """Load it in a process that stays, and judge its masks here."""
        worker = Worker(entry, row.batch, self._timed_on)
        stack.callback(worker.close)
        accuracy = self._accuracies.get(row.title)
        if accuracy is None:
            with entry.open() as segmenter:
                accuracy = self._accuracies[row.title] = self._judge(entry, segmenter)
        row = replace(
            row,
            agreement=accuracy.agreement,
            iou_lost=accuracy.iou_lost,
            start_s=round(worker.fresh.start_s, 3),
            memory_mb=round(worker.fresh.memory_mb, 1),
            size_mb=round(worker.fresh.size_mb, 2),
        )
        return _Running(row, worker)

    def _judge(self, entry: Entry, segmenter: Segmenter) -> _Accuracy:
        """Raises ParityError if a candidate's own masks are wrong."""
        if entry.peer is None:
            segmenter.self_check()
        data, found = self._plan.data, _Accuracy()
        tiled = entry.tiling is not None
        if not tiled:
            found.agreement = golden_agreement(segmenter, self._bundle)
        if data is None:
            return found
        masks = masks_of(segmenter, data)
        if tiled:
            found.agreement = mean_agreement(masks, self._exact_masks(data, tiled=True))
        if data.labelled:
            exact = self._exact_masks(data, tiled=False)
            found.iou_lost = miou(exact, data, self._bundle) - miou(masks, data, self._bundle)
        return found

    def _exact_masks(self, data: Data, *, tiled: bool) -> list[Mask]:
        """Masks of the deepest FP32 graph."""
        if tiled not in self._exact:
            options = replace(self._plan.options, tiling=self._plan.tiling if tiled else None)
            entry = Entry(self._bundle, options, Candidate("onnxruntime", "fp32"))
            with entry.open() as segmenter:
                self._exact[tiled] = masks_of(segmenter, data)
        return self._exact[tiled]

    def _time(self, running: list[_Running]) -> list[Row]:
        nets = {each.row.title: each.worker.net for each in running if not each.row.tiled}
        wholes = {each.row.title: each.worker.whole for each in running}
        alone = sampled_latencies(nets, budget=self._plan.budget)
        whole = sampled_latencies(wholes, budget=self._plan.budget / 3, rounds=3)
        return [self._timed(each, alone, whole) for each in running]

    def _timed(
        self,
        running: _Running,
        alone: dict[str, list[float]],
        whole: dict[str, list[float]],
    ) -> Row:
        row, infers = running.row, running.worker.infers
        frames = 1 if row.tiled else row.batch
        # The first call warms up, unless it was so slow that there was no other.
        seconds = infers[1:] or infers
        times = alone.get(row.title) or [1000 * each for each in seconds]
        return replace(
            row,
            p50=float(np.percentile(times, 50)) / frames,
            p99=float(np.percentile(times, 99)) / frames,
            calls=len(times),
            whole_rate=1000 * frames / float(np.median(whole[row.title])),
        )
