"""The Python code of the documentation runs: of each page, its blocks one after the other."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import nn

import edgeunet
from edgeunet.data.cells import snapshots, write_dataset
from edgeunet.runtime.sinks import VideoWriter
from support.commands import ROOT
from support.hub_server import hub  # noqa: F401 - a fixture
from support.pages import PAGES, blocks

SHORTER = {
    "rtsp://10.0.0.5/1": "door.mp4",
    "epochs=60": "epochs=1, crop=(64, 64), batch_size=2",
    "size=(352, 480)": "size=(64, 96)",
    "512, 512, ": "64, 96, ",
    'precision="int8"': 'precision="fp16"',  # random weights decide nothing: INT8 cannot hold that
}
"""What stands in the pages, and what takes less time or is at hand."""


def bundle_with(source: Path, target: Path, *classes: str) -> None:
    """A copy of a bundle whose classes have other names."""
    shutil.copytree(source, target)
    manifest = json.loads((target / "manifest.json").read_text())
    manifest["classes"] = list(classes)
    (target / "manifest.json").write_text(json.dumps(manifest))


def shard(folder: Path) -> None:
    """An archive as `run --workers` writes it: a mask, and what is known of it."""
    mask = io.BytesIO()
    Image.fromarray(np.zeros((4, 6), np.uint8)).save(mask, "png")
    record = json.dumps({"name": "a.jpg", "shares": {"road": 1.0}}).encode()
    folder.mkdir()
    with tarfile.open(folder / "00000.tar", "w") as archive:
        for name, content in (("a.png", mask.getvalue()), ("a.json", record)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def code_of(page: Path) -> list[str]:
    found = [block.text for block in blocks(page) if block.language == "python"]
    for text, shorter in SHORTER.items():
        found = [code.replace(text, shorter) for code in found]
    return found


def test_what_is_shorter_stands_in_the_pages() -> None:
    code = "".join(block.text for page in PAGES for block in blocks(page))
    assert [text for text in SHORTER if text not in code] == []


@pytest.mark.slow
@pytest.mark.parametrize("page", filter(code_of, PAGES), ids=lambda page: page.stem)
def test_python_code_runs(
    page: Path,
    fp32_bundle: Path,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    frames = list(snapshots(6, height=64, width=96, seed=1))
    frame = frames[0]
    for name in ("a.png", "b.png", "street.jpg", "yard.png", "tile.png"):
        Image.fromarray(frame.image).save(name)
    for name in ("film.mp4", "video.mp4", "yard.mp4", "door.mp4"):
        with VideoWriter(Path(name), rate=Fraction(25)) as film:
            for each in frames:
                film.write(each.image)
    names: dict[str, Any] = {"edgeunet": edgeunet, "frame": frame.image}
    needs: dict[str, Callable[[], object]] = {
        "README": lambda: bundle_with(fp32_bundle, Path("demo/mobile_unet-int8"), *"abc"),
        "quickstart": lambda: bundle_with(
            fp32_bundle, Path("mobile_unet-camvid-int8"), "road", "car", "pedestrian"
        ),
        "bundle": lambda: (
            request.getfixturevalue("hub"),
            shutil.copytree(fp32_bundle, "mobile_unet-camvid-int8"),
        ),
        "gate": lambda: shutil.copytree(request.getfixturevalue("gated_bundle"), "gated"),
        "archives": lambda: shard(Path("masks")),
        "train": lambda: write_dataset(
            Path("dataset"), train=4, val=2, height=64, width=64, seed=3
        ),
        "manifest": lambda: (
            bundle_with(fp32_bundle, Path("bundle"), *"abc"),
            shutil.copy(ROOT / "docs/reference/manifest.schema.json", "."),
        ),
        "large-images": lambda: names.update(net=nn.Conv2d(1, 2, 3, padding=1).eval()),
    }
    needs.get(page.stem, lambda: None)()
    with edgeunet.load(fp32_bundle, "onnxruntime") as segmenter:
        names["segmenter"] = segmenter
        for code in code_of(page):
            exec(compile(code, page.name, "exec"), names)
