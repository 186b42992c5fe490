"""Holding a frame rate by switching between the depths of a net."""

from __future__ import annotations

import logging
import threading
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
        target_fps: frames per second to hold, positive and finite; of each of several sources.

    Raises:
        UsageError: a bundle of one depth.
    """

    def __init__(
        self, bundle: Bundle, make: Callable[[Bundle], Backend], *, target_fps: float
    ) -> None:
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
        self.tiles = any(backend.tiles for backend in self._backends.values())
        (self.gpu,) = {backend.gpu for backend in self._backends.values()}
        self._controller = DepthController(target_fps, costs)
        self._observing = threading.Lock()  # calls and a stream may run in several threads
        self.frames_by_depth = self._frames = dict.fromkeys(reversed(bundle.depths), 0)
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
            lease = Lease(arriving, until=partial(self._has_switched, depth))
            with closing(self._backends[depth].stream(lease, smoother=smoother)) as results:
                for batch in results:
                    lease.done()
                    now, seconds = time.perf_counter(), max(_stages(batch))
                    elapsed = seconds if last is None else now - last
                    self._observe(depth, batch, seconds, elapsed=elapsed)
                    last = now
                    yield batch
            exhausted = lease.exhausted

    def close(self) -> None:
        """Free the backends of all depths."""
        self._held.close()

    def _has_switched(self, depth: int) -> bool:
        return self.depth != depth

    def _observe(self, depth: int, batch: Batch, seconds: float, *, elapsed: float) -> None:
        with self._observing:
            self._frames[depth] += len(batch)
            # The rate is that of each source, so a frame of each must fit into its time.
            frames = len(batch) / batch.sources
            self._controller.observe(depth, seconds, elapsed=elapsed, frames=frames)


def _stages(batch: Batch) -> tuple[float, float, float]:
    """Seconds by stage; the net's are divided by the number of batches that it computes at once."""
    timings = batch.timings
    return timings.preprocess, timings.infer / timings.lanes, timings.postprocess


def _costs(backends: Mapping[int, Backend], frame: Frame) -> dict[int, float]:
    """Median seconds of the slowest stage, by depth.

    The depths take turns, so that other load on the machine affects all of them.
    """
    seconds: dict[int, list[float]] = {depth: [] for depth in backends}
    for backend in backends.values():  # opens what a stream needs, so that no switch waits for it
        for _ in backend.stream([Batch.of([frame]), Batch.of([frame])]):
            pass
    for _ in range(_WARM_UP + _TURNS):
        for depth, backend in backends.items():
            seconds[depth].append(max(_stages(backend.segment(Batch.of([frame])))))
    return {depth: median(times[_WARM_UP:]) for depth, times in seconds.items()}


_CLOCK = 1e-6  # seconds; a smaller cost is below what the clock can measure

WINDOW = 0.5
"""Least seconds of frames over which a cost is averaged."""

FEWEST = 4
"""Least number of batches over which a cost is averaged."""

MARGIN = 0.15
"""Share of a frame's time that a deeper net must be predicted to leave free."""

HOLD = 2.0
"""Seconds for which a deeper net must be predicted to fit before the controller switches to it."""

LONGEST_HOLD = 64.0
"""Largest value that HOLD doubles up to after failed switches."""


class _Costs(NamedTuple):
    """One batch: seconds of work a frame, seconds a frame since the last batch, and its frames."""

    work: float
    elapsed: float
    frames: float


