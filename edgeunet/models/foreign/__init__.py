"""Checkpoints of others: recognised by their keys and shapes, and translated into our nets."""

from .registry import FORMATS, Recognised, closest, likeness, recognise
from .torchvision import load_encoder

__all__ = ["FORMATS", "Recognised", "closest", "likeness", "load_encoder", "recognise"]
