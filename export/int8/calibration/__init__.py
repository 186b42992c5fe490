"""Calibration: frames -> ranges of all activations, one table for every INT8 graph.

`sources` describes the frames at a path, `selection` and `frames` choose a few, `doctor` checks
them, `observe` runs them through the reference graph, `methods` turns what it saw into ranges, and
`choose` measures which ranges are best. A video is decoded twice, whatever is exported.
"""

from .calibrate import calibrate, check_table
from .check_frames import examine
from .frames import CHOSEN, HELD_OUT, FrameSet, Selection, describe_source, drawn_selection, select

__all__ = [
    "CHOSEN",
    "HELD_OUT",
    "FrameSet",
    "Selection",
    "calibrate",
    "check_table",
    "describe_source",
    "drawn_selection",
    "examine",
    "select",
]
