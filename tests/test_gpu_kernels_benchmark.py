"""`benchmarks/gpu_kernels.py` on a simulated GPU: its times mean nothing there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgeunet.errors import BackendError
from support.gpu_machine import gpu_machine

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """gpu_kernels.py on little data."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_engine
    import gpu_kernels

    monkeypatch.setattr(gpu_engine, "WARM_UP", 1)
    monkeypatch.setattr(gpu_engine, "CALLS", 2)
    monkeypatch.setattr(
        gpu_kernels, "load_kernels", lambda device, folder: device.load_module(b"\x7fELF")
    )
    monkeypatch.setattr(gpu_kernels, "_COPIED", 1 << 13)
    with gpu_machine():
        yield gpu_kernels


@pytest.mark.parametrize(("precision", "bytes_each"), [("fp16", 2), ("fp32", 4)])
def test_each_kernel_and_filter_is_timed(
    kernels: ModuleType, precision: Any, bytes_each: int
) -> None:
    times = kernels.time_kernels(precision, 3, (8, 12))
    assert times.batch == (1 << 13) // (3 * 8 * 12 * bytes_each)
    assert set(times.resample_shares) == {"antialias", "pillow", "pillow_bicubic", "area"}
    shares = [times.preprocess_share, times.postprocess_share, *times.resample_shares.values()]
    assert min(times.copy_gb_per_s, *shares) > 0


def test_report_has_a_column_for_each_filter(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gpu_report

    monkeypatch.setattr(kernels, "FILTERS", ("pillow", "area"))
    times = kernels.time_kernels("fp16", 3, (8, 12))
    line = {"step": "kernels", "result": [asdict(times)]}
    head, rule, row = gpu_report._kernels([line])[-3:]
    assert head.endswith("| preprocess | postprocess | pillow | area |")
    assert head.count("|") == rule.count("|") == row.count("|")
    assert row.endswith(f"| {times.resample_shares['area']:.0%} |")


@pytest.mark.parametrize(
    ("part", "told"),
    [("Preprocessor", "bilinear in float32"), ("Postprocessor", "masks in float32")],
)
def test_wrong_outputs_have_no_time(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch, part: str, told: str
) -> None:
    right = getattr(kernels, part)

    def other(*arguments: Any) -> Any:
        return lambda *values: np.add(right(*arguments)(*values), 1)

    monkeypatch.setattr(kernels, part, other)
    with pytest.raises(BackendError, match=f"{told}: the kernels differ from the CPU by 1"):
        kernels.time_kernels("fp32", 3, (8, 12))
