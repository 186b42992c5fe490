"""What FFmpeg may open: files and films over HTTP, and nothing that they name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import av
import pytest

from edgeunet.errors import SourceError
from edgeunet.runtime.sources import Frames
from edgeunet.runtime.sources.containers import VIDEO_SUFFIXES, Film, is_film
from support.media import number_of, overwrite, write_film, write_video
from support.streaming import drain, http_server

FRAMES = 12


def served(files: dict[str, bytes]) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answer with files by their names; ranges are not offered."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        content = files.get(request.path.partition("?")[0].lstrip("/"))
        request.send_response(404 if content is None else 200)
        request.send_header("Content-Length", str(len(content or b"")))
        request.end_headers()
        request.wfile.write(content or b"")

    return answer


@pytest.mark.parametrize(
    ("address", "film"),
    [
        ("http://host/a.mp4", True),
        ("HTTPS://user:pw@host/a/b.MKV?token=1#x", True),
        ("http://host/live.m3u8", True),
        ("http://host/video", False),
        ("http://host/video?file=a.mp4", False),
        ("http://[host/a.mp4", False),
        ("rtsp://host/a.mp4", False),
        ("a.mp4", False),
    ],
)
def test_address_of_a_film_ends_like_one(address: str, film: bool) -> None:
    assert is_film(address) is film


@pytest.mark.parametrize(
    "name", ["2026-11-28T03:40:00.mp4", "http:film.mp4", "-i.mp4", "a%20#?.mp4"]
)
def test_file_is_a_file_whatever_its_name(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "a.mp4", 3).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for source in (name, str(tmp_path / name)):
        assert drain(source) == ([0, 1, 2], None)


def test_name_that_is_not_utf_8_is_read(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/stra\xdfe.mp4"))
    write_video(tmp_path / "a.mp4", 3).rename(path)
    assert drain(path) == ([0, 1, 2], None)
    path.write_bytes(b"none")
    with pytest.raises(SourceError, match=r"stra\\xdfe\.mp4 cannot be read as a video"):
        Frames.open(path).read()


def test_title_in_another_encoding_is_no_error(tmp_path: Path) -> None:
    with av.open(tmp_path / "a.mkv", "w") as container:
        container.metadata["title"] = "PLACEHOLDER"
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width = 16, 16
        container.mux(stream.encode(av.VideoFrame(16, 16, "yuv420p")))
        container.mux(stream.encode())
    at = (tmp_path / "a.mkv").read_bytes().index(b"PLACEHOLDER")
    overwrite(tmp_path / "a.mkv", at, b"B\xfcro")
    assert len(list(Frames.open(tmp_path / "a.mkv").read())) == 1


LISTS = {
    "concat": "ffconcat version 1.0\nfile inner.mp4\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\ninner.ts\n#EXT-X-ENDLIST\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
    '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1"><BaseURL>inner.mp4'
    "</BaseURL></Representation></AdaptationSet></Period></MPD>",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
}


@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".avi", ".y4m"])
@pytest.mark.parametrize("kind", LISTS)
def test_list_of_other_files_is_refused(tmp_path: Path, kind: str, suffix: str) -> None:
    write_video(tmp_path / "inner.mp4", 3)
    write_film(tmp_path / "inner.ts", "libx264", count=3)
    (tmp_path / f"list{suffix}").write_text(LISTS[kind])
    with pytest.raises(SourceError, match=r"list\.\w+ (is of a format that is not|cannot be) read"):
        list(Frames.open(tmp_path / f"list{suffix}").read())


def test_list_that_is_no_list_to_ffmpeg_shows_that_the_others_are(tmp_path: Path) -> None:
    """Without limits FFmpeg follows it, so the test above can fail."""
    write_video(tmp_path / "inner.mp4", 3)
    (tmp_path / "list.mp4").write_text(LISTS["concat"])
    with av.open(str(tmp_path / "list.mp4")) as container:
        assert container.format.name == "concat"


CONTAINERS = [
    ("libx264", ".mp4 .m4v .mov .mkv .avi .ts .m2ts .mts .flv .3gp .3g2 .h264 .264"),
    ("libx265", ".mp4 .hevc .h265 .265"),
    ("mpeg2video", ".mpg .mpeg .vob .m2v .mxf"),
    ("wmv2", ".wmv .asf"),
    ("libvpx-vp9", ".webm"),
    ("mjpeg", ".mjpeg .mjpg"),
]


@pytest.mark.parametrize(
    ("codec", "suffix"), [(codec, end) for codec, ends in CONTAINERS for end in ends.split()]
)
def test_containers_are_read(tmp_path: Path, codec: str, suffix: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    as_suffix = {".264": ".h264", ".265": ".hevc", ".h265": ".hevc", ".mjpg": ".mjpeg"}
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    written = tmp_path / f"a{as_suffix.get(suffix, suffix)}"
    path = write_film(written, codec, pixels=pixels, options=options).rename(
        tmp_path / f"b{suffix}"
    )
    with Frames.open(path).read() as source:
        assert [frame.index for frame in source] == list(range(24))
    assert suffix in VIDEO_SUFFIXES


# HTTP


def test_film_over_http_ends_and_has_no_file(tmp_path: Path) -> None:
    content = write_video(tmp_path / "a.mp4", FRAMES, index_first=True).read_bytes()
    with http_server(served({"a.mp4": content})) as port:
        frames = Frames.open(f"http://user:s3cret@127.0.0.1:{port}/a.mp4?x=1")
        assert (frames.kind, frames.files, frames.remote) == ("video", (), True)
        for _ in range(2):
            with frames.read() as source:
                assert not source.info.live
                assert [number_of(frame.image) for frame in source] == list(range(FRAMES))


def test_film_that_is_not_there_is_told(tmp_path: Path) -> None:
    with http_server(served({})) as port:
        address = f"http://user:s3cret@127.0.0.1:{port}/a.mp4"
        with pytest.raises(SourceError, match=r"http://\*\*\*@127.*no such stream \(404\)") as told:
            Frames.open(address).read()
    assert "s3cret" not in str(told.value)
    with pytest.raises(SourceError, match="refuses port 1"):
        Frames.open("http://127.0.0.1:1/a.mp4").read()


def test_film_over_http_names_no_file_of_this_machine(tmp_path: Path) -> None:
    secret = write_video(tmp_path / "secret.mp4", 3)
    lists = {
        "a.mp4": f"ffconcat version 1.0\nfile 'file:{secret}'\n",
        "b.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n",
    }
    with http_server(served({name: text.encode() for name, text in lists.items()})) as port:
        for name in lists:
            with pytest.raises(SourceError):
                list(Frames.open(f"http://127.0.0.1:{port}/{name}").read())


def hls(*, ended: bool, pieces: int = 2) -> str:
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1", "#EXT-X-MEDIA-SEQUENCE:0"]
    for number in range(pieces):
        lines += ["#EXT-X-DISCONTINUITY"] * (number > 0) + ["#EXTINF:0.96,", f"{number}.ts"]
    return "\n".join([*lines, *["#EXT-X-ENDLIST"] * ended, ""])


@pytest.fixture(scope="module")
def piece(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_film(tmp_path_factory.mktemp("hls") / "a.ts", "libx264").read_bytes()


def test_hls_with_an_end_is_a_film(piece: bytes) -> None:
    files = {"a.m3u8": hls(ended=True).encode(), "0.ts": piece, "1.ts": piece}
    with (
        http_server(served(files)) as port,
        Frames.open(f"http://127.0.0.1:{port}/a.m3u8").read() as source,
    ):
        assert not source.info.live
        assert [frame.index for frame in source] == list(range(48))


def test_hls_without_an_end_is_live(piece: bytes) -> None:
    files = {"a.m3u8": hls(ended=False).encode(), "0.ts": piece, "1.ts": piece}
    with (
        http_server(served(files)) as port,
        Frames.open(f"http://127.0.0.1:{port}/a.m3u8").read() as source,
    ):
        assert source.info.live
        assert next(source).image.shape == (64, 96, 3)


def test_reading_a_file_needs_no_network(tmp_path: Path) -> None:
    """As root, `unshare --net` would do; here, the whitelist is what FFmpeg is given."""
    film = Film.of(write_video(tmp_path / "a.mp4", 1))
    with film.open() as container:
        assert container.container_options["protocol_whitelist"] == "file"
        assert "concat" not in container.container_options["format_whitelist"].split(",")


def test_ffmpeg_prints_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text(LISTS["concat"])
    code = (
        "from edgeunet.runtime.sources import Frames; from edgeunet.errors import SourceError\n"
        f"try: Frames.open({str(tmp_path / 'a.mp4')!r}).read()\nexcept SourceError: pass"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""
