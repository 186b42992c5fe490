"""Weights from other projects: recognised by keys and shapes, and translated to our nets."""

from .encoders import judge_encoder, load_encoder
from .registry import FORMATS, Recognised, closest, likeness, recognise

__all__ = [
    "FORMATS",
    "Recognised",
    "closest",
    "judge_encoder",
    "likeness",
    "load_encoder",
    "recognise",
]
