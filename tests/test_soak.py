"""`benchmarks/soak.py` in its short form: every fault comes up, and nothing is lost uncounted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[1] / "benchmarks" / "soak.py"


@pytest.mark.slow
def test_faults_lose_no_frame_uncounted(fp32_bundle: Path) -> None:
    done = subprocess.run(
        [sys.executable, SOAK, fp32_bundle, "--frames", "200", "--rate", "200", "--cycles", "30"],
        capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip
    result = json.loads(done.stdout)
    assert (done.returncode, result["faults"]) == (0, []), done.stderr
    assert result["read"] == result["segmented"] + result["dropped"] >= 200
    assert result["cycles"] == 30
    assert result["skipped"] > 0
    assert result["reconnects"] > 0
    assert result["dropped"] > 0
