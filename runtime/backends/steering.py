"""Holding a frame rate by switching between the depths of a net."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack, closing
from functools import partial
from statistics import mean, median
from typing import NamedTuple

from edgeunet.bundle.bundle import Bundle
from edgeunet.errors import UsageError

from ..frames import Batch, Frame
from ..pipeline.lease import Lease, supply
from .base import Backend, Wrapper
from .smoothing import Smoother

_log = logging.getLogger(__name__)
_WARM_UP, _TURNS = 1, 5


class SteeredBackend(Wrapper):
    """Segments with the depth of a bundle that holds a frame rate; all depths are loaded.

    Each mask is that of the depth's own bundle. The cost of each depth is measured on a golden
    frame first. A stream holds the rate if its slowest stage does: preprocessing, the net or
    post-processing. Source and sink do not count, since no depth makes them faster.

    Args:
        bundle: one that carries several depths.
        make: opens the backend of a depth's bundle.
        target_fps: frames per second to hold.

    Raises:
        UsageError: a rate that is not a positive number, or a bundle of one depth.
    """

    def __init__(
        self, bundle: Bundle, make: Callable[[Bundle], Backend], *, target_fps: float
    ) -> None:
        if not 0 < target_fps < math.inf:  # NaN too
            raise UsageError(f"target_fps is {target_fps}; expected a positive number.")
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
        self.smooths = all(backend.smooths for backend in self._backends.values())
        self._controller = DepthController(target_fps, costs)
        self._frames = dict.fromkeys(reversed(bundle.depths), 0)
        self.frames_by_depth = self._frames
        listed = ", ".join(f"{depth}: {1000 * cost:.1f} ms" for depth, cost in costs.items())
        _log.info("depth %d to begin with; a frame takes at depth %s", self.depth, listed)

    @property
    def depth(self) -> int:
        """Depth that computes."""
        return self._controller.depth

    @property
    def inner(self) -> Backend:
        """See `Wrapper`."""
        return self._backends[self.depth]

    @property
    def deepest(self) -> Backend:
        """See `Backend`."""
        return self._backends[max(self._backends)]

    def segment(self, batch: Batch) -> Batch:
        """See `Backend`."""
        depth = self.depth
        self._backends[depth].segment(batch)
        seconds = sum(_stages(batch))
        self._observe(depth, batch, seconds, elapsed=seconds)
        return batch

    def stream(
        self, batches: Iterable[Batch], *, smoother: Smoother | None = None
    ) -> Generator[Batch, None, None]:
        """See `Backend`. Batches under way come out before the next depth begins."""
        arriving, last, exhausted = supply(batches), None, False
        while not exhausted:
            depth = self.depth
            lease = Lease(arriving, until=partial(self._has_left, depth))
            with closing(self._backends[depth].stream(lease, smoother=smoother)) as results:
                for batch in results:
                    now, seconds = time.perf_counter(), max(_stages(batch))
                    self._observe(
                        depth, batch, seconds, elapsed=seconds if last is None else now - last
                    )
                    last = now
                    yield batch
            exhausted = lease.exhausted

    def close(self) -> None:
        """Free the backends of all depths."""
        self._held.close()

    def _has_left(self, depth: int) -> bool:
        return self.depth != depth

    def _observe(self, depth: int, batch: Batch, seconds: float, *, elapsed: float) -> None:
        self._frames[depth] += len(batch)
        self._controller.observe(depth, seconds, elapsed=elapsed, frames=len(batch))


def _stages(batch: Batch) -> tuple[float, float, float]:
    """Seconds by stage; the net's are a share if it computes several batches at once."""
    timings = batch.timings
    return timings.preprocess, timings.infer / timings.lanes, timings.postprocess


def _costs(backends: Mapping[int, Backend], frame: Frame) -> dict[int, float]:
    """Median seconds of the slowest stage, by depth.

    The depths take turns, so that whatever else the machine does affects all of them.
    """
    seconds: dict[int, list[float]] = {depth: [] for depth in backends}
    for backend in backends.values():  # a switch must not wait for what a stream opens
        for _ in backend.stream([Batch.of([frame])]):
            pass
    for _ in range(_WARM_UP + _TURNS):
        for depth, backend in backends.items():
            seconds[depth].append(max(_stages(backend.segment(Batch.of([frame])))))
    return {depth: median(times[_WARM_UP:]) for depth, times in seconds.items()}


_CLOCK = 1e-6  # seconds; less is not a cost that was measured

WINDOW = 0.5
"""Seconds of frames that a cost is the mean of."""

FEWEST = 4
"""Batches that a cost is the mean of at least."""

MARGIN = 0.15
"""Share of a frame's time that a deeper net must be expected to leave free."""

HOLD = 2.0
"""Seconds for which it must, before it is gone to."""

LONGEST_HOLD = 64.0
"""Seconds that this grows to where deeper nets were gone to in vain."""


class _Batch(NamedTuple):
    """Seconds a frame: of the net's work, and since the batch before. frames: how many."""

    work: float
    elapsed: float
    frames: int


