"""Compares a bundle with PyTorch at mask level, stage by stage."""

from .html import write_html
from .measure import ParitySample, WorstFrame, golden_samples, measure, samples_of
from .report import Fallback, FrameReport, ParityReport, StageParity, left_out_text

__all__ = [
    "Fallback",
    "FrameReport",
    "ParityReport",
    "ParitySample",
    "StageParity",
    "WorstFrame",
    "golden_samples",
    "left_out_text",
    "measure",
    "samples_of",
    "write_html",
]
