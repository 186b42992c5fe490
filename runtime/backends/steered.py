"""The depth that holds a frame rate, chosen anew between batches."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from statistics import median

import numpy as np
import numpy.typing as npt

from edgeunet.bundle.bundle import Bundle
from edgeunet.errors import UsageError

from ..frames import Frame
from ..pipeline import Stoppable
from ..rate import DepthController
from ..temporal import Smoother
from .base import Backend, NetOutputs, Result

_log = logging.getLogger(__name__)
_WARM_UP, _TURNS = 1, 5


class SteeredBackend(Backend):
    """A backend for each depth of a bundle, all loaded; the one computes that holds the rate.

    Frames are segmented by the depth that `DepthController` has chosen by then, and each mask is
    that of the depth's own bundle. What the depths cost is measured on a golden frame first.

    A stream holds the rate where its slowest stage does: preprocessing, the net or post-processing.
    Its source and its consumer, whom no depth makes faster, are left out.

    Attributes:
        frames: how many each depth has segmented, by depth, the deepest first.

    Args:
        bundle: one that carries several depths.
        make: backend of a depth's bundle.
        target_fps: frames per second to hold.

    Raises:
        UsageError: a rate that is not a positive number, or a bundle of one depth.
    """

    def __init__(
        self, bundle: Bundle, make: Callable[[Bundle], Backend], *, target_fps: float
    ) -> None:
        if not 0 < target_fps < math.inf:  # NaN too
            raise UsageError(f"target_fps is {target_fps}; a positive number was wanted.")
        if not bundle.depths:
            raise UsageError(
                f"{bundle.root} holds one depth; a frame rate is held by switching between "
                "several. Export unetpp with --depths 1,2,3,4, or leave out --target-fps."
            )
        super().__init__(bundle)
        with ExitStack() as stack:
            self._backends = {
                depth: stack.enter_context(make(bundle.at_depth(depth))) for depth in bundle.depths
            }
            costs = _costs(self._backends, bundle.golden().frames[0])
            self._held = stack.pop_all()
        self._controller = DepthController(target_fps, costs)
        self.frames = dict.fromkeys(reversed(bundle.depths), 0)
        listed = ", ".join(f"{depth}: {1000 * cost:.1f} ms" for depth, cost in costs.items())
        _log.info("depth %d to begin with; a frame takes at depth %s", self.depth, listed)

    @property
    def depth(self) -> int:
        """Depth that computes."""
        return self._controller.depth

    @property
    def name(self) -> str:  # type: ignore[override]  # it changes
        """Name of the backend that computes."""
        return self._current.name

    @property
    def lanes(self) -> int:  # type: ignore[override]  # as above
        """See `Backend`."""
        return self._current.lanes

    @property
    def nets(self) -> tuple[Backend, ...]:
        """See `Backend`."""
        return tuple(self._backends.values())

    def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """Run the net of the present depth on (N, C, H, W)."""
        return self._current.infer(images)

    def infer_gated(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """See `Backend`."""
        return self._current.infer_gated(images)

    def net_alone(self, images: npt.NDArray[np.float32]) -> Callable[[], object]:
        """See `Backend`."""
        return self._current.net_alone(images)

    def segment(self, frames: Sequence[Frame], *, confidence: bool = False) -> Result:
        """8-bit RGB frames of one size -> masks at that size."""
        depth = self.depth
        result = self._backends[depth].segment(frames, confidence=confidence)
        seconds = sum(_stages(result))
        self._observe(depth, result, seconds, elapsed=seconds)
        return result

    def stream(
        self, batches: Iterable[Sequence[Frame]], *, smoother: Smoother | None = None
    ) -> Generator[Result, None, None]:
        """`segment` for each batch in order, also where the depth changes in between."""
        remaining = _Remaining(batches)
        last: float | None = None
        while not remaining.ended:
            depth = self.depth
            net = self._backends[depth]
            with closing(net.stream(_UntilSwitch(remaining, self), smoother=smoother)) as results:
                for result in results:
                    now, seconds = time.perf_counter(), max(_stages(result, lanes=net.lanes))
                    self._observe(
                        depth, result, seconds, elapsed=seconds if last is None else now - last
                    )
                    last = now
                    yield result

    def close(self) -> None:
        """Free the backends."""
        self._held.close()

    @property
    def _current(self) -> Backend:
        return self._backends[self.depth]

    def _observe(self, depth: int, result: Result, seconds: float, *, elapsed: float) -> None:
        self.frames[depth] += len(result.masks)
        self._controller.observe(depth, seconds, elapsed=elapsed, frames=len(result.masks))


class _Remaining(Stoppable, Iterator[Sequence[Frame]]):
    """Batches that no depth has taken yet."""

    def __init__(self, batches: Iterable[Sequence[Frame]]) -> None:
        self.ended = False
        self._source = batches
        self._batches = iter(batches)

    def __next__(self) -> Sequence[Frame]:
        for batch in self._batches:
            return batch
        self.ended = True
        raise StopIteration

    def stop(self) -> None:
        """See `Stoppable`."""
        if isinstance(self._source, Stoppable):
            self._source.stop()


class _UntilSwitch(Stoppable, Iterator[Sequence[Frame]]):
    """Batches up to a switch; what is on its way then comes out before the next depth begins."""

    def __init__(self, remaining: _Remaining, steered: SteeredBackend) -> None:
        self._remaining = remaining
        self._steered = steered
        self._depth = steered.depth
        self._begun = False

    def __next__(self) -> Sequence[Frame]:
        if self._begun and self._steered.depth != self._depth:
            raise StopIteration
        self._begun = True
        return next(self._remaining)

    def stop(self) -> None:
        """See `Stoppable`."""
        self._remaining.stop()


def _stages(result: Result, *, lanes: int = 1) -> tuple[float, float, float]:
    """Seconds by stage; the net's are a share where it computes several batches at once."""
    timings = result.timings
    return timings.preprocess, timings.infer / lanes, timings.postprocess


def _costs(backends: Mapping[int, Backend], frame: Frame) -> dict[int, float]:
    """Median seconds of the slowest stage, by depth.

    The depths take turns, so that what else the machine does hits all of them.
    """
    seconds: dict[int, list[float]] = {depth: [] for depth in backends}
    for backend in backends.values():  # a switch must not wait for what a stream opens
        backend.infer_in_lane(backend.preprocess([frame]))
    for _ in range(_WARM_UP + _TURNS):
        for depth, backend in backends.items():
            seconds[depth].append(max(_stages(backend.segment([frame]))))
    return {depth: median(times[_WARM_UP:]) for depth, times in seconds.items()}
