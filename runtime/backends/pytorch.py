"""PyTorch, the reference. The one module of the runtime that may import torch and the nets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeunet.bundle.bundle import CHECKPOINT_NAME, Bundle
from edgeunet.errors import MissingDependencyError

from .base import Backend, NetOutputs

try:
    import torch
except ImportError:
    raise MissingDependencyError("torch", "export") from None

from edgeunet.models.checkpoints import Checkpoint


class PyTorchBackend(Backend):
    """Runs the bundle's checkpoint in FP32, eagerly."""

    name = "pytorch"

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.net = Checkpoint.open(bundle.root / CHECKPOINT_NAME).net

    @torch.inference_mode()
    def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """Run the net on (N, C, H, W)."""
        logits, presence = self.net.predict(torch.from_numpy(images))
        return NetOutputs(logits.numpy(), None if presence is None else presence.numpy())