class DepthController:
    """Chooses the deepest net that holds a frame rate; told of each batch, it may change `depth`.

    A frame may cost 1 / target_fps seconds. What it costs is the mean over the last `WINDOW`
    seconds of the work of a batch, its slowest left out, for one stall is no slow net; or of the
    time between batches where that is less. Work of batches that overlap on one device counts
    double, and the time between them does not; the time between frames of a slow camera, or of one
    who shows them slowly, says nothing of the net, and the work does.

    What another depth would cost follows from that: all costs are taken to grow and shrink by the
    same factor when the machine has more or less to do.

    - Where the cost is above 1 / target_fps, the deepest of the shallower nets that is expected to
      be below is gone to at once; the shallowest if none is.
    - A deeper net is gone to once one has been expected to leave `MARGIN` free for `HOLD` seconds
      on end. Where it is left again within that time, the expectation was wrong: the next attempt
      takes twice as long to come, up to `LONGEST_HOLD`.
    - Switches are logged, and a warning once where the shallowest net is above as well.

    Between the two, in the margin, the depth stays. Seconds are frames / target_fps, so that a file
    that is read faster than it was filmed is treated as it would be live.

    Args:
        target_fps: frames per second to hold.
        costs: seconds a frame by depth on the machine at rest, of which only the ratios matter once
            batches come. The first depth is the deepest that is below 1 / target_fps.
    """

    def __init__(self, target_fps: float, costs: Mapping[int, float]) -> None:
        self.target_fps = target_fps
        self.shallowest = min(costs)
        self._relative: dict[int, float] = {}
        least = _CLOCK
        for depth in sorted(costs):  # a deeper net does all that a shallower one does
            self._relative[depth] = least = max(least, costs[depth])
        self._window: deque[_Batch] = deque()
        self._hold = HOLD
        self._stayed = self._had_room = 0.0
        self._went_deeper = self._warned = False
        self.depth = self._deepest_below(self.allowed, scale=1.0)

    @property
    def allowed(self) -> float:
        """Seconds that a frame may cost."""
        return 1 / self.target_fps

    @property
    def cost(self) -> float | None:
        """Seconds that a frame costs at this depth, None before enough batches came."""
        if len(self._window) < FEWEST:
            return None
        work = sorted(batch.work for batch in self._window)
        cost = min(mean(work[:-1]), mean(batch.elapsed for batch in self._window))
        frames = sum(batch.frames for batch in self._window)
        return cost if frames * max(cost, self.allowed) >= WINDOW else None

    def observe(self, depth: int, work: float, *, elapsed: float, frames: int) -> None:
        """Take note of a batch, and choose.

        Args:
            depth: that it went through; one on its way while the depth changed says nothing.
            work: seconds that it took: of the slowest stage where stages overlap, else of all.
            elapsed: seconds since the batch before.
            frames: in it.
        """
        if depth != self.depth:
            return
        self._window.append(_Batch(work / frames, elapsed / frames, frames))
        self._shorten()
        self._stayed += frames / self.target_fps
        cost = self.cost
        if cost is None:
            return
        scale = cost / self._relative[depth]
        if cost > self.allowed:
            if depth > self.shallowest:
                self._go(self._deepest_below(self.allowed, scale=scale, short_of=depth), cost)
            else:
                self._warn(cost)
            return
        best = self._deepest_below((1 - MARGIN) * self.allowed, scale=scale)
        self._had_room = self._had_room + frames / self.target_fps if best > depth else 0.0
        if self._had_room >= self._hold:
            self._go(best, cost)

    def _shorten(self) -> None:
        """Drop batches that the window is long enough without."""
        frames = sum(batch.frames for batch in self._window)
        while len(self._window) > FEWEST:
            frames -= self._window[0].frames
            if frames / self.target_fps < WINDOW:
                return
            self._window.popleft()

    def _deepest_below(self, seconds: float, *, scale: float, short_of: int | None = None) -> int:
        """Deepest net that costs at most `seconds`, the shallowest if none does.

        scale: by which the nets cost more than at rest. short_of: a depth that is too much.
        """
        fits = [
            depth
            for depth, relative in self._relative.items()
            if relative * scale <= seconds and (short_of is None or depth < short_of)
        ]
        return max(fits, default=self.shallowest)

    def _go(self, depth: int, cost: float) -> None:
        _log.info(
            "depth %d instead of %d: a frame took %.1f ms, %.1f are allowed for %g frames/s",
            depth, self.depth, 1000 * cost, 1000 * self.allowed, self.target_fps,
        )  # fmt: skip
        if depth < self.depth:
            if self._stayed >= self._hold:
                self._hold = HOLD
            elif self._went_deeper:
                self._hold = min(2 * self._hold, LONGEST_HOLD)
        self._went_deeper = depth > self.depth
        self.depth = depth
        self._window.clear()
        self._stayed = self._had_room = 0.0

    def _warn(self, cost: float) -> None:
        """Say once that there is no shallower net to go to."""
        if self._warned:
            return
        self._warned = True
        _log.warning(
            "Even depth %d takes %.1f ms a frame; %g frames/s allow %.1f. Going on at that depth. "
            "Export with a smaller --size for more.",
            self.depth, 1000 * cost, self.target_fps, 1000 * self.allowed,
        )  # fmt: skip
