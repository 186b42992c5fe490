"""Observation of activations: all frames, all tensors, bounded memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.manifest import InputSpec, flavour_file
from edgeunet.errors import CalibrationError
from edgeunet.exporting.graphs.trace import trace
from edgeunet.exporting.int8.calibration import observe as observing
from edgeunet.exporting.int8.calibration.observe import observe
from edgeunet.models import create_model
from support.exports import table_of
from support.int8 import graph


def test_calibration_keeps_zero_and_the_brightest_pixel_of_the_image(int8_bundle: Path) -> None:
    bundle = open_bundle(int8_bundle)
    spec = bundle.manifest.input
    frame = np.full((64, 96, 3), 200, np.uint8)
    frame[0, 0, 0] = 255
    table = table_of(bundle.model_path("fp32"), [frame], spec)
    lowest, highest = table.ranges["image"]
    brightest = (1 - spec.mean[0]) / spec.std[0]
    assert (lowest, highest) == pytest.approx((0.0, brightest), rel=1e-3)
    assert table.frames == 1


def test_calibration_covers_all_frames_and_activations(int8_bundle: Path) -> None:
    bundle = open_bundle(int8_bundle)
    spec = bundle.manifest.input
    frames = [np.full((64, 96, 3), level, np.uint8) for level in (0, 255)]
    table = table_of(bundle.model_path("fp32"), frames, spec)
    lowest, highest = ((level - np.array(spec.mean)) / np.array(spec.std) for level in (0, 1))
    assert table.ranges["image"] == pytest.approx((lowest.min(), highest.max()), rel=1e-4)
    made = {name for node in graph(int8_bundle, "fp32").node for name in node.output}
    assert made | {"image"} == set(table.ranges)
    assert all(low <= 0 <= high and low < high for low, high in table.ranges.values())


def test_calibration_refuses_activations_that_are_not_finite(
    int8_bundle: Path, tmp_path: Path
) -> None:
    model = onnx.load(int8_bundle / flavour_file("fp32"))
    bias = next(t for t in model.graph.initializer if len(t.dims) == 1)
    bias.CopyFrom(numpy_helper.from_array(np.full(bias.dims, np.nan, np.float32), bias.name))
    onnx.save(model, tmp_path / "broken.onnx")
    with pytest.raises(CalibrationError, match="not finite"):
        table_of(tmp_path / "broken.onnx", [np.zeros((64, 96, 3), np.uint8)], InputSpec(64, 96))


def test_calibration_without_frames_is_refused(int8_bundle: Path) -> None:
    with pytest.raises(CalibrationError, match="no calibration frame"):
        table_of(open_bundle(int8_bundle).model_path("fp32"), [], InputSpec(64, 96))


# The pass through the graph


@pytest.fixture(scope="module")
def net_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "net.onnx"
    net = create_model("mobile_unet", num_classes=3, width=8).eval()
    trace(net, path, height=64, width=96, channels=3)
    return path


def test_parts_of_the_graph_see_what_the_whole_sees(
    net_graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (64, 96, 3), np.uint8) for _ in range(2)]
    spec = InputSpec(64, 96)
    whole = observe(net_graph, frames, spec)
    largest = max(observing.activations(onnx.load(net_graph)).values())
    monkeypatch.setattr(observing, "ELEMENTS_AT_ONCE", 4 * largest)
    parts = observe(net_graph, frames, spec)
    assert parts.frames == whole.frames == 2
    assert parts.classes == whole.classes
    assert list(parts.statistics) == list(whole.statistics)
    for name, seen in whole.statistics.items():
        found = parts.statistics[name]
        wanted = (seen.lowest, seen.highest, seen.low, seen.high)
        # ONNX Runtime fuses what nobody observes, which changes the last bits.
        assert (found.lowest, found.highest, found.low, found.high) == pytest.approx(
            wanted, rel=1e-4, abs=1e-5
        )


_MEASURE = """
import resource, sys
from pathlib import Path
import numpy as np
from edgeunet.exporting.int8.calibration import observe as observing
from edgeunet.exporting.int8.calibration.calibrate import make_table
from edgeunet.bundle.manifest import InputSpec
large = np.full((1080, 1920, 3), 50, np.uint8)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10  # MB
observing.ELEMENTS_AT_ONCE = 1 << 24
before = peak()
observing.observe(Path(sys.argv[1]), [large], InputSpec(768, 768))
print(peak() - before)
"""


def test_memory_is_bounded_by_the_part_and_not_by_the_net(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    net = create_model("mobile_unet", num_classes=3, width=8).eval()
    trace(net, path, height=768, width=768, channels=3)
    every = 4 * sum(observing.activations(onnx.load(path)).values()) >> 20  # MB
    assert every > 500, "the net is too small for this test to tell anything"
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(path)],
        cwd=Path(__file__).parents[4], env=os.environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < every / 2
