"""What a search is asked for: a speed, and how long it may take."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import UsageError

ROOM = 1.05
"""A configuration counts as fast enough while searching if it is faster than the target by this.
Two measurements of one net on one machine differ by a few percent."""

_SPEED = re.compile(
    r"\s*(fps|p50)\s*(>=|<=|>|<|=)?\s*([0-9]{0,7}\.?[0-9]{1,7})\s*(ms|fps)?\s*", re.ASCII
)
_DURATION = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?", re.ASCII)
_EXAMPLES = 'Pass --target "fps>=30", or --target "p50<=15ms".'


@dataclass(frozen=True)
class Target:
    """A speed of whole frames: with pre- and post-processing, one after the other.

    text: as it was given. milliseconds: the most that the median frame may take.

    Example:
        >>> from edgeunet.tuning.target import Target
        >>> Target.parse("fps >= 50").milliseconds
        20.0
    """

    text: str
    milliseconds: float

    @classmethod
    def parse(cls, text: str) -> Target:
        """`fps>=N`, or `p50<=Nms`.

        Raises:
            UsageError: neither of them, a comparison that asks for a slow net, or no speed at all.
        """
        found = _SPEED.fullmatch(text)
        if found is None:
            raise UsageError(f"got --target {text!r}; expected a speed. {_EXAMPLES}")
        kind, comparison, number, unit = found.groups()
        wanted = ">=" if kind == "fps" else "<="
        if comparison != wanted:
            got = "no comparison" if comparison is None else comparison
            raise UsageError(
                f"got {got} in --target {text!r}; expected {kind}{wanted}. {_EXAMPLES}"
            )
        if unit not in (None, "fps" if kind == "fps" else "ms"):
            raise UsageError(f"got {unit} in --target {text!r}, which is not a {kind}. {_EXAMPLES}")
        value = float(number)
        if value <= 0:
            raise UsageError(f"got {value:g} in --target {text!r}; expected more. {_EXAMPLES}")
        return cls("".join(text.split()), 1000 / value if kind == "fps" else value)

    def holds(self, milliseconds: float, *, room: float = 1.0) -> bool:
        """Whether a frame of so many milliseconds is fast enough, with room for it to be slower."""
        return milliseconds * room <= self.milliseconds


def seconds_of(text: str) -> float:
    """Seconds of a duration such as 90s, 45m, 2h or 1h30m.

    Raises:
        UsageError: none, or 0.

    Example:
        >>> from edgeunet.tuning.target import seconds_of
        >>> seconds_of("1h30m")
        5400.0
    """
    found = _DURATION.fullmatch(text.strip())
    hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    total = 3600.0 * hours + 60 * minutes + seconds
    if not total:
        raise UsageError(f"got --budget {text!r}; expected a time, such as 90s, 45m, 2h or 1h30m.")
    return total


def duration(seconds: float) -> str:
    """Seconds in words, such as "1h 30m".

    Example:
        >>> from edgeunet.tuning.target import duration
        >>> duration(5430), duration(75)
        ('1h 30m', '1m 15s')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes}m"
    return f"{minutes}m {rest}s" if minutes else f"{rest}s"
