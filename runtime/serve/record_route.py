"""The route that starts and stops recordings."""

from __future__ import annotations

import time
from collections.abc import Callable

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edgeunet.errors import OutputError, UsageError

from .openapi import JSON, Answer, Endpoint, Parameter, errors
from .recording import KINDS, Recording
from .schemas import RECORDINGS
from .telemetry import Telemetry
from .uploads import Refusal

# Seconds that a client waits for its film. A slow disk takes longer; /stats says when it is done.
_FINISHED = 5.0
_ERRORS = errors(
    {
        400: "No action, or another kind.",
        404: "No source has this name, or the server was started without --record.",
        409: "All are being recorded already, or none is.",
        507: "The disk is nearly full, or the folder is gone or may not be written.",
    }
)


class RecordRoute:
    """Answers `POST /record`.

    Args:
        choose: the sources that a request names.
    """

    def __init__(self, telemetry: Telemetry, choose: Callable[[Request], list[str]]) -> None:
        self._telemetry = telemetry
        self._choose = choose
        self._one_finishes = CapacityLimiter(1)  # other answers need threads too

    def endpoint(self, sources: Parameter) -> Endpoint:
        """The route, with what /openapi.json says of it."""
        actions = {"type": "string", "enum": ["start", "stop"]}
        kinds = {"type": "string", "enum": list(KINDS), "default": KINDS[0]}
        return Endpoint(
            "/record",
            self.answer,
            "Starts or stops recordings: films of overlays or masks, on the server.",
            {200: Answer("The recordings of the sources that are named.", {JSON: RECORDINGS})}
            | _ERRORS,
            method="POST",
            parameters=(
                sources,
                Parameter("action", "What to do. Those that are as asked stay so.", actions),
                Parameter("kind", "What the film shows.", kinds),
            ),
        )

    async def answer(self, request: Request) -> Response:
        """Start or stop the recordings of those sources that are named and are not as asked."""
        recordings = self._telemetry.recordings
        if recordings is None:
            raise Refusal(404, "this server does not record. Start it with --record DIR.")
        query, names = request.query_params, self._choose(request)
        action, kind = query.get("action"), query.get("kind", KINDS[0])
        if action not in ("start", "stop") or kind not in KINDS:
            raise Refusal(
                400, f"expected ?action=start or ?action=stop, and &kind={' or '.join(KINDS)}."
            )
        others = [name for name in names if recordings.is_active(name) is (action == "stop")]
        try:
            stopped = []
            for name in others or names:  # or the error of the first
                if action == "stop":
                    stopped.append(recordings.stop(name))
                else:
                    rate = self._telemetry.player.health(name).rate
                    recordings.start(name, "mask" if kind == "mask" else "overlay", rate=rate)
        except UsageError as error:
            raise Refusal(409, str(error)) from None
        except OutputError as error:
            raise Refusal(507, str(error)) from None
        await to_thread.run_sync(_wait_for, stopped, limiter=self._one_finishes)
        # Without those that were never recorded, which a stop of several may name.
        reports = recordings.report()
        content = {name: reports[name] for name in names if name in reports}
        return JSONResponse(content, headers={"Cache-Control": "no-store"})


def _wait_for(stopped: list[Recording]) -> None:
    """Wait until all films are finished, for a few seconds in all."""
    until = time.monotonic() + _FINISHED
    for recording in stopped:
        recording.join(max(0.0, until - time.monotonic()))
