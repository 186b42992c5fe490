"""The classification-guided gate: calibrating its thresholds and reporting on them."""
