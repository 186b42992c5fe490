"""Results: masks with their frames and classes, as pictures, regions, polygons and files."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

import numpy as np
import numpy.typing as npt

from edgeunet.data.images import Rgb
from edgeunet.errors import OutputError, UsageError
from edgeunet.shapes.coco import INFO, annotations_of, categories_of, image_of
from edgeunet.shapes.regions import Legend, Polygon, Region, polygons_of, regions_of

from ..frames import Segmented, SourceFrame, Timings

if TYPE_CHECKING:
    from ..sinks import Format


@dataclass(frozen=True)
class FrameResult(Segmented):
    """A frame with its mask, and what can be made of it.

    legend: names and colours of the classes. Black classes are the background: overlays leave them
    transparent, and regions leave them out unless `background` is set.

    Example:
        >>> with edgeunet.load(bundle) as segmenter, segmenter.stream([frame]) as stream:
        ...     (result,) = stream.results()
        >>> result.overlay().shape == frame.shape
        True
        >>> sorted({region.label for region in result.regions(background=True)})[0]
        'background'
    """

    legend: Legend = field(kw_only=True)

    def overlay(self, *, opacity: float = 0.5) -> Rgb:
        """The frame under the colours of its classes, (H, W, 3) RGB of 8 bit.

        Args:
            opacity: of the colours, 0 to 1.
        """
        from ..sinks.overlay import overlay

        if not 0 <= opacity <= 1:
            raise UsageError(f"opacity is {opacity}; expected 0 to 1.")
        return overlay(self.frame.picture, self.mask, self.legend.palette, opacity=opacity)

    def regions(self, *, background: bool = False, min_area: int = 1) -> list[Region]:
        """Box, area and centroid of each connected region, by class; see `regions_of`."""
        return regions_of(
            self.mask,
            self.legend,
            background=background,
            min_area=min_area,
            confidence=self.confidence,
        )

    def polygons(
        self, *, background: bool = False, min_area: int = 1, tolerance: float = 0.0
    ) -> list[Polygon]:
        """The same regions with outlines and holes, in pixels of the frame; see `polygons_of`."""
        return polygons_of(
            self.mask,
            self.legend,
            background=background,
            min_area=min_area,
            tolerance=tolerance,
            confidence=self.confidence,
        )

    def to_coco(self, *, background: bool = False, min_area: int = 1) -> dict[str, Any]:
        """A data set of COCO with this image; see `Result.to_coco`."""
        return coco_of([self], background=background, min_area=min_area)

    def to_supervision(self, *, background: bool = False, min_area: int = 1) -> Any:
        """`supervision.Detections` of the regions; see `detections`.

        Raises:
            MissingDependencyError: supervision is not installed.
        """
        from .supervision import detections

        return detections(
            self.mask,
            self.legend,
            background=background,
            min_area=min_area,
            confidence=self.confidence,
        )

    def save(
        self,
        path: str | Path,
        *,
        overlay: bool = False,
        format: Format | None = None,  # noqa: A002 - as in `run`
        force: bool = False,
    ) -> None:
        """Write a file or directory; see `Result.save`."""
        save([self], path, overlay=overlay, format=format, force=force)

    def _repr_html_(self) -> str:
        from .page import page_of

        return page_of([self])


@dataclass(frozen=True)
class Result(Sequence[FrameResult]):
    """Masks of some frames: a sequence of the `FrameResult` of each.

    Its methods are those of `FrameResult` and give one entry for each frame, as `masks` does.

    masks: (N, H, W) uint8 class ids at the frames' size.
    presence: (N, C), None without a gate.
    confidence: (N, H, W) uint8, the softmax of each pixel's class among the classes that the gate
    leaves open, 255 for 1; None unless asked for.
    frames: as the net took them, of the channels and depth of its input.
    legend: names and colours of the classes.

    Example:
        >>> result = edgeunet.load(bundle)([frame])
        >>> result.masks.shape == (1, *frame.shape[:2])
        True
        >>> [region.label for region in result[0].regions()] == [
        ...     region.label for region in result.regions()[0]
        ... ]
        True
        >>> result.save("overlay.png")
    """

    masks: npt.NDArray[np.uint8]
    presence: npt.NDArray[np.float32] | None
    timings: Timings
    confidence: npt.NDArray[np.uint8] | None = None
    frames: Sequence[SourceFrame] = field(kw_only=True, repr=False)
    legend: Legend = field(kw_only=True, repr=False)

    def __len__(self) -> int:
        return len(self.masks)

    @overload
    def __getitem__(self, index: SupportsIndex) -> FrameResult: ...

    @overload
    def __getitem__(self, index: slice) -> list[FrameResult]: ...

    def __getitem__(self, index: SupportsIndex | slice) -> FrameResult | list[FrameResult]:
        """The result of one frame, or a list of those of a slice."""
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        at = operator.index(index)
        return FrameResult(
            self.frames[at],
            self.masks[at],
            None if self.presence is None else self.presence[at],
            None if self.confidence is None else self.confidence[at],
            legend=self.legend,
        )

    def __iter__(self) -> Iterator[FrameResult]:
        return (self[at] for at in range(len(self)))

    def overlay(self, *, opacity: float = 0.5) -> Rgb:
        """The frames under the colours of their classes, (N, H, W, 3) RGB of 8 bit."""
        return np.stack([each.overlay(opacity=opacity) for each in self])

    def regions(self, *, background: bool = False, min_area: int = 1) -> list[list[Region]]:
        """The regions of each frame, see `FrameResult.regions`."""
        return [each.regions(background=background, min_area=min_area) for each in self]

    def polygons(
        self, *, background: bool = False, min_area: int = 1, tolerance: float = 0.0
    ) -> list[list[Polygon]]:
        """The polygons of each frame, see `FrameResult.polygons`."""
        return [
            each.polygons(background=background, min_area=min_area, tolerance=tolerance)
            for each in self
        ]

    def to_coco(self, *, background: bool = False, min_area: int = 1) -> dict[str, Any]:
        """One data set of COCO with all frames, as its JSON is; see `annotations_of`.

        `file_name` is the name of the frame's file, or a number like `#1` without one.
        """
        return coco_of(self, background=background, min_area=min_area)

    def to_supervision(self, *, background: bool = False, min_area: int = 1) -> list[Any]:
        """`supervision.Detections` of each frame, see `FrameResult.to_supervision`."""
        return [each.to_supervision(background=background, min_area=min_area) for each in self]

    def save(
        self,
        path: str | Path,
        *,
        overlay: bool = False,
        format: Format | None = None,  # noqa: A002 - as in `run`
        force: bool = False,
    ) -> None:
        """Write all frames into a file or directory, as `edgeunet run -o` does.

        Args:
            path: such as `NAME.png` (overlay of one frame), `NAME.mp4`, `NAME.json` (COCO),
                `NAME.csv`, `NAME.jsonl`, or a directory (PNG masks); see `open_sink`.
            overlay, format, force: see `open_sink`.

        Raises:
            UsageError: no such output. OutputExistsError: it exists and `force` is false.
            OutputError: it cannot be written.
        """
        save(self, path, overlay=overlay, format=format, force=force)

    def _repr_html_(self) -> str:
        from .page import page_of

        return page_of(self)


def coco_of(results: Sequence[FrameResult], *, background: bool, min_area: int) -> dict[str, Any]:
    """A data set of COCO with these frames, which share their classes."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, each in enumerate(results, 1):
        frame, (height, width) = each.frame, each.mask.shape
        name = frame.name or f"#{frame.index + 1}"
        images.append(image_of(number, name, (height, width), frame=frame.index, time=frame.time))
        annotations += annotations_of(
            each.mask,
            each.legend,
            image_id=number,
            first_id=len(annotations) + 1,
            background=background,
            min_area=min_area,
            confidence=each.confidence,
        )
    categories = categories_of(results[0].legend, background=background)
    return {
        "info": INFO, "categories": categories, "annotations": annotations, "images": images
    }  # fmt: skip


def save(
    results: Sequence[FrameResult],
    path: str | Path,
    *,
    overlay: bool,
    format: Format | None,  # noqa: A002 - as in `run`
    force: bool,
) -> None:
    """See `Result.save`."""
    from ..sinks import check_output, open_sink

    if str(path) == "-":
        raise UsageError("- writes nothing; expected a file or a directory.")
    legend = results[0].legend
    check_output(str(path), several=len(results) > 1, overlay=overlay, format=format, force=force)
    try:
        with open_sink(
            str(path),
            rate=None,
            classes=legend.classes,
            palette=legend.palette,
            overlay=overlay,
            format=format,
            force=force,
        ) as sink:
            for each in results:
                sink.write(each)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error
