"""A short training."""

from __future__ import annotations

from edgeunet.training.config import TrainConfig

SHORT = TrainConfig(crop=(64, 64), epochs=4, batch_size=4, validate_every=2, amp=False)
