"""What the paper of each variant trains with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How a variant's paper trains it.

    loss: one of `losses.LOSSES`. border: weight w0 of the borders between touching instances, 0
    without a weight map. elastic: sigma of the elastic deformation's displacements, pixels, 0
    without.
    """

    loss: str = "cross_entropy_dice"
    border: float = 0.0
    elastic: float = 0.0


_RECIPES = {
    # Ronneberger et al., arXiv 1505.04597, sections 3 and 3.1.
    "unet": Recipe(loss="weighted_cross_entropy", border=10.0, elastic=10.0),
    "unetpp": Recipe(loss="cross_entropy_pixel_dice"),
    "unet3p": Recipe(loss="hybrid"),
}


def recipe_of(model: str) -> Recipe:
    """Recipe of a variant; cross entropy plus soft Dice where its paper has nothing particular."""
    return _RECIPES.get(model, Recipe())
