"""INT8 that loses too much: equalised channels, layers in float, or weights trained for it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeunet.bundle.bundle import Bundle
from edgeunet.bundle.calibration_table import TABLE_NAME, CalibrationTable, read_table
from edgeunet.bundle.manifest import FLAVOURS, flavour_file
from edgeunet.bundle.schema import encode
from edgeunet.files import write_json
from edgeunet.parity import Attempt, ParityReport, WorstFrame
from edgeunet.steps import count_of

from .int8.emitters import write_int8
from .proof import Proof

if TYPE_CHECKING:
    from .int8.training import ImageCrops

Measured = tuple[ParityReport, list[WorstFrame]]


@dataclass(frozen=True)
class Training:
    """How INT8 is trained if it has to be.

    crops: on what. epochs: passes over them. output: bundle that is to be written; the state that
    an interrupted training resumes from lies beside it.
    """

    crops: ImageCrops
    epochs: int
    output: Path

    @property
    def state(self) -> Path:
        """The file with the state."""
        return self.output.with_name(f"{self.output.name}.qat.pt")

    def of_depth(self, depth: str) -> Training:
        """That of one of several depths, which has a state of its own."""
        return replace(self, output=self.output.with_name(f"{self.output.name}.depth{depth}"))

    def check(self) -> None:
        """CheckpointError if there is a state of another training, as far as this one is known."""
        from .int8.training import known_inputs, read_state  # PyTorch, as in `run`

        read_state(self.state, **known_inputs(self.crops, self.epochs))

    def run(
        self, source: Path, table: CalibrationTable, path: Path, report: Callable[[str], None]
    ) -> CalibrationTable:
        """Train the weights of a graph, see `Int8Training.run`."""
        from .int8.training import Int8Training  # PyTorch, which ONNX files do not need

        report(f"training INT8 on {len(self.crops)} images")
        training = Int8Training(source, table, self.crops)
        return training.run(path, epochs=self.epochs, state=self.state, count=count_of(report))


@dataclass(frozen=True)
class Way:
    """A way to INT8, and how a bundle with its graphs measures.

    name: in words. graphs: folder with them and their table. source: graph that they are made of.
    """

    name: str
    measured: Measured
    graphs: Path
    source: Path

    def attempt(self) -> Attempt:
        """Of the INT8 graph that keeps fewest pixels, and the one that loses most points."""
        parity = self.measured[0]
        drops = [stage.drop for stage in parity.deployed if stage.drop is not None]
        return Attempt(
            self.name,
            min(stage.agreement for stage in parity.deployed),
            max(drops, default=None),
            len(parity.fallbacks),
        )


@dataclass(frozen=True)
class Repair:
    """Makes the INT8 graphs of a written bundle hold their budget, if they can.

    seal: writes the manifest of the current graphs, and opens the bundle. equalised: writes the
    reference graph with equal channels to a path and calibrates that; None if it cannot, or if the
    table is given. training: None for none.
    """

    proof: Proof
    seal: Callable[[], Bundle]
    report: Callable[[str], None]
    equalised: Callable[[Path], CalibrationTable | None]
    training: Training | None

    def hold(self, bundle: Bundle, calibrated: Measured) -> Measured:
        """Repair the graphs if they lose too much; returns how the bundle measures then.

        Channels are equalised first. If that is not enough, layers return to float; with a
        training, weights are trained too. The bundle gets the graphs that are within the budget
        with the fewest layers in float. If none are, those that lose least.

        Args:
            calibrated: how the bundle measures as it is.
        """
        if not self.proof.repairs(calibrated[0]):
            self._leave_training("calibrated")
            return calibrated
        with tempfile.TemporaryDirectory(prefix="edgeunet-") as scratch:
            return self._hold(bundle, calibrated, Path(scratch))

    def _hold(self, bundle: Bundle, calibrated: Measured, scratch: Path) -> Measured:
        ways: list[Way] = []

        def add(name: str, measured: Measured, source: Path) -> None:
            graphs = scratch / str(len(ways))
            graphs.mkdir()
            _copy_int8(bundle.root, graphs)
            ways.append(Way(name, measured, graphs, source))
            self.report(f"INT8 {ways[-1].attempt().line()}")

        add("calibrated", calibrated, bundle.root / flavour_file("fp32"))
        path = scratch / "equalised.onnx"
        if (table := self.equalised(path)) is not None:
            add("equalised", self._written(bundle, table, path), path)
        start = min(ways, key=self._rank)
        if self.proof.repairs(start.measured[0]):
            _copy_int8(start.graphs, bundle.root)
            floats = self._with_floats(bundle, start.measured, start.source)
            if floats is not None:
                add("with layers in float", floats, start.source)
            if self.training is not None:
                path, epochs = scratch / "trained.onnx", self.training.epochs
                trained = self._trained(bundle, start, path, self.training)
                add(f"trained for {epochs} epoch{'s' if epochs > 1 else ''}", trained, path)
        else:
            self._leave_training(start.name)
        best = min(ways, key=self._rank)
        if best is not ways[-1]:
            _copy_int8(best.graphs, bundle.root)
            self.seal()
        others = [way for way in ways if way is not best]
        parity, worst = best.measured
        return replace(parity, attempts=tuple(way.attempt() for way in (*others, best))), worst

    def _leave_training(self, name: str) -> None:
        """Tell whoever asked for a training why there is none."""
        if self.training is not None:
            self.report(f"INT8 holds its budget as {name}: no training")

    def _written(self, bundle: Bundle, table: CalibrationTable, source: Path) -> Measured:
        """Measured with INT8 graphs of another source."""
        write_json(bundle.root / TABLE_NAME, encode(table))
        write_int8(bundle.root, table, source=source)
        return self._measured()

    def _measured(self) -> Measured:
        self.report("parity")
        return self.proof.measure(self.seal(), count_of(self.report))

    def _with_floats(self, bundle: Bundle, measured: Measured, source: Path) -> Measured | None:
        """Measured again with layers in float; None if no choice of them helps."""
        labelled = measured[0].labelled
        fallbacks = self.proof.repair(bundle, source, labelled=labelled, report=self.report)
        if not fallbacks:
            return None
        parity, worst = self._measured()
        return replace(parity, fallbacks=fallbacks), worst

    def _trained(self, bundle: Bundle, start: Way, path: Path, training: Training) -> Measured:
        """Measured with trained weights, which `path` receives, and layers in float if needed."""
        given = read_table(start.graphs / TABLE_NAME)
        measured = self._written(bundle, training.run(start.source, given, path, self.report), path)
        if not self.proof.repairs(measured[0]):
            return measured
        return self._with_floats(bundle, measured, path) or measured

    def _rank(self, way: Way) -> tuple[float, float, int]:
        """Lower is better. What the export is refused for counts first."""
        parity = way.measured[0]
        excess, beyond = self.proof.excess(parity), self.proof.beyond(parity)
        return max(0.0, excess), max(0.0, beyond), len(parity.fallbacks)


def _copy_int8(source: Path, folder: Path) -> None:
    """Copy table and INT8 graphs from one folder to another."""
    shutil.copy(source / TABLE_NAME, folder)
    for flavour in FLAVOURS["int8"]:
        if flavour.startswith("int8"):
            shutil.copy(source / flavour_file(flavour), folder)
