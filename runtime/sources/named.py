"""Sources side by side, and their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edgeunet.errors import UsageError, printable

from .addresses import scheme_of
from .archives import ARCHIVE_SUFFIXES
from .base import Source
from .iterable import IterableSource
from .opening import Frames, find_frames, in_a_row
from .redaction import redacted

Given = str | Path | Frames | Iterable[object]
"""What a caller passes as a source: a path or address, opened frames, or frames of their own."""

NAME = re.compile(r"\w[\w.-]*")
"""A name that can be one of a file too."""

_IMAGES = "images"


@dataclass(frozen=True)
class Input:
    """A source of a stream. open: opens it. source: it, if it is open.

    waits: whether it has an end, and need not be read at the same time as all others.
    files: those that it reads, as far as they are known before it is open.
    """

    open: Callable[[], Source]
    source: Source | None = None
    waits: bool = False
    files: Sequence[Path] = ()

    @classmethod
    def of(cls, source: Given, *, skip_damaged: bool = False) -> Input:
        """See `Frames.open` and `IterableSource` for what a source is."""
        if isinstance(source, (str, Path)):
            source = Frames.open(source)
        if isinstance(source, Frames):
            opening = partial(source.read, skip_damaged=skip_damaged)
            return cls(opening, waits=not source.remote, files=source.files)
        opened = source if isinstance(source, Source) else IterableSource(source)
        return cls(lambda: opened, opened, files=opened.files)

    def opened(self) -> Input:
        """The same, open."""
        source = self.source or self.open()
        return Input(lambda: source, source, self.waits, source.files or self.files)


def inputs_of(
    source: Given | Mapping[str, Given], *, skip_damaged: bool = False
) -> dict[str, Input]:
    """One source, which is opened, or several by name, which their threads open.

    Raises:
        UsageError: no source, a name that is none, or one source under two names.
        Otherwise as `Frames.open`, and of a single source as `Frames.read`.
    """
    if not isinstance(source, Mapping):
        return {"": Input.of(source, skip_damaged=skip_damaged).opened()}
    check_names(source)
    inputs = {name: Input.of(given, skip_damaged=skip_damaged) for name, given in source.items()}
    return inputs if len(inputs) > 1 else {name: one.opened() for name, one in inputs.items()}


def check_names(sources: Mapping[str, Given]) -> None:
    """Refuse what `inputs_of` refuses of several sources by name."""
    if not sources:
        raise UsageError("expected a source, got none.")
    seen: dict[Hashable, str] = {}
    for name, given in sources.items():
        if not isinstance(name, str) or not (name or len(sources) == 1):
            raise UsageError(f"{name!r} is no name of a source; expected some text.")
        other = seen.setdefault(_identity(given), name)
        if other != name:
            raise UsageError(
                f"{other} and {name} are the same source. Pass it once, or open it twice yourself."
            )


def named(sources: Sequence[str | Path]) -> dict[str, Frames]:
    """Sources side by side by name, in the order given.

    `NAME=SOURCE` gives a name. Otherwise a file, folder or archive has its own without suffix, a
    camera that of its device, and a stream its address without user, password and query. Images
    that are given one by one are one source, `images`; a glob of videos is one source for each.

    Raises:
        UsageError: two sources of one name, a source that is given twice, or as `Frames.open`.
        SourceError: as `Frames.open`.

    Example:
        >>> import cv2; from edgeunet.runtime.sources.named import named
        >>> _ = cv2.imwrite("a.png", frame)
        >>> list(named(["a.png", "door=rtsp://10.0.0.5/main", "rtsp://10.0.0.6:554/main"]))
        ['images', 'door', '10.0.0.6-554-main']
    """
    found: list[tuple[str, Frames]] = []
    images, place = list[str | Path](), 0
    for given in sources:
        name, where = split_name(given)
        frames = find_frames(where)
        if not name and frames.kind in ("image", "glob"):
            place = place if images else len(found)
            images.append(where)
        elif name or not frames.parts:
            found.append((name or name_of(frames), frames))
        else:
            found += [(name_of(part), part) for part in frames.parts]
    if images:
        found.insert(place, (_IMAGES, Frames.open(images)))
    result: dict[str, Frames] = {}
    seen: set[Hashable] = set()
    for name, frames in found:
        if _identity(frames) in seen:
            raise UsageError(f"{frames.name} is given twice. Pass each source once.")
        if name in result:
            raise UsageError(
                f"{result[name].name} and {frames.name} are both called {name}. Give each a name: "
                "NAME=SOURCE."
            )
        seen.add(_identity(frames))
        result[name] = frames
        if frames.kind not in ("image", "glob"):  # told of above
            frames.tell_of_others()
    return result


def one_by_one(sources: Sequence[str | Path], output: object) -> Frames:
    """Sources one after the other, for an output that takes one.

    Raises:
        UsageError: there are several, and one is a camera or has a name of its own; else as
            `Frames.open`.
    """
    if not sources:
        raise UsageError("expected a source, got none.")
    parts = [find_frames(source) for source in sources if not split_name(source)[0]]
    apart = [part.name for part in parts if part.kind == "live"]
    apart += [name for name, _ in map(split_name, sources) if name]
    if apart:
        raise UsageError(
            f"{apart[0]} is read beside the other sources, and {redacted(str(output))} is one "
            "output. Pass -o DIR/, or a name for each such as -o DIR/{source}.mp4."
        )
    frames = in_a_row(parts)
    frames.tell_of_others()
    return frames


def split_name(source: str | Path) -> tuple[str, str | Path]:
    """The name in `NAME=SOURCE`, empty if there is none or a file of that name, and the source.

    Raises:
        UsageError: what stands before a source that is there is no name.
    """
    if isinstance(source, Path) or scheme_of(source) is not None or Path(source).exists():
        return "", source
    name, equals, where = source.partition("=")
    if equals and where and NAME.fullmatch(name):
        return name, where
    if equals and where and (Path(where).exists() or scheme_of(where) is not None):
        raise UsageError(
            f"{printable(name)!r} is no name of a source; expected letters, digits, '_', and behind"
            " the first also '.' and '-'."
        )
    return "", source


def name_of(frames: Frames) -> str:
    """Name of frames at a path or address."""
    scheme, where = scheme_of(frames.where), frames.where
    if frames.kind == "several":
        return "all"
    if scheme is None:
        if frames.kind in ("image", "glob"):
            return _IMAGES
        path = Path(where).absolute()
        if frames.kind in ("folder", "dataset"):
            return printable(path.name) or "root"
        if frames.topic:
            return printable(f"{path.stem}-{_slug(frames.topic)}")
        double = next((end for end in ARCHIVE_SUFFIXES if path.name.lower().endswith(end)), "")
        return printable(path.name[: -len(double)] if double else path.stem)
    if scheme == "gst":
        return scheme
    place = redacted(where).split("://", 1)[1].rpartition("@")[2].partition("?")[0]
    if scheme == "v4l2":
        return Path(place).name
    if frames.kind == "video":
        return Path(place).stem
    slug = _slug(place)
    return f"csi{slug}" if scheme == "csi" else slug


def _slug(text: str) -> str:
    return re.sub(r"[^\w.]+", "-", text).strip("-.")


def _identity(source: Given) -> Hashable:
    """What two names of one source have in common."""
    if isinstance(source, (str, Path)):
        return str(source) if scheme_of(source) is not None else Path(source).resolve()
    if isinstance(source, Frames):
        files = tuple(path.resolve() for path in source.files)
        return (*files, source.topic) if files else source.where
    return id(source)
