#!/usr/bin/env python3
"""Serves this folder to browsers on this machine: `python3 serve.py [PORT]`.

It isolates the page from others, without which browsers give a net one thread only.
"""

import contextlib
import functools
import http.server
import pathlib
import sys

HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
}
TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files, with `HEADERS`."""

    extensions_map = {  # noqa: RUF012  # as the base has it
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        **TYPES,
    }

    def end_headers(self) -> None:
        """Add the headers."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


folder = pathlib.Path(__file__).resolve().parent
port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
handler = functools.partial(Handler, directory=str(folder))
with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
    print(f"http://localhost:{server.server_address[1]}/ (Ctrl+C ends it)", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
