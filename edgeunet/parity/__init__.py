"""Compares a bundle with PyTorch at mask level, stage by stage."""

from .html import write_html, write_index
from .measure import WorstFrame, golden_samples, measure
from .report import Attempt, Fallback, FrameReport, ParityReport, StageParity, left_out_text

__all__ = [
    "Attempt",
    "Fallback",
    "FrameReport",
    "ParityReport",
    "StageParity",
    "WorstFrame",
    "golden_samples",
    "left_out_text",
    "measure",
    "write_html",
    "write_index",
]
