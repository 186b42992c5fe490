"""The report of a pruning as a table; `test_prune.py` compares it with the JSON."""

from __future__ import annotations

from dataclasses import replace

from edgeunet.pruning.report import LatencyRounds, PruneReport, PruneRow
from edgeunet.pruning.rounds import Round

ROWS = (
    PruneRow("before", 1000, 4.0, 20.0, 91.0),
    PruneRow("pruned", 500, 2.0, 11.0, 80.0),
    PruneRow("fine-tuned", 500, 2.0, 10.0, 90.5),
)
REPORT = PruneReport(
    checkpoint="small.safetensors",
    model="unet",
    weights="cells",
    depth=None,
    ratio=0.5,
    to_latency=None,
    input=(64, 96),
    data="cells",
    teacher=None,
    engine="onnxruntime",
    precision="fp32",
    val_seen=False,
    rows=ROWS,
    environment={"processor": "a CPU"},
)


def test_table_says_what_was_pruned_and_what_timed_it() -> None:
    first = REPORT.table().splitlines()[0]
    assert first == (
        "unet cells, channels by 0.5; input 64x96, ONNX Runtime FP32 on a CPU; mIoU on cells"
    )
    taught = replace(REPORT, ratio=None, depth=2, data=None).table().splitlines()[0]
    assert "depth 2" in taught
    assert taught.endswith("mIoU on no data")


def test_table_lists_the_rounds_of_a_latency() -> None:
    rounds = (Round(0.71, {"stem": 8}), Round(0.52, {"stem": 16, "head": 8}))
    lines = (
        replace(
            REPORT,
            ratio=None,
            to_latency=LatencyRounds(0.5, 0.51, rounds),
            teacher="unet:cells",
            engine="openvino",
            precision="int8",
        )
        .table()
        .splitlines()
    )
    assert "channels to 50% of the latency, taught by unet:cells" in lines[0]
    assert "OpenVINO INT8 on a CPU" in lines[0]
    assert lines[-3:] == [
        "round 1: 71% of the latency; channels: stem -8",
        "round 2: 52% of the latency; channels: stem -16, head -8",
        "target 50%, reached 51%",
    ]
    assert lines[4].split()[-3:] == ["10.00", "50%", "90.50"]
