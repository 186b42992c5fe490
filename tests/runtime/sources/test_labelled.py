"""Frames to compare masks on: which ones, and that few are held at once."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.cells import CLASSES, write_dataset
from edgeunet.data.fit import Fit
from edgeunet.errors import DatasetError, UsageError
from edgeunet.runtime.frames import SourceFrame
from edgeunet.runtime.sources import labelled
from edgeunet.runtime.sources.labelled import labelled_frames

FIT = Fit(InputSpec(64, 96))


def test_a_data_set_gives_its_val_split_with_labels(tmp_path: Path) -> None:
    data = tmp_path / "cells"
    write_dataset(data, train=1, val=5, height=64, width=96)
    found = list(labelled_frames(data, classes=CLASSES, fit=FIT))
    assert [each.name for each in found] == [f"{index:06d}.png" for index in range(5)]
    assert all(each.labels is not None and each.labels.shape == (64, 96) for each in found)
    few = labelled_frames(data, classes=CLASSES, fit=FIT, most=2)
    assert [each.name for each in few] == ["000000.png", "000002.png"]
    background, *others = CLASSES
    with pytest.raises(DatasetError, match=r"in another order, background, cell, dividing; the"):
        next(labelled_frames(data, classes=[*others, background], fit=FIT))
    with pytest.raises(DatasetError, match="3 classes, the bundle has 4"):
        next(labelled_frames(data, classes="abcd", fit=FIT))


def test_a_film_is_thinned_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[weakref.ref[np.ndarray]] = []

    def film() -> Iterator[SourceFrame]:
        for index in range(20):
            image = np.zeros((64, 96, 3), np.uint8)
            held.append(weakref.ref(image))
            yield SourceFrame(index, "", image)
            del image
            assert sum(each() is not None for each in held) <= 4 + 2

    found = SimpleNamespace(kind="video", name="film", read=lambda: nullcontext(film()))
    monkeypatch.setattr(labelled, "Frames", SimpleNamespace(open=lambda path: found))
    frames = labelled_frames(Path("film.mp4"), classes=CLASSES, fit=FIT, most=4)
    assert [each.name for each in frames] == ["000000", "000008", "000016"]
    one_by_one = labelled_frames(Path("film.mp4"), classes=CLASSES, fit=FIT)
    assert [each.labels for each in one_by_one] == [None] * 20
    found.kind = "live"
    with pytest.raises(UsageError, match="film never ends"):
        next(labelled_frames(Path("rtsp://film"), classes=CLASSES, fit=FIT))
