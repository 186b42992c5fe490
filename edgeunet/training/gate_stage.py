"""A stage before a training that teaches encoder and gate alone, on whole images.

A gate judges whole images, which crops are not: they are enlarged parts, many of them placed on a
class. And the decoder is most of what a step costs. So the gate is taught first, and the net then
trains on from there with a slow encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from ..bundle.manifest import InputSpec
from ..errors import UsageError
from .config import TrainConfig
from .loop import Trainer
from .losses import Target, gate_loss, place_loss

GATE = "gate"
"""The folder of a run that holds its stage of the gate."""

_SCALE = (0.8, 1.25)  # zooms of whole images
_PLACES = 5.0  # weight of all places, beside the whole image


class GateTrainer(Trainer):
    """Trains encoder and gate of a net, and leaves the decoder as it is."""

    def _loss(self, images: Tensor, target: Target) -> Tensor:
        with self._autocast():
            assert self.net.cgm is not None  # see `check_gate_stage`
            scores = self.net.cgm(self.net.encode(images)[-1])
        return gate_loss(scores, target) + _PLACES * place_loss(scores, target)


def stage_config(config: TrainConfig, spec: InputSpec) -> TrainConfig:
    """The options of the stage: those of the run, but for whole images and a full encoder rate.

    Its last epoch is kept, since no mask tells which one is best.
    """
    return replace(
        config,
        crop=(spec.height, spec.width),
        scale=_SCALE,
        epochs=config.gate_epochs,
        gate_epochs=0,
        encoder_rate=1.0,
        validate_every=0,
        patience=None,
        loss="cross_entropy_dice",  # of the masks, which are not taught: needs no weight maps
        mix=0.0,
    )


def check_gate_stage(config: TrainConfig, arguments: Mapping[str, Any]) -> None:
    """UsageError if a net of these arguments cannot have the stage that is asked for."""
    if not config.gate_epochs:
        return
    if not arguments.get("cgm"):
        raise UsageError("got --gate-epochs for a net without a gate. Pass --cgm, too.")
    if arguments.get("padding") == "valid":
        raise UsageError(
            "got --gate-epochs with padding 'valid', whose encoder sees more than the labels show. "
            "Pass --padding same, or leave --gate-epochs out."
        )
