"""PyTorch, the reference. The one module of the runtime that may import torch and the nets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeunet.bundle.bundle import CHECKPOINT_NAME, Bundle
from edgeunet.errors import MissingDependencyError, UsageError, printable

from ..frames import NetOutputs
from ..options import LoadOptions
from .base import CLOSED, Net, NetBackend

try:
    import torch
except ImportError:
    raise MissingDependencyError("torch", "export") from None

from edgeunet.models import SegmentationNet
from edgeunet.models.checkpoints import Checkpoint


def open_pytorch(bundle: Bundle, options: LoadOptions) -> NetBackend:
    """The bundle's checkpoint in FP32, run eagerly.

    Raises:
        UsageError: a bundle of another net, which keeps no checkpoint.
    """
    if bundle.manifest.reference != "checkpoint":
        raise UsageError(
            f"{bundle.root} holds no checkpoint: {bundle.manifest.model} is not one of our nets, "
            "and its code is not kept. Use --backend onnxruntime; its FP32 graph was compared with "
            f"{printable(bundle.manifest.origin)} by the export."
        )
    checkpoint = Checkpoint.open(bundle.root / CHECKPOINT_NAME)
    return NetBackend(bundle, TorchNet(checkpoint.net), name="pytorch")


class TorchNet(Net):
    """A module on the CPU."""

    def __init__(self, net: SegmentationNet) -> None:
        self._net: SegmentationNet | None = net

    @torch.inference_mode()
    def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """See `Net`."""
        net = self._net
        if net is None:
            raise UsageError(CLOSED)
        logits, presence = net.predict(torch.from_numpy(images))
        return NetOutputs(logits.numpy(), None if presence is None else presence.numpy())

    def close(self) -> None:
        """Free the weights."""
        self._net = None
