"""A backend that cuts each frame into tiles instead of resizing it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice, product

import numpy as np
import numpy.typing as npt

from edgeunet.metrics import Mask

from ...frames import Batch, Frame, NetOutputs, Timings
from ...options import Tiling
from ...pipeline.stage import Stage
from ..base import Backend, Wrapper, check_outputs
from ..postprocess import Postprocessor
from ..preprocess import Preprocessor
from ..smoothing import Smoother
from .band import Band, tile_weights
from .plan import Span, cut, panels, spans

# Size of a band's sums: classes x rows of a tile x columns of a panel.
_BAND_BYTES = 128 << 20

Tile = tuple[Span, Span]
"""Rows and columns of an image."""

Presence = npt.NDArray[np.float32]
Planes = npt.NDArray[np.float32]
Prepare = Callable[[Sequence[Tile]], npt.NDArray[np.float32]]


@dataclass
class _TileBatch:
    """Tiles on their way through the net, with the seconds of each step."""

    tiles: Sequence[Tile]
    images: npt.NDArray[np.float32] = field(init=False)
    outputs: NetOutputs = field(init=False)
    timings: Timings = field(default_factory=Timings)


class TiledBackend(Wrapper):
    """Segments frames of any size by tiles of the net's input size, with another backend's net.

    Frames keep their own resolution, so objects should be as large, in pixels, as in training. Each
    tile is prepared as the manifest says and gated by its own presence. `Result.presence` is the
    largest of a frame's tiles, `Result.confidence` the share of a pixel's class in the weighted
    sum. In addition to the frame and its mask, memory holds one batch of tiles and `_BAND_BYTES`.

    Parts of a net that look at the whole input (the gate; the squeeze-and-excitation of Eff-UNet)
    see only the tile, so that masks depend on the size of the tiles.

    Args:
        whole: backend that runs the net; closed with this one. tiling: how frames are cut; the
            bundle must take its batch.
    """

    tiles = True

    def __init__(self, whole: Backend, tiling: Tiling) -> None:
        super().__init__(whole.bundle)
        manifest = whole.bundle.manifest
        # A tile already has the input's size. If padded, it would be fitted to multiples of 8.
        spec = replace(manifest.input, resize="stretch", fill=None, window=None)
        self._preprocess = Preprocessor(spec)
        self._postprocess = Postprocessor(spec, manifest.gate)
        self._tiling = tiling
        self._whole = whole
        self._size = spec.height, spec.width
        self._weights = tile_weights(self._size, tiling.blend)

    @property
    def inner(self) -> Backend:
        """See `Wrapper`."""
        return self._whole

    def segment(self, batch: Batch) -> Batch:
        """See `Backend`."""
        presences = []
        for run in batch.runs:
            shape = (len(run.frames), *run.size)
            run.masks = np.empty(shape, np.uint8)
            run.confidence = np.empty(shape, np.uint8) if batch.wants_confidence else None
            for index, frame in enumerate(run.pixels):
                confidence = None if run.confidence is None else run.confidence[index]
                presence = self._segment(frame, run.masks[index], confidence, batch)
                if presence is not None:
                    presences.append(presence)
        batch.presence = np.stack(presences) if presences else None
        return batch

    def stream(
        self, batches: Iterable[Batch], *, smoother: Smoother | None = None
    ) -> Generator[Batch, None, None]:
        """See `Backend`. The tiles of a frame are pipelined, frames are not."""
        assert smoother is None, "the logits of tiles are not kept"
        for batch in batches:
            yield self.segment(batch)

    def _segment(
        self, frame: Frame, mask: Mask, confidence: Mask | None, whole: Batch
    ) -> Presence | None:
        """Fill the mask (H, W) of a frame of a batch, and return its presence (C,)."""
        timings, limit = whole.timings, self._per_call(whole)
        classes = len(self.bundle.manifest.classes)
        rows, columns = (
            self._spans(length, side) for length, side in zip(mask.shape, self._size, strict=True)
        )
        prepare = self._preparing(frame)
        panel_width = max(_BAND_BYTES // (4 * classes * self._size[0]), self._size[1])
        presences = []
        for panel in panels(columns, panel_width):
            area = np.s_[:, panel[0].first : panel[-1].stop]
            band = self._band(mask[area], None if confidence is None else confidence[area])
            with closing(self._inferred(prepare, product(rows, panel), limit)) as batches:
                for batch in batches:
                    started = time.perf_counter()
                    self._blend(batch, band, left=panel[0].first)
                    timings.preprocess += batch.timings.preprocess
                    timings.infer += batch.timings.infer
                    timings.postprocess += time.perf_counter() - started
                    if batch.outputs.presence is not None:
                        presences.append(batch.outputs.presence.max(axis=0))
            band.finish(len(mask))
        return np.max(presences, axis=0) if presences else None

    def _inferred(
        self, cut_out: Prepare, tiles: Iterable[Tile], limit: int
    ) -> Generator[_TileBatch, None, None]:
        """Run tiles through the net, `limit` a call. Cutting and inference have own threads."""
        net, remaining, manifest = self.net, iter(tiles), self.bundle.manifest
        lane = net.lane()

        def prepare(tiles: Sequence[Tile]) -> _TileBatch:
            batch, started = _TileBatch(tiles), time.perf_counter()
            batch.images = cut_out(tiles)
            batch.timings.preprocess = time.perf_counter() - started
            return batch

        def infer(batch: _TileBatch) -> _TileBatch:
            started = time.perf_counter()
            outputs = lane.infer_gated(batch.images)
            batch.outputs = check_outputs(outputs, manifest, frames=len(batch.images))
            batch.timings.infer = time.perf_counter() - started
            return batch

        batches = iter(lambda: list(islice(remaining, limit)), [])
        with (
            Stage(prepare, batches, depth=1, name="preprocess") as prepared,
            Stage(infer, prepared, depth=1, name="infer", workers=net.lanes) as inferred,
        ):
            yield from inferred

    def _blend(self, batch: _TileBatch, band: Band, *, left: int) -> None:
        """Add the tiles to a band whose first column is the frame's column `left`."""
        answers = self._answers(batch.outputs)
        for (row, column), (ids, planes) in zip(batch.tiles, answers, strict=True):
            decided = np.s_[
                row.first - row.start : row.stop - row.start,
                column.first - column.start : column.stop - column.start,
            ]
            band.finish(row.first)
            weights = self._weights[decided]
            band.add(
                ids, planes[:, decided[0], decided[1]], weights, row.first, column.first - left
            )

    # How frames are cut, and what is added up

    def _per_call(self, batch: Batch) -> int:
        """Tiles per call of the net."""
        return self._tiling.batch

    def _spans(self, length: int, side: int) -> list[Span]:
        """The tiles along an axis."""
        return spans(length, side, self._tiling)

    def _preparing(self, frame: Frame) -> Prepare:
        """A function that makes the net's input of some tiles of a frame."""
        normalisation = self._preprocess.normalisation(frame)

        def prepare(tiles: Sequence[Tile]) -> npt.NDArray[np.float32]:
            cuts = [cut(frame, row.start, column.start, self._size) for row, column in tiles]
            return self._preprocess(cuts, normalisation)

        return prepare

    def _band(self, mask: Mask, confidence: Mask | None) -> Band:
        """What sums up the tiles of a panel."""
        return Band(len(self.bundle.manifest.classes), self._size[0], mask, confidence)

    def _answers(self, outputs: NetOutputs) -> Iterator[tuple[list[int], Planes]]:
        """Classes of each tile, and their values (ids, h, w) at the tile's size."""
        return self._postprocess.probabilities(*outputs, self._size)
