"""Searches the fastest way to enough accuracy: sizes, nets, precisions and engines for a target."""
