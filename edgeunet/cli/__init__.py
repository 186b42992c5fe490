"""The command line. A command parses, calls one library function and prints."""

from .main import main

__all__ = ["main"]
