"""Cards: what is known of a net beside its weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .manifest import InputSpec, check_classes, check_gate

CARD_VERSION = 2


@dataclass(frozen=True)
class Card:
    """What a checkpoint is: enough to rebuild the net and to feed it correctly.

    arguments: those of `create_model`, with num_classes, in_channels and cgm among them.
    palette: RGB by class id. data: name of the training data. metrics: on the validation data,
    such as `miou` in percent. training: how the weights were made, with `seed`, `epochs` and
    `minutes` among it. structure: channels of the layers if they are not those of the variant, see
    `structure`. gate: thresholds of the presence by class id, if a gate was calibrated.

    Example:
        >>> from edgeunet.models import Checkpoint
        >>> Checkpoint.open("cells", "unet").card.arguments["num_classes"]
        3
    """

    model: str
    arguments: dict[str, Any]
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    input: InputSpec
    data: str
    metrics: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    structure: dict[str, tuple[int, int]] | None = None
    gate: tuple[float, ...] | None = None
    card_version: int = CARD_VERSION

    def __post_init__(self) -> None:
        if self.card_version != CARD_VERSION:
            raise ValueError(
                f"card_version is {self.card_version}; expected {CARD_VERSION}. Train again, or "
                "use the edgeunet that wrote it"
            )
        check_classes(self.classes, self.palette, self.gate)
        check_gate(self.input, self.gate)
