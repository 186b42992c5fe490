"""Describes the routes as OpenAPI 3.1: https://spec.openapis.org/oas/v3.1.1.html.

A route is an `Endpoint`: the application takes its routes from the same list as the description.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from .schemas import ERROR, Schema

JSON = "application/json"


@dataclass(frozen=True)
class Parameter:
    """A parameter in the query, which may be left out; or, with "path", a part of the path."""

    name: str
    text: str
    schema: Schema
    place: str = "query"


@dataclass(frozen=True)
class Answer:
    """An answer. content: schemas by media type, empty for bytes of a form of their own."""

    text: str
    content: Mapping[str, Schema]


def errors(texts: Mapping[int, str]) -> dict[int, Answer]:
    """Answers with an error, by status."""
    return {status: Answer(text, {JSON: ERROR}) for status, text in texts.items()}


@dataclass(frozen=True)
class Endpoint:
    """A route, and all that a client must know of it.

    call: answers requests; None if another route does, as a folder of files. answers: by status,
    without those that `describe` adds. body: media types that are taken. free: needs no token.
    """

    path: str
    call: Callable[[Request], Awaitable[Response]] | ASGIApp | None
    summary: str
    answers: Mapping[int, Answer]
    method: str = "GET"
    parameters: tuple[Parameter, ...] = ()
    body: tuple[str, ...] = ()
    free: bool = False

    def routes(self) -> list[Route]:
        """Its route, if it is one of its own."""
        return [] if self.call is None else [Route(self.path, self.call, methods=[self.method])]


def describe(
    endpoints: Iterable[Endpoint],
    *,
    title: str,
    version: str,
    text: str,
    cookie: str | None,
    limits: Mapping[str, float],
) -> dict[str, Any]:
    """The whole document.

    Args:
        text: Markdown, for what OpenAPI has no words for.
        cookie: that of `Guard`; None if the server needs no token.
        limits: of this server, by name.
    """
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        described = _operation(endpoint, locked=cookie is not None and not endpoint.free)
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = described
    document: dict[str, Any] = {
        "openapi": "3.1.1",
        "info": {"title": title, "version": version, "description": text, "x-limits": limits},
        "servers": [{"url": "."}],
        "paths": paths,
    }
    if cookie is not None:
        document["components"] = {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "query": {"type": "apiKey", "in": "query", "name": "token"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": cookie},
            }
        }
    return document


def _operation(endpoint: Endpoint, *, locked: bool) -> dict[str, Any]:
    refusals = errors({403: "A Host, Origin or proxy that may not come in."})
    ways = ["bearer", "cookie", "query"] if endpoint.method == "GET" else ["bearer", "cookie"]
    if locked:
        refusals |= errors(
            {401: "No token, or a wrong one.", 429: "Too many wrong tokens from this address."}
        )
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "responses": {
            str(status): {
                "description": answer.text,
                "content": {kind: {"schema": schema} for kind, schema in answer.content.items()},
            }
            for status, answer in sorted({**refusals, **endpoint.answers}.items())
        },
        "security": [{way: []} for way in ways] if locked else [],
    }
    if endpoint.parameters:
        operation["parameters"] = [
            {
                "name": parameter.name,
                "in": parameter.place,
                "required": parameter.place == "path",
                "description": parameter.text,
                "schema": parameter.schema,
            }
            for parameter in endpoint.parameters
        ]
    if endpoint.body:
        content: dict[str, Any] = {kind: {} for kind in endpoint.body}
        operation["requestBody"] = {"required": True, "content": content}
    return operation
