"""What the targets `litert` and `executorch` have in common: both convert a module of PyTorch."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.manifest import Flavour
from edgeunet.data.images import read_ids
from edgeunet.errors import ExportError, MissingDependencyError, ParityError
from edgeunet.exporting.deploy import DeployOptions, deploy
from edgeunet.parity.pixels import MasksOf
from edgeunet.runtime import load
from support.commands import ROOT
from support.media import write_png
from support.small_bundle import names


@dataclass(frozen=True)
class Converter:
    """A target, and the package that converts for it.

    module: of the target. needed: what the package is imported as, without which tests are skipped
    with `reason`. convert: the function of it that a graph may fail in.
    """

    module: ModuleType
    needed: str
    reason: str
    convert: str

    @property
    def name(self) -> str:
        return self.module.TARGET.name

    def require(self) -> ModuleType:
        return pytest.importorskip(self.needed, reason=self.reason)

    def gives_the_runtimes_masks(self, bundle: Path, folder: Path, flavour: Flavour) -> None:
        """The deployed files, the code on their page, and the example."""
        self.require()
        output, told = folder / "out", []
        options = DeployOptions(flavour=flavour, confidence=flavour == "fp32")
        assert deploy(bundle, self.name, output, options, report=told.append) == (flavour,)
        assert names(output) == ["README.md", "deployment.json", "labels.txt", self.module.NAME]
        labels = (output / "labels.txt").read_text().splitlines()
        assert labels == ["background", "cell", "dividing"]
        assert re.fullmatch(rf"{re.escape(self.module.NAME)}: (99\.|100).*", told[-1])
        (code,) = re.findall("```python\n(.*?)```", (output / "README.md").read_text(), re.DOTALL)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(output)
            found: dict[str, object] = {}
            exec(code, found)
            assert np.asarray(found["masks"]).shape == (1, 64, 96)
            if flavour == "fp32":
                self._example_gives_the_runtimes_mask(bundle, folder)

    def _example_gives_the_runtimes_mask(self, bundle: Path, folder: Path) -> None:
        frame = open_bundle(bundle).golden().frames[0]
        paths = [write_png(folder / "frame.png", frame), folder / "mask.png"]
        example = [ROOT / "examples" / self.name / "segment.py", ".", *paths]
        ran = subprocess.run([sys.executable, *map(str, example)], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        assert "background: " in ran.stdout
        with load(bundle, precision="fp32") as segmenter:
            (expected,) = segmenter(frame[None]).masks
        assert np.mean(read_ids(folder / "mask.png") == expected) >= 0.999

    def refuses_other_masks(self, bundle: Path, folder: Path) -> None:
        self.require()
        run = self.module._runner

        def wrong(folder: Path, flavour: Flavour) -> MasksOf:
            return lambda frames: 1 - run(folder, flavour)(frames)

        told = rf"{re.escape(self.module.NAME)} gives .* expected 99\.90%"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.module, "_runner", wrong)
            with pytest.raises(ParityError, match=told):
                deploy(bundle, self.name, folder / "out")
        assert names(folder) == []

    def tells_why_a_graph_is_not_taken(self, bundle: Path, folder: Path) -> None:
        package = self.require()

        def refuse(*arguments: object, **options: object) -> None:
            raise RuntimeError("no such operation\n\nin line 7")

        told = "take the graph fp32: RuntimeError: no such op"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(package, self.convert, refuse)
            with pytest.raises(ExportError, match=told):
                deploy(bundle, self.name, folder / "out")
        assert names(folder) == []

    def is_named_if_it_is_missing(self, bundle: Path, folder: Path) -> None:
        told = f"pip install .*{self.name}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, self.needed, None)
            with pytest.raises(MissingDependencyError, match=told):
                deploy(bundle, self.name, folder / "out")
        assert names(folder) == []
