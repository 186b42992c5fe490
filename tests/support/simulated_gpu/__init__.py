"""A GPU on the host: PyCUDA's calls on host memory, and streams that run as late as possible.

Queued work runs only when something waits for it. So code that reads a result too early, or
overwrites a buffer that is still needed, gets wrong masks every time. Addresses are checked.
"""

from .driver import Driver
from .memory import Memory
from .streams import Streams

__all__ = ["Driver", "Memory", "Streams"]
