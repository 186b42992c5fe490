"""Times nets as the engine of this machine runs them that is the fastest, in INT8 if that wins."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ..bundle.manifest import InputSpec
from ..data.fit import Frame
from ..errors import BackendError, EdgeUNetError, first_line
from ..exporting.graphs.trace import trace
from ..exporting.int8.calibration.calibrate import make_table
from ..exporting.int8.calibration.observe import observe
from ..exporting.int8.emitters import CPU, OPENVINO
from ..extras import is_installed
from ..latency import Race
from ..models import SegmentationNet
from ..runtime.backends.candidates import Candidate, rank_of
from ..runtime.backends.measuring import MARGIN, SECONDS, WITHIN
from ..runtime.backends.ort import OrtNet
from ..runtime.backends.parts import PartedNet
from ..runtime.backends.preprocess import Preprocessor

REFERENCE = Candidate("onnxruntime", "fp32")
"""What nets are timed on if nothing else is asked for: it is always there."""

_PAIR_SECONDS, _PAIR_WITHIN, _RACES = 1.5, 1.01, 3
"""A pair of nets races until it is known to one part in a hundred which is faster, or as long as
this, and several times: the same net against itself gave ratios of 0.95 to 1.03, and once 1.36, on
a machine with neighbours."""

Call = Callable[[], object]
Share = Callable[[SegmentationNet], float]


def engines_here() -> list[Candidate]:
    """Engines and precisions of the CPU that a net can be timed on, the closest precision first.

    As in `auto`, except FP16: it is no faster than FP32 or BF16 on the CPUs that were measured.
    """
    found = [REFERENCE, Candidate("onnxruntime", "int8")]
    if is_installed("openvino"):
        from ..runtime.backends.openvino_library import openvino_precisions

        able = openvino_precisions()
        found += [Candidate("openvino", each) for each in able if each != "fp16"]
    return sorted(found, key=rank_of)


def fastest_engine(
    net: SegmentationNet,
    spec: InputSpec,
    frame: Frame,
    *,
    report: Callable[[str], None] = lambda step: None,
) -> Candidate:
    """The engine and precision that runs a net fastest here, as `auto` would choose it.

    Unlike `auto` it does not check how well masks agree: that is known when the net is exported.

    Args:
        report: hears of engines that cannot run the net.

    Raises:
        BackendError: none can.
    """
    race: Race[Candidate] = Race(rank=rank_of, margin=MARGIN)
    problems = []
    with ExitStack() as stack:
        opened = []
        for engine in engines_here():
            try:
                call = stack.enter_context(Timer(engine, spec, frame).opened(net))
                race.add(engine, call)
                opened.append(engine)
            except EdgeUNetError as error:
                problems.append(f"{engine.label}: {first_line(error)}")
                report(problems[-1])
        if not opened:
            raise BackendError(f"nothing here can run this net: {'; '.join(problems)}")
        race.run(seconds=SECONDS, within=WITHIN)
        return race.best


class Timer:
    """Times nets of one input on one engine of the CPU, one image at a time.

    A net is traced and, for INT8, quantized with the ranges of a single frame. They decide the
    masks and not the time, and so the nets need no calibration set.

    Args:
        engine: see `engines_here`. spec: of the nets. frame: an image for it, which INT8 needs.
    """

    def __init__(self, engine: Candidate, spec: InputSpec, frame: Frame | None = None) -> None:
        self.engine, self._spec, self._frame = engine, spec, frame
        if frame is None:
            self._image = np.zeros((1, len(spec.channels), spec.height, spec.width), np.float32)
        else:
            self._image = Preprocessor(spec)([frame])

    @contextmanager
    def opened(self, net: SegmentationNet) -> Iterator[Call]:
        """A function that runs the net once, as long as the context lasts.

        Raises:
            ExportError: the net has no graph. BackendError: the engine cannot run it.
        """
        with TemporaryDirectory(prefix="edgeunet-prune-") as folder:
            path = Path(folder) / "net.onnx"
            spec = self._spec
            trace(net, path, height=spec.height, width=spec.width, channels=len(spec.channels))
            if self.engine.precision == "int8":
                path = self._quantized(path)
            running = _open(self.engine, path)
        with closing(running):
            call = partial(running.run, self._image)
            call()  # OpenVINO compiles the net only now
            yield call

    @contextmanager
    def against(self, net: SegmentationNet) -> Iterator[Share]:
        """A function that times another net; it returns its share of the time of this one.

        Both run in turns, see `Race`, so that other load on the machine slows both.
        """
        with self.opened(net) as call:

            def share(other: SegmentationNet) -> float:
                with self.opened(other) as its:
                    return ratio_of(its, call)

            yield share

    def _quantized(self, path: Path) -> Path:
        """The INT8 graph that the engine would get, beside its reference graph."""
        assert self._frame is not None, "INT8 needs a frame"
        seen = observe(path, [self._frame], self._spec)
        table = make_table(path, seen, "minmax", model="pruned", source="one frame")
        emitter = OPENVINO if self.engine.backend == "openvino" else CPU
        quantized = path.with_name("int8.onnx")
        emitter.quantize(path, quantized, table)
        return quantized


def ratio_of(call: Call, other: Call) -> float:
    """How many times as long a call takes as another one: the median of several races."""
    ratios = []
    for _ in range(_RACES):
        race: Race[str] = Race()
        race.add("call", call)
        race.add("other", other)
        race.run(seconds=_PAIR_SECONDS, within=_PAIR_WITHIN)
        found = race.milliseconds
        ratios.append(found["call"] / found["other"])
    return statistics.median(ratios)


def _open(engine: Candidate, path: Path) -> PartedNet[Any]:
    if engine.backend == "openvino":
        from ..runtime.backends.openvino import OpenVinoNet

        return OpenVinoNet(path, precision=engine.precision)
    return OrtNet(path, flavour="int8.cpu" if engine.precision == "int8" else "fp32")
