"""One batch in flight on a GPU: its stream, buffers and queued work."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from functools import partial

import numpy as np
import numpy.typing as npt

from edgeunet.data.resize import Size
from edgeunet.errors import BackendError, UsageError

from ..frames import Batch, NetOutputs, Run, Timings
from ..gpu.cuda import CudaDevice, Staging
from ..gpu.engine.execution import Execution, LoadedEngine
from ..gpu.frames import DeviceFrame
from ..gpu.kernels import FilterTables, Kernels
from ..pipeline.stopping import Closing
from .base import Net
from .postprocess import open_classes

_SMALL = ("presence", "decision")  # see `CudaDevice.stage`
_ALIGNMENT = 256  # bytes, as of memory that CUDA allocates
_ROW = np.dtype(np.int32)


def _places(lengths: Iterable[int]) -> tuple[list[int], int]:
    """Aligned places for parts of so many bytes one behind the other, and the bytes of all."""
    places, end = list[int](), 0
    for length in lengths:
        places.append(-(-end // _ALIGNMENT) * _ALIGNMENT)
        end = places[-1] + length
    return places, end


class Slot(Closing):
    """Runs one batch at a time on a GPU: `start` queues the work, `finish` waits for it.

    Args:
        engines: the whole net, or encoder and decoder. kernels: None if only `infer` is used.
        gate: thresholds of the presence, None without a gate.
    """

    def __init__(
        self,
        device: CudaDevice,
        engines: Sequence[LoadedEngine],
        kernels: Kernels | None,
        gate: Sequence[float] | None,
    ) -> None:
        self._device = device
        self._given_kernels = kernels
        self._gate = gate
        # Both engines share the buffer of a feature: the encoder writes it, the decoder reads it.
        self._tensors = {name: t for engine in engines for name, t in engine.tensors.items()}
        self._features = [t for t in engines[-1].tensors.values() if t.is_input]
        self._limit = engines[0].max_batch
        self._in_parts = len(engines) > 1
        self._staged: dict[str, Staging] = {}
        self._copied: list[DeviceFrame] = []  # kept until the copies of them have ended
        self._tables: dict[Size, tuple[FilterTables, int]] = {}  # with their places in "tables"
        with ExitStack() as stack:
            self._stream = stack.enter_context(device.stream())
            # At the start, and after preprocessing, inference and post-processing.
            self._marks = [stack.enter_context(device.event()) for _ in range(4)]
            self._gate_known = stack.enter_context(device.event())
            self._at = {
                name: stack.enter_context(device.allocate(self._limit * tensor.frame_bytes)).address
                for name, tensor in self._tensors.items()
            }
            self._executions = [
                stack.enter_context(Execution(engine, self._stream, self._at)) for engine in engines
            ]
            stack.callback(self._close_staged)
            stack.callback(self._stream.synchronize)  # runs first: queued work uses the rest
            self._held = stack.pop_all()

    @property
    def _kernels(self) -> Kernels:
        assert self._given_kernels is not None, "a slot without kernels only infers"
        return self._given_kernels

    def start(self, batch: Batch) -> None:
        """Queue a batch, up to the point where the gate is known."""
        self._check(len(batch))
        self._batch = batch
        self._wanted = ("masks", "confidence") if batch.wants_confidence else ("masks",)
        self._count = len(batch)
        places, nbytes = _places(sum(frame.nbytes for frame in run.pixels) for run in batch.runs)
        staging = self._staging("frames", nbytes)
        there = dict[int, DeviceFrame]()  # frames that are on the device, by their places
        for run, place in zip(batch.runs, places, strict=True):
            for frame in run.pixels:
                if isinstance(frame, DeviceFrame):
                    there[place] = frame
                else:
                    host = staging.host[place : place + frame.nbytes]
                    host.view(frame.dtype).reshape(frame.shape)[:] = frame
                place += frame.nbytes
        self._marks[0].record(self._stream)
        if len(there) < len(batch):
            staging.upload(nbytes, self._stream)
        if self._copied:  # of a batch that failed: its frames must not be used again yet
            self._stream.synchronize()
        self._copied = list(there.values())
        for at, there_already in there.items():
            source, length = there_already.address, there_already.nbytes
            self._device.copy(staging.address + at, source, length, self._stream)
        self._prepare_tables({run.size for run in batch.runs})
        for run, place in zip(batch.runs, places, strict=True):
            self._queue_images(staging.address + place, run)
        self._marks[1].record(self._stream)
        self._executions[0].enqueue(self._count)
        if "presence" in self._tensors:
            self._fetch("presence", self._count)
        if not self._in_parts:
            self._queue_masks(rows=0, presence=0)
        else:
            self._gate_known.record(self._stream)

    def finish(self) -> Batch:
        """Wait for the batch, after queueing its decoder if the gate asks for it."""
        if self._in_parts:
            self._gate_known.synchronize()
            self._decode()
        started, prepared, inferred, done = self._marks
        done.synchronize()
        self._copied.clear()
        batch = self._batch
        for run, place in zip(batch.runs, self._mask_places()[0], strict=True):
            shape = (len(run.frames), *run.size)
            for name in self._wanted:
                plane = self._staged[name].host[place : place + math.prod(shape)]
                setattr(run, name, plane.reshape(shape).copy())
        if "presence" in self._tensors:
            batch.presence = self._fetched("presence", self._count)
        batch.timings = Timings(
            prepared.seconds_since(started),
            inferred.seconds_since(prepared),
            done.seconds_since(inferred),
        )
        return batch

    def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """Host input (N, C, H, W) -> host outputs. Always runs the decoder."""
        self._check(len(images))
        count, tensor = len(images), self._tensors["image"]
        nbytes = count * tensor.frame_bytes
        staging = self._staging("images", nbytes)
        staging.host[:nbytes].view(tensor.dtype).reshape(images.shape)[:] = images
        self._device.to_device(self._at["image"], staging.host[:nbytes], self._stream)
        self.infer_again(count)
        names = [name for name in ("logits", "presence") if name in self._tensors]
        for name in names:
            self._fetch(name, count)
        self._stream.synchronize()
        logits, *presence = (self._fetched(name, count) for name in names)
        return NetOutputs(logits, presence[0] if presence else None)

    def infer_again(self, count: int) -> None:
        """Run the net on the input that is already on the device, and wait for it."""
        for execution in self._executions:
            execution.enqueue(count)
        self._stream.synchronize()

    def _check(self, count: int) -> None:
        """Raise UsageError if the batch does not fit the buffers."""
        if not 1 <= count <= self._limit:
            raise UsageError(
                f"the engine expected a batch of 1 to {self._limit}, got {count}. Split it, or "
                "export with a larger --max-batch."
            )

    def _decode(self) -> None:
        """Run the decoder on the frames whose gate leaves more than one class open."""
        presence = self._fetched("presence", self._count)
        undecided = np.flatnonzero(open_classes(presence, self._gate).sum(axis=1) > 1)
        # Move features to the front of their buffers. Rows only move down, so none is overwritten.
        for row, frame in enumerate(undecided.tolist()):  # the driver takes plain integers
            for tensor in self._features if row != frame else ():
                start, size = self._at[tensor.name], tensor.frame_bytes
                self._device.copy(start + row * size, start + frame * size, size, self._stream)
        if len(undecided):
            # Use few sizes, since each has a context and a graph. Nothing reads the extra rows.
            self._executions[1].enqueue(min(1 << (len(undecided) - 1).bit_length(), self._limit))
        rows = np.full(self._count, -1, _ROW)
        rows[undecided] = np.arange(len(undecided))
        nbytes = rows.nbytes + presence.nbytes
        decision = self._staging("decision", nbytes)
        decision.host[: rows.nbytes] = rows.view(np.uint8)
        decision.host[rows.nbytes : nbytes] = presence.reshape(-1).view(np.uint8)
        decision.upload(nbytes, self._stream)
        self._queue_masks(rows=decision.address, presence=decision.address + rows.nbytes)

    def _queue_images(self, frames: int, run: Run) -> None:
        """Queue the pre-processing of a run's frames at an address of the device."""
        queue, form, image = self._kernels.preprocess, run.pixels[0], self._tensors["image"]
        if run.size in self._tables:
            tables, place = self._tables[run.size]
            at = self._staged["tables"].address + place
            queue = partial(self._kernels.resample, tables=tables, at=at)
        queue(
            frames,
            run.size,
            count=len(run.frames),
            images=self._at["image"] + run.at.start * image.frame_bytes,
            dtype=image.dtype,
            stream=self._stream,
            frame_dtype=form.dtype,
            channels=form.shape[2],
        )

    def _prepare_tables(self, sizes: set[Size]) -> None:
        """Bring the tables of these sizes to the device, if the filter needs any."""
        if sizes <= self._tables.keys():
            return
        made = {size: tables for size in sizes if (tables := self._kernels.tables(size))}
        places, nbytes = _places(tables.content.nbytes for tables in made.values())
        self._tables = dict(zip(made, zip(made.values(), places, strict=True), strict=True))
        if made:
            staging = self._staging("tables", nbytes)
            for tables, place in self._tables.values():
                staging.host[place : place + tables.content.nbytes] = tables.content
            staging.upload(nbytes, self._stream)

    def _queue_masks(self, *, rows: int, presence: int) -> None:
        """Queue the post-processing, see `Kernels.postprocess` for rows and presence."""
        logits, runs = self._tensors["logits"], self._batch.runs
        places, nbytes = self._mask_places()
        planes = {name: self._staging(name, nbytes) for name in self._wanted}
        self._marks[2].record(self._stream)
        for run, place in zip(runs, places, strict=True):
            first = run.at.start
            # Without rows, frame n has row n of the logits.
            skipped = 0 if rows else first * logits.frame_bytes
            self._kernels.postprocess(
                self._at["logits"] + skipped,
                logits.dtype,
                rows=rows and rows + first * _ROW.itemsize,
                presence=presence and presence + first * self._tensors["presence"].shape[0] * 4,
                logits_size=(logits.shape[1], logits.shape[2]),
                count=len(run.frames),
                masks=planes["masks"].address + place,
                size=run.size,
                stream=self._stream,
                confidence=planes["confidence"].address + place if "confidence" in planes else 0,
            )
        for staging in planes.values():
            staging.download(nbytes, self._stream)
        self._marks[3].record(self._stream)

    def _mask_places(self) -> tuple[list[int], int]:
        """Where each run's masks begin, and the bytes of all."""
        return _places(len(run.frames) * math.prod(run.size) for run in self._batch.runs)

    def _fetch(self, name: str, count: int) -> None:
        """Queue a copy of a tensor's first frames to the host. `_fetched` returns them."""
        nbytes = count * self._tensors[name].frame_bytes
        staging = self._staging(name, nbytes)
        self._device.to_host(staging.host[:nbytes], self._at[name], self._stream)

    def _fetched(self, name: str, count: int) -> npt.NDArray[np.float32]:
        tensor = self._tensors[name]
        host = self._staged[name].host[: count * tensor.frame_bytes]
        return host.view(tensor.dtype).reshape(count, *tensor.shape).astype(np.float32)

    def _staging(self, name: str, nbytes: int) -> Staging:
        """The staging memory of that name. Replaced if it is too small."""
        staging = self._staged.get(name)
        if staging is None or staging.host.nbytes < nbytes:
            with self._device.preparing:
                if staging is not None:
                    self._stream.synchronize()  # queued work may still read it
                    staging.close()
                staging = self._device.stage(nbytes, small=name in _SMALL)
                self._staged[name] = staging
        return staging

    def close(self) -> None:
        """Free stream and buffers."""
        with suppress(BackendError):  # a lost GPU has nothing left to free
            self._held.close()

    def _close_staged(self) -> None:
        for staging in self._staged.values():
            staging.close()


class SlotNet(Net):
    """The engines, with host arrays in and out.

    lock: held while the slot is in use.
    """

    def __init__(self, slot: Slot) -> None:
        self._slot = slot
        self.lock = threading.Lock()

    def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """See `Net`."""
        with self.lock:
            return self._slot.infer(images)
