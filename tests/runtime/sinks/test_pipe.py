"""Masks and overlays on stdout."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest

from edgeunet.errors import OutputError, SourceError
from edgeunet.runtime.sinks import RawPipe, open_sink, overlay
from edgeunet.runtime.sinks.pipe import mask_pixels, overlay_pixels
from support.masks import CLASSES, PALETTE, segmented


def test_pipe_holds_the_masks_and_nothing_else() -> None:
    masks = [np.random.default_rng(i).integers(0, 3, (5, 7), np.uint8) for i in range(3)]
    file = io.BytesIO()
    with RawPipe(file, mask_pixels) as sink:
        for mask in masks:
            sink.write(segmented(mask))
    np.testing.assert_array_equal(
        np.frombuffer(file.getvalue(), np.uint8).reshape(3, 5, 7), np.stack(masks)
    )


def test_pipe_takes_masks_that_are_views() -> None:
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4).T
    file = io.BytesIO()
    RawPipe(file, mask_pixels).write(segmented(mask))
    assert file.getvalue() == mask.tobytes()


def test_pipe_of_overlays_has_the_colours() -> None:
    frame = segmented(np.array([[0, 1, 2]], np.uint8))
    file = io.BytesIO()
    RawPipe(file, overlay_pixels(PALETTE)).write(frame)
    assert file.getvalue() == overlay(frame.frame.image, frame.mask, PALETTE).tobytes()
    assert len(file.getvalue()) == 9


def test_pipe_refuses_a_change_of_size() -> None:
    file = io.BytesIO()
    sink = RawPipe(file, mask_pixels)
    sink.write(segmented(np.zeros((4, 6), np.uint8)))
    with pytest.raises(SourceError, match="frame size changed from 4x6 to 6x4"):
        sink.write(segmented(np.zeros((6, 4), np.uint8)))
    assert len(file.getvalue()) == 24


@pytest.mark.parametrize("output", ["pipe:masks", "pipe:overlay"])
def test_pipe_without_stdout_is_an_error(monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    monkeypatch.setattr(sys, "stdout", None)  # what Python makes of a closed one
    with pytest.raises(OutputError, match="stdout is closed"):
        open_sink(output, rate=None, classes=[], palette=[])


@pytest.mark.parametrize(("output", "channels"), [("pipe:masks", 1), ("pipe:overlay", 3)])
def test_pipe_is_stdout(
    output: str, channels: int, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    with open_sink(output, rate=None, classes=CLASSES, palette=PALETTE) as sink:
        sink.write(segmented(np.zeros((4, 6), np.uint8)))
    assert len(capfdbinary.readouterr().out) == 24 * channels
