"""A GPU on the host: PyCUDA's calls on host memory, and streams that run as late as they may.

What is queued runs only when something waits for it, so that whoever reads a result too early, or
writes again what is still to be read, gets wrong masks and not luck. Addresses are checked.
"""

from .driver import Driver
from .memory import Memory
from .streams import Streams

__all__ = ["Driver", "Memory", "Streams"]
