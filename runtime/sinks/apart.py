"""Outputs of several sources, each with its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from edgeunet.errors import EdgeUNetError, OutputError, UsageError, printable
from edgeunet.files import check_directory

from ..frames import Segmented
from ..pipeline.stopping import Closing
from .base import Sink
from .opening import SUFFIXES, Format, Output, check_not_source, check_output, kind_of

PLACE = "{source}"
"""Stands for the name of a source in an output."""


def is_apart(output: Output) -> bool:
    """Whether an output has room for several sources: `{source}` in its name, a directory, none."""
    return isinstance(output, str) and (PLACE in output or kind_of(output) in (None, "none"))


def outputs_of(
    output: Output,
    names: Sequence[str],
    *,
    format: Format | None = None,  # noqa: A002
) -> dict[str, Output]:
    """The output of each source, by name.

    Args:
        output: with `{source}`, which is replaced by the name; a directory, which gets a file of
            that name with a format, otherwise `NAME/`, or the masks themselves if there is only one
            source; `-`; or a function, which gets the frames of all.

    Raises:
        UsageError: an output that takes one source only, or a name that is none of a file.

    Example:
        >>> from edgeunet.runtime.sinks.apart import outputs_of
        >>> outputs_of("out", ["door", "yard"], format="csv")
        {'door': 'out/door.csv', 'yard': 'out/yard.csv'}
        >>> outputs_of("{source}.mp4", ["door"])
        {'door': 'door.mp4'}
    """
    alone = len(names) == 1
    if not isinstance(output, str) or output == "-" or (alone and not is_apart(output)):
        return dict.fromkeys(names, output)
    if not is_apart(output):
        raise UsageError(
            f"{output} is one output, and there are {len(names)} sources. Pass a directory, -o DIR/"
            f", or a name for each: -o {_with_place(output)}."
        )
    if alone and PLACE not in output and (format is None or not names[0]):
        return {names[0]: output}
    for name in names:
        if name in ("", "..") or Path(name).name != name:
            raise UsageError(f"{printable(name)!r} is no name of a file. Rename the source.")
    if PLACE in output:
        return {name: output.replace(PLACE, name) for name in names}
    suffix = "/" if format is None else SUFFIXES[format]
    return {name: f"{Path(output) / name}{suffix}" for name in names}


def _with_place(output: str) -> str:
    """An output like this one that has a name for each source."""
    suffix = Path(output).suffix
    return f"DIR/{PLACE}{suffix}" if suffix else f"DIR/{PLACE}.mp4"


def check_apart(
    output: Output,
    outputs: Mapping[str, Output],
    files: Mapping[str, Sequence[Path]],
    *,
    images: set[str],
    overlay: bool,
    format: Format | None,  # noqa: A002
    force: bool,
) -> None:
    """Refuse outputs that cannot be written, without touching anything.

    Args:
        files: that the sources read. images: names of those that are one image.

    Raises:
        As `check_output`; and UsageError for an output of one source that another one reads.
    """
    read = [path for paths in files.values() for path in paths]
    if is_apart(output) and PLACE not in str(output) and output != "-":
        folder = Path(str(output))
        check_not_source(folder, read)
        check_directory(folder, force=force)
    for name, each in outputs.items():
        if isinstance(each, str) and kind_of(each) not in ("none", "masks pipe", "overlay pipe"):
            check_not_source(Path(each), read)
        check_output(
            each,
            sources=files[name],
            several=name not in images,
            overlay=overlay,
            format=format,
            force=force,
        )


class Apart(Closing):
    """Writes the frames of each source into a sink of its own, opened at its first frame.

    Sinks of sources that have ended are closed when another is opened, so that hundreds of films do
    not hold hundreds of files open.

    Args:
        outputs: of the sources by name, for errors. make: opens the sink of a source.
        is_finished: whether no frame of a source will come. fail: called with the name of such a
            source and the error if its sink cannot be closed; the others are written.

    Raises:
        OutputError: while writing, a sink cannot write, for example because the disk is full.
    """

    def __init__(
        self,
        outputs: Mapping[str, Output],
        make: Callable[[str], Sink],
        *,
        is_finished: Callable[[str], bool],
        fail: Callable[[str, EdgeUNetError], object],
    ) -> None:
        self._outputs, self._make, self._is_finished = outputs, make, is_finished
        self._fail = fail
        self._sinks: dict[str, Sink] = {}

    def open(self, source: str) -> Sink:
        """The sink of a source."""
        if source not in self._sinks:
            for name in [name for name in self._sinks if self._is_finished(name)]:
                try:
                    self.finish(name)
                except EdgeUNetError as error:
                    self._fail(name, error)
            with _as_output_error(self._outputs[source]):
                self._sinks[source] = self._make(source)
        return self._sinks[source]

    def write(self, segmented: Segmented) -> None:
        """Write into the sink of the frame's source."""
        sink = self.open(segmented.source)
        with _as_output_error(self._outputs[segmented.source]):
            sink.write(segmented)

    def finish(self, source: str) -> None:
        """Close the sink of a source, if it is open."""
        sink = self._sinks.pop(source, None)
        if sink is not None:
            with _as_output_error(self._outputs[source]):
                sink.close()

    def close(self) -> None:
        """Close all sinks; a second call does nothing."""
        with ExitStack() as stack:
            for source in list(self._sinks):
                stack.callback(self.finish, source)


@contextmanager
def _as_output_error(output: Output) -> Iterator[None]:
    """Turn system errors while writing into OutputError; errors of a caller's function stay."""
    try:
        yield
    except OSError as error:
        if not isinstance(output, str):
            raise
        raise OutputError(
            f"{output} cannot be written: {error.strerror or error}. Finished files stay."
        ) from error
