"""Rows and reports of benchmarks that were not run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgeunet.benchmark.conclusion import conclude
from edgeunet.benchmark.report import BenchmarkReport, Row, Setting, sort_rows
from edgeunet.bundle.manifest import Precision


def row(name: str, ms: float | None, agreement: float | None = 1.0, **known: Any) -> Row:
    """A row whose precision is the last word of its name."""
    precision: Precision = name.split()[-1].lower()  # type: ignore[assignment]
    measured = {"p99": ms and 1.2 * ms, "whole_rate": ms and 900 / ms, "start_s": 1.0}
    if ms is None:
        measured, agreement = {"problem": "it did not start"}, None
    known = {"threads": 2, "batch": 1, "contends": not known.get("peer"), **known}
    return Row(
        name, precision, **known,
        p50=ms, agreement=agreement, **measured,
    )  # fmt: skip


ROWS = (
    row("onnxruntime FP32", 19.1),
    row("onnxruntime INT8", 11.7, 0.9982),
    row("openvino FP32", 16.4),
    row("openvino INT8", 10.9, 0.9975),
    row("NNCF on OpenVINO INT8", 14.1, 0.9949, peer=True),
    row("a quantizer of another project INT8", 12.0, 0.91, peer=True),
    row("MNN FP32", 48.0, peer=True),
    row("onnxruntime xnnpack FP32", None),
)


def report(*rows: Row, **known: Any) -> BenchmarkReport:
    """A report of one setting, or of `ROWS`."""
    setting = Setting(2, 1, tuple(sort_rows(rows or ROWS)))
    advice = conclude(setting)
    found = BenchmarkReport(
        bundle="cells",
        model="mobile_unet",
        weights="cells",
        input_size=(352, 480),
        frame_size=(352, 480),
        data=None,
        settings=(setting,),
        missing={"ncnn": "not installed: pip install ncnn"},
        use={setting.title: advice.use},
        why={setting.title: advice.why},
        environment={"processor": "a processor", "cores": "2"},
    )
    return replace(found, **known)
