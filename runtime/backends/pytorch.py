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
    """The bundle's checkpoint in FP32, or in BF16 if that is the precision, run eagerly.

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
    return NetBackend(
        bundle, TorchNet(checkpoint.net, bf16=bundle.manifest.precision == "bf16"), name="pytorch"
    )


class TorchNet(Net):
    """A module on the CPU.

    Args:
        bf16: compute in BF16 what PyTorch's autocast does: convolutions and most of the rest. Any
            processor can, though few are fast. Batch normalisation is not folded, so it rounds once
            more than a graph does.
    """

    def __init__(self, net: SegmentationNet, *, bf16: bool = False) -> None:
        self._net: SegmentationNet | None = net
        self._bf16 = bf16

    @torch.inference_mode()
    def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """See `Net`."""
        net = self._net
        if net is None:
            raise UsageError(CLOSED)
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
            logits, presence = net.predict(torch.from_numpy(images))
        return NetOutputs(
            logits.float().numpy(), None if presence is None else presence.float().numpy()
        )

    def close(self) -> None:
        """Free the weights."""
        self._net = None
