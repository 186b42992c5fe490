"""Threads between a source and a sink: stages, bounded channels, stopping."""
