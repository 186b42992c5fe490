"""TensorRT on a GPU. Frames are uploaded, masks downloaded; all other data stays on the GPU."""

from __future__ import annotations

import atexit
import logging
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, suppress
from itertools import cycle
from typing import Any

from edgeunet.bundle.bundle import Bundle
from edgeunet.bundle.engines import engines_folder
from edgeunet.errors import BackendError

from ..frames import Batch
from ..gpu.cuda import CudaDevice
from ..gpu.kernels import Kernels, lacks_kernels, load_kernels
from ..options import LoadOptions
from ..pipeline.stage import Stage
from .base import NetBackend
from .smoothing import Smoother
from .tensorrt_engines import Engines
from .tensorrt_slot import Slot, SlotNet

_log = logging.getLogger(__name__)
# One batch is uploaded, one computed, one downloaded.
_SLOTS = 3


def open_tensorrt(bundle: Bundle, options: LoadOptions) -> NetBackend:
    """See `TensorRTBackend`."""
    return TensorRTBackend(bundle, **_arguments(options))


def open_rtx(bundle: Bundle, options: LoadOptions) -> NetBackend:
    """See `RtxBackend`."""
    return RtxBackend(bundle, **_arguments(options))


def _arguments(options: LoadOptions) -> dict[str, Any]:
    """Those of both backends that options name."""
    return {
        "device": options.device or 0,
        "dla": options.dla,
        "trust_engines": options.trust_engines,
    }


class TensorRTBackend(NetBackend):
    """Runs the engine of the bundle's precision. If none fits, it is built first.

    A gated net runs as two engines. The decoder only runs for frames whose gate leaves more than
    one class open.

    New engines are judged by the golden frames, see `Engines`.

    Args:
        device: index of the GPU. dla: core of the Deep Learning Accelerator to run on, None for the
            GPU. workspace_mb: scratch memory for the builder. report: gets a message for each step
            of a build, which takes minutes. trust_engines: also run engines, kernels and caches
            that another machine built.

    Raises:
        MissingDependencyError: TensorRT is not installed. BackendError: no usable GPU.
        EngineError: no engine could be built or loaded.
    """

    kind = "tensorrt"

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: int = 0,
        dla: int | None = None,
        workspace_mb: int | None = None,
        trust_engines: bool = False,
        report: Callable[[str], None] = _log.warning,
    ) -> None:
        with ExitStack() as stack:
            self._device = gpu = stack.enter_context(CudaDevice(device))
            # Before the engines, so that nobody waits for a build that cannot be used.
            module = load_kernels(gpu, engines_folder(bundle), trust=trust_engines)
            engines = Engines(
                bundle,
                gpu,
                kind=self.kind,
                device=device,
                dla=dla,
                workspace_mb=workspace_mb,
                trust_engines=trust_engines,
                report=report,
            )
            self._engines = stack.enter_context(engines).loaded
            manifest = bundle.manifest
            lacking = lacks_kernels(manifest.input)
            if lacking:
                report(f"{lacking}: pre- and post-processing run on the CPU, the net on the GPU.")
            self._kernels = (
                None
                if lacking
                else Kernels(
                    module,
                    manifest.input,
                    thresholds=manifest.gate,
                    palette=manifest.palette,
                )
            )
            self._gate = manifest.gate
            self._slot = stack.enter_context(self._new_slot())
            self._held = stack.pop_all()
        net = SlotNet(self._slot)
        super().__init__(bundle, net, name=self.kind)
        self._lock = net.lock
        self.gpu = None if self._kernels is None else device
        # TensorRT must be freed before CUDA shuts down, even if nobody closes the backend.
        atexit.register(self.close)

    def net_alone(self, batch: Batch) -> Callable[[], object]:
        """See `Backend`. The input is on the device, and the outputs stay there."""
        self.net.infer(self.preprocess(batch.pixels))
        return lambda: self._slot.infer_again(len(batch))

    def segment(self, batch: Batch) -> Batch:
        """See `Backend`."""
        if self._kernels is None:
            return super().segment(batch)
        with self._lock:
            self._slot.start(batch)
            return self._slot.finish()

    def stream(
        self, batches: Iterable[Batch], *, smoother: Smoother | None = None
    ) -> Generator[Batch, None, None]:
        """See `Backend`. With a smoother, the host post-processes: logits come down, not masks."""
        if smoother is not None or self._kernels is None:
            yield from super().stream(batches, smoother=smoother)
            return
        with ExitStack() as stack:
            slots = cycle([stack.enter_context(self._new_slot()) for _ in range(_SLOTS)])

            def start(batch: Batch) -> Slot:
                slot = next(slots)
                slot.start(batch)
                return slot

            # The consumer uses one slot, one waits, and one is being filled. No slot is filled
            # again before the consumer asks for the next result.
            started = stack.enter_context(Stage(start, batches, depth=_SLOTS - 2, name="upload"))
            for slot in started:
                yield slot.finish()

    def _new_slot(self) -> Slot:
        return Slot(self._device, self._engines, self._kernels, self._gate)

    def close(self) -> None:
        """Free the device's memory, once a call under way in another thread has ended."""
        atexit.unregister(self.close)
        with self._lock, suppress(BackendError):  # a lost GPU has nothing left to free
            self._held.close()


class RtxBackend(TensorRTBackend):
    """The TensorRT backend with TensorRT-RTX, for GeForce RTX and similar GPUs.

    Runs an engine that was built ahead of time if this GPU is one of its targets. Otherwise builds
    one for this GPU. The first batch of each size compiles kernels, and a file beside the engine
    keeps them for the next start.

    Args:
        device, report: as in `TensorRTBackend`. dla, workspace_mb: must be None, since nothing is
            tuned.

    Raises:
        As `TensorRTBackend`. BackendError: also if TensorRT-RTX does not support the GPU, such as
        an H100. UsageError: dla or workspace_mb was given.
    """

    kind = "rtx"
