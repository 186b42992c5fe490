"""Target `executorch`: the program runs in ExecuTorch, and what it does not take is named."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.manifest import Flavour
from edgeunet.data.images import read_ids
from edgeunet.errors import ExportError, MissingDependencyError, ParityError
from edgeunet.exporting.deploy import DeployOptions, deploy
from edgeunet.exporting.deploy import executorch as target
from edgeunet.parity.pixels import MasksOf
from edgeunet.runtime import load
from support.commands import ROOT
from support.media import write_png
from support.small_bundle import names

NEEDED = "executorch.exir"
REASON = "needs the extra [executorch], which [dev] is without: 0.4 GB"


@pytest.mark.parametrize("flavour", ["int8", "fp32"])
def test_masks_are_the_runtimes(
    int8_bundle: Path, tmp_path: Path, flavour: Flavour, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(NEEDED, reason=REASON)
    output, told = tmp_path / "out", []
    options = DeployOptions(flavour=flavour, confidence=flavour == "fp32")
    assert deploy(int8_bundle, "executorch", output, options, report=told.append) == (flavour,)
    assert names(output) == ["README.md", "deployment.json", "labels.txt", target.NAME]
    assert (output / "labels.txt").read_text().splitlines() == ["background", "cell", "dividing"]
    assert re.fullmatch(r"model\.pte: 99\..*|model\.pte: 100.*", told[-1])
    (code,) = re.findall("```python\n(.*?)```", (output / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(output)
    found: dict[str, object] = {}
    exec(code, found)
    assert np.asarray(found["masks"]).shape == (1, 64, 96)
    if flavour != "fp32":
        return
    image = write_png(tmp_path / "frame.png", open_bundle(int8_bundle).golden().frames[0])
    example = [ROOT / "examples" / "executorch" / "segment.py", ".", image, tmp_path / "mask.png"]
    ran = subprocess.run([sys.executable, *map(str, example)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "background: " in ran.stdout
    with load(int8_bundle, precision="fp32") as segmenter:
        (expected,) = segmenter(open_bundle(int8_bundle).golden().frames[:1]).masks
    assert np.mean(read_ids(tmp_path / "mask.png") == expected) >= 0.999


def test_other_masks_and_a_failing_converter_are_refused(
    fp32_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executorch = pytest.importorskip(NEEDED, reason=REASON)
    run = target._runner

    def wrong(folder: Path, flavour: Flavour) -> MasksOf:
        return lambda frames: 1 - run(folder, flavour)(frames)

    with monkeypatch.context() as patch:
        patch.setattr(target, "_runner", wrong)
        with pytest.raises(ParityError, match=r"model\.pte gives .* expected 99\.90%"):
            deploy(fp32_bundle, "executorch", tmp_path / "out")

    def refuse(*arguments: object, **options: object) -> None:
        raise RuntimeError("no such operation\n\nin line 7")

    with monkeypatch.context() as patch:
        patch.setattr(executorch, "to_edge_transform_and_lower", refuse)
        with pytest.raises(ExportError, match=r"take the graph fp32: RuntimeError: no such op"):
            deploy(fp32_bundle, "executorch", tmp_path / "out")
    assert names(tmp_path) == []


def test_missing_package_is_named(
    fp32_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, NEEDED, None)
    with pytest.raises(MissingDependencyError, match=r"pip install .*executorch"):
        deploy(fp32_bundle, "executorch", tmp_path / "out")
    assert names(tmp_path) == []
