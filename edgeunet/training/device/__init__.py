"""Crops of a whole batch on a device, by PyTorch, of images that lie there.

What is drawn is the same as elsewhere, see `augment.Geometry` and `photometry.Light`; what applies
it gives the crops of `Crops` up to a pixel's rounding.
"""

from .crops import DeviceCrops, load
from .drawings import Drawings, pack

__all__ = ["DeviceCrops", "Drawings", "load", "pack"]
