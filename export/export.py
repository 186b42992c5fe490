"""Export a checkpoint as a bundle: graphs, golden frames and the parity report."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from edgeunet.bundle.bundle import (
    CHECKPOINT_NAME,
    REPORT_NAMES,
    Bundle,
    open_bundle,
    strangers_in,
)
from edgeunet.bundle.calibration_table import TABLE_NAME, CalibrationTable, read_table
from edgeunet.bundle.card import Card
from edgeunet.bundle.golden import GOLDEN_NAME
from edgeunet.bundle.manifest import (
    DEPTHS_DIR,
    FLAVOURS,
    MANIFEST_NAME,
    Manifest,
    flavour_file,
)
from edgeunet.bundle.schema import encode
from edgeunet.bundle.statistics import FrameStatistics, statistics_of
from edgeunet.data import cells
from edgeunet.data.fit import Fit
from edgeunet.errors import CalibrationError, ParityError
from edgeunet.files import locked, new_directory, sha256, write_json
from edgeunet.models import SegmentationNet
from edgeunet.models.checkpoints import WEIGHTS_DIR, Checkpoint, has_card, save_checkpoint
from edgeunet.models.depth import prune_depth
from edgeunet.models.reference import reference_mask
from edgeunet.parity import ParityReport, left_out_text, write_html
from edgeunet.runtime.backends.preprocess import Preprocessor

from .graphs.fp16 import half
from .graphs.split import split_flavours
from .graphs.trace import trace
from .int8.calibration.calibrate import calibrate, check_table
from .int8.calibration.check_frames import examine
from .int8.calibration.frames import (
    CHOSEN,
    HELD_OUT,
    FrameSet,
    Selection,
    describe_source,
    drawn_selection,
    select,
)
from .int8.emitters import write_int8
from .lint import lint_flavours
from .options import ExportOptions, check_options, for_the_net
from .proof import Proof, check_simulator
from .variants import NetAndCard, cut_depths, ensemble_of

GOLDEN_FRAMES = 4


def export_bundle(
    output: str | Path,
    options: ExportOptions,
    *,
    force: bool = False,
    report: Callable[[str], None] = lambda step: None,
) -> ParityReport:
    """Write a bundle, whole or not at all, and compare it with PyTorch.

    Args:
        output: directory of the bundle; it must not exist. `force` replaces a bundle or an empty
            folder, nothing else.
        report: called with the name of each step.

    Returns:
        The report of the bundle itself. With depths, each has its own in its `parity.json`.

    Raises:
        UnknownNameError: no such model or weights. CheckpointError: weights that do not fit.
        UsageError: a depth or an ensemble that the net does not have, depths that cannot be
            switched between, or options that exclude each other.
        CalibrationError: INT8 without frames to calibrate with, with unsuitable frames, or with a
            table of another graph. OutputExistsError, UsageError: see `output`.
        OutputError: another export writes it.
        ExportError: a graph that one of its targets rejects or misreads, see `lint`.
        ParityError: the bundle loses more than `max_iou_drop`; nothing is written.

    Example:
        >>> report = edgeunet.export_bundle("cells", edgeunet.ExportOptions("mobile_unet"))
        >>> report.first_failure is None
        True
    """
    check_options(options)
    if options.precision == "int8":
        check_simulator()
    target = Path(output)
    # The output comes first: it takes minutes to look at calibration frames.
    with (
        locked(target),
        new_directory(target, force=force, strangers=strangers_in) as folder,
    ):
        if not has_card(options.weights, options.model):
            options = for_the_net(options)
        source = Checkpoint.open(
            options.weights,
            options.model,
            num_classes=options.num_classes,
            size=options.size,
            preparation=options.preparation,
            raw=options.raw,
        )
        nets = _nets(source.net, source.card, options, report)
        net, card = nets[-1]
        selection = _selection(options, net, card, report)
        if net.cgm is not None and card.gate is None:
            report("the gate is not calibrated and stays unused; `edgeunet gate` calibrates it")
        whole = _Writer(folder, target.name, net, card, options, source.path, selection, report)
        for shallow, its_card in nets[:-1]:
            place = f"{DEPTHS_DIR}/{its_card.arguments['depth']}"
            (folder / place).mkdir(parents=True)
            part = replace(whole, folder=folder / place, name=f"{target.name}/{place}", net=shallow)
            replace(part, card=its_card).write_depth()
        return whole.write_depth() if options.depths else whole.write()


def _nets(
    net: SegmentationNet, card: Card, options: ExportOptions, report: Callable[[str], None]
) -> list[NetAndCard]:
    """The nets to write as bundles, the outermost last; their cards have the chosen size."""
    nets = [(net, card)]
    if options.depths:
        nets = cut_depths(net, card, options.depths, report=report)
    elif options.depth is not None:
        nets = [prune_depth(net, card, depth=options.depth, report=report)]
    if options.ensemble:
        nets = [ensemble_of(net, card) for net, card in nets]
    for net, _ in nets:
        net.check_size(card.input.height, card.input.width)
    return nets


def _selection(
    options: ExportOptions, net: SegmentationNet, card: Card, report: Callable[[str], None]
) -> Selection:
    """Frames to take golden frames from and to calibrate with; checked if they calibrate."""
    calibrates = options.precision == "int8" and options.calib_table is None
    if options.calib is not None:
        fit = Fit(card.input, options.reading)
        candidates = describe_source(options.calib, num_classes=len(card.classes), fit=fit)
        selection = select(candidates)
        if calibrates:
            report(examine(net, candidates.descriptors, selection.typical, card.input))
        return selection
    if calibrates and card.data != cells.NAME:
        raise CalibrationError(
            f"INT8 needs frames like those of the application, and the {card.data} data does not "
            "come with the package. Pass --calib with a few dozen images, a data set or a video."
        )
    # Without calibration, four would do as golden frames, but not to tell what frames are like.
    count = CHOSEN + HELD_OUT if calibrates else CHOSEN
    drawn = list(cells.snapshots(count, height=card.input.height, width=card.input.width, seed=1))
    fit = Fit(card.input)
    images = tuple(fit(frame.image) for frame in drawn)
    masks = [frame.mask for frame in drawn]
    return drawn_selection(
        FrameSet("procedural cells", tuple(range(count)), images, masks.__getitem__)
    )


@dataclass(frozen=True)
class _Writer:
    """Writes one net as a bundle into `folder`, which is empty and is to be called `name`.

    source: file of the weights. selection: frames to calibrate with and to take golden frames from.
    """

    folder: Path
    name: str
    net: SegmentationNet
    card: Card
    options: ExportOptions
    source: Path
    selection: Selection
    report: Callable[[str], None]

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
        self.report(f"{depth}: {miou}{found.agreement:.2%} of the pixels as PyTorch's")
        return parity

    def write(self) -> ParityReport:
        """Write the bundle and verify it."""
        folder, card, options, report = self.folder, self.card, self.options, self.report
        report("trace")
        spec = card.input
        size = {"height": spec.height, "width": spec.width, "channels": len(spec.channels)}
        trace(self.net, folder / flavour_file("fp32"), **size)
        self._write_flavours()
        report("golden frames")
        save_checkpoint(folder / CHECKPOINT_NAME, self.net, card)
        self._write_golden()
        bundle = self._seal()
        report("parity")
        proof = Proof(card, options.data, options.reading, options.max_iou_drop)
        parity, worst = proof.measure(bundle)
        if options.precision == "int8" and proof.excess(parity) > 0:
            fallbacks = proof.repair(bundle, labelled=parity.labelled, report=report)
            if fallbacks:
                parity, worst = proof.measure(self._seal())
                parity = replace(parity, fallbacks=fallbacks)
        proof.check(parity)
        parity = replace(parity, bundle=self.name)
        report_json, report_html = (folder / name for name in REPORT_NAMES)
        write_json(report_json, parity.to_json())
        write_html(report_html, parity, worst, card.palette)
        return parity

    def _write_flavours(self) -> None:
        """Write all graphs but the reference, and lint all."""
        folder, flavours = self.folder, FLAVOURS[self.options.precision]
        if "fp16" in flavours:
            self.report("FP16")
            half(folder / flavour_file("fp32"), folder / flavour_file("fp16"))
        if "int8" in flavours:
            table = self._table()
            write_json(folder / TABLE_NAME, encode(table))
            self.report("INT8")
            write_int8(folder, table)
        self.report("lint")
        lint_flavours(folder, flavours)

    def _table(self) -> CalibrationTable:
        """The given calibration table of the reference graph, or a new one."""
        reference, path = self.folder / flavour_file("fp32"), self.options.calib_table
        if path is not None:
            table = read_table(path)
            check_table(table, reference, model=self.card.model, path=path)
            return table
        self.report(f"calibration on {len(self.selection.chosen)} frames")
        method = self.options.calib_method
        table = calibrate(
            reference, self.selection, self.card, method=None if method == "auto" else method
        )
        left_out = left_out_text(table.left_out, classes=len(self.card.classes))
        self.report(f"calibrated by {table.method}" + (f", {left_out}" if left_out else ""))
        return table

    def _write_golden(self) -> None:
        golden = self.selection.chosen.alike(GOLDEN_FRAMES)
        net, spec, gate = self.net, self.card.input, self.card.gate
        images = torch.from_numpy(np.concatenate([Preprocessor(spec)([frame]) for frame in golden]))
        with torch.inference_mode():
            logits = [net.predict(image[None])[0].numpy() for image in images]
        np.savez_compressed(
            self.folder / GOLDEN_NAME,
            frames=np.stack(golden),
            masks=np.stack([reference_mask(net, frame, spec, thresholds=gate) for frame in golden]),
            logits=np.concatenate(logits),
        )

    def _manifest(self) -> Manifest:
        folder, card, options = self.folder, self.card, self.options
        with np.load(folder / GOLDEN_NAME, allow_pickle=False) as golden:
            height, width = golden["logits"].shape[2:]
        files = sorted(path.name for path in folder.iterdir() if path.is_file())
        depths = sorted((folder / DEPTHS_DIR).glob(f"*/{MANIFEST_NAME}"))
        packages = ("edgeunet", "torch", "onnx", "onnxruntime", "numpy")
        return Manifest(
            model=options.model,
            arguments=card.arguments,
            weights=options.weights if self.source.parent == WEIGHTS_DIR else self.source.stem,
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
        path = self.folder / MANIFEST_NAME
        path.unlink(missing_ok=True)
        write_json(path, encode(self._manifest()))
        return open_bundle(self.folder)