class DepthController:
    """Chooses the deepest net that holds a frame rate. `observe` reports a batch and may switch.

    A frame may cost 1 / target_fps seconds. Its cost is the smaller of two means over the last
    WINDOW seconds: the work of a batch, and the time between batches. Each covers the case where
    the other is wrong: if batches overlap on one device, their work is counted twice; if the camera
    or the consumer is slow, the time between batches says nothing about the net. The batch with the
    most work is left out, since one stall does not mean that the net is slow.

    The cost of other depths is predicted from this: if the load of the machine changes, all costs
    are assumed to change by the same factor.

    - If the cost is above 1 / target_fps, switches at once to the deepest of the shallower nets
      that is predicted to be below it, or to the shallowest if none is.
    - Switches to a deeper net after it has been predicted to leave MARGIN free for HOLD seconds.
      If the controller leaves it again within that time, the prediction was wrong, and the next
      attempt waits twice as long, at most LONGEST_HOLD.
    - Otherwise the depth stays.

    Each switch is logged. One warning is logged if even the shallowest net is too slow. Seconds are
    frames / target_fps, so that a file that is read faster than real time is treated like a live
    source.

    Args:
        target_fps: frames per second to hold.
        costs: seconds a frame by depth on an idle machine. They choose the first depth, the deepest
            below 1 / target_fps; afterwards only their ratios matter.
    """

    def __init__(self, target_fps: float, costs: Mapping[int, float]) -> None:
        self.target_fps = target_fps
        self.allowed = 1 / target_fps  # seconds that a frame may cost
        self.shallowest = min(costs)
        self._relative: dict[int, float] = {}
        least = _CLOCK
        for depth in sorted(costs):  # a deeper net does all that a shallower one does
            self._relative[depth] = least = max(least, costs[depth])
        self._window: deque[_Costs] = deque()
        self._hold = HOLD
        self._stayed = self._had_room = 0.0
        self._went_deeper = self._warned = False
        self.depth = self._deepest_below(self.allowed, scale=1.0)

    @property
    def cost(self) -> float | None:
        """Seconds that a frame costs at this depth, None until there are enough batches."""
        if len(self._window) < FEWEST:
            return None
        work = sorted(batch.work for batch in self._window)
        cost = min(mean(work[:-1]), mean(batch.elapsed for batch in self._window))
        frames = sum(batch.frames for batch in self._window)
        return cost if frames * max(cost, self.allowed) >= WINDOW else None

    def observe(self, depth: int, work: float, *, elapsed: float, frames: float) -> None:
        """Add a batch, and choose the depth.

        Args:
            depth: the batch's; ignored if the depth has changed since.
            work: seconds that it took: of the slowest stage if stages overlap, otherwise of all.
            elapsed: seconds since the batch before.
            frames: in the batch; of several sources, divided by their number.
        """
        if depth != self.depth:
            return
        seconds = frames / self.target_fps
        self._window.append(_Costs(work / frames, elapsed / frames, frames))
        self._shorten_window()
        self._stayed += seconds
        cost = self.cost
        if cost is None:
            return
        scale = cost / self._relative[depth]
        if cost > self.allowed:
            if depth > self.shallowest:
                self._switch(self._deepest_below(self.allowed, scale=scale, limit=depth), cost)
            elif not self._warned:
                self._warned = True
                _log.warning(
                    "Even depth %d takes %.1f ms a frame; %g frames/s allow %.1f. Going on at that "
                    "depth. Export with a smaller --size for more.",
                    depth, 1000 * cost, self.target_fps, 1000 * self.allowed,
                )  # fmt: skip
            return
        best = self._deepest_below((1 - MARGIN) * self.allowed, scale=scale)
        self._had_room = self._had_room + seconds if best > depth else 0.0
        if self._had_room >= self._hold:
            self._switch(best, cost)

    def _shorten_window(self) -> None:
        """Drop the oldest batches while the others span WINDOW seconds."""
        frames = sum(batch.frames for batch in self._window)
        while len(self._window) > FEWEST:
            frames -= self._window[0].frames
            if frames / self.target_fps < WINDOW:
                return
            self._window.popleft()

    def _deepest_below(self, seconds: float, *, scale: float, limit: int | None = None) -> int:
        """Deepest net that costs at most `seconds`, the shallowest if none does.

        scale: factor on the costs at rest. limit: only consider nets shallower than this.
        """
        fits = [
            depth
            for depth, relative in self._relative.items()
            if relative * scale <= seconds and (limit is None or depth < limit)
        ]
        return max(fits, default=self.shallowest)

    def _switch(self, depth: int, cost: float) -> None:
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
