"""Uploaded images, and frames of browsers' cameras: segmented one at a time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from anyio import CancelScope, CapacityLimiter, fail_after
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from edgeunet.data.cost import check_cost
from edgeunet.data.headers import format_of
from edgeunet.data.images import FORMATS, Picture, decode_only, probe
from edgeunet.errors import EdgeUNetError, FrameError, SourceError

from ..frames import Segmented
from .connections import network_of
from .worker import ShareFull, Worker, WorkerClosed, WorkerFull

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """Limits of uploads.

    size: bytes. pixels: after decoding. seconds: until the image has arrived. arriving: bytes that
    may have arrived of all unfinished uploads together. waiting: images that have arrived, the one
    being segmented included; half of them from one address. work: seconds from then to the answer.
    """

    size: int = 32_000_000
    pixels: int = 25_000_000
    seconds: float = 30.0
    arriving: int = 128_000_000
    waiting: int = 4
    work: float = 30.0


class Refusal(Exception):  # noqa: N818  # becomes an answer
    """Why an upload was not segmented; it is answered with this status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Uploads:
    """Segments uploaded images one after the other, beside the stream.

    Args:
        segment: segments one image; may raise `EdgeUNetError`.

    Attributes:
        counts: uploads by outcome.
        frames: frames of cameras by outcome.
    """

    def __init__(self, segment: Callable[[Picture], Segmented], limits: Limits) -> None:
        self.limits = limits
        self.counts = {"segmented": 0, "refused": 0}
        self.frames = {"segmented": 0, "refused": 0}
        self._segment_image = segment
        self._arriving = _Arriving(limits.arriving)
        self._worker: Worker[Any] = Worker(limits.waiting, name="edgeunet-upload")
        # Of all cameras, one frame has a place in the worker's queue. The others wait for that in
        # turn: so each camera gets the same share, and all together leave uploads theirs.
        self._one_camera = CapacityLimiter(1)

    @property
    def ended(self) -> bool:
        """Whether no image is being segmented, so that the net may be freed."""
        return not self._worker.jobs

    async def segment(
        self, request: Request, answer: Callable[[Segmented, float], Response]
    ) -> Response:
        """Segment the image in the body of the request.

        Args:
            answer: makes the answer, in a thread, of the result and the seconds that segmenting
                took, without the upload and decoding.

        Raises:
            Refusal: the body is too large or no image, too many uploads wait, the net fails, or one
                of these takes too long.
        """
        owner = network_of(request.client.host) if request.client else ""
        try:
            body = await self._body(request, owner)
            response = await self._answered(body, answer, owner, self.limits.work)
        except Refusal:
            self.counts["refused"] += 1
            raise
        self.counts["segmented"] += 1
        return response

    async def segment_frame(self, body: bytes, answer: Callable[[Segmented, float], T]) -> T:
        """Segment a frame of a camera, of which each client has one here at most.

        Args:
            answer: see `segment`.

        Raises:
            Refusal: the frame is no image, the net fails, or it takes too long.
        """
        seconds = self.limits.work
        until = time.monotonic() + seconds
        try:
            if not body:
                raise Refusal(415, "expected an image file in a binary message.")
            try:
                with fail_after(seconds):
                    await self._one_camera.acquire()
            except TimeoutError:
                raise _too_slow(seconds) from None
            try:
                # A client that leaves keeps its turn until its frame is done, or many that come
                # and go would fill the queue.
                with CancelScope(shield=True):
                    made = await self._answered(body, answer, None, until - time.monotonic())
            finally:
                self._one_camera.release()
        except Refusal:
            self.frames["refused"] += 1
            raise
        self.frames["segmented"] += 1
        return made

    def close(self) -> None:
        """Refuse all uploads, also those that wait for their answer."""
        self._worker.close()

    async def _answered(
        self,
        body: bytes,
        answer: Callable[[Segmented, float], T],
        owner: str | None,
        seconds: float,
    ) -> T:
        job = partial(self._segmented, body, answer, until=time.monotonic() + seconds)
        try:
            made: T = await self._worker.run(job, owner=owner, seconds=seconds)
            return made
        except WorkerFull:
            count = self._worker.most
            raise Refusal(503, f"{count} images are waiting already; try again later.") from None
        except ShareFull:
            count = self._worker.most_of_one
            raise Refusal(429, f"{count} of the images that wait are from your address, as many as "
                          "may be; wait for their answers.") from None  # fmt: skip
        except WorkerClosed:
            raise Refusal(503, "the server ends.") from None
        except TimeoutError:
            raise _too_slow(self.limits.work) from None

    async def _body(self, request: Request, owner: str) -> bytes:
        announced = request.headers.get("content-length", "0")
        if announced.isdecimal() and int(announced) > self.limits.size:
            raise self._too_large(f"{int(announced) / 1e6:.0f} MB")
        if request.headers.get("content-type", "").startswith("multipart/"):
            raise Refusal(415, "expected an image, got a form. Use curl --data-binary @image.")
        try:
            with fail_after(self.limits.seconds):
                return await self._read(request, owner)
        except TimeoutError:
            raise Refusal(408, f"the image took more than {self.limits.seconds:.0f} s to arrive. "
                          "Make it smaller, or use a faster connection.") from None  # fmt: skip
        except ClientDisconnect:
            raise Refusal(400, "the connection closed before the image had arrived.") from None

    async def _read(self, request: Request, owner: str) -> bytes:
        body = bytearray()
        with CancelScope() as scope:
            try:
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > self.limits.size:
                        raise self._too_large("more")
                    self._arriving.grown(scope, owner, len(body))
                return bytes(body)
            finally:
                self._arriving.ended(scope)
        raise Refusal(503, "the image gave way to newer ones, which arrive faster. Try again "
                      "later, make it smaller, or use a faster connection.")  # fmt: skip

    def _too_large(self, size: str) -> Refusal:
        return Refusal(413, f"expected an image of up to {self.limits.size / 1e6:.0f} MB, got "
                       f"{size}. Make it smaller.")  # fmt: skip

    def _segmented(
        self, body: bytes, answer: Callable[[Segmented, float], T], *, until: float
    ) -> T:
        image = decoded(body, pixels=self.limits.pixels)
        started = time.perf_counter()
        if time.monotonic() > until:  # nobody waits for the answer
            raise _too_slow(self.limits.work)
        try:
            segmented = self._segment_image(image)
        except FrameError as error:
            raise Refusal(422, str(error)) from None
        except EdgeUNetError as error:
            raise Refusal(500, str(error)) from error
        return answer(segmented, time.perf_counter() - started)


