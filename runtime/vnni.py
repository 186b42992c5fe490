"""Whether the processor adds INT8 products without cutting their sums off."""

from __future__ import annotations

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def lacks_vnni(cpuinfo: Path = CPUINFO) -> bool:
    """True on x86-64 without VNNI, as Linux tells it; elsewhere False.

    There ONNX Runtime adds pairs of INT8 products in 16 bits, which overflow with large values
    (its documentation, "Quantize ONNX models", on U8S8), unless it is asked for wider ones.
    """
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")  # ARM has "Features"
    return bool(flags) and "vnni" not in flags
