"""What to use, and why."""

from __future__ import annotations

import pytest

from edgeunet.benchmark.conclusion import conclude
from edgeunet.benchmark.report import Row, Setting
from support.benchmarks import ROWS, row


@pytest.mark.parametrize(
    ("rows", "use", "words"),
    [
        (ROWS, "openvino INT8", "1.50x as fast as openvino FP32 (16.4 ms). The fastest peer, a qu"),
        ([row("a FP32", 10.0), row("a INT8", 9.9, 0.99)], "a FP32", "a INT8 is 1% faster, too li"),
        ([row("a FP32", 10.0), row("a INT8", 9.0, 0.99)], "a INT8", "99.00% of the golden pixels"),
        ([row("a FP32", 9.5), row("a FP16", 9.0, contends=False)], "a FP32", "9.5 ms a frame"),
        ([row("a FP32", 9.0), row("b FP32", None)], "a FP32", "1 row could not be timed"),
        ([row("a FP32", 9.0), row("p FP32", 4.5, peer=True)], "a FP32", "p FP32 is faster: 4.5 ms"),
        ([row("a INT8", 5.0, 0.985)], "a INT8", "Below what their precision promises"),
        ([row("a FP32", 5.0, iou_lost=0.1)], "a FP32", "+0.10 points of mIoU lost"),
        ([row("a FP32", None)], "", "Nothing ran with right masks"),
        ([row("a FP32", 9.0), row("a FP32", 1.0, tiled=True)], "a FP32", "9.0 ms a frame"),
        (
            [row("a FP32", 9.0, depth=4), row("a FP32", 2.0, 0.9, depth=1)],
            "a FP32, depth 4",
            "9.0 ms a frame",
        ),
    ],
)
def test_the_conclusion_and_its_reason(rows: list[Row], use: str, words: str) -> None:
    found = conclude(Setting(2, 1, tuple(rows)))
    assert found.use == use
    assert words.lower() in found.why.lower()
