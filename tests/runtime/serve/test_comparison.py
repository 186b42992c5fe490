"""Two bundles on the same frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeunet.bundle.bundle import open_bundle
from edgeunet.errors import UsageError
from edgeunet.runtime import load
from edgeunet.runtime.options import LoadOptions
from edgeunet.runtime.serve.comparison import check_comparable
from edgeunet.runtime.serve.server import open_service
from support.media import decode
from support.serving import Client, Record, read_record, serving, wait_for

FRAMES = 12
BOTH = ("one", "other")


@pytest.fixture(scope="module")
def server(depths_bundle: Path, film: Path, images: Path) -> Iterator[Client]:
    """The deepest net of a bundle beside its shallowest, whose masks differ."""
    shallow = depths_bundle / "depths" / "1"
    with serving(depths_bundle, film, f"yard={images}", compare=shallow) as client:
        yield client


def planes(record: Record) -> np.ndarray[Any, Any]:
    """Both masks (2, H, W) of a record."""
    return record.ids.reshape(2, *record.meta["size"])


def test_both_nets_get_the_same_frames(server: Client, depths_bundle: Path, film: Path) -> None:
    frames, _ = decode(film)
    agreements = []
    with (
        load(depths_bundle) as deep,
        load(depths_bundle / "depths" / "1") as shallow,
        server.stream() as response,
    ):
        for _ in range(3):
            record = read_record(response, planes=2)
            picture = frames[record.meta["index"] % FRAMES]
            wanted = [net([picture]).masks[0] for net in (deep, shallow)]
            np.testing.assert_array_equal(planes(record), wanted)
            agreements.append(float(np.mean(wanted[0] == wanted[1])))
            compared = record.meta["compared"]
            assert compared["agreement"] == pytest.approx(agreements[-1], abs=1e-4)
            assert compared["shares"][0] == pytest.approx(np.mean(wanted[1] == 0), abs=1e-4)
    assert min(agreements) < 1, "the nets agree everywhere"


def test_agreement_and_times_of_both_are_told(server: Client) -> None:
    def told() -> Any:
        return server.ask("/stats").json["compare"]

    wait_for(lambda: None not in told()["agreement"].values())
    compare = told()
    assert set(compare["agreement"]) == {"film", "yard"}
    assert all(0 <= share <= 1 for share in compare["agreement"].values())
    assert compare["bundles"][1]["name"] == "1"
    assert set(compare["stages"]) == {"preprocess", "infer", "postprocess"}
    assert 0 < compare["stages"]["infer"]["p50"] <= compare["stages"]["infer"]["p99"]
    metrics = server.ask("/metrics").body.decode()
    assert 'edgeunet_agreement{source="yard"}' in metrics
    with server.stream("/stream?source=film&source=yard") as response:
        assert "compared" not in read_record(response).meta, "a small picture has one mask"


def test_bundles_of_other_classes_or_frames_are_refused(fp32_bundle: Path) -> None:
    manifest = open_bundle(fp32_bundle).manifest
    check_comparable(manifest, manifest, BOTH)
    fewer = replace(manifest, classes=manifest.classes[:2], palette=manifest.palette[:2])
    with pytest.raises(UsageError, match="one has 3 classes and other 2"):
        check_comparable(manifest, fewer, BOTH)
    swapped = replace(manifest, classes=[manifest.classes[index] for index in (0, 2, 1)])
    with pytest.raises(UsageError, match="class 1 is 'cell' in one and 'dividing' in other"):
        check_comparable(manifest, swapped, BOTH)
    deeper = replace(manifest, input=replace(manifest.input, levels=(0, 65535)))
    with pytest.raises(UsageError, match=r"levels 0, 255, other of 0, 65535"):
        check_comparable(manifest, deeper, BOTH)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"temporal": 0.3}, "Leave out --temporal"),
        ({"options": LoadOptions(target_fps=9)}, "Leave out --target-fps"),
        ({"compare": Path("nowhere")}, "nowhere"),
    ],
)
def test_what_cannot_be_compared_is_refused_at_the_start(
    depths_bundle: Path, film: Path, arguments: dict[str, Any], words: str
) -> None:
    given = {"compare": depths_bundle, **arguments}
    with (
        pytest.raises(Exception, match=words),
        open_service(depths_bundle, [str(film)], port=0, **given),
    ):
        pass
