"""Opens the source that a path or address names, or several of them."""

from __future__ import annotations

import glob
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from edgeunet.errors import SourceError, UsageError, printable
from edgeunet.listing import IMAGE_SUFFIXES, NOTHING, Listing, list_images, natural_key

from ..frames import Ignored
from .addresses import ON_WORKERS, connector, hls_connector, scheme_of
from .archives import ARCHIVE_SUFFIXES, is_archive, open_archive
from .base import Source
from .containers import VIDEO_SUFFIXES, is_film
from .images import Images, archived_images, image_files
from .live import Connection, LiveSource, Timeouts
from .parquet import SUFFIXES as TABLE_SUFFIXES
from .redaction import redacted
from .ros import BAG_SUFFIXES, Bag, bag_files, is_bag, split_bag
from .several import Part, Several
from .video import VideoFile

_log = logging.getLogger(__name__)

Kind = Literal["image", "folder", "glob", "dataset", "archive", "video", "bag", "several", "live"]
"""What a path or address may mean. dataset: a folder with a `dataset.json`."""


@dataclass(frozen=True)
class Frames:
    """Frames at a path or address, or at several, which `read` opens, each time anew.

    where: the path, glob or address. parts: the sources of several. files: the image files, in
    natural order, the archive, the video or the bag; empty for addresses, and for a data set with
    no image beside its `dataset.json`. topic: of a bag; empty for its only one.
    beside: what a folder or glob holds beside the frames. gpu: see `decoded_on`.

    Example:
        >>> import cv2; from edgeunet.runtime.sources import Frames
        >>> _ = cv2.imwrite("a.png", frame)
        >>> Frames.open("a.png").kind
        'image'
        >>> [item.name for item in Frames.open(["a.png", "a.png"]).read()]
        ['a.png', 'a.png']
    """

    where: str = field(repr=False)  # it may hold a password
    kind: Kind
    files: tuple[Path, ...] = ()
    beside: Listing = NOTHING
    _connect: Callable[[], Connection] | None = field(default=None, repr=False)
    parts: tuple[Frames, ...] = field(default=(), repr=False)
    topic: str = ""
    gpu: int | None = None

    @classmethod
    def open(cls, source: str | Path | Sequence[str | Path]) -> Frames:
        """Find out what a path or address names, without decoding or connecting.

        What a folder or an archive holds beside images is left out, and a warning names it.

        Args:
            source: one or several of: an image, a folder, archive (ZIP, TAR) or glob of images, a
                data set, a bag of ROS (`.bag`, `.mcap`, `.db3`, a folder of rosbag2, or with a
                topic `bag:FILE?topic=/image`), a video file, `http(s)://HOST/film.mp4`,
                `http(s)://HOST/stream.m3u8`; or a camera or stream, alone: `rtsp://…`,
                `http://…` (MJPEG), `0`, `/dev/video0`,
                `v4l2:///dev/video0?size=1280x720&rate=30&format=mjpeg`,
                `csi://0?size=1280x720&rate=30` or `gst:PIPELINE ! appsink`.

        Raises:
            UsageError: an unknown scheme, an address that its scheme does not allow, no source, or
                a camera beside other sources.
            SourceError: missing or empty, or neither images nor a video.
        """
        frames = find_frames(source) if isinstance(source, (str, Path)) else _open_all(source)
        frames.tell_of_others()
        return frames

    def tell_of_others(self) -> None:
        """Warn of what lies beside images and is not read."""
        if told := self.beside.skipped():
            _log.warning("%s: not read: %s.", self.name, told)
        for part in self.parts:
            part.tell_of_others()

    @property
    def name(self) -> str:
        """What a report calls the frames."""
        if self.kind == "several":
            return f"{len(self.parts)} sources"
        is_address = scheme_of(self.where) is not None
        return printable(redacted(self.where) if is_address else Path(self.where).absolute().name)

    @property
    def _ignored(self) -> Ignored:
        return Ignored(len(self.beside.hidden), len(self.beside.others))

    @property
    def remote(self) -> bool:
        """Whether `read` connects to a camera or to another machine."""
        return scheme_of(self.where) is not None or any(part.remote for part in self.parts)

    def decoded_on(self, gpu: int) -> Frames:
        """The same videos, decoded by the GPU with that index, see `NvdecFile`.

        A backend with a `gpu` of that index takes the frames from there; others download them.

        Raises:
            UsageError: they are no videos with an end.
        """
        for part in self.parts or (self,):
            if part.kind != "video" or part.where.partition("?")[0].lower().endswith(".m3u8"):
                raise UsageError(
                    f"--decoder nvdec expected video files, got {part.name}. Leave it out, or read "
                    "that apart."
                )
        parts = tuple(replace(part, gpu=gpu) for part in self.parts)
        return replace(self, gpu=gpu, parts=parts)

    def read(self, *, skip_damaged: bool = False) -> Source:
        """Open the frames; they come in order, files in natural order of their names.

        Args:
            skip_damaged: leave damaged frames of files out, and count them. UsageError of videos
                that a GPU decodes. False: an error says
                which frame of a video is damaged, and ends it; images that cannot be read are left
                out, and an error follows behind the others. Live sources leave them out always.

        Raises:
            SourceError: a camera does not answer, a video cannot be opened, or a data set has no
                images of its own. While iterating, a file is unreadable or truncated; the error has
                the frame's number or name.
        """
        if self._connect is not None:
            return LiveSource(self.where, self._connect)
        if self.parts:
            parts = [
                Part(part.name, partial(part.read, skip_damaged=skip_damaged))
                for part in self.parts
            ]
            timed = all(part.kind == "video" for part in self.parts)
            return Several(parts, files=self.files, ignored=self._ignored, timed=timed)
        if self.kind == "video" and self.gpu is not None:
            return _video_on_gpu(self.where, self.gpu, skip_damaged)
        if self.kind == "video":
            return _video(self.where, skip_damaged)
        if self.kind == "bag":
            return Bag(Path(self.where), self.topic, skip_damaged=skip_damaged)
        if self.kind == "archive":
            return _archive(self.files[0], skip_damaged)
        if not self.files:
            raise SourceError(
                f"{printable(self.where)} is a data set. Pass one of its folders, such as "
                f"{printable(Path(self.where) / 'val' / 'images')}."
            )
        return Images(
            image_files(self.files),
            files=self.files,
            ignored=self._ignored,
            skip_damaged=skip_damaged,
        )


