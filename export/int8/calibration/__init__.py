"""Calibration: frames -> ranges of all activations, one table for every INT8 graph.

`frames` describes the frames at a path and reads a few, which `selection` chooses; `check_frames`
checks them; `observe` runs them through the reference graph; `ranges` turns what it saw into
ranges; `calibrate` measures which ranges are best. A video is decoded twice, whatever is exported.
"""
