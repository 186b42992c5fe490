"""Results: what is made of masks by a method is what files and functions give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from edgeunet.data.images import read_ids
from edgeunet.errors import OutputError, OutputExistsError, UsageError
from edgeunet.runtime.frames import SourceFrame, Timings
from edgeunet.runtime.results import FrameResult, Result
from edgeunet.runtime.sinks import overlay
from edgeunet.shapes.regions import polygons_of, regions_of
from support.masks import LEGEND, PALETTE, names
from support.media import Frame


def blobs(seed: int) -> Frame:
    """A mask (16, 24) with regions of three classes."""
    small = np.random.default_rng(seed).integers(0, 3, (4, 6)).astype(np.uint8)
    return np.kron(small, np.ones((4, 4), np.uint8))


def result_of(count: int = 2, *, name: str = "{}.png", confidence: bool = False) -> Result:
    rng = np.random.default_rng(0)
    frames = [
        SourceFrame(at, name.format(at), rng.integers(0, 256, (16, 24, 3)).astype(np.uint8))
        for at in range(count)
    ]
    return Result(
        np.stack([blobs(at) for at in range(count)]),
        rng.random((count, 3)).astype(np.float32),
        Timings(),
        rng.integers(0, 256, (count, 16, 24)).astype(np.uint8) if confidence else None,
        frames=frames,
        legend=LEGEND,
    )


def test_result_is_a_sequence_of_its_frames() -> None:
    result = result_of(3, confidence=True)
    assert result.presence is not None
    assert result.confidence is not None
    assert len(result) == len(list(result)) == 3
    for at, each in enumerate(result):
        assert isinstance(each, FrameResult)
        assert each.frame is result.frames[at]
        assert np.shares_memory(each.mask, result.masks)
        np.testing.assert_array_equal(each.mask, result.masks[at])
        np.testing.assert_array_equal(each.presence, result.presence[at])
        np.testing.assert_array_equal(each.confidence, result.confidence[at])
    assert [each.frame.index for each in (result[-1], *result[1:])] == [2, 1, 2]
    assert result_of()[0].confidence is None
    with pytest.raises(IndexError):
        result[3]


def test_methods_give_one_entry_for_each_frame() -> None:
    result = result_of(confidence=True)
    pictures = [overlay(each.frame.image, each.mask, PALETTE) for each in result]
    np.testing.assert_array_equal(result.overlay(), pictures)
    np.testing.assert_array_equal(
        result[1].overlay(opacity=1)[blobs(1) == 2], [(0, 0, 255)] * (blobs(1) == 2).sum()
    )
    for at, each in enumerate(result):
        known: dict[str, Any] = {"confidence": each.confidence, "min_area": 17}
        regions = regions_of(each.mask, LEGEND, background=True, **known)
        assert result.regions(background=True, min_area=17)[at] == regions != []
        found = result.polygons(min_area=17, tolerance=1.0)[at]
        wanted = polygons_of(each.mask, LEGEND, tolerance=1.0, **known)
        assert [str(polygon) for polygon in found] == [str(polygon) for polygon in wanted]
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(a.outline, b.outline)


@pytest.mark.parametrize("opacity", [-0.1, 1.1, float("nan")])
def test_opacity_that_cannot_be_is_refused(opacity: float) -> None:
    with pytest.raises(UsageError, match=r"opacity is .*; expected 0 to 1"):
        result_of().overlay(opacity=opacity)


def test_overlay_shows_frames_of_other_depths_as_pictures() -> None:
    deep = SourceFrame(0, "", np.full((16, 24, 1), 0.5, np.float32), levels=(0.0, 1.0))
    result = FrameResult(deep, np.zeros((16, 24), np.uint8), legend=LEGEND)
    assert (result.overlay() == 128).all()


def test_coco_holds_all_frames_as_the_file_of_a_run_does(tmp_path: Path) -> None:
    result = result_of(confidence=True)
    content = result.to_coco()
    result.save(tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == json.loads(json.dumps(content))
    coco = COCO()
    coco.dataset = content
    coco.createIndex()
    for number, each in enumerate(result, 1):
        assert coco.imgs[number]["file_name"] == f"{number - 1}.png"
        back = np.zeros(each.mask.shape, np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(number)):
            assert 0 <= annotation["score"] <= 1
            back[coco.annToMask(annotation).astype(bool)] = annotation["category_id"]
        np.testing.assert_array_equal(back, each.mask)
    (image,) = result_of(1, name="")[0].to_coco()["images"]
    assert image["file_name"] == "#1"


def test_save_writes_what_a_run_writes(tmp_path: Path) -> None:
    result = result_of()
    result.save(tmp_path / "masks")
    for at, each in enumerate(result):
        np.testing.assert_array_equal(read_ids(tmp_path / "masks" / f"{at}.png"), each.mask)
    result.save(f"{tmp_path}/shapes", format="csv")
    result[0].save(tmp_path / "one.png")
    result[0].save(tmp_path / "over", overlay=True)
    assert names(tmp_path) == ["masks", "one.png", "over", "shapes"]
    assert names(tmp_path / "shapes") == ["images.csv"]
    with pytest.raises(OutputExistsError):
        result[0].save(tmp_path / "one.png")
    result[0].save(tmp_path / "one.png", force=True)


@pytest.mark.parametrize(
    ("path", "error", "told"),
    [
        ("two.png", UsageError, "one picture, but the source has several frames"),
        ("out.xyz", UsageError, "is no output; expected"),
        ("-", UsageError, "- writes nothing"),
        ("/proc/edgeunet.csv", OutputError, "/proc"),
    ],
)
def test_what_cannot_be_saved_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, error: type[Exception], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=told):
        result_of().save(path)
    assert names(tmp_path) == []
