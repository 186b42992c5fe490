"""Runs large inputs through a bundle on several workers, as `edgeunet run --workers` does."""

from __future__ import annotations

import json
import logging
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.manifest import MANIFEST_NAME
from edgeunet.bundle.statistics import unlike
from edgeunet.errors import BackendError, BundleError, EdgeUNetError, IncompleteError, UsageError
from edgeunet.files import sha256

from .backends.candidates import candidates
from .backends.choice import choose
from .frames import Ignored
from .options import DEFAULTS, LoadOptions
from .pipeline.cluster import Cluster, ray_cluster
from .pipeline.stopping import stopping_on_signals
from .segmenter import Segmenter, check_batch
from .sinks.plans import (
    SUMMARY,
    begin,
    check_written,
    count_attempt,
    forget_attempts,
    make_plan,
    shard_names,
)
from .sinks.shards import GO_ON, Shard, ShardFolder
from .sources.base import MOST_TOLD
from .sources.items import UNIT, Items, list_items
from .sources.units import Unit, UnitReader

_log = logging.getLogger(__name__)

_ON_GPU = {"cuda", "nvtensorrtrtx", "rtx", "tensorrt"}  # backends, and ONNX Runtime's providers


@dataclass(frozen=True)
class ArchiveSummary:
    """What is done of an input, by this run and those that it goes on from.

    frames: number with a mask. damaged: number of images, and of archives, that cannot be read.
    first_damaged: why, of the first of them. ignored: what is not read of the input.
    units: number of shards that are written, of `planned`. resumed: of them, those that were there.
    pixels: number by class. backends: that ran. workers: number of them.
    seconds, rate: wall time and frames per second of this run. worker_seconds: sum over all units.
    stopped: whether a signal ended it.
    """

    frames: int
    damaged: int
    first_damaged: tuple[str, ...]
    ignored: Ignored
    units: int
    planned: int
    resumed: int
    pixels: dict[str, int]
    backends: tuple[str, ...]
    workers: int
    seconds: float
    rate: float
    worker_seconds: float
    stopped: bool


def run_archive(
    bundle: str | Path,
    source: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    workers: int,
    address: str | None = None,
    column: str | None = None,
    backend: str = "auto",
    options: LoadOptions = DEFAULTS,
    batch: int | None = None,
    unit: int = UNIT,
    skip_damaged: bool = False,
    force: bool = False,
    report: Callable[[int, int], None] = lambda done, planned: None,
) -> ArchiveSummary:
    """Segment a large input on workers of Ray, into tar archives of masks.

    The input is cut into units of work. `plan.json` in the output names them. Each becomes a shard,
    `00000.tar`, and a report, `00000.json`, which is written last; `summary.json` is written behind
    all of them. The same call goes on where an earlier one ended: units with a report are not done
    again. What a shard holds depends neither on the number of workers nor on such ends.

    A damaged image or archive is left out, named in the report of its unit, and an error is raised
    behind all others. In the main thread, SIGINT and SIGTERM end the run within seconds.

    Args:
        source: see `list_items`.
        output: a folder, also at an address for fsspec; see `ShardFolder` and `Shard`.
        workers: processes, each with a segmenter of its own. On this machine they share the cores.
        address: of a Ray cluster; see `ray_cluster`.
        column: see `list_items`. backend, options, batch: see `load` and `Segmenter.stream`.
        unit: images of a unit.
        skip_damaged: raise no error for what is left out, unless nothing is left.
        force: start over, instead of going on or refusing another plan.
        report: called with the number of frames done and planned; if the latter is not known, with
            those of units.

    Raises:
        UsageError: a plan for another bundle, input or other options is there, or a folder that is
            not ours; a frame rate to hold. IncompleteError: images or archives are damaged; with
            the summary.
    """
    if workers < 1:
        raise UsageError(f"workers is {workers}; expected 1 or more.")
    if options.target_fps is not None:
        raise UsageError("a frame rate is held for cameras; an archive has none to hold.")
    if options.device is not None:
        raise UsageError("Ray chooses the GPU of each worker; leave out the device.")
    manifest = _checked(bundle, options, batch)
    folder, items = ShardFolder(output), list_items(source, column=column, size=unit)
    levels, channels = options.reading.levels, options.reading.channels
    chosen = {
        "backend": backend,
        **{name: getattr(options, name) for name in ("precision", "provider", "processor", "dla")},
        "tiling": None if options.tiling is None else asdict(options.tiling),
        "levels": levels and list(levels),
        "channels": channels and list(channels),
        "batch": batch,
        "column": column,
        "unit": unit,
    }
    plan = make_plan(items, bundle=(Path(bundle).name, manifest), options=chosen)
    with folder.locked():
        done = begin(folder, plan, force=force)
        resumed = len(done)
        named = zip(shard_names(len(items.units)), items.units, strict=True)
        todo = {name: each for name, each in named if name not in done}
        if workers > len(items.units):
            _log.warning(
                "the input is %d unit%s of work, so %d of %d workers have nothing to do.%s",
                len(items.units),
                "s" if len(items.units) > 1 else "",
                workers - len(items.units),
                workers,
                " A compressed tar is one unit: only plain ones can be cut."
                if any(each.kind == "whole" for each in items.units)
                else "",
            )
        started = time.perf_counter()
        job = _Job(str(Path(bundle).absolute()), manifest, backend, options, batch, str(output))
        stopped = bool(todo) and _run(job, todo, done, folder, items, workers, address, report)
        seconds = time.perf_counter() - started
        summary = _summary(done, items, resumed, workers, seconds, stopped=stopped)
        if not stopped:
            folder.write_json(SUMMARY, asdict(summary))
    if summary.damaged and not stopped and (not skip_damaged or not summary.frames):
        raise IncompleteError(
            f"{summary.damaged} of {summary.frames + summary.damaged} images or archives cannot be "
            f"read; the others are done. The first: {summary.first_damaged[0]} --skip-damaged takes"
            " such images out without an error.",
            summary,
        )
    return summary


