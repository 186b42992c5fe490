"""The interfaces of nets and backends, and the backend that runs a net."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping
from itertools import count
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from edgeunet.bundle.bundle import Bundle
from edgeunet.bundle.manifest import Manifest
from edgeunet.errors import BackendError

from ..frames import Batch, NetOutputs
from ..pipeline.stage import Stage
from ..pipeline.stopping import Closing
from .postprocess import Postprocessor
from .preprocess import Preprocessor
from .smoothing import Smoother

CLOSED = "it is closed, and its net was freed. Load the bundle again."


class Net(Closing, ABC):
    """A net on one device; a context manager that frees what it holds.

    lanes: batches of a stream that the net computes at once.
    """

    lanes: int = 1

    @abstractmethod
    def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """Run the net on (N, C, H, W), N at most the manifest's `max_batch`."""

    def infer_gated(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """`infer`, for masks only: logits may be zeros if the gate alone decides the mask.

        The gate decides alone if it leaves at most one class open, see `Postprocessor`.
        """
        return self.infer(images)

    def lane(self) -> Net:
        """The net to use for a stream, which calls it up to `lanes` times at once."""
        return self


class Backend(Closing, ABC):
    """Turns frames into masks; a context manager that frees what it holds.

    All backends give the same masks for the same bundle and precision.

    name: of what computes, such as "onnxruntime". net: the net that computes.
    tiles: whether frames are cut into tiles instead of resized; streams take no smoother then.
    gpu: index of the GPU on which it takes frames as they are (`DeviceFrame`); None if it would
    download them.
    frames_by_depth: number of frames that each depth has segmented, the deepest first; empty unless
    a frame rate is held.
    """

    name: str
    net: Net
    tiles: bool = False
    gpu: int | None = None
    frames_by_depth: Mapping[int, int] = MappingProxyType({})

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    @property
    def deepest(self) -> Backend:
        """The backend of the deepest net, if there are several to choose from."""
        return self

    @abstractmethod
    def segment(self, batch: Batch) -> Batch:
        """Add masks, presence and, if wanted, confidence to a batch, and return it."""

    @abstractmethod
    def stream(
        self, batches: Iterable[Batch], *, smoother: Smoother | None = None
    ) -> Generator[Batch, None, None]:
        """`segment` for each batch, in order, with several in flight.

        Args:
            smoother: smooths the logits of each source over time, frame by frame.
        """

    def net_alone(self, batch: Batch) -> Callable[[], object]:
        """A function that runs only the net, on a batch prepared in advance; for timing."""
        images = Preprocessor(self.bundle.manifest.input)(batch.pixels)
        return lambda: self.net.infer(images)


def check_outputs(outputs: NetOutputs, manifest: Manifest, *, frames: int) -> NetOutputs:
    """Return what a net gave for some frames, if it has the form that the manifest tells.

    Raises:
        BackendError: logits or presence of another shape or type, or no presence for the gate.
    """
    classes = len(manifest.classes)
    shapes = {"logits": (frames, classes, *manifest.logits_size), "presence": (frames, classes)}
    for name, wanted in shapes.items():
        values = getattr(outputs, name)
        if values is None and name == "presence" and manifest.gate is None:
            continue
        found = "none" if values is None else f"{values.dtype} {values.shape}"
        if found != f"float32 {wanted}":
            raise BackendError(
                f"expected {name} float32 {wanted} of {frames} frames, got {found}: the graph does "
                "not fit the manifest of its bundle. Export the bundle again."
            )
    return outputs


class NetBackend(Backend):
    """A net between pre- and post-processing on the host.

    Args:
        name: see `Backend`. net: closed with the backend.
    """

    def __init__(self, bundle: Bundle, net: Net, *, name: str) -> None:
        super().__init__(bundle)
        self.net, self.name = net, name
        self.preprocess = Preprocessor(bundle.manifest.input)
        self.postprocess = Postprocessor(bundle.manifest.input, bundle.manifest.gate)

    def segment(self, batch: Batch) -> Batch:
        """See `Backend`."""
        return self._finish(self._infer(self._prepare(batch), self.net))

    def stream(
        self, batches: Iterable[Batch], *, smoother: Smoother | None = None
    ) -> Generator[Batch, None, None]:
        """See `Backend`. Each of the three steps has its own thread; the net has one a lane.

        The first batch runs on the net for calls: a single image needs no lane, and OpenVINO takes
        a third of a second to open one.
        """
        lanes, turns = self.net.lanes, count()

        def infer(batch: Batch) -> Batch:
            if next(turns) == 0:
                return self._infer(batch, self.net)
            net, batch.timings.lanes = self.net.lane(), lanes
            return self._infer(batch, net)

        def finish(batch: Batch) -> Batch:
            return self._finish(batch, smoother)

        with (
            Stage(self._prepare, batches, depth=1, name="preprocess") as prepared,
            Stage(infer, prepared, depth=1, name="infer", workers=lanes) as inferred,
            Stage(finish, inferred, depth=1, name="postprocess") as finished,
        ):
            yield from finished

    def close(self) -> None:
        """Free the net."""
        self.net.close()

    def _prepare(self, batch: Batch) -> Batch:
        started = time.perf_counter()
        batch.images = self.preprocess([np.asarray(frame) for frame in batch.pixels])
        batch.timings.preprocess = time.perf_counter() - started
        return batch

    def _infer(self, batch: Batch, net: Net) -> Batch:
        started = time.perf_counter()
        outputs = net.infer_gated(batch.images)
        batch.outputs = check_outputs(outputs, self.bundle.manifest, frames=len(batch))
        batch.timings.infer = time.perf_counter() - started
        return batch

    def _finish(self, batch: Batch, smoother: Smoother | None = None) -> Batch:
        started = time.perf_counter()
        logits, presence = batch.outputs
        if smoother is not None:
            decided = self.postprocess.decided(presence, len(logits))
            logits = smoother(batch.frames, batch.images, logits, decided=decided)
        batch.presence = presence
        for run in batch.runs:
            outputs = logits[run.at], None if presence is None else presence[run.at]
            run.masks = self.postprocess(*outputs, run.size)
            if batch.wants_confidence:
                run.confidence = self.postprocess.confidence(*outputs, run.size)
        del batch.images, batch.outputs  # large, and sinks do not need them
        batch.timings.postprocess = time.perf_counter() - started
        return batch


class Wrapper(Backend):
    """A backend around others. By default it delegates to the one that computes."""

    @property
    @abstractmethod
    def inner(self) -> Backend:
        """The backend that computes."""

    @property
    def name(self) -> str:  # type: ignore[override]  # it may change
        """See `Backend`."""
        return self.inner.name

    @property
    def net(self) -> Net:  # type: ignore[override]  # as above
        """See `Backend`."""
        return self.inner.net

    def net_alone(self, batch: Batch) -> Callable[[], object]:
        """See `Backend`."""
        return self.inner.net_alone(batch)

    def close(self) -> None:
        """Free the backend that computes."""
        self.inner.close()
