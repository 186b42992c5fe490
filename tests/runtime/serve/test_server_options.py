"""Options that `edgeunet serve` shares with `edgeunet run`: target rate, smoothing, tiles."""

from __future__ import annotations

import io
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from edgeunet.data.cells import Scene, snapshots, time_lapse
from edgeunet.errors import UsageError
from edgeunet.runtime import Tiling, load
from edgeunet.runtime.options import LoadOptions
from edgeunet.runtime.serve.player import Player
from edgeunet.runtime.serve.server import open_service
from edgeunet.runtime.sources import Frames, Source, SourceFrame, SourceInfo
from support.media import write_png, write_video
from support.serving import WAIT, Client, png, read_record, serving, stats_with_frames, wait_for

FRAMES = 6
UNREACHABLE = 1e5  # frames per second: every depth is too slow


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("film") / "film.mp4", FRAMES)


# Target rate


def depths_when(client: Client, frames: int) -> dict[str, int]:
    """Frames by depth, once this many were segmented."""
    until = time.monotonic() + WAIT
    while sum((depths := client.ask("/stats").json["depths"]).values()) < frames:
        assert time.monotonic() < until, depths
        time.sleep(0.05)
    counted: dict[str, int] = depths
    return counted


def test_stats_and_metrics_count_frames_by_depth(depths_bundle: Path, images: Path) -> None:
    with serving(depths_bundle, images, options=LoadOptions(target_fps=UNREACHABLE)) as client:
        depths = depths_when(client, 1)
        families = {
            family.name: family
            for family in text_string_to_metric_families(client.ask("/metrics").body.decode())
        }
        with client.stream() as response:
            record = read_record(response)
    assert list(depths) == ["3", "2", "1"]
    assert depths["3"] == depths["2"] == 0 < depths["1"]
    samples = families["edgeunet_depth_frames"].samples
    counted = {sample.labels["depth"]: sample.value for sample in samples}
    assert counted["3"] == counted["2"] == 0
    assert counted["1"] >= depths["1"]
    frames = [frame.image for frame in Frames.open(images).read()]
    frame = frames[record.meta["index"] % len(frames)]
    with load(depths_bundle) as deepest, load(depths_bundle / "depths" / "1") as shallow:
        np.testing.assert_array_equal(record.ids, shallow([frame]).masks[0])
        assert not np.array_equal(record.ids, deepest([frame]).masks[0]), "the depths agree"


def test_upload_gets_the_deepest_net_and_does_not_steer(
    depths_bundle: Path, film: Path, images: Path
) -> None:
    with Image.open(images / "1.png") as image:
        picture = np.asarray(image.convert("RGB"))
    with load(depths_bundle) as deepest, load(depths_bundle / "depths" / "1") as shallow:
        wanted = deepest([picture]).masks[0]
        assert not np.array_equal(wanted, shallow([picture]).masks[0]), "the depths agree"
    with serving(depths_bundle, film, options=LoadOptions(target_fps=UNREACHABLE)) as client:
        for _ in range(3):
            told = client.ask("/segment", method="POST", body=png(picture), Accept="image/png")
        assert told.status == 200
        assert depths_when(client, 1)["3"] == 0
    with Image.open(io.BytesIO(told.body)) as image:
        np.testing.assert_array_equal(np.asarray(image), wanted)


def test_depths_are_not_counted_without_a_target_rate(depths_bundle: Path, film: Path) -> None:
    with serving(depths_bundle, film) as client:
        assert stats_with_frames(client)["depths"] == {}
        assert "edgeunet_depth_frames_total{" not in client.ask("/metrics").body.decode()


# Smoothing and tiles


class Awaited(Source):
    """The frames of a folder, each once all before were segmented: none is dropped."""

    def __init__(self, folder: Path, published: list[Any]) -> None:
        super().__init__()
        self.info = SourceInfo(0, None, live=True)
        self._folder, self._published = folder, published

    def _read(self) -> Generator[SourceFrame, None, None]:
        for count, frame in enumerate(Frames.open(self._folder).read()):
            wait_for(lambda count=count: len(self._published) >= count)  # type: ignore[misc]
            yield frame


def test_frames_are_smoothed_over_time(fp32_bundle: Path, tmp_path: Path) -> None:
    film = tmp_path / "film"
    film.mkdir()
    scene = Scene(64, 96, cells=6, radius=10.0, seed=1)
    for index, frame in enumerate(time_lapse(scene, FRAMES)):
        write_png(film / f"{index}.png", frame.image)
    with load(fp32_bundle) as segmenter:
        with segmenter.stream(film, temporal=0.9) as stream:
            wanted = [mask for _, mask in stream]
        with segmenter.stream(film) as stream:
            plain = [mask for _, mask in stream]
        assert any(map(np.any, (a != b for a, b in zip(wanted, plain, strict=True)))), "no change"
        published: list[Any] = []
        with Player(
            segmenter,
            {"film": lambda: Awaited(film, published)},
            publish=published.append,
            temporal=0.9,
        ) as player:
            player.start()
            wait_for(lambda: len(published) >= FRAMES)
    for segmented, mask in zip(published, wanted, strict=False):
        np.testing.assert_array_equal(segmented.mask, mask)


def test_frames_are_cut_into_tiles(fp32_bundle: Path, tmp_path: Path) -> None:
    drawn = snapshots(40, height=64, width=96, seed=1)
    crowded = next(frame.image for frame in drawn if 0.2 < np.mean(frame.mask > 0) < 0.8)
    frame = crowded.repeat(2, axis=0).repeat(2, axis=1)  # shrunk, it looks like a training image
    large = write_png(tmp_path / "large.png", frame)
    with (
        serving(fp32_bundle, large, options=LoadOptions(tiling=Tiling())) as client,
        client.stream() as response,
    ):
        record = read_record(response)
    with load(fp32_bundle, tiling=Tiling()) as tiled, load(fp32_bundle) as whole:
        np.testing.assert_array_equal(record.ids, tiled([frame]).masks[0])
        assert not np.array_equal(record.ids, whole([frame]).masks[0]), "tiles change nothing"


# Wrong arguments


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"temporal": 0.3, "options": LoadOptions(tiling=Tiling())},
            "frames in tiles or windows are not smoothed",
        ),
        ({"temporal": 1.0}, "temporal is 1.0"),
        ({"batch": 99}, "batch is 99"),
        ({"options": LoadOptions(tiling=Tiling(batch=99))}, "batch is 99"),
        ({"options": LoadOptions(target_fps=25)}, "holds one depth"),
    ],
)
def test_wrong_arguments_are_refused_at_the_start(
    fp32_bundle: Path, film: Path, arguments: dict[str, Any], words: str
) -> None:
    with (
        pytest.raises(UsageError, match=words),
        open_service(fp32_bundle, [str(film)], port=0, **arguments),
    ):
        pass
