"""Writes one net as a bundle: its graphs, golden frames, manifest and proof."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from edgeunet.bundle.bundle import REPORT_NAMES, Bundle, open_bundle
from edgeunet.bundle.calibration_table import TABLE_NAME, CalibrationTable, read_table
from edgeunet.bundle.card import Card
from edgeunet.bundle.golden import GOLDEN_NAME
from edgeunet.bundle.manifest import DEPTHS_DIR, FLAVOURS, MANIFEST_NAME, Manifest, flavour_file
from edgeunet.bundle.schema import encode
from edgeunet.bundle.statistics import FrameStatistics, statistics_of
from edgeunet.data import cells
from edgeunet.data.palettes import in_safe_colours
from edgeunet.errors import ParityError
from edgeunet.files import sha256, write_json
from edgeunet.parity import ParityReport, left_out_text, write_html
from edgeunet.runtime.backends.preprocess import Preprocessor
from edgeunet.steps import count_of, tell_of

from .graphs.fp16 import half
from .graphs.passes.graph import load
from .graphs.pixels import write_all_pixels
from .graphs.split import split_flavours
from .int8.budget import layers_of
from .int8.calibration.calibrate import calibrate, check_table
from .int8.calibration.frames import Selection
from .int8.emitters import complete_int8, write_int8
from .int8.equalise import equalise
from .lint import lint_flavours
from .options import ExportOptions
from .origins.base import Origin
from .proof import Proof
from .repair import Repair, Training

GOLDEN_FRAMES = 4


@dataclass(frozen=True)
class BundleWriter:
    """Writes one net as a bundle into `folder`, which is empty and is to be called `name`.

    selection: frames to calibrate with and to take golden frames from. training: of INT8 that loses
    too much; None for none.
    """

    folder: Path
    name: str
    origin: Origin
    options: ExportOptions
    selection: Selection
    report: Callable[[str], None]
    training: Training | None

    @property
    def card(self) -> Card:
        """Of the net."""
        return self.origin.card

    def write_depth(self) -> ParityReport:
        """Call `write` for one of several depths, and name the depth in reports and errors."""
        depth = f"depth {self.card.arguments['depth']}"
        self.report(depth)
        try:
            parity = self.write()
        except ParityError as error:
            raise ParityError(f"{depth}: {error}") from None
        found = parity.candidate
        miou = "" if found.miou is None else f"mIoU {found.miou:.2f}, "
        if parity.left_out:
            miou += f"{parity.left_out_text()}, "
        self.report(f"{depth}: {miou}{found.agreement:.2%} of the pixels as {parity.reference}'s")
        return parity

    def write(self) -> ParityReport:
        """Write the bundle and verify it."""
        folder, card, options, report = self.folder, self.card, self.options, self.report
        report("trace")
        self.origin.write_graph(folder / flavour_file("fp32"))
        tell_of(report)(_size_of(folder / flavour_file("fp32")))
        if self.training is not None:
            from .int8.training import check_trainable  # PyTorch, which ONNX files do not need

            check_trainable(folder / flavour_file("fp32"))
        self._write_flavours()
        report("golden frames")
        self.origin.save(folder)
        self._write_golden()
        bundle = self._seal()
        report("parity")
        proof = Proof(
            self.origin, options.data, options.reading, options.max_iou_drop, layout=options.layout
        )
        measured = proof.measure(bundle, count_of(report))
        if options.precision == "int8":
            repair = Repair(proof, self._seal, report, self._equalised, self.training)
            measured = repair.hold(bundle, measured)
        parity, worst = measured
        proof.check(parity)
        parity = replace(parity, bundle=self.name)
        report_json, report_html = (folder / name for name in REPORT_NAMES)
        write_json(report_json, parity.to_json())
        write_html(report_html, parity, worst, in_safe_colours(card.palette))
        return parity

    def _write_flavours(self) -> None:
        """Write all graphs but the reference, and lint all."""
        folder, flavours = self.folder, FLAVOURS[self.options.precision]
        if "fp16" in flavours:
            self.report("FP16")
            half(folder / flavour_file("fp32"), folder / flavour_file("fp16"))
            tell_of(self.report)(_size_of(folder / flavour_file("fp16")))
        if "int8" in flavours:
            table = self._table()
            write_json(folder / TABLE_NAME, encode(table))
            self.report("INT8")
            if (folder / flavour_file("int8")).exists():  # the method was chosen by it
                complete_int8(folder, table)
            else:
                write_int8(folder, table)
            layers = layers_of(load(folder / flavour_file("fp32")))
            size = _size_of(folder / flavour_file("int8.cpu"))
            tell_of(self.report)(f"{size}, {len(layers)} layers")
        self.report("lint")
        lint_flavours(folder, flavours)

    def _table(self) -> CalibrationTable:
        """The given calibration table of the reference graph, or a new one."""
        reference, path = self.folder / flavour_file("fp32"), self.options.calib_table
        if path is None:
            return self._calibrated(reference, folder=self.folder)
        table = read_table(path)
        check_table(table, reference, model=self.card.model, path=path)
        return table

    def _calibrated(self, graph: Path, folder: Path | None = None) -> CalibrationTable:
        """A new calibration table of a graph. folder: see `calibrate`."""
        method = self.options.calib_method
        table = calibrate(
            graph,
            self.selection,
            self.card,
            method=None if method == "auto" else method,
            folder=folder,
            report=self.report,
        )
        left_out = left_out_text(table.left_out, classes=len(self.card.classes))
        self.report(f"calibrated by {table.method}" + (f", {left_out}" if left_out else ""))
        return table

    def _equalised(self, path: Path) -> CalibrationTable | None:
        """Write the reference graph with equal channels and calibrate it, see `Repair`."""
        if self.options.calib_table is not None:
            return None  # its ranges are those of the reference graph
        self.report("equalising channels")
        reference, frames = self.folder / flavour_file("fp32"), self.selection.chosen.frames
        changed = equalise(reference, path, frames, self.card.input)
        return self._calibrated(path) if changed else None

    def _write_golden(self) -> None:
        origin, prepare = self.origin, Preprocessor(self.card.input)
        chosen = self.selection.chosen
        if chosen.frames is not origin.frames:
            chosen = replace(chosen, frames=(*origin.frames, *chosen.frames))
        frames = chosen.alike(GOLDEN_FRAMES)
        np.savez_compressed(
            self.folder / GOLDEN_NAME,
            frames=np.stack(frames),
            masks=np.stack([origin.segment(frame)[1] for frame in frames]),
            logits=np.concatenate([origin.infer(prepare([frame])).logits for frame in frames]),
        )

    def _manifest(self) -> Manifest:
        folder, card, options = self.folder, self.card, self.options
        with np.load(folder / GOLDEN_NAME, allow_pickle=False) as golden:
            height, width = golden["logits"].shape[2:]
        files = sorted(path.name for path in folder.iterdir() if path.is_file())
        depths = sorted((folder / DEPTHS_DIR).glob(f"*/{MANIFEST_NAME}"))
        packages = ("edgeunet", *self.origin.packages, "onnx", "onnxruntime", "numpy")
        return Manifest(
            model=card.model,
            arguments=card.arguments,
            weights=self.origin.weights,
            reference=self.origin.kept,
            origin=self.origin.title,
            precision=options.precision,
            classes=card.classes,
            palette=card.palette,
            input=card.input,
            logits_size=(height, width),
            max_batch=options.max_batch,
            gate=card.gate,
            files={name: sha256(folder / name) for name in files},
            depths={path.parent.name: sha256(path) for path in depths},
            frames=self._statistics(),
            versions={
                "python": platform.python_version(),
                **{name: version(name) for name in packages},
            },
        )

    def _statistics(self) -> FrameStatistics | None:
        """Of the frames that calibrate or are golden; procedural ones are like procedural only."""
        if self.selection.procedural and self.card.data != cells.NAME:
            return None
        return statistics_of(self.selection.frames, levels=self.card.input.levels)

    def _seal(self) -> Bundle:
        """Write the parts and the manifest of the current graphs, and open the bundle."""
        if self.card.gate is not None:
            split_flavours(self.folder, FLAVOURS[self.options.precision])
        form = self.options.pixels_form
        if form is not None:
            write_all_pixels(self.folder, self._manifest(), form)
        path = self.folder / MANIFEST_NAME
        path.unlink(missing_ok=True)
        write_json(path, encode(self._manifest()))
        return open_bundle(self.folder)


def _size_of(path: Path) -> str:
    """Of a file, in words."""
    return f"{path.stat().st_size / 1e6:.1f} MB"
