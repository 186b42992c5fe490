"""INT8: calibration, Q/DQ placement, and the accuracy budget."""
