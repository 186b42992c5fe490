"""The configurations of a variant that a search chooses from."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Any

from ..models import model_class
from ..models.eff_unet import ENCODERS
from ..models.mobile_unet import DECODERS
from ..models.unetpp import MAX_DEPTH

SIDES = (1.0, 0.75, 0.5)
"""Sides of the input, as shares of the images'."""

WIDTHS = (1.0, 0.75, 0.5, 0.25)
"""Widths, as shares of the variant's own."""

STEP = 8
"""Widths are multiples of it: engines compute that many channels at once."""

CHOICES: Mapping[str, Mapping[str, Sequence[str | int]]] = MappingProxyType(
    {
        "eff_unet": {"encoder": tuple(ENCODERS)},
        "mobile_unet": {"decoder": tuple(DECODERS)},
        "unetpp": {"depth": tuple(range(1, MAX_DEPTH + 1))},
    }
)
"""Arguments of a variant, besides its width, that change what it costs, and their values."""


@dataclass(frozen=True)
class Configuration:
    """A net and the size of its input.

    size: (height, width), pixels. width: channels of the first stage. choice: name and value of
    each of the variant's arguments in `CHOICES`.

    Example:
        >>> from edgeunet.tuning.space import Configuration
        >>> Configuration((256, 320), 24, (("decoder", "light"),)).title
        '256x320, width 24, decoder light'
    """

    size: tuple[int, int]
    width: int
    choice: tuple[tuple[str, str | int], ...] = ()

    @property
    def arguments(self) -> dict[str, Any]:
        """Of `create_model`."""
        return {"width": self.width, **dict(self.choice)}

    @property
    def title(self) -> str:
        """For people."""
        words = [_size(self.size), f"width {self.width}", *(f"{k} {v}" for k, v in self.choice)]
        return ", ".join(words)

    @property
    def key(self) -> str:
        """For files and tables: as the title, but short."""
        named = (f"d{value}" if isinstance(value, int) else value for _, value in self.choice)
        return "-".join([_size(self.size), f"w{self.width}", *named])

    @property
    def group(self) -> tuple[object, ...]:
        """What it has in common with those that differ in width only."""
        return self.size, self.choice


def _size(size: tuple[int, int]) -> str:
    return "{}x{}".format(*size)


def space_of(model: str, size: tuple[int, int]) -> tuple[Configuration, ...]:
    """All configurations of a variant for images of a size, in a fixed order.

    Args:
        size: (height, width) of the largest input, which the net can take.

    Raises:
        UnknownNameError: no such variant.

    Example:
        >>> from edgeunet.tuning.space import space_of
        >>> len(space_of("mobile_unet", (256, 320)))
        24
    """
    net = model_class(model)
    usual = inspect.signature(net).parameters["width"].default
    widths = dict.fromkeys(max(STEP, round(usual * share / STEP) * STEP) for share in WIDTHS)
    sizes = dict.fromkeys(_scaled(size, share, net.size_multiple) for share in SIDES)
    choices = CHOICES.get(model, {})
    pairs = ([(name, value) for value in values] for name, values in choices.items())
    return tuple(
        Configuration(size, width, choice)
        for size, choice, width in product(sizes, product(*pairs), widths)
    )


def _scaled(size: tuple[int, int], share: float, multiple: int) -> tuple[int, int]:
    height, width = (max(1, round(share * side / multiple)) * multiple for side in size)
    return height, width
