"""A camera that fails in every way but silence: MJPEG over HTTP, in a process of its own.

Prints its port; ends when its standard input does, and prints how many pictures it sent whole and
damaged. A connection ends after so many pictures, and the camera is away for a while.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

DIFFERENT = 16  # pictures that it has, sent in turns


@dataclass(frozen=True)
class Habits:
    """rate: pictures a second. damage, leave, resize: every so many pictures; 0: never.

    away: seconds without an answer after it left.
    """

    rate: float
    damage: int
    leave: int
    resize: int
    away: float


class Camera:
    """What it sends next, and what it has sent."""

    def __init__(self, habits: Habits, height: int, width: int) -> None:
        self.habits = habits
        self.sent = 0
        self.damaged = 0
        self.back_at = 0.0
        self._sizes = [pictures(height, width), pictures(height // 2, width // 2)]

    def next(self) -> bytes:
        """The next picture, JPEG; half of one where it is damaged."""
        number = self.sent + self.damaged
        habits = self.habits
        smaller = habits.resize and number // habits.resize % 2
        whole = self._sizes[bool(smaller)][number % DIFFERENT]
        if habits.damage and number % habits.damage == habits.damage - 1:
            self.damaged += 1
            return whole[: len(whole) // 2]
        self.sent += 1
        return whole

    def leaves(self) -> bool:
        """Whether it breaks the connection now."""
        number = self.sent + self.damaged
        return bool(self.habits.leave) and number % self.habits.leave == 0


def pictures(height: int, width: int) -> list[bytes]:
    """Shapes that move a little from one to the next, JPEG."""
    came = []
    for step in range(DIFFERENT):
        picture = np.random.default_rng(1).integers(60, 90, (height, width, 3), np.uint8)
        place = (width * (step + 2) // (DIFFERENT + 4), height // 2)
        cv2.circle(picture, place, height // 5, (200, 180, 160), -1)
        came.append(cv2.imencode(".jpg", picture)[1].tobytes())
    return came


def serve(camera: Camera) -> None:
    """Answer until standard input ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Send pictures until the camera leaves."""
            if time.monotonic() < camera.back_at:
                self.send_error(503)
                return
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
            self.end_headers()
            due = time.monotonic()
            with suppress(ConnectionError):
                while True:
                    part = camera.next()
                    head = f"--part\r\nContent-Type: image/jpeg\r\nContent-Length: {len(part)}"
                    self.wfile.write(head.encode() + b"\r\n\r\n" + part + b"\r\n")
                    if camera.leaves():
                        break
                    due += 1 / camera.habits.rate
                    time.sleep(max(0, due - time.monotonic()))
            camera.back_at = time.monotonic() + camera.habits.away

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_address[1], flush=True)
        sys.stdin.read()
        server.shutdown()
    print(json.dumps({"sent": camera.sent, "damaged": camera.damaged}), flush=True)


def main() -> None:
    """Serve by the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, nargs=2, default=(256, 320), metavar=("H", "W"))
    parser.add_argument("--rate", type=float, default=60)
    parser.add_argument("--damage", type=int, default=97)
    parser.add_argument("--leave", type=int, default=1000)
    parser.add_argument("--resize", type=int, default=1500)
    parser.add_argument("--away", type=float, default=1)
    a = parser.parse_args()
    serve(Camera(Habits(a.rate, a.damage, a.leave, a.resize, a.away), *a.size))


if __name__ == "__main__":
    main()
