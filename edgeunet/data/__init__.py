"""Data sets and frames: reading, checking and simulating them. Loads no torch."""
