"""Temperatures and power as Linux tells them: thermal zones, and hwmon (a Jetson's INA3221 too)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SYS_CLASS = Path("/sys/class")
# Sensors that are off read as absolute zero or the like; nothing that runs is outside of this.
_COLDEST, _HOTTEST = -40.0, 150.0


@dataclass(frozen=True)
class BoardReport:
    """temperatures: degrees Celsius by sensor. power: watts by rail. Empty where nothing tells."""

    temperatures: dict[str, float]
    power: dict[str, float]


class Board:
    """The sensors below a `/sys/class`."""

    def __init__(self, sys_class: Path = SYS_CLASS) -> None:
        self._root = sys_class

    def report(self) -> BoardReport:
        """Read them all; those that do not answer are left out."""
        temperatures: dict[str, float] = {}
        power: dict[str, float] = {}
        _add(temperatures, self._zones())
        for chip in sorted(self._root.glob("hwmon/hwmon*")):
            name = _text(chip / "name") or chip.name
            if name not in temperatures:  # a zone shows here once more
                _add(temperatures, _temperatures(chip, name))
            _add(power, _powers(chip, name))
        return BoardReport(temperatures, power)

    def _zones(self) -> Iterator[tuple[str, float]]:
        for zone in sorted(self._root.glob("thermal/thermal_zone*"), key=_number):
            value = _reading(zone / "temp", 1e3)
            if value is not None and _COLDEST < value < _HOTTEST:
                yield (_text(zone / "type") or zone.name).removesuffix("-thermal"), value


def _add(readings: dict[str, float], more: Iterator[tuple[str, float]]) -> None:
    """Add readings under names of their own."""
    for name, value in more:
        free, count = name, 2
        while free in readings:
            free, count = f"{name} {count}", count + 1
        readings[free] = value


def _temperatures(chip: Path, name: str) -> Iterator[tuple[str, float]]:
    for path in sorted(chip.glob("temp*_input"), key=_number):
        value = _reading(path, 1e3)
        if value is not None and _COLDEST < value < _HOTTEST:
            label = _text(path.with_name(path.name.replace("_input", "_label")))
            yield f"{name} {label}" if label else name, value


def _powers(chip: Path, name: str) -> Iterator[tuple[str, float]]:
    for path in sorted([*chip.glob("power*_input"), *chip.glob("power*_average")], key=_number):
        value = _reading(path, 1e6)
        if value is not None:
            label = _text(path.with_name(re.sub("_(input|average)$", "_label", path.name)))
            yield label or name, value
    # An INA3221 gives millivolts and milliamperes, and its label at the voltage.
    for path in sorted(chip.glob("curr*_input"), key=_number):
        volts = path.with_name(path.name.replace("curr", "in"))
        current, voltage = _reading(path, 1e3), _reading(volts, 1e3)
        label = _text(volts.with_name(volts.name.replace("_input", "_label")))
        if current is not None and voltage is not None and label:
            yield label, current * voltage


def _number(path: Path) -> tuple[int, str]:
    """Order by the number in a name: 2 before 10."""
    found = re.search(r"\d+", path.name)
    return (int(found[0]) if found else 0, path.name)


def _reading(path: Path, unit: float) -> float | None:
    text = _text(path)
    try:
        return float(text) / unit if text else None
    except ValueError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
