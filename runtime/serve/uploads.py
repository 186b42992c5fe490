"""Uploaded images: refused early if they are too large, segmented one at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from anyio import fail_after, to_thread
from starlette.requests import ClientDisconnect, Request

from edgeunet.data.images import FORMATS, decode_only, probe, to_rgb
from edgeunet.errors import EdgeUNetError, SourceError

from ..frames import Frame, Segmented


@dataclass(frozen=True)
class Limits:
    """Limits of uploads.

    size: bytes. pixels: after decoding. seconds: until the image has arrived. waiting: uploads at
    once, the one being segmented included.
    """

    size: int = 32_000_000
    pixels: int = 25_000_000
    seconds: float = 30.0
    waiting: int = 4


class Refusal(Exception):  # noqa: N818  # becomes an answer
    """Why an upload was not segmented; it is answered with this status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Answer:
    """A segmented upload. seconds: what segmenting took, without the upload and decoding."""

    segmented: Segmented
    seconds: float


class Uploads:
    """Segments uploaded images one after the other, beside the stream.

    Args:
        segment: segments one RGB image; may raise `EdgeUNetError`.

    Attributes:
        counts: uploads by outcome.
    """

    def __init__(self, segment: Callable[[Frame], Segmented], limits: Limits) -> None:
        self.limits = limits
        self.counts = {"segmented": 0, "refused": 0}
        self._segment_image = segment
        self._waiting = 0
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="edgeunet-upload")

    async def segment(self, request: Request) -> Answer:
        """Segment the image in the body of the request.

        Raises:
            Refusal: the body is too large or no image, too many uploads wait, or the net fails.
        """
        try:
            with self._counted():
                body = await self._body(request)
                loop = asyncio.get_running_loop()
                answer = await loop.run_in_executor(self._worker, self._segmented, body)
        except Refusal:
            self.counts["refused"] += 1
            raise
        self.counts["segmented"] += 1
        return answer

    async def aclose(self) -> None:
        """Wait for the image being segmented. Those still waiting are dropped."""
        self._worker.shutdown(wait=False, cancel_futures=True)
        await to_thread.run_sync(self._worker.shutdown)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self._waiting >= self.limits.waiting:
            raise Refusal(503, f"{self._waiting} images are waiting already; try again later.")
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def _body(self, request: Request) -> bytes:
        announced = request.headers.get("content-length", "0")
        if announced.isdecimal() and int(announced) > self.limits.size:
            raise self._too_large(f"{int(announced) / 1e6:.0f} MB")
        if request.headers.get("content-type", "").startswith("multipart/"):
            raise Refusal(415, "expected an image, got a form. Use curl --data-binary @image.")
        try:
            with fail_after(self.limits.seconds):
                return await self._read(request)
        except TimeoutError:
            raise Refusal(408, f"the image took more than {self.limits.seconds:.0f} s to arrive. "
                          "Make it smaller, or use a faster connection.") from None  # fmt: skip
        except ClientDisconnect:
            raise Refusal(400, "the connection closed before the image had arrived.") from None

    async def _read(self, request: Request) -> bytes:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self.limits.size:
                raise self._too_large("more")
        return bytes(body)

    def _too_large(self, size: str) -> Refusal:
        return Refusal(413, f"expected an image of up to {self.limits.size / 1e6:.0f} MB, got "
                       f"{size}. Make it smaller.")  # fmt: skip

    def _segmented(self, body: bytes) -> Answer:
        image = decoded(body, pixels=self.limits.pixels)
        started = time.perf_counter()
        try:
            segmented = self._segment_image(image)
        except EdgeUNetError as error:
            raise Refusal(500, str(error)) from error
        return Answer(segmented, time.perf_counter() - started)


def decoded(body: bytes, *, pixels: int) -> Frame:
    """Decode an image file to 8-bit RGB (H, W, 3), turned upright by its EXIF orientation.

    Raises:
        Refusal: not an image of a known format, damaged, or larger than `pixels`. The size is
            read from the header, before any pixel is decoded.
    """
    try:
        header = probe(body)
    except SourceError:
        raise Refusal(415, f"this is no image of a known format: {', '.join(FORMATS)}.") from None
    height, width = header.height, header.width
    if width * height > pixels:
        raise Refusal(413, f"the image is {width}x{height}, {width * height / 1e6:.0f} million "
                      f"pixels; up to {pixels / 1e6:.0f} million are allowed.")  # fmt: skip
    try:
        return to_rgb(decode_only(body, name="the image"), name="the image")
    except EdgeUNetError as error:  # also that a package is missing
        raise Refusal(422, str(error)) from None
