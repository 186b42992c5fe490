"""One batch in flight on a GPU: its stream, buffers and queued work."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial

import numpy as np
import numpy.typing as npt

from edgeunet.errors import BackendError, UsageError

from ..frames import Batch, Frame, NetOutputs, Timings
from ..gpu.cuda import CudaDevice, Staging
from ..gpu.engine.execution import Execution, LoadedEngine
from ..gpu.kernels import FilterTables, Kernels
from ..pipeline.stopping import Closing
from .base import Net
from .postprocess import open_classes

_SMALL = ("presence", "decision")  # see `CudaDevice.stage`


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
        self._tables: FilterTables | None = None  # for frames of `_tables_size`
        self._tables_size = (0, 0)
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
        self._count, self._size = len(batch), batch.size
        frame = batch.pixels[0]  # all have one form
        nbytes = self._count * frame.nbytes
        staging = self._staging("frames", nbytes)
        host = staging.host[:nbytes].view(frame.dtype).reshape(self._count, *frame.shape)
        np.stack(batch.pixels, out=host)
        self._marks[0].record(self._stream)
        staging.upload(nbytes, self._stream)
        self._queue_images(staging.address, frame)
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
        shape = (self._count, *self._size)
        planes = {
            name: self._staged[name].host[: math.prod(shape)].reshape(shape).copy()
            for name in self._wanted
        }
        batch = self._batch
        batch.masks, batch.confidence = planes["masks"], planes.get("confidence")
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
        rows = np.full(self._count, -1, np.int32)
        rows[undecided] = np.arange(len(undecided))
        nbytes = rows.nbytes + presence.nbytes
        decision = self._staging("decision", nbytes)
        decision.host[: rows.nbytes] = rows.view(np.uint8)
        decision.host[rows.nbytes : nbytes] = presence.reshape(-1).view(np.uint8)
        decision.upload(nbytes, self._stream)
        self._queue_masks(rows=decision.address, presence=decision.address + rows.nbytes)

    def _queue_images(self, frames: int, form: Frame) -> None:
        """Queue the pre-processing of frames like `form` at an address of the device."""
        tables = self._filter_tables()
        if tables is None:
            queue = self._kernels.preprocess
        else:
            at = self._staged["tables"].address
            queue = partial(self._kernels.resample, tables=tables, at=at)
        queue(
            frames,
            self._size,
            count=self._count,
            images=self._at["image"],
            dtype=self._tensors["image"].dtype,
            stream=self._stream,
            frame_dtype=form.dtype,
            channels=form.shape[2],
        )

    def _filter_tables(self) -> FilterTables | None:
        """The tables for the batch's size, on the device; None if the filter needs none."""
        if self._size != self._tables_size:
            self._tables = self._kernels.tables(self._size)
            if self._tables is not None:
                content = self._tables.content
                staging = self._staging("tables", content.nbytes)
                staging.host[: content.nbytes] = content
                staging.upload(content.nbytes, self._stream)
            self._tables_size = self._size
        return self._tables

    def _queue_masks(self, *, rows: int, presence: int) -> None:
        logits = self._tensors["logits"]
        pixels = self._count * math.prod(self._size)
        planes = {name: self._staging(name, pixels) for name in self._wanted}
        self._marks[2].record(self._stream)
        self._kernels.postprocess(
            self._at["logits"],
            logits.dtype,
            rows=rows,
            presence=presence,
            logits_size=(logits.shape[1], logits.shape[2]),
            count=self._count,
            masks=planes["masks"].address,
            size=self._size,
            stream=self._stream,
            confidence=planes["confidence"].address if "confidence" in planes else 0,
        )
        for staging in planes.values():
            staging.download(pixels, self._stream)
        self._marks[3].record(self._stream)

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
