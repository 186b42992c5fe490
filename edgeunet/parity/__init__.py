"""Candidate against PyTorch at mask level, stage by stage."""

from .html import write_html
from .measure import ParitySample, WorstFrame, golden_samples, measure, samples_of
from .report import Fallback, FrameReport, ParityReport, StageReport

__all__ = [
    "Fallback",
    "FrameReport",
    "ParityReport",
    "ParitySample",
    "StageReport",
    "WorstFrame",
    "golden_samples",
    "measure",
    "samples_of",
    "write_html",
]