def do_unit(
    segmenter: Segmenter,
    reader: UnitReader,
    folder: ShardFolder,
    name: str,
    unit: Unit,
    *,
    batch: int | None = None,
) -> dict[str, Any]:
    """Segment a unit into its shard, `name`.tar, and write its report, which is returned.

    Raises:
        SourceError: the input was changed. OutputError: the shard cannot be written.
    """
    started = time.perf_counter()
    images = reader.open(unit)
    manifest = segmenter.manifest
    with folder.writing(f"{name}.tar") as file:
        shard = Shard(file, classes=manifest.classes, palette=manifest.palette)
        with segmenter.stream(images, batch=batch) as stream:
            for result in stream.results():
                shard.add(result)
            difference = stream.report().unlike
        digest = shard.finish()
    report = {
        "input": str(unit.record()["where"]),
        "frames": shard.frames,
        "damaged": [asdict(fault) for fault in images.faults],
        "ignored": asdict(images.ignored),
        "pixels": dict(shard.pixels),
        "seconds": round(time.perf_counter() - started, 3),
        "backend": segmenter.backend.name,
        "precision": segmenter.manifest.precision,
        "sha256": digest,
    }
    folder.write_json(f"{name}.json", report)  # last: a unit with a report is done
    return {**report, "unlike": difference}


@dataclass(frozen=True)
class _Job:
    """What all workers share. manifest: hash of the bundle's. run: tells this run from others."""

    bundle: str
    manifest: str
    backend: str
    options: LoadOptions
    batch: int | None
    output: str
    run: str = field(default_factory=lambda: secrets.token_hex(8))


class _Worker:
    """Does units in a process of its own."""

    def __init__(self, job: _Job) -> None:
        self._job = job
        self._folder = ShardFolder(job.output)
        self._reader = UnitReader()
        self._segmenter: Segmenter | None = None

    def __call__(self, piece: str) -> str:
        """Do a unit; its report, or why none can be done."""
        name, unit = json.loads(piece)
        try:
            # One that another worker did before it died, or lost its connection.
            report = self._folder.read_json(f"{name}.json")
            if report is None:
                count_attempt(self._folder, name, run=self._job.run)
                segmenter = self._segmenter = self._segmenter or self._opened()
                report = do_unit(
                    segmenter,
                    self._reader,
                    self._folder,
                    name,
                    Unit.from_json(unit),
                    batch=self._job.batch,
                )
                forget_attempts(self._folder, name)
        except EdgeUNetError as error:
            return json.dumps({"failed": f"worker on {socket.gethostname()}: {error}"})
        return json.dumps({**report, "name": name})

    def _opened(self) -> Segmenter:
        bundle = Path(self._job.bundle)
        if not (bundle / MANIFEST_NAME).is_file():
            raise BundleError(
                f"{bundle} is no bundle there. Workers open it by its path: put it where all of "
                "them find it, such as on a shared file system."
            )
        if sha256(bundle / MANIFEST_NAME) != self._job.manifest:
            raise BundleError(f"{bundle} is another bundle there than here. Copy it anew.")
        return Segmenter.open_checked(bundle, self._job.backend, self._job.options)


class _Stopped(KeyboardInterrupt):
    """A signal ended the run."""


