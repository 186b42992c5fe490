"""Rockchip's NPU, by rknn-toolkit-lite2. No board was at hand: it was tested with a stand-in."""

from __future__ import annotations

import logging
import re
import tempfile
from abc import abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeunet.bundle.bundle import Bundle
from edgeunet.bundle.manifest import Manifest
from edgeunet.bundle.rknn import RKNN_NAME, RknnCard, in_order, read_rknn, to_bytes
from edgeunet.doctor import told_by
from edgeunet.errors import (
    BackendError,
    MissingDependencyError,
    UsageError,
    first_line,
)

from ..frames import NetOutputs
from ..options import LoadOptions
from .base import CLOSED, Net, NetBackend
from .golden import agreement_on_npu

_log = logging.getLogger(__name__)
_COMPATIBLE = Path("/proc/device-tree/compatible")
_DRIVER = Path("/sys/module/rknpu/version")
REMEDY = (
    "Update librknnrt.so to the version that compiled it or a newer one, and the board's image if "
    "its driver is old: https://github.com/airockchip/rknn-toolkit2."
)


class BytesNet(Net):
    """A compiled net that takes frames as bytes and gives its outputs one after the other."""

    def __init__(self, manifest: Manifest, card: RknnCard) -> None:
        self._manifest, self._card = manifest, card

    @abstractmethod
    def run(self, frames: npt.NDArray[np.uint8]) -> list[npt.NDArray[Any]]:
        """All outputs for bytes (N, H, W, C), in their order."""

    def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """See `Net`."""
        outputs = self.run(to_bytes(images, self._manifest.input))
        logits, *rest = in_order(outputs, self._card)
        return NetOutputs(logits, rest[0] if rest else None)


@dataclass(frozen=True)
class Npu:
    """The NPU of this machine; fields are None if the machine does not tell.

    soc: such as "rk3588". driver: version of the kernel's driver.
    """

    soc: str | None
    driver: str | None


def find_npu() -> Npu:
    """What the device tree and the driver say.

    Example:
        >>> from edgeunet.runtime.backends.rknn import find_npu
        >>> find_npu().soc is None or find_npu().soc.startswith("rk")
        True
    """
    found = re.search(r"rockchip,(rk\d{4})", told_by(_COMPATIBLE))
    return Npu(found and found[1], told_by(_DRIVER) or None)


def open_rknn(bundle: Bundle, options: LoadOptions) -> NetBackend:
    """The compiled net of a bundle on the cores of the NPU, or on core `options.device` alone.

    It must pass the golden check first: a simulator proves no board.

    Raises:
        ParityError: see `agreement_on_npu`.
        UsageError: the bundle holds no compiled net, or the NPU has no such core.
        MissingDependencyError: rknn-toolkit-lite2 is not installed.
        BackendError: the net is for another SoC, or the NPU does not take it.
    """
    card, content = read_rknn(bundle)
    wanted = options.device
    if wanted is not None and wanted >= card.cores:
        raise UsageError(
            f"got core {wanted}, and the NPU of an {card.soc} has {card.cores}: expected 0 to "
            f"{card.cores - 1}."
        )
    npu = find_npu()
    if npu.soc is not None and npu.soc != card.soc:
        raise BackendError(
            f"{bundle.root / RKNN_NAME} is for {card.soc}, and this is an {npu.soc}. Deploy the "
            f"bundle again with --target {npu.soc}."
        )
    cores = range(card.cores) if wanted is None else (wanted,)
    net = RknnNet(bundle.manifest, card, content, cores=tuple(cores), npu=npu)
    backend = NetBackend(bundle, net, name="rknn")
    try:
        agreement = agreement_on_npu(
            backend,
            told=net.told,
            remedy=f"{REMEDY} If that does not help, deploy it with --flavour fp16, or run another "
            "--backend.",
        )
    except BaseException:
        backend.close()
        raise
    _log.info("%.2f%% of the golden pixels agree on the NPU. %s", 100 * agreement, net.told)
    return backend


