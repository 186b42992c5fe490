"""Qualcomm's Hexagon in this machine, as Linux tells of it. Tested on files, not on a board."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

from edgeunet.doctor import told_by
from edgeunet.extras import PACKAGES

_COMPATIBLE = Path("/proc/device-tree/compatible")
_PROCESSORS = Path("/sys/class/remoteproc")  # that Linux starts with a firmware each
_NODES = (  # of the driver by which programs reach it: mainline Linux, then Qualcomm's own
    Path("/dev/fastrpc-cdsp"),
    Path("/dev/fastrpc-cdsp-secure"),
    Path("/dev/adsprpc-smd"),
    Path("/dev/adsprpc-smd-secure"),
)
REMEDY = (
    "Hexagon's firmware and libcdsprpc.so come with the board's image: update it, or try another "
    "version of onnxruntime-qnn. If that does not help, leave out --provider."
)


@dataclass(frozen=True)
class Hexagon:
    """What is known of it.

    soc: such as "qcs6490", None on other machines. state: such as "running", None if Linux does not
    tell. node: of the driver, None if there is none.

    Example:
        >>> from edgeunet.runtime.backends.hexagon import Hexagon
        >>> Hexagon("qcs6490", "offline", None).problem
        'its firmware is not running but offline: `dmesg | grep remoteproc` says why'
    """

    soc: str | None
    state: str | None
    node: Path | None

    @property
    def problem(self) -> str | None:
        """Why programs do not reach it, and what to do; None if nothing is known to be wrong."""
        if self.state not in (None, "running"):
            return (
                f"its firmware is not running but {self.state}: `dmesg | grep remoteproc` says why"
            )
        if self.node is None:
            return (
                f"there is no {' or '.join(map(str, _NODES[::2]))}: the kernel lacks the driver "
                "FastRPC, or a container the device"
            )
        if not os.access(self.node, os.R_OK | os.W_OK):
            return (
                f"{self.node} is not for this user: join the group that `ls -l {self.node}` names"
            )
        return None


def find_hexagon() -> Hexagon:
    """What the device tree, the kernel and the driver say.

    Example:
        >>> from edgeunet.runtime.backends.hexagon import find_hexagon
        >>> find_hexagon().soc is None or find_hexagon().soc.isalnum()
        True
    """
    found = re.search(r"qcom,([a-z]+\d\w*)", told_by(_COMPATIBLE))
    states = (
        told_by(folder / "state")
        for folder in sorted(_PROCESSORS.glob("remoteproc*"))
        if "cdsp" in told_by(folder / "name")
    )
    node = next((path for path in _NODES if path.exists()), None)
    return Hexagon(found and found[1], next(states, None), node)


def versions() -> str:
    """What runs a net here, as a sentence.

    Example:
        >>> from edgeunet.runtime.backends.hexagon import versions
        >>> versions()  # doctest: +SKIP
        'Here are qcs6490, onnxruntime 1.32.0, onnxruntime-qnn 2.7.0 and the kernel 6.8.0.'
    """
    known = ", ".join(
        f"{package.name} {package.version() or 'unknown'}"
        for package in PACKAGES
        if package.module in ("onnxruntime", "onnxruntime_qnn")
    )
    soc = find_hexagon().soc or "an unknown SoC"
    return f"Here are {soc}, {known} and the kernel {platform.release()}."
