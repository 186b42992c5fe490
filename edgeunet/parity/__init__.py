"""Candidate against PyTorch at mask level, stage by stage."""

from .html import write_html
from .measure import ParitySample, golden_samples, measure, samples_of
from .report import FrameReport, ParityReport, StageReport

__all__ = [
    "FrameReport",
    "ParityReport",
    "ParitySample",
    "StageReport",
    "golden_samples",
    "measure",
    "samples_of",
    "write_html",
]