class RknnNet(BytesNet):
    """A compiled net on an NPU, with a context on each of some cores.

    A batch is spread over the contexts, and a stream runs as many batches at once.

    Args:
        content: of the file. cores: their indices.

    Raises:
        MissingDependencyError, BackendError: see `open_rknn`.
    """

    def __init__(
        self,
        manifest: Manifest,
        card: RknnCard,
        content: bytes,
        *,
        cores: tuple[int, ...],
        npu: Npu,
    ) -> None:
        super().__init__(manifest, card)
        self.lanes = len(cores)
        self._npu = npu
        self._idle: SimpleQueue[Any] = SimpleQueue()
        self._threads = ThreadPoolExecutor(len(cores), thread_name_prefix="edgeunet-rknn")
        self.versions = ""
        try:
            # The toolkit takes a path. This one holds what was compared with its hash.
            with tempfile.NamedTemporaryFile(prefix="edgeunet-", suffix=".rknn") as file:
                file.write(content)
                file.flush()
                for core in cores:
                    self._idle.put(self._open(file.name, core))
        except BaseException:
            self.close()
            raise

    def run(self, frames: npt.NDArray[np.uint8]) -> list[npt.NDArray[Any]]:
        """See `BytesNet`."""
        try:
            running = [self._threads.submit(self._one, frame[None]) for frame in frames]
        except RuntimeError:  # no thread is left
            raise UsageError(CLOSED) from None
        parts = [each.result() for each in running]
        return [np.concatenate(each) for each in zip(*parts, strict=True)]

    @property
    def told(self) -> str:
        """The versions of compiler, library and driver, as a sentence."""
        return (
            f"Compiled by rknn-toolkit2 {self._card.toolkit}; here are library "
            f"{self.versions or 'unknown'} and driver {self._npu.driver or 'unknown'}."
        )

    def close(self) -> None:
        """Free the contexts, once the calls under way have ended."""
        self._threads.shutdown()
        while not self._idle.empty():
            self._idle.get().release()

    def _one(self, frame: npt.NDArray[np.uint8]) -> list[npt.NDArray[Any]]:
        """All outputs for bytes (1, H, W, C), on the first core that is idle."""
        context = self._idle.get()
        try:
            outputs = context.inference(inputs=[frame], data_format=["nhwc"])
        except Exception as error:  # of several unrelated classes
            raise self._failure(f"failed on a frame: {first_line(error)}") from error
        finally:
            self._idle.put(context)
        if outputs is None:  # its reason is in its prints
            raise self._failure("failed on a frame")
        # The next call may write into the same memory.
        return [np.array(each) for each in outputs]

    def _open(self, path: str, core: int) -> Any:
        """A context on a core."""
        lite = load_rknnlite()
        masks = (lite.NPU_CORE_0, lite.NPU_CORE_1, lite.NPU_CORE_2)
        context = lite()
        try:
            if context.load_rknn(path) != 0:
                raise self._failure("does not take the file")
            # An NPU of one core knows no masks.
            mask = lite.NPU_CORE_AUTO if self._card.cores == 1 else masks[core]
            if context.init_runtime(core_mask=mask) != 0:
                raise self._failure(f"does not start on core {core}")
            self.versions = _versions(context.get_sdk_version() or "")
        except BackendError:
            context.release()
            raise
        except Exception as error:  # as above
            context.release()
            raise self._failure(f"does not start on core {core}: {first_line(error)}") from error
        return context

    def _failure(self, problem: str) -> BackendError:
        return BackendError(f"{RKNN_NAME}: the NPU's runtime {problem}. {self.told} {REMEDY}")


def load_rknnlite() -> Any:
    """The class RKNNLite; MissingDependencyError without rknn-toolkit-lite2."""
    try:
        from rknnlite.api import RKNNLite
    except ImportError:
        raise MissingDependencyError("rknnlite") from None
    return RKNNLite


def _versions(told: str) -> str:
    """The lines of the runtime's answer that hold versions, such as "API: 2.3.2, DRV: 0.9.8"."""
    lines = [line.strip() for line in told.splitlines()]
    return ", ".join(line for line in lines if line.startswith(("API:", "DRV:")))
