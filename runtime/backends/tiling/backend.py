"""A backend that cuts each frame into tiles, where others resize it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import islice, product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edgeunet.metrics import Mask

from ...frames import Frame, one_size
from ...pipeline.stage import Stage
from ..base import Backend, NetOutputs, Result, Timings
from ..postprocess import Postprocessor
from ..preprocess import Preprocessor
from ..smoothing import Smoother
from .band import Band, tile_weights
from .plan import Span, Tiling, cut, panels, spans

# Of the sums of a band, which are classes x rows of a tile x columns of a panel.
_BAND_BYTES = 128 << 20

Tile = tuple[Span, Span]
"""Rows and columns of an image."""

Presence = npt.NDArray[np.float32]


class _Prepared(NamedTuple):
    tiles: Sequence[Tile]
    images: npt.NDArray[np.float32]
    seconds: float


class _Inferred(NamedTuple):
    tiles: Sequence[Tile]
    outputs: NetOutputs
    seconds: tuple[float, float]  # of pre-processing and of the net


class TiledBackend(Backend):
    """Segments frames of any size by tiles of the net's input size, with another backend.

    Frames keep their own resolution: what they show should be as large, in pixels, as what the net
    was trained on. Each tile is prepared as the manifest says and gated by its own presence; the
    backend's `infer_gated` may spare its decoder. `Result.presence` is the largest of a frame's
    tiles, `Result.confidence` the share of a pixel's class in the weighted sum.
    Beside the frame and its mask, memory is bounded by the batch of tiles and by `_BAND_BYTES`.

    A net that looks at its whole input at once (the gate; the squeeze-and-excitation of Eff-UNet)
    sees a tile where it would see an image, and its masks depend on the size of the tiles.

    Args:
        whole: what computes; closed with this. tiling: how frames are cut; its batch is one that
            the bundle takes.
    """

    smooths = False

    def __init__(self, whole: Backend, tiling: Tiling) -> None:
        super().__init__(whole.bundle)
        manifest = whole.bundle.manifest
        # A tile has the input's size: "pad" would fit it to multiples of 8.
        spec = replace(manifest.input, resize="stretch")
        self.preprocess = Preprocessor(spec)
        self.postprocess = Postprocessor(spec, manifest.gate)
        self.tiling = tiling
        self._whole = whole
        self._size = spec.height, spec.width
        self._weights = tile_weights(self._size, tiling.blend)

    @property
    def name(self) -> str:  # type: ignore[override]  # it may change
        """Name of the backend that computes."""
        return self._whole.name

    @property
    def untiled(self) -> Backend:
        """See `Backend`."""
        return self._whole

    def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """Run the net on (N, C, H, W)."""
        return self._whole.infer(images)

    def infer_gated(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """See `Backend`."""
        return self._whole.infer_gated(images)

    @property
    def lanes(self) -> int:  # type: ignore[override]  # as above
        """See `Backend`."""
        return self._whole.lanes

    def infer_in_lane(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """See `Backend`."""
        return self._whole.infer_in_lane(images)

    def net_alone(self, images: npt.NDArray[np.float32]) -> Callable[[], object]:
        """See `Backend`."""
        return self._whole.net_alone(images)

    def segment(self, frames: Sequence[Frame], *, confidence: bool = False) -> Result:
        """8-bit RGB frames of one size -> masks at that size."""
        masks = np.empty((len(frames), *one_size(frames)), np.uint8)
        sure = np.empty_like(masks) if confidence else None
        done = [
            self._segment(frame, masks[index], None if sure is None else sure[index])
            for index, frame in enumerate(frames)
        ]
        presences = [presence for presence, _ in done if presence is not None]
        timings = Timings(*np.sum([seconds for _, seconds in done], axis=0).tolist())
        return Result(masks, np.stack(presences) if presences else None, timings, sure)

    def stream(
        self, batches: Iterable[Sequence[Frame]], *, smoother: Smoother | None = None
    ) -> Generator[Result, None, None]:
        """`segment` for each batch in order: the pipeline is that of a frame's tiles."""
        assert smoother is None, "the logits of tiles are not kept"
        for frames in batches:
            yield self.segment(frames)

    def close(self) -> None:
        """Free the backend that computes."""
        self._whole.close()

    def _segment(
        self, frame: Frame, mask: Mask, confidence: Mask | None
    ) -> tuple[Presence | None, npt.NDArray[np.float64]]:
        """Fill the mask (H, W) of a frame; its presence (C,) and the seconds of each stage."""
        classes = len(self.bundle.manifest.classes)
        rows, columns = (
            spans(length, side, self.tiling)
            for length, side in zip(mask.shape, self._size, strict=True)
        )
        panel_width = max(_BAND_BYTES // (4 * classes * self._size[0]), self._size[1])
        presences, seconds = [], np.zeros(3)
        for panel in panels(columns, panel_width):
            area = np.s_[:, panel[0].first : panel[-1].stop]
            band = Band(
                classes, self._size[0], mask[area], None if confidence is None else confidence[area]
            )
            with closing(self._inferred(frame, product(rows, panel))) as batches:
                for batch in batches:
                    started = time.perf_counter()
                    self._blend(batch, band, left=panel[0].first)
                    seconds += (*batch.seconds, time.perf_counter() - started)
                    if batch.outputs.presence is not None:
                        presences.append(batch.outputs.presence.max(axis=0))
            band.finish(len(mask))
        return np.max(presences, axis=0) if presences else None, seconds

    def _inferred(self, frame: Frame, tiles: Iterable[Tile]) -> Generator[_Inferred, None, None]:
        """Tiles through the net in batches; cutting and inference have threads of their own."""
        prepare = partial(self._prepare_tiles, frame)
        batches = self._batches(tiles)
        with (
            Stage(prepare, batches, depth=1, name="preprocess") as prepared,
            Stage(self._infer, prepared, depth=1, name="infer", workers=self.lanes) as inferred,
        ):
            yield from inferred

    def _batches(self, tiles: Iterable[Tile]) -> Iterator[list[Tile]]:
        remaining = iter(tiles)
        while batch := list(islice(remaining, self.tiling.batch)):
            yield batch

    def _prepare_tiles(self, frame: Frame, tiles: Sequence[Tile]) -> _Prepared:
        started = time.perf_counter()
        images = self.preprocess(
            [cut(frame, row.start, column.start, self._size) for row, column in tiles]
        )
        return _Prepared(tiles, images, time.perf_counter() - started)

    def _infer(self, prepared: _Prepared) -> _Inferred:
        started = time.perf_counter()
        outputs = self.infer_in_lane(prepared.images)
        return _Inferred(prepared.tiles, outputs, (prepared.seconds, time.perf_counter() - started))

    def _blend(self, inferred: _Inferred, band: Band, *, left: int) -> None:
        """Add what the tiles decide to a band whose first column is the frame's `left`."""
        answers = self.postprocess.probabilities(*inferred.outputs, self._size)
        for (row, column), (ids, planes) in zip(inferred.tiles, answers, strict=True):
            decided = np.s_[
                row.first - row.start : row.stop - row.start,
                column.first - column.start : column.stop - column.start,
            ]
            band.finish(row.first)
            weighted = planes[:, decided[0], decided[1]] * self._weights[decided]
            band.add(ids, weighted, row.first, column.first - left)
