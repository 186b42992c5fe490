"""All errors that edgeunet raises on purpose; the command line exits with their exit codes.

A message says what came, what was expected and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from .extras import SOURCE, WHERE, find_package, how_to_install


def printable(text: object) -> str:
    r"""Text of unknown origin, safe for a terminal: whatever cannot be printed is escaped.

    Names in bundles, graphs and folders may hold control sequences, which move the cursor, change
    what was printed before, or fake another line.

    Example:
        >>> from edgeunet.errors import printable
        >>> printable("cell" + chr(27)) == "cell" + chr(92) + "x1b"
        True
    """
    known = str(text)
    if known.isprintable():
        return known
    return "".join(each if each.isprintable() else _escaped(each) for each in known)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # Python's stand-in for a byte of a name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return repr(character)[1:-1]


def printable_lines(text: object) -> str:
    """`printable`, but line ends stay."""
    return "\n".join(map(printable, str(text).expandtabs(4).split("\n")))


def first_line(error: object, *, most: int = 200) -> str:
    """The first line of an error that has something in it, of at most so many characters.

    Errors of libraries may go on for pages. The name of its type stands for one without a text.

    Example:
        >>> from edgeunet.errors import first_line
        >>> first_line(ValueError("no such node: and then a dump"), most=12)
        'no such node…'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = lines[0] if lines else type(error).__name__
    return line if len(line) <= most else f"{line[:most]}…"


class EdgeUNetError(Exception):
    """Base of all errors raised on purpose. As text, it is safe for a terminal, see `printable`.

    Example:
        >>> try: edgeunet.load("missing")
        ... except edgeunet.EdgeUNetError as error: print(error)
        missing ...
    """

    exit_code = 1

    def __str__(self) -> str:
        return printable_lines(super().__str__())


class UsageError(EdgeUNetError):
    """The call is wrong: an argument, an option or a combination of them."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A name that is not registered; the message lists the known ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        listed = ", ".join(names) or "none"
        super().__init__(f"unknown {kind} {name!r}.{did_you_mean(name, names)} Known: {listed}.")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The known name that is closest to a mistyped one, as a sentence; "" if none is close."""
    return "".join(f" Did you mean {close!r}?" for close in get_close_matches(name, known, 1))


class ShapeError(UsageError):
    """A size that the net cannot take."""


class OutputExistsError(UsageError):
    """The output exists already."""

    def __init__(self, path: object) -> None:
        super().__init__(f"{path} exists already. Pass --force to replace it, or another output.")


class MissingDependencyError(EdgeUNetError):
    """An optional dependency is not installed.

    Args:
        module: what Python could not import, or the name of the product.
        extra: installs it; None for the one in `extras.PACKAGES`.
        hint: more advice, after the command that installs it.
    """

    def __init__(self, module: str, extra: str | None = None, *, hint: str = "") -> None:
        if extra is None:
            package = find_package(module)
            assert package is not None, f"extras.PACKAGES lacks {module}"
            extra = package.extra
        command = how_to_install(module, extra)
        where = f" ({WHERE})" if WHERE and f"{SOURCE}[" in command else ""
        message = f"{module} is not installed. Install it with: {command}{where}."
        super().__init__(f"{message} {hint}".rstrip())


class CheckpointError(EdgeUNetError):
    """Weights or a card that do not fit the net."""


class DatasetError(EdgeUNetError):
    """A data set that does not have the documented layout."""


class TrainingError(EdgeUNetError):
    """A training run that cannot continue."""


class TuningError(EdgeUNetError):
    """A search in which nothing held its target."""


class BundleError(EdgeUNetError):
    """A bundle that is damaged, foreign or unsafe."""


class FrameError(EdgeUNetError):
    """A frame that cannot be converted to the net's input."""


class SourceError(EdgeUNetError):
    """A file, camera or stream that cannot be read."""


class IncompleteError(SourceError):
    """A run whose source failed: the frames that could be read are done.

    summary: what `run` would have returned.
    """

    def __init__(self, message: str, summary: object) -> None:
        super().__init__(message)
        self.summary = summary


class OutputError(EdgeUNetError):
    """An output that cannot be written."""


class OutputBusyError(OutputError):
    """An output that another run is writing."""


class UnfinishedError(EdgeUNetError):
    """A run that a signal ended early."""


class GraphError(EdgeUNetError):
    """An ONNX file that is damaged, not ONNX or unsafe."""


class ExportError(EdgeUNetError):
    """A graph that could not be exported."""


class CalibrationError(ExportError):
    """Calibration data that is missing or unfit."""


class EngineError(EdgeUNetError):
    """An engine that could not be built, or that does not fit."""


class BackendError(EdgeUNetError):
    """A backend that is not available on this machine, or failed."""


class ParityError(EdgeUNetError):
    """Results outside the promised tolerance."""
