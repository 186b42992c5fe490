"""`edgeunet serve`: its options, its token and what it prints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeunet.runtime import Tiling
from edgeunet.runtime.options import LoadOptions
from support.commands import call, fails, succeeds
from support.media import write_video
from support.serving import connect, process, token_of

FRAMES = 6


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("film") / "film.mp4", FRAMES)


# Wrong arguments


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--tile", "--temporal", "0.3"), "frames in tiles or windows are not smoothed"),
        (("--overlap", "0.5"), "--overlap needs --tile"),
        (("--blend", "valid"), "--blend needs --tile"),
        (("--temporal", "1"), "--temporal"),
        (("--target-fps", "0"), "--target-fps"),
        (("--target-fps", "25"), "holds one depth"),
        (("--record", __file__), "is a file"),
    ],
)
def test_command_refuses_wrong_options(
    fp32_bundle: Path, film: Path, options: tuple[str, ...], words: str
) -> None:
    assert words in fails(2, "serve", fp32_bundle, film, "--port", "0", *options)


def test_command_passes_its_options_on(
    fp32_bundle: Path, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    came: list[dict[str, Any]] = []
    named: list[tuple[str, ...]] = []

    @contextmanager
    def opened(bundle: Path, sources: tuple[str, ...], **arguments: Any) -> Iterator[Any]:
        came.append(arguments)
        named.append(sources)
        yield SimpleNamespace(url="http://here/", run=lambda: None, ended=True)

    monkeypatch.setattr("edgeunet.cli.serve.open_service", opened)
    tiles = ("--tile", "--overlap", "0.5", "--blend", "valid")
    succeeds("serve", fp32_bundle, film, "--batch", "4", "--temporal", "0.3", "--target-fps", "9")
    succeeds("serve", fp32_bundle, film, "--batch", "4", *tiles)
    succeeds("serve", fp32_bundle, film, "--certificate", "c.pem", "--key", "k.pem")
    more = ("--compare", fp32_bundle, "--record", "films")
    succeeds("serve", fp32_bundle, film, "door=rtsp://10.0.0.5/main", *more)
    plain, tiled, secured, several = came
    assert (plain["certificate"], plain["key"]) == (None, None)
    assert (secured["certificate"], secured["key"]) == (Path("c.pem"), Path("k.pem"))
    assert named[3] == (str(film), "door=rtsp://10.0.0.5/main")
    assert (several["compare"], several["record"]) == (fp32_bundle, Path("films"))
    assert (plain["compare"], plain["record"]) == (None, None)
    assert (plain["batch"], plain["temporal"]) == (4, 0.3)
    assert plain["options"] == LoadOptions(target_fps=9)
    assert tiled["batch"] == 1  # the tiles fill the net's batch
    assert tiled["options"].tiling == Tiling(overlap=0.5, blend="valid", batch=4)


def test_command_holds_a_target_rate(depths_bundle: Path, film: Path) -> None:
    with process(depths_bundle, film, "--target-fps", "0.5", "--temporal", "0.3") as (_, url):
        connection = connect(url)
        connection.request("GET", "/stats")
        assert list(json.loads(connection.getresponse().read())["depths"]) == ["3", "2", "1"]
        connection.close()


def test_other_addresses_print_a_new_token(fp32_bundle: Path, film: Path) -> None:
    with process(fp32_bundle, film, "--host", "0.0.0.0") as (_, url):
        assert len(token_of(url)) >= 20
        for path, status in (("/", 401), (f"/?token={token_of(url)}", 200)):
            connection = connect(url)
            connection.request("GET", path, headers={"Host": "board.local"})
            assert connection.getresponse().status == status
            connection.close()


def test_given_token_is_not_printed(
    fp32_bundle: Path, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEUNET_TOKEN", "from the environment")
    with process(fp32_bundle, film, "--host", "0.0.0.0") as (_, url):
        assert "token" not in url
        connection = connect(url)
        headers = {"Authorization": "Bearer from the environment"}
        connection.request("GET", "/stats", headers=headers)
        assert connection.getresponse().status == 200
        connection.close()


def test_command_explains_wrong_arguments(fp32_bundle: Path, film: Path) -> None:
    assert "does not exist" in fails(1, "serve", fp32_bundle, "absent.mp4", "--port", "0")
    assert "is not a directory" in fails(1, "serve", "absent", film, "--port", "0")
    assert "c.pem: expected a certificate as PEM: No such file" in fails(
        2, "serve", fp32_bundle, film, "--certificate", "c.pem", "--port", "0"
    )
    twice = fails(2, "serve", fp32_bundle, film, f"again={film}", "--port", "0")
    assert "film.mp4 is given twice" in twice
    compared = fails(1, "serve", fp32_bundle, film, "--compare", "absent", "--port", "0")
    assert "is not a directory" in compared
    assert "at least 8" in fails(2, "serve", fp32_bundle, film, "--token", "1234", "--port", "0")
    assert call("serve", "--help").exit_code == 0
