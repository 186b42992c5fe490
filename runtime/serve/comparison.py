"""Two bundles on the same frames: both masks, and how far they agree."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgeunet.bundle.manifest import Manifest
from edgeunet.errors import UsageError

from ..frames import Batch, Segmented
from ..options import LoadOptions
from ..pipeline.stopping import Closing
from ..pipeline.stopwatch import Stopwatch
from ..segmenter import Segmenter

SECONDS = 5.0
"""Over which agreement is averaged."""
_STAGES = ("preprocess", "infer", "postprocess")


@dataclass(frozen=True)
class Compared(Segmented):
    """A frame with the results of two nets.

    other: of the second. agreement: share of the pixels to which both give one class.
    """

    other: Segmented = field(kw_only=True)
    agreement: float = field(kw_only=True)


class Comparison(Closing):
    """Segments each frame of a stream again, with a second bundle; one thread calls it.

    The frames are those that the first net took: nothing is decoded or fitted twice.

    Args:
        first: the manifest of the stream's net. second: of the other bundle.
        bundles: the names of both. sources: their names.

    Raises:
        UsageError: the masks of these two cannot be compared, or their frames differ.
    """

    def __init__(
        self,
        first: Manifest,
        second: Segmenter,
        *,
        bundles: tuple[str, str],
        sources: Iterable[str],
    ) -> None:
        check_comparable(first, second.manifest, bundles)
        self._second, self._bundles = second, bundles
        self._first = first
        self._watches = {stage: Stopwatch() for stage in _STAGES}
        self._agreements: dict[str, deque[tuple[float, float]]] = {
            source: deque() for source in sources
        }

    def __call__(self, segmented: Segmented) -> Compared:
        """The frame with both results.

        Raises:
            BackendError: the second net fails.
        """
        frame = segmented.frame
        batch = self._second.backend.segment(Batch([frame]))
        for stage, watch in self._watches.items():
            watch.add(getattr(batch.timings, stage))
        (other,) = batch
        agreement = float(np.mean(segmented.mask == other.mask))
        now, agreements = time.monotonic(), self._agreements[segmented.source]
        agreements.append((now, agreement))
        while now - agreements[0][0] > SECONDS:
            agreements.popleft()
        return Compared(
            frame,
            segmented.mask,
            segmented.presence,
            segmented.confidence,
            other=other,
            agreement=agreement,
        )

    def agreement(self, source: str) -> float | None:
        """Share of the pixels that agree, over the last seconds; None without a frame."""
        recent = [share for _, share in list(self._agreements[source])]
        return sum(recent) / len(recent) if recent else None

    def report(self) -> dict[str, Any]:
        """JSON-ready. Milliseconds by stage are of the second net."""
        manifests = (self._first, self._second.manifest)
        agreements = {source: self.agreement(source) for source in self._agreements}
        return {
            "bundles": [
                {"name": name, "model": manifest.model, "precision": manifest.precision}
                for name, manifest in zip(self._bundles, manifests, strict=True)
            ],
            "backend": self._second.backend.name,
            "stages": {name: watch.report().quantiles for name, watch in self._watches.items()},
            "agreement": {
                source: None if share is None else round(share, 5)
                for source, share in agreements.items()
            },
        }

    def close(self) -> None:
        """Free the second net."""
        self._second.close()


def check_comparable(first: Manifest, second: Manifest, bundles: tuple[str, str]) -> None:
    """Raise UsageError if the classes or the frames of two bundles differ.

    Example:
        >>> from dataclasses import replace
        >>> from edgeunet.bundle.bundle import open_bundle
        >>> from edgeunet.runtime.serve.comparison import check_comparable
        >>> manifest = open_bundle(bundle).manifest
        >>> check_comparable(manifest, manifest, ("a", "b"))
    """
    one, other = bundles
    if len(first.classes) != len(second.classes):
        raise UsageError(
            f"{one} has {len(first.classes)} classes and {other} {len(second.classes)}; masks can "
            "be compared only if the classes are the same. Pass bundles of one data set."
        )
    for number, (name, another) in enumerate(zip(first.classes, second.classes, strict=True)):
        if name != another:
            raise UsageError(
                f"class {number} is {name!r} in {one} and {another!r} in {other}; masks can be "
                "compared only if the classes are the same, in one order. Pass bundles of one data "
                "set."
            )
    for what, mine, others in (
        ("channels", first.input.frame_channels, second.input.frame_channels),
        ("levels", first.input.levels, second.input.levels),
    ):
        if mine != others:
            raise UsageError(
                f"{one} takes frames of {what} {_listed(mine)}, {other} of {_listed(others)}; both "
                "get the same frames. Pass bundles that take the same."
            )


def check_options(options: LoadOptions, temporal: float | None) -> None:
    """Raise UsageError for what would make the nets see more than the same single frame."""
    given = {"--temporal": temporal, "--target-fps": options.target_fps}
    for name, value in given.items():
        if value is not None:
            raise UsageError(
                f"--compare segments each frame by itself, with one net of each bundle. Leave out "
                f"{name}."
            )


def _listed(values: Iterable[str | float]) -> str:
    return ", ".join(value if isinstance(value, str) else f"{value:g}" for value in values)
