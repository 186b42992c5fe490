"""What weights, and those that they began with, were trained on: do they know val?

Who was trained on the images of val is surer there than anywhere else, and nothing in the weights
shows it. Cards do, along the chain of `initial`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import printable
from .checkpoints import Checkpoint

_log = logging.getLogger(__name__)

Record = Mapping[str, Any]
"""How weights were trained: `training` of their card, with the name of their data set in `data`."""


def lineage(start: Checkpoint) -> dict[str, Any]:
    """How weights were trained, and on what, for the card of a net that begins with them."""
    return {"data": start.card.data, **(start.card.training or {"weights": start.path.name})}


def data_of(trained: Record | None) -> frozenset[str]:
    """Names of the data sets that weights, and those that they began with, were trained on.

    Example:
        >>> from edgeunet.models.lineage import data_of
        >>> sorted(data_of({"data": "roads", "epochs": 3, "initial": {"data": "streets"}}))
        ['roads', 'streets']
    """
    return frozenset(name for _, name in _generations(trained) if isinstance(name, str))


def saw_val(trained: Record | None, name: str) -> bool:
    """Whether weights, or those that they began with, were trained on val of a data set.

    Args:
        name: of the data set.
    """
    return any(each.get("with_val") and data == name for each, data in _generations(trained))


def tell_of_val(start: Checkpoint, name: str, consequence: str) -> None:
    """Warn of weights that know the images that they are to be judged on.

    Args:
        name: of the data set. consequence: a sentence.
    """
    if saw_val(lineage(start), name):
        _log.warning(
            "%s was trained on val of %s too. %s",
            printable(start.path),
            printable(name),
            consequence,
        )


def _generations(trained: object) -> Iterator[tuple[Record, object]]:
    """Records from the last one to the first, and the data set of each.

    They come from cards, which anybody may have written.
    """
    data = None
    while isinstance(trained, Mapping):
        data = trained.get("data", data)  # that of the later ones where it is not told
        yield trained, data
        trained = trained.get("initial")
