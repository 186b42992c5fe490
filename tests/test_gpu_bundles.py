"""`benchmarks/gpu_bundles.py`: slim bundles, and which can be made."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from edgeunet.bundle.bundle import open_bundle
from edgeunet.errors import EdgeUNetError
from edgeunet.runtime.backends.ort import open_flavour
from edgeunet.runtime.segmenter import load
from support.gpu_machine import gpu_machine
from support.small_bundle import write_bundle

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_slim_bundle_opens_and_checks_itself_on_the_gpu(tmp_path: Path) -> None:
    import gpu_bundles

    root = write_bundle(tmp_path / "gated", precision="int8", gated=True)
    (root / "parity.html").touch()
    before = {path.name: path.stat().st_size for path in root.iterdir()}
    gpu_bundles.slim(root)
    gpu_bundles.slim(root)  # once more changes nothing
    after = {path.name: path.stat().st_size for path in root.iterdir()}
    assert set(before) - set(after) == {"parity.html"}
    for name in ("model.int8.cpu.onnx", "model.int8.cpu.decoder.onnx", "golden.npz"):
        assert after[name] < before[name]
    assert after["model.int8.encoder.onnx"] == before["model.int8.encoder.onnx"]
    for precision in ("fp32", "fp16", "int8"):
        with gpu_machine("10.3.0"), load(root, "tensorrt", precision=precision) as segmenter:
            assert segmenter.self_check() == 1
    with pytest.raises(EdgeUNetError, match=r"int8\.cpu"):
        open_flavour(open_bundle(root), "int8.cpu")


def test_only_a_bundle_that_can_be_made_is_taken(tmp_path: Path) -> None:
    import gpu_bundles

    arguments = ["-o", str(tmp_path), "--data", str(tmp_path), "--only", "unet3p-gated"]
    done = CliRunner().invoke(gpu_bundles.main, arguments)
    assert done.exit_code == 2
    assert "there is no unet3p-gated" in done.output
    assert "unetpp-depth4" in done.output
    assert list(tmp_path.iterdir()) == []