def _run(
    job: _Job,
    todo: Mapping[str, Unit],
    done: dict[str, dict[str, Any]],
    folder: ShardFolder,
    items: Items,
    workers: int,
    address: str | None,
    report: Callable[[int, int], None],
) -> bool:
    """Do the units that are left; whether a signal ended that."""
    pieces = [json.dumps([name, unit.to_json()]) for name, unit in todo.items()]
    workers = min(workers, len(pieces))  # the others would hold cores, and do nothing
    told = False
    frames = sum(each["frames"] + len(each["damaged"]) for each in done.values())
    payload = sum(map(len, pieces))
    with (
        suppress(_Stopped),
        stopping_on_signals(_stop),  # while Ray starts, which then replaces the handlers
        ray_cluster(address, workers=workers, payload=payload) as cluster,
    ):
        gpu = _needs_gpu(job.backend, cluster, workers, job.options.provider)
        job = _sharing(job, cluster.share(workers), done, gpu=gpu)
        results = cluster.map(partial(_Worker, job), pieces, workers=workers, gpu=gpu)
        with stopping_on_signals(_stop), closing(results):
            for each in _taken(results):
                name = each.pop("name")
                difference = each.pop("unlike", None)
                if difference is not None and not told:
                    _log.warning("%s", unlike(difference))
                    told = True
                for fault in each["damaged"]:
                    _log.warning("%s", fault["reason"])
                done[name] = each
                frames += each["frames"] + len(each["damaged"])
                if items.images is not None:
                    report(frames, items.images)
                else:
                    report(len(done), len(items.units))
            check_written(folder, todo)
            return False
    return True


def _taken(results: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Reports of units; the first failure of a worker is raised."""
    for result in results:
        each = json.loads(result)
        if "failed" in each:
            raise BackendError(f"{each['failed'].removesuffix(GO_ON).rstrip()} {GO_ON}")
        yield each


def _stop() -> None:
    raise _Stopped


def _sharing(job: _Job, threads: int, done: Mapping[str, Mapping[str, Any]], *, gpu: bool) -> _Job:
    """The job for a worker with so many cores, and with a GPU or without.

    Without, what `auto` uses is chosen here for all workers, or was by earlier runs of the plan.
    """
    if job.backend in _ON_GPU or job.backend == "pytorch" or gpu:
        return job
    if job.options.processor in (None, "cpu"):
        job = replace(job, options=replace(job.options, threads=job.options.threads or threads))
    if job.backend != "auto":
        return job
    bundle = open_bundle(job.bundle)
    ran = {(each["backend"], each["precision"]) for each in done.values()}
    on_cpu = replace(job.options, provider="cpu")
    found = (each for each in candidates(bundle, on_cpu) if each[:2] in ran)
    use = next(found, None) or choose(bundle, on_cpu).use
    return replace(job, backend=use.backend, options=replace(job.options, precision=use.precision))


def _needs_gpu(backend: str, cluster: Cluster, workers: int, provider: str | None = None) -> bool:
    """Whether each worker asks for a GPU of its own."""
    on_gpu = bool(_ON_GPU & {backend, provider})
    if on_gpu and cluster.gpus < 1:
        raise BackendError(f"{provider or backend} needs a GPU for each worker, and Ray has none.")
    return on_gpu or (backend == "auto" and cluster.gpus >= workers)


def _checked(bundle: str | Path, options: LoadOptions, batch: int | None) -> str:
    """Refuse a bundle before any work is done; hash of its manifest."""
    opened = open_bundle(bundle)
    if options.precision is not None:
        opened = opened.at(options.precision)
    if batch is not None:
        check_batch(batch, opened.manifest)
    return sha256(Path(bundle) / MANIFEST_NAME)


def _summary(
    done: Mapping[str, Mapping[str, Any]],
    items: Items,
    resumed: int,
    workers: int,
    seconds: float,
    *,
    stopped: bool,
) -> ArchiveSummary:
    reports = [done[name] for name in sorted(done)]
    pixels: Counter[str] = Counter()
    ignored = items.ignored
    for each in reports:
        pixels.update(each["pixels"])
        ignored += Ignored(**each["ignored"])
    faults = [fault["reason"] for each in reports for fault in each["damaged"]]
    frames = sum(each["frames"] for each in reports)
    now = sum(each["frames"] for each in list(done.values())[resumed:])
    return ArchiveSummary(
        frames=frames,
        damaged=len(faults),
        first_damaged=tuple(faults[:MOST_TOLD]),
        ignored=ignored,
        units=len(reports),
        planned=len(items.units),
        resumed=resumed,
        pixels=dict(pixels),
        backends=tuple(sorted({each["backend"] for each in reports})),
        workers=workers,
        seconds=seconds,
        rate=now / seconds,
        worker_seconds=sum(each["seconds"] for each in reports),
        stopped=stopped,
    )
