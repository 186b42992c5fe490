"""Every error that edgeunet raises on purpose.

    EdgeUNetError                exit code 1
    ├── UsageError               exit code 2: the call itself is wrong
    │   ├── UnknownNameError     a model, tag or backend that is not registered
    │   ├── ShapeError           a size that the net cannot take
    │   └── OutputExistsError    the output stands already and --force was not given
    ├── MissingDependencyError   an extra is not installed
    ├── CheckpointError          weights or card that do not fit the net
    ├── DatasetError             a data set that is not in the documented layout
    ├── TrainingError            a training run that cannot go on
    ├── BundleError              a bundle that is damaged, foreign or unsafe
    ├── FrameError               a frame that cannot be converted as the manifest says
    ├── SourceError              an image, directory, video, camera or stream that cannot be read
    ├── OutputError              an output that cannot be written
    ├── UnfinishedError          a run that a signal ended before its source did
    ├── GraphError               an ONNX file that is damaged, not ONNX or unsafe
    ├── ExportError              a graph that could not be made
    │   └── CalibrationError     calibration data that is missing or unfit
    ├── EngineError              an engine that could not be built, or that does not fit
    ├── BackendError             a backend that is not available or failed
    └── ParityError              results outside the promised tolerance

A message says what came, what was wanted and what to do.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution

_EXTRAS_WITH_OPENCV = {"cpu", "video", "export", "train"}  # [trt] brings it on x86-64 alone


class EdgeUNetError(Exception):
    """Base of all errors raised on purpose; the command line exits with `exit_code`.

    Example:
        >>> try: edgeunet.load("missing")
        ... except edgeunet.EdgeUNetError as error: print(error)
        missing ...
    """

    exit_code = 1


class UsageError(EdgeUNetError):
    """The call itself is wrong."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A name that is not registered; the message lists the known ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        listed = ", ".join(sorted(known)) or "none"
        super().__init__(f"unknown {kind} {name!r}. Known: {listed}.")


class ShapeError(UsageError):
    """A size that the net cannot take."""


class OutputExistsError(UsageError):
    """The output stands already."""

    def __init__(self, path: object) -> None:
        super().__init__(f"{path} exists already. Pass --force to replace it, or another output.")


class MissingDependencyError(EdgeUNetError):
    """An optional dependency is not installed."""

    def __init__(self, module: str, extra: str, *, hint: str = "") -> None:
        message = f"{module} is not installed. Install it with: {how_to_install(module, extra)}."
        super().__init__(f"{message} {hint}".rstrip())


def how_to_install(package: str, extra: str) -> str:
    """The command that installs an extra, or its package alone.

    The latter where the extra would put the OpenCV wheel over another OpenCV, as JetPack's, and
    with that take its GStreamer away.
    """
    if extra in _EXTRAS_WITH_OPENCV and _has_other_opencv():
        return f"pip install {package}"
    return f"pip install 'edgeunet[{extra}]'"


def _has_other_opencv() -> bool:
    if importlib.util.find_spec("cv2") is None:
        return False
    try:
        distribution("opencv-python-headless")
    except PackageNotFoundError:
        return True
    return False


class CheckpointError(EdgeUNetError):
    """Weights or a card that do not fit the net."""


class DatasetError(EdgeUNetError):
    """A data set that is not in the documented layout."""


class TrainingError(EdgeUNetError):
    """A training run that cannot go on."""


class BundleError(EdgeUNetError):
    """A bundle that is damaged, foreign or unsafe."""


class FrameError(EdgeUNetError):
    """A frame that cannot be converted as the manifest says."""


class SourceError(EdgeUNetError):
    """An image, directory, video, camera or stream that cannot be read."""


class OutputError(EdgeUNetError):
    """An output that cannot be written."""


class UnfinishedError(EdgeUNetError):
    """A run that a signal ended before its source did."""


class GraphError(EdgeUNetError):
    """An ONNX file that is damaged, not ONNX or unsafe."""


class ExportError(EdgeUNetError):
    """A graph that could not be made."""


class CalibrationError(ExportError):
    """Calibration data that is missing or unfit."""


class EngineError(EdgeUNetError):
    """An engine that could not be built, or that does not fit."""


class BackendError(EdgeUNetError):
    """A backend that is not available on this machine, or failed."""


class ParityError(EdgeUNetError):
    """Results outside the promised tolerance."""
