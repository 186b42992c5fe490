"""A world for searches in which everything is known, and no net is trained."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from edgeunet.bundle.manifest import Exported
from edgeunet.tuning.cost import Work
from edgeunet.tuning.outcome import Chosen, Outcome, Tried
from edgeunet.tuning.race import Lesson, Pace, Trained
from edgeunet.tuning.search import Written
from edgeunet.tuning.space import Configuration, space_of

WAYS = {"onnxruntime FP32": 4.0, "openvino BF16": 1.6, "openvino INT8": 1.0}
"""Ways, and how many times as long as the fastest they take."""
SPACE = space_of("mobile_unet", (128, 160))


class Killed(BaseException):
    """Ends a search as a signal does."""


@dataclass
class FakeLab:
    """Measures and trains by arithmetic; seconds are multiples of 1/64, which add up exactly.

    seed: of how accurate and how fast configurations are. noise: relative, of times. drift: factor
    of the bundles' times. late: sizes of nets that learn late. failing: what cannot be exported.
    kill_at: number of the call that ends the search.
    """

    space: Sequence[Configuration] = SPACE
    seed: int = 0
    noise: float = 0.02
    drift: float = 1.0
    measuring: float = 1.0
    epoch: float = 1.0
    late: frozenset[tuple[int, int]] = frozenset()
    failing: frozenset[tuple[str, str]] = frozenset()
    kill_at: int = 0
    seconds: float = 0.0
    calls: list[str] = field(default_factory=list)

    def clock(self) -> float:
        return self.seconds

    def _spend(self, seconds: float, call: str) -> None:
        self.calls.append(call)
        if len(self.calls) == self.kill_at:
            self.seconds += 1.0  # of a step that is lost
            raise Killed
        self.seconds += round(64 * seconds) / 64

    def work(self, each: Configuration) -> Work:
        area = each.size[0] * each.size[1] / 1e4
        light = dict(each.choice).get("decoder") == "light"
        return Work(area * each.width**2 / (600 if light else 300), area * each.width / 30)

    def true_times(self, each: Configuration) -> dict[str, float]:
        work = self.work(each)
        base = 0.5 + 0.4 * work.gflops + 0.3 * work.melements
        noise = 1 + random.Random(f"{self.seed} {each.key}").uniform(-self.noise, self.noise)
        return {way: factor * base * noise for way, factor in WAYS.items()}

    def best_miou(self, each: Configuration) -> float:
        """What a net comes to in the end; a wider one is better, all else is chance."""
        chance = random.Random(f"{self.seed} {each.group}").uniform(50, 70)
        return round(chance + 4 * each.width / 32, 6)

    def times(self, each: Configuration) -> dict[str, float]:
        self._spend(self.measuring, f"times {each.key}")
        return self.true_times(each)

    def pace(self, each: Configuration) -> Pace:
        self._spend(1.0, "pace")
        return self._pace(each)

    def _pace(self, each: Configuration) -> Pace:
        most = max(self.work(other).gflops for other in self.space)
        slow = round(64 * self.epoch * (0.2 + 0.8 * self.work(each).gflops / most)) / 64
        return Pace(0.5, slow)

    def train(self, lesson: Lesson) -> Trained:
        each, pace = lesson.configuration, self._pace(lesson.configuration)
        self._spend(pace.seconds(lesson.epochs[-1]), f"train {lesson.run}")
        before = None if len(lesson.epochs) == 1 else Lesson(each, lesson.epochs[:-1]).run
        assert lesson.start == before, "it goes on from its own weights"
        behind = 60 if each.size in self.late else 20
        miou = self.best_miou(each) - behind / (1 + sum(lesson.epochs))
        return Trained(miou, lesson.run, pace)

    def export(self, each: Configuration, checkpoint: str, precision: Exported) -> Written:
        self._spend(2.0, f"export {checkpoint} {precision}")
        assert checkpoint.startswith(f"{each.key}/")
        if (each.key, precision) in self.failing:
            return Written(problem="INT8 loses too much.")
        return Written(f"{checkpoint} {precision}", self.best_miou(each) - 1)

    def times_of(self, bundle: str) -> dict[str, float]:
        self._spend(1.0, f"again {bundle}")
        trained, precision = bundle.split()
        (each,) = (each for each in self.space if each.key == trained.split("/")[0])
        held = ("FP32", "BF16", "INT8") if precision == "int8" else ("FP32", "BF16")
        times = self.true_times(each)
        return {way: self.drift * times[way] for way in times if way.split()[1] in held}


TRIED = (
    Tried("128x160-w32-full", "128x160, width 32, decoder full", 6.99,
          {"onnxruntime FP32": 16.0, "openvino INT8": 4.0}, (60.0, 64.0), 6, "too slow"),
    Tried("96x128-w32-light", "96x128, width 32, decoder light", 2.1,
          {"onnxruntime FP32": 5.0, "openvino INT8": 1.5}, (59.0, 63.5), 14, "chosen"),
    Tried("64x96-w8-light", "64x96, width 8, decoder light", 0.1,
          {"onnxruntime FP32": 1.0, "openvino INT8": 0.5}, (), 0, "narrower than 64x96-w32-light"),
)  # fmt: skip


def outcome(*, found: bool = True) -> Outcome:
    """Of a search that was not run."""
    chosen = Chosen(
        TRIED[1].key, TRIED[1].title, "search/bundle", "openvino INT8", 1.5, 1.6, 65.0, 64.8, 14
    )
    return Outcome(
        model="mobile_unet",
        data="<b>cells</b>",
        target="p50<=2ms",
        milliseconds=2.0,
        max_drop=1.0,
        budget=600.0,
        spent=433.0,
        size=24,
        model_error=0.1,
        misses=(0.05, -0.2, 0.1),
        tried=TRIED,
        equal_epochs=2,
        chosen=chosen if found else None,
        why="It is fast." if found else "No configuration reaches p50<=2ms.",
        notes=("64x96-w8-full int8 could not be exported: it loses too much.",),
        environment={"processor": "a processor", "cores": "2"},
    )
