"""Calibration: frames -> ranges of all activations, one table for every INT8 graph.

`sources` and `selection` give the frames, `doctor` examines them, `observe` runs them through the
reference graph, `methods` makes ranges of what it saw, and `choose` measures which are the best.
"""

from .calibrate import calibrate, check_table
from .doctor import examine
from .frames import CHOSEN, HELD_OUT, Selection, drawn_selection, select
from .sources import Drawn, open_frames

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