class _Arriving:
    """Bytes of unfinished uploads. If there are too many, the oldest upload gives way.

    So an upload that arrives quickly passes those that a stranger holds back. If one address has
    more than half of the bytes, one of its uploads gives way: it cannot push out those of others.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._uploads: dict[CancelScope, tuple[str, int]] = {}  # owner and bytes, the oldest first

    def grown(self, upload: CancelScope, owner: str, size: int) -> None:
        """Note how much of an upload has arrived; cancels some if all are too large together."""
        if upload.cancel_called:  # it gave way, and notices soon
            return
        self._uploads[upload] = (owner, size)
        while sum(size for _, size in self._uploads.values()) > self._most:
            oldest = self._gives_way()
            self.ended(oldest)
            oldest.cancel()

    def ended(self, upload: CancelScope) -> None:
        """Forget an upload."""
        self._uploads.pop(upload, None)

    def _gives_way(self) -> CancelScope:
        held: Counter[str] = Counter()
        for owner, size in self._uploads.values():
            held[owner] += size
        largest, size = held.most_common(1)[0]
        of_many = size > self._most // 2
        uploads = self._uploads.items()
        return next(each for each, (owner, _) in uploads if owner == largest or not of_many)


def _too_slow(seconds: float) -> Refusal:
    return Refusal(503, f"the image was not segmented within {seconds:.0f} s. Try again later, or "
                   "make it smaller.")  # fmt: skip


def decoded(body: bytes, *, pixels: int) -> Picture:
    """Decode an image file, turned upright by its EXIF orientation.

    Raises:
        Refusal: not an image of a known format, damaged, larger than `pixels`, or refused by
            `check_cost`. All but damage is found before any pixel is decoded.
    """
    try:
        check_cost(body, format_of(body), name="the image")
    except SourceError as error:
        raise Refusal(422, str(error)) from None
    try:
        header = probe(body)
    except SourceError:
        raise Refusal(415, f"this is no image of a known format: {', '.join(FORMATS)}.") from None
    height, width = header.height, header.width
    if width * height > pixels:
        raise Refusal(413, f"the image is {width}x{height}, {width * height / 1e6:.0f} million "
                      f"pixels; up to {pixels / 1e6:.0f} million are allowed.")  # fmt: skip
    try:
        return decode_only(body, name="the image")
    except EdgeUNetError as error:  # also that a package is missing
        raise Refusal(422, str(error)) from None
