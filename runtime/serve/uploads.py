"""Images that come by HTTP: refused early where they are too large, segmented one at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from starlette.requests import ClientDisconnect, Request

from edgeunet.data.images import FORMATS, decode, probe, to_8bit
from edgeunet.errors import EdgeUNetError, SourceError

from ..frames import Frame, Segmented
from ..segmenter import Segmenter
from ..sources import SourceFrame


@dataclass(frozen=True)
class Limits:
    """Of an upload: bytes, decoded pixels, seconds until it is there, and how many may wait."""

    size: int = 32_000_000
    pixels: int = 25_000_000
    seconds: float = 30.0
    waiting: int = 4


class Refusal(Exception):  # noqa: N818  # answered, not raised to anyone
    """What an upload is answered with where it is not segmented."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Answer:
    """A segmented upload, and the seconds that the net and what is around it took."""

    segmented: Segmented
    seconds: float


class Uploads:
    """Takes images one after the other, beside the stream; `counts` tells by outcome."""

    def __init__(self, segmenter: Segmenter, limits: Limits) -> None:
        self.limits = limits
        self.counts = {"segmented": 0, "refused": 0}
        self._segmenter = segmenter
        self._inside = 0
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="edgeunet-upload")

    async def segment(self, request: Request) -> Answer:
        """Segment the image in the request's body.

        Raises:
            Refusal: too large, no image, too many at once, or the net fails on it.
        """
        try:
            with self._admitted():
                body = await self._body(request)
                loop = asyncio.get_running_loop()
                answer = await loop.run_in_executor(self._worker, self._segmented, body)
        except Refusal:
            self.counts["refused"] += 1
            raise
        self.counts["segmented"] += 1
        return answer

    async def close(self) -> None:
        """Wait for the image under way; those that wait are not begun."""
        self._worker.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._worker.shutdown)

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        if self._inside >= self.limits.waiting:
            raise Refusal(503, f"{self._inside} images are waiting already; try again in a moment.")
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    async def _body(self, request: Request) -> bytes:
        announced = request.headers.get("content-length", "0")
        if announced.isdecimal() and int(announced) > self.limits.size:
            raise self._too_large(f"{int(announced) / 1e6:.0f} MB are")
        if request.headers.get("content-type", "").startswith("multipart/"):
            raise Refusal(415, "a form came; send the image itself (curl --data-binary @image).")
        try:
            return await asyncio.wait_for(self._read(request), self.limits.seconds)
        except asyncio.TimeoutError:
            raise Refusal(408, f"no image within {self.limits.seconds:.0f} s.") from None
        except ClientDisconnect:
            raise Refusal(400, "the connection ended before the image did.") from None

    async def _read(self, request: Request) -> bytes:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self.limits.size:
                raise self._too_large("more than that is")
        return bytes(body)

    def _too_large(self, what: str) -> Refusal:
        return Refusal(413, f"{what} too much; an image of up to {self.limits.size / 1e6:.0f} MB "
                       "is taken. Make it smaller.")  # fmt: skip

    def _segmented(self, body: bytes) -> Answer:
        image = decoded(body, pixels=self.limits.pixels)
        started = time.perf_counter()
        try:
            result = self._segmenter([image])
        except EdgeUNetError as error:
            raise Refusal(500, str(error)) from error
        seconds = time.perf_counter() - started
        presence = None if result.presence is None else result.presence[0]
        frame = SourceFrame(0, "", image)
        return Answer(Segmented(frame, result.masks[0], presence), seconds)


def decoded(body: bytes, *, pixels: int) -> Frame:
    """An image file as 8-bit RGB, turned as its EXIF says.

    Raises:
        Refusal: no image of a known format, damaged, or of more pixels than `pixels`, which its
            header says before any is decoded.
    """
    try:
        header = probe(body)
    except SourceError:
        raise Refusal(415, f"this is no image; {', '.join(FORMATS)} are taken.") from None
    height, width = header.height, header.width
    if width * height > pixels:
        raise Refusal(413, f"the image is {width}x{height}, {width * height / 1e6:.0f} million "
                      f"pixels; up to {pixels / 1e6:.0f} million are taken.")  # fmt: skip
    try:
        return np.ascontiguousarray(to_8bit(decode(body, name="the image")))
    except SourceError as error:
        raise Refusal(422, str(error)) from None
