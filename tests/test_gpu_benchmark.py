"""`benchmarks/gpu.py` from bundles to tables, on a simulated GPU: its times mean nothing there."""

from __future__ import annotations

import json
import shutil
import sys
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edgeunet.data.cells import CellFrame
from support.gpu_machine import gpu_machine

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def prepared(patch: pytest.MonkeyPatch) -> ModuleType:
    """gpu.py, whose steps run in this process, on little."""
    patch.syspath_prepend(str(BENCHMARKS))
    import gpu
    import gpu_engine
    import gpu_job
    import gpu_kernels

    patch.setattr(gpu, "run_job", lambda arguments, seconds: through_json(gpu_job.job(arguments)))
    patch.setattr(gpu_engine, "WARM_UP", 2)
    patch.setattr(gpu_engine, "CALLS", 3)
    patch.setattr(gpu_job, "KERNEL_CASES", (("fp16", 2, (8, 12)), ("fp32", 11, (8, 12))))
    patch.setattr(
        gpu_kernels, "load_kernels", lambda device, folder: device.load_module(b"\x7fELF")
    )
    patch.setattr(gpu_kernels, "_COPIED", 1 << 13)
    return gpu


def through_json(value: Any) -> Any:
    """What another process would have got."""
    return json.loads(json.dumps(value))


@pytest.fixture(scope="module")
def report(
    gated_bundle: Path,
    int8_bundle: Path,
    gated_frames: list[CellFrame],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict[str, Any], str]:
    """What a run writes, as JSON and as Markdown."""
    folder = tmp_path_factory.mktemp("gpu")
    shutil.copytree(gated_bundle, folder / "bundles/gated")
    shutil.copytree(int8_bundle, folder / "bundles/plain")
    frames = np.stack([frame.image for frame in gated_frames[::3]])
    np.savez(folder / "bundles/gated.npz", frames=frames)
    with pytest.MonkeyPatch.context() as patch, gpu_machine("8.6.0"):
        gpu = prepared(patch)
        arguments = [str(folder / "bundles"), "-o", str(folder), "--torch", sys.executable]
        done = CliRunner().invoke(gpu.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads((folder / "gpu.json").read_text()), (folder / "gpu.md").read_text()


def test_every_engine_is_checked_and_timed(report: tuple[dict[str, Any], str]) -> None:
    rows = report[0]["engines"]
    assert {(row["bundle"], row["precision"]) for row in rows} == {
        (bundle, precision)
        for bundle in ("gated", "plain")
        for precision in ("fp32", "fp16", "int8")
    }
    for row in rows:
        assert "problem" not in row, row
        assert row["agreement"] > 0.98
        assert set(row["net_ms"]) == {"1", "4"}, "the bundles take batches up to 4"
        assert row["frames_per_second"] > 0
    assert report[0]["left_out"] == []


def test_early_exit_is_timed_on_the_frames_beside_the_bundle(
    report: tuple[dict[str, Any], str],
) -> None:
    found = report[0]["early_exit"]
    assert 0 < found["skipped"] < found["frames"]


def test_what_failed_is_told_in_the_place_of_figures(report: tuple[dict[str, Any], str]) -> None:
    """No GPU for PyTorch here."""
    assert "problem" in report[0]["torch"]
    assert "PyTorch: " in report[1]


def test_tables_hold_what_was_measured(report: tuple[dict[str, Any], str]) -> None:
    text = report[1]
    assert "Orin (sm87), CUDA 12.6, TensorRT 8.6.0" in text
    assert "- plain: FP32 1.0 ms, FP16 1.0 ms, INT8 1.0 ms: use FP32" in text
    assert "skip the decoder" in text
    assert text.count("| gated | ") == text.count("| plain | ") == 3


def test_without_time_nothing_is_claimed(int8_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(int8_bundle, tmp_path / "bundles/plain")
    with pytest.MonkeyPatch.context() as patch:
        gpu = prepared(patch)
        arguments = [str(tmp_path / "bundles"), "-o", str(tmp_path), "--minutes", "0"]
        CliRunner().invoke(gpu.main, arguments, catch_exceptions=False)
    text = (tmp_path / "gpu.md").read_text()
    assert "No time was left for: machine, plain fp16, kernels, plain int8, plain fp32." in text
    assert "|" not in text


def test_step_that_dies_takes_no_other_with_it(int8_bundle: Path, tmp_path: Path) -> None:
    """Without a GPU each step fails, in a process of its own, and says why."""
    shutil.copytree(int8_bundle, tmp_path / "bundles/plain")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import gpu

        steps = gpu._steps
        patch.setattr(gpu, "_steps", lambda found, names: islice(steps(found, names), 2))
        arguments = [str(tmp_path / "bundles"), "-o", str(tmp_path)]
        done = CliRunner().invoke(gpu.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert "no NVIDIA driver" in found["machine"]["problem"]
    assert "no NVIDIA driver" in found["engines"][0]["problem"]


def test_step_that_takes_too_long_is_ended() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import gpu

        assert "0 s that were left" in gpu.run_job(["machine"], 0.01)["problem"]
