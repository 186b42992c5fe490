"""The route that starts and stops recordings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.media import decode
from support.serving import Client, serving, wait_for


def films(folder: Path) -> list[str]:
    """Names of the films in a folder."""
    return [path.name for path in folder.glob("*.mp4")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("films")


@pytest.fixture(scope="module")
def server(fp32_bundle: Path, film: Path, images: Path, folder: Path) -> Iterator[Client]:
    with serving(fp32_bundle, film, f"yard={images}", record=folder) as client:
        yield client


def test_route_starts_and_stops_a_recording(server: Client, folder: Path) -> None:
    def ask(query: str) -> Any:
        return server.ask(f"/record?{query}", method="POST")

    ask("action=start&source=film")
    assert list(ask("action=stop&source=film&source=yard").json) == ["film"]
    folder.rename(folder.with_name("away"))
    gone = ask("action=start&source=film")
    assert (gone.status, "No such file" in gone.json["error"]) == (507, True)
    folder.with_name("away").rename(folder)
    started = ask("action=start&source=film&kind=mask")
    assert (started.status, started.json["film"]["active"]) == (200, True)
    both = ask("action=start&source=film&source=yard")
    assert [(name, each["kind"]) for name, each in both.json.items()] == [
        ("film", "mask"),
        ("yard", "overlay"),
    ]
    assert ask("action=stop&source=yard").status == 200
    again = ask("action=start&source=film")
    assert (again.status, "already" in again.json["error"]) == (409, True)
    wait_for(lambda: server.ask("/stats").json["recordings"]["film"]["frames"] >= 3)
    assert 'edgeunet_recording{source="film"} 1.0' in server.ask("/metrics").body.decode()
    stopped = ask("action=stop&source=film").json["film"]
    assert (stopped["active"], stopped["finishing"], stopped["error"]) == (False, False, None)
    assert stopped["file"] in films(folder)
    assert len(decode(folder / stopped["file"])[0]) == stopped["frames"]
    assert ask("action=stop&source=film").status == 409


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("action=start", {"Origin": "http://evil.example"}, 403),
        ("action=start&source=barn", {}, 404),
        ("action=dance", {}, 400),
        ("action=start&kind=../../etc/passwd", {}, 400),
        ("", {}, 400),
    ],
)
def test_other_requests_record_nothing(
    server: Client, query: str, headers: dict[str, str], status: int
) -> None:
    before = server.ask("/stats").json["recordings"].get("film", {}).get("active", False)
    assert server.ask(f"/record?{query}", method="POST", **headers).status == status
    assert server.ask(f"/record?{query}").status == 405, "GET changes nothing"
    after = server.ask("/stats").json["recordings"].get("film", {}).get("active", False)
    assert before is after is False


def test_token_is_needed_and_without_a_folder_there_is_no_route(
    fp32_bundle: Path, film: Path, tmp_path: Path
) -> None:
    with serving(fp32_bundle, film, token="of the films") as client:
        assert client.ask("/record?action=start", method="POST").status == 401
        bearer = "Bearer of the films"
        answer = client.ask("/record?action=start", method="POST", Authorization=bearer)
        assert (answer.status, "--record DIR" in answer.json["error"]) == (404, True)
        assert client.ask("/stats", Authorization=bearer).json["recordings"] is None