def find_frames(source: str | Path) -> Frames:
    """As `Frames.open` for one path or address, without its warning."""
    where, path = str(source), Path(source)
    if scheme_of(source) == "bag":
        path, topic = split_bag(where)
        if not path.exists():
            raise SourceError(f"{printable(path)} does not exist.")
        return _bag(path, topic)
    if scheme_of(source) is not None:
        if is_film(where):
            return Frames(where, "video")
        if is_archive(place := Path(urlsplit(where).path)) or _advice((place,)):
            raise UsageError(f"{redacted(where)} is no camera or video. {ON_WORKERS}")
        return Frames(where, "live", _connect=connector(source, timeouts=Timeouts()))
    if path.is_char_device():
        return find_frames(f"v4l2://{path.absolute()}")
    if path.is_dir():
        return _bag(path) if is_bag(path) else _folder(path)
    if path.is_file():
        return _file(path)
    if path.exists():
        raise SourceError(f"{printable(path)} is neither a file nor a folder.")
    if where.startswith("/dev/video"):  # not plugged in
        return find_frames(f"v4l2://{where}")
    if where.isascii() and where.isdigit():
        return find_frames(f"v4l2:///dev/video{int(where)}")
    return _matches(source)


def _open_all(sources: Sequence[str | Path]) -> Frames:
    """One, or several in a row."""
    if not sources:
        raise UsageError("expected a source, got none.")
    parts = [find_frames(source) for source in sources]
    return parts[0] if len(parts) == 1 else in_a_row(parts)


def in_a_row(parts: Sequence[Frames]) -> Frames:
    """Frames of several sources, one after the other; UsageError if one has no end."""
    where = "several"
    for part in parts:
        if part.kind == "live":
            raise UsageError(f"{part.name} has no end, so nothing can follow it. Pass it alone.")
    files = tuple(file for part in parts for file in part.files)
    if all(part.kind in ("image", "glob") for part in parts):
        # A shell sorts its globs by characters. Images given in that order are in natural order
        # here, any other order is kept.
        if list(files) == sorted(files, key=str):
            files = tuple(sorted(files, key=natural_key))
        return Frames(where, "glob", files, _beside_all(parts))
    # A glob of videos is several parts already; the others keep what lies beside them.
    beside = _beside_all([part for part in parts if part.parts])
    flat = tuple(each for part in parts for each in part.parts or (part,))
    return Frames(where, "several", files, beside, parts=flat)


