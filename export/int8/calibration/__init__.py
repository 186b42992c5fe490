"""Calibration: frames -> ranges of all activations, one table for every INT8 graph.

`sources` and `selection` give the frames, `doctor` examines them, `observe` runs them through the
reference graph, `methods` makes ranges of what it saw, and `choose` measures which are the best.
"""

from .calibrate import calibrate, check_table
from .check_frames import examine
from .frames import CHOSEN, HELD_OUT, Drawn, Selection, drawn_selection, open_frames, select

__all__ = [
    "CHOSEN",
    "HELD_OUT",
    "Drawn",
    "Selection",
    "calibrate",
    "check_table",
    "drawn_selection",
    "examine",
    "open_frames",
    "select",
]
