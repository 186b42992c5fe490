"""Compilers of NPUs' makers, and what they say of a graph."""