def _beside_all(parts: Sequence[Frames]) -> Listing:
    return Listing(others=tuple(path for part in parts for path in part.beside.others))


def _file(path: Path) -> Frames:
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return Frames(str(path), "video", (path,))
    if is_archive(path):
        return Frames(str(path), "archive", (path,))
    if is_bag(path):
        return _bag(path)
    if suffix not in IMAGE_SUFFIXES:
        raise SourceError(
            f"{printable(path)} is neither an image ({', '.join(sorted(IMAGE_SUFFIXES))}), a video "
            f"({', '.join(sorted(VIDEO_SUFFIXES))}), an archive ({', '.join(ARCHIVE_SUFFIXES)}) "
            f"nor a bag ({', '.join(BAG_SUFFIXES)}).{_advice((path,))}"
        )
    return Frames(str(path), "image", (path,))


def _bag(path: Path, topic: str = "") -> Frames:
    if not is_bag(path):
        raise SourceError(
            f"{printable(path)} is no bag; expected a file {', '.join(BAG_SUFFIXES)}, or a folder "
            "of rosbag2 with its metadata.yaml."
        )
    return Frames(str(path), "bag", bag_files(path), topic=topic)


def _folder(path: Path) -> Frames:
    listing = list_images(path)
    if (path / "dataset.json").is_file():
        return Frames(str(path), "dataset", listing.images)
    if not listing.images:
        beside = listing.skipped()
        raise SourceError(
            f"{printable(path)} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})"
            + (f"; it holds: {beside}." if beside else ".")
            + _advice(listing.others)
        )
    return Frames(str(path), "folder", listing.images, listing)


def _matches(source: str | Path) -> Frames:
    """Files that match a glob, in natural order."""
    matches = (Path(name) for name in glob.glob(str(source), recursive=True))  # noqa: PTH207
    files = sorted((match for match in matches if match.is_file()), key=natural_key)
    if not files:
        raise SourceError(
            f"{printable(redacted(source))} does not exist, and no file matches it as a glob."
            + ("" if Path(source).suffix else " A camera is 0, v4l2:///dev/video0 or csi://0.")
        )
    read = [file for file in files if _is_read(file)]
    beside = Listing(others=tuple(file for file in files if not _is_read(file)))
    if not read:
        raise SourceError(
            f"{printable(source)} matches no image, video, archive or bag: {beside.skipped()}."
            + _advice(files)
        )
    if all(file.suffix.lower() in IMAGE_SUFFIXES for file in read):
        return Frames(str(source), "glob", tuple(read), beside)
    parts = tuple(_file(file) for file in read)
    return Frames(str(source), "several", tuple(read), beside, parts=parts)


def _advice(files: Sequence[Path]) -> str:
    """What reads tables and lists, which are large as a rule."""
    if any(file.suffix.lower() in (*TABLE_SUFFIXES, ".txt") for file in files):
        return f" {ON_WORKERS}"
    return ""


def _is_read(file: Path) -> bool:
    known = file.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES
    return known or is_archive(file) or is_bag(file)


def _video(where: str, skip_damaged: bool) -> Source:
    video = VideoFile(where, skip_damaged=skip_damaged)
    if video.ends:
        return video
    video.close()
    return LiveSource(where, hls_connector(where))


def _video_on_gpu(where: str, gpu: int, skip_damaged: bool) -> Source:
    if skip_damaged:
        raise UsageError(
            "NVDEC does not say which frames are damaged. Leave out --skip-damaged or --decoder "
            "nvdec."
        )
    from .nvdec import NvdecFile

    return NvdecFile(where, device=gpu)


def _archive(path: Path, skip_damaged: bool) -> Source:
    archive = open_archive(path)
    if told := str(archive.ignored):
        _log.warning("%s: not read: %s.", archive.name, told)
    if not archive.in_order:
        _log.warning(
            "%s: frames come in the order of the archive, which is not that of their names.",
            archive.name,
        )
    images = archived_images(archive)
    return Images(
        images,
        files=[path / image.name for image in images],
        ignored=archive.ignored,
        skip_damaged=skip_damaged,
        holder=archive,
    )
