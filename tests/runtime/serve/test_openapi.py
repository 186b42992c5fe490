"""The description of the routes, against what they answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute

from edgeunet.runtime.serve import app as app_module
from edgeunet.runtime.serve.app import Bounds
from edgeunet.runtime.serve.telemetry import Board
from edgeunet.runtime.serve.uploads import Limits
from support.bombs import jpeg_of_scans
from support.serving import Answer, Client, png, serving, wait_for

TOKEN = "an open secret"
LOGIN = {"Authorization": f"Bearer {TOKEN}"}
PICTURE = png(np.zeros((20, 30, 3), np.uint8))


@pytest.fixture(scope="module")
def routes() -> list[BaseRoute]:
    """Those of the application, once it is made."""
    return []


@pytest.fixture(scope="module")
def server(
    gated_bundle: Path,
    film: Path,
    sensors: Path,
    routes: list[BaseRoute],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Client]:
    def noted(**arguments: Any) -> Starlette:
        routes.extend(arguments["routes"])
        return Starlette(**arguments)

    bounds = Bounds(viewers=3, uploads=Limits(size=100_000, pixels=1000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app_module, "Starlette", noted)
        described = serving(
            gated_bundle,
            film,
            token=TOKEN,
            bounds=bounds,
            board=Board(sensors),
            record=tmp_path_factory.mktemp("films"),
            compare=gated_bundle,
        )
        with described as client:
            yield client


@pytest.fixture(scope="module")
def document(server: Client) -> dict[str, Any]:
    described: dict[str, Any] = server.ask("/openapi.json", **LOGIN).json
    return described


def check(document: dict[str, Any], path: str, method: str, answer: Answer) -> None:
    """Whether an answer is one that the document lists."""
    listed = document["paths"][path][method.lower()]["responses"]
    assert str(answer.status) in listed, f"{method} {path} answers {answer.status}"
    content = listed[str(answer.status)]["content"]
    kind = answer.headers["content-type"].split(";")[0]
    found = next((each for each in content if re.fullmatch(each.replace("*", ".*"), kind)), None)
    assert found is not None, f"{method} {path} answers {answer.status} as {kind}"
    if kind == "application/json":
        Draft202012Validator.check_schema(content[found]["schema"])
        Draft202012Validator(content[found]["schema"]).validate(answer.json)


def test_each_route_is_described(document: dict[str, Any], routes: list[BaseRoute]) -> None:
    found = {(route.path, "GET") for route in routes if isinstance(route, Mount)}
    for route in routes:
        if isinstance(route, Route):
            found |= {(route.path, method) for method in route.methods or () if method != "HEAD"}
    described = {
        (path.removesuffix("/{file}"), method.upper())
        for path, operations in document["paths"].items()
        for method in operations
    }
    assert found == described
    sockets = {route.path for route in routes if isinstance(route, WebSocketRoute)}
    assert sockets == {"/camera", "/{other:path}"}
    assert "WebSocket `/camera`" in document["info"]["description"]


def test_each_route_answers_as_described(server: Client, document: dict[str, Any]) -> None:
    def full() -> bool:
        """Whether no part of the numbers is empty: an empty object would fit anything."""
        stats = server.ask("/stats", **LOGIN).json
        return bool(
            stats["stages"]
            and stats["board"]["temperatures"]
            and stats["sources"][0]["encode"]["p50"]
        )

    with server.stream(**LOGIN) as response:
        response.read(1000)
    wait_for(full)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            address = path.replace("{file}", "main.js").replace("/record", "/record?action=start")
            body = PICTURE if "requestBody" in operation else None
            if path.startswith("/stream"):
                with server.stream(path, **LOGIN) as response:
                    answer = Answer(response.status, response.headers, response.read(10))
                check(document, path, method, answer)
                continue
            for accept in operation["responses"]["200"]["content"]:
                answer = server.ask(
                    address, method=method.upper(), body=body, Accept=accept, **LOGIN
                )
                assert answer.status == 200
                check(document, path, method, answer)
            bare = server.ask(address, method=method.upper(), body=body)
            assert (bare.status == 401) == (operation["security"] != [])
            check(document, path, method, bare)


@pytest.mark.parametrize(
    ("path", "method", "options", "status"),
    [
        ("/segment", "POST", {"body": b"no image"}, 415),
        ("/segment", "POST", {"body": b"", "Content_Type": "multipart/form-data"}, 415),
        ("/segment", "POST", {"body": bytes(100_001)}, 413),
        ("/segment", "POST", {"body": jpeg_of_scans(101)}, 422),
        ("/segment", "POST", {"body": PICTURE, "Origin": "http://evil.example"}, 403),
        ("/static/{file}", "GET", {}, 404),
        ("/record", "POST", {}, 400),
    ],
)
def test_errors_are_described(
    server: Client,
    document: dict[str, Any],
    path: str,
    method: str,
    options: dict[str, Any],
    status: int,
) -> None:
    answer = server.ask(path, method=method, **LOGIN, **options)
    assert answer.status == status
    check(document, path, method, answer)


def test_document_tells_token_and_limits(
    server: Client, document: dict[str, Any], fp32_bundle: Path, film: Path
) -> None:
    assert document["info"]["x-limits"]["upload bytes"] == 100_000
    assert document["info"]["x-limits"]["camera frame bytes"] == 100_000
    schemes = document["components"]["securitySchemes"]
    assert schemes["cookie"]["name"] == f"edgeunet_{server.port}"
    assert document["paths"]["/segment"]["post"]["security"] == [{"bearer": []}, {"cookie": []}]
    assert document["paths"]["/healthz"]["get"]["security"] == []
    with serving(fp32_bundle, film) as client:
        free = client.ask("/openapi.json").json
    assert "components" not in free
    assert "401" not in free["paths"]["/stats"]["get"]["responses"]
