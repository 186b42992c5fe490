"""Export a checkpoint as a bundle: graphs, golden frames and the parity report."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeunet.bundle.bundle import REPORT_NAMES, Bundle, open_bundle, strangers_in
from edgeunet.bundle.calibration_table import TABLE_NAME, CalibrationTable, read_table
from edgeunet.bundle.card import Card
from edgeunet.bundle.golden import GOLDEN_NAME
from edgeunet.bundle.manifest import (
    DEPTHS_DIR,
    FLAVOURS,
    MANIFEST_NAME,
    InputSpec,
    Manifest,
    Precision,
    flavour_file,
)
from edgeunet.bundle.schema import encode
from edgeunet.bundle.statistics import FrameStatistics, statistics_of
from edgeunet.data import cells
from edgeunet.data.fit import Fit
from edgeunet.errors import CalibrationError, ParityError, UsageError
from edgeunet.files import locked, new_directory, sha256, write_json
from edgeunet.parity import ParityReport, left_out_text, write_html
from edgeunet.runtime.backends.preprocess import Preprocessor

from .graphs.fp16 import half
from .graphs.pixels import check_form, write_all_pixels
from .graphs.split import split_flavours
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
from .int8.emitters import write_half, write_int8
from .lint import lint_flavours
from .options import ExportOptions, check_options
from .origins import open_origin
from .origins.base import Origin
from .proof import Proof, check_simulator

if TYPE_CHECKING:
    from torch import nn

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
    # The output comes first: it takes minutes to look at calibration frames.
    with _written(output, options, force) as folder:
        origins: Sequence[Origin]
        if options.model is not None and ":" not in options.model:
            from .origins.variants import open_variants  # PyTorch, which ONNX files do not need

            origins = open_variants(options.model, options, report=report)
        else:
            origins = [open_origin(options)]
        return _write(folder, Path(output).name, origins, options, report)


OF_MODULES = (
    *("calib_method", "calib_table", "layout", "max_batch", "max_iou_drop"),
    *("pixels", "pixels_confidence", "reading"),
)
"""Fields of `ExportOptions` that `export` takes beside its own arguments."""


def export(
    net: nn.Module,
    path: str | Path,
    *,
    size: tuple[int, int] | None = None,
    classes: Sequence[str] = (),
    precision: Precision = "fp32",
    calib: str | Path | None = None,
    data: str | Path | None = None,
    input: InputSpec | None = None,  # noqa: A002
    output: str | int | None = None,
    force: bool = False,
    report: Callable[[str], None] = lambda step: None,
    **options: Any,
) -> ParityReport:
    """Write a bundle of any PyTorch net that turns images into logits.

    Args:
        net: in evaluation mode. It maps (N, C, H, W) to logits (N, classes, h, w), in a tensor, a
            tuple or list (the first counts), a dict (`out` or the first), or an object with
            `.logits`. Softmax and sigmoid behind the logits are cut off. One channel becomes the
            two classes background and foreground.
        path: directory of the bundle, see `export_bundle`.
        size: (height, width) of the net's input, if `input` does not say it.
        classes: their names by id; None for "class 0" and so on.
        precision: "int8" and "fp16" hold the more exact graphs too.
        calib: images, a data set or a video to calibrate INT8 with.
        data: data set to measure on, with labels.
        input: how frames become the net's input; None for RGB with ImageNet's statistics.
        output: name, or number, of the output that is the logits.
        report: called with the name of each step.
        options: further fields of `ExportOptions`, those in `OF_MODULES`.

    Raises:
        UsageError: a net in training mode, an answer that is not logits, or an option that is not
            for modules. ShapeError: a size that
            it does not take; one that it takes is named. ExportError: a net that cannot be traced.
            See `export_bundle` for others.

    Example:
        >>> from torch import nn
        >>> net = nn.Conv2d(3, 2, 1).eval()
        >>> report = edgeunet.export(net, "mine", size=(32, 32), classes=["road", "car"])
        >>> report.model
        'Conv2d'
    """
    from .origins.module import open_module

    for name in sorted(options.keys() - set(OF_MODULES)):
        taken = ", ".join(OF_MODULES)
        raise UsageError(f"got {name}, and a module at hand takes {taken}. Leave it out.")
    chosen = ExportOptions(
        type(net).__name__,
        "memory",
        precision=precision,
        calib=None if calib is None else Path(calib),
        data=None if data is None else Path(data),
        size=size,
        **options,
    )
    check_options(chosen)
    with _written(path, chosen, force) as folder:
        origin = open_module(net, size=size, classes=classes, spec=input, output=output)
        return _write(folder, Path(path).name, [origin], chosen, report)


@contextmanager
def _written(output: str | Path, options: ExportOptions, force: bool) -> Iterator[Path]:
    """The new folder of a bundle, which appears as `output` when all is done."""
    if options.precision == "int8":
        check_simulator()
    target = Path(output)
    with locked(target), new_directory(target, force=force, strangers=strangers_in) as folder:
        yield folder


def _write(
    folder: Path,
    name: str,
    origins: Sequence[Origin],
    options: ExportOptions,
    report: Callable[[str], None],
) -> ParityReport:
    """Write a bundle, the last origin's, and before it one for each smaller depth."""
    origin = origins[-1]
    check_form(origin.card.input, options.pixels_form)
    for each in origins:
        each.make_graph()
    for note in origin.notes:
        report(note)
    selection = _selection(options, origin, report)
    whole = _Writer(folder, name, origin, options, selection, report)
    for shallow in origins[:-1]:
        place = f"{DEPTHS_DIR}/{shallow.card.arguments['depth']}"
        (folder / place).mkdir(parents=True)
        part = replace(whole, folder=folder / place, name=f"{name}/{place}", origin=shallow)
        part.write_depth()
    return whole.write_depth() if options.depths else whole.write()


def _selection(options: ExportOptions, origin: Origin, report: Callable[[str], None]) -> Selection:
    """Frames to take golden frames from and to calibrate with; checked if they calibrate."""
    card = origin.card
    calibrates = options.precision == "int8" and options.calib_table is None
    if options.calib is not None:
        fit = Fit(card.input, options.reading)
        candidates = describe_source(
            options.calib, num_classes=len(card.classes), fit=fit, layout=options.layout
        )
        selection = select(candidates)
        if calibrates:
            report(examine(origin.distance, candidates.descriptors, selection.typical, card.input))
        return selection
    if calibrates and card.data != cells.NAME:
        lacking = (
            "" if card.data == "unknown" else f", and the {card.data} data does not come along"
        )
        raise CalibrationError(
            f"INT8 needs frames like those of the application{lacking}. Pass --calib with a few "
            "dozen images, a data set or a video."
        )
    if origin.frames:
        numbers = tuple(range(len(origin.frames)))
        own = FrameSet(f"frames that came with {card.model}", numbers, origin.frames)
        return Selection(own, own, own)
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

    selection: frames to calibrate with and to take golden frames from.
    """

    folder: Path
    name: str
    origin: Origin
    options: ExportOptions
    selection: Selection
    report: Callable[[str], None]

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
        self._write_flavours()
        report("golden frames")
        self.origin.save(folder)
        self._write_golden()
        bundle = self._seal()
        report("parity")
        proof = Proof(
            self.origin, options.data, options.reading, options.max_iou_drop, layout=options.layout
        )
        parity, worst = proof.measure(bundle)
        if options.precision == "int8" and proof.repairs(parity):
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
            if (folder / flavour_file("int8")).exists():  # the method was chosen by it
                write_half(folder)
            else:
                write_int8(folder, table)
        self.report("lint")
        lint_flavours(folder, flavours)

    def _table(self) -> CalibrationTable:
        """The given calibration table of the reference graph, or a new one."""
        folder, path, method = self.folder, self.options.calib_table, self.options.calib_method
        reference = folder / flavour_file("fp32")
        if path is not None:
            table = read_table(path)
            check_table(table, reference, model=self.card.model, path=path)
            return table
        self.report(f"calibration on {len(self.selection.chosen)} frames")
        asked = None if method == "auto" else method
        table = calibrate(reference, self.selection, self.card, method=asked, folder=folder)
        left_out = left_out_text(table.left_out, classes=len(self.card.classes))
        self.report(f"calibrated by {table.method}" + (f", {left_out}" if left_out else ""))
        return table

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
        write_all_pixels(self.folder, self._manifest(), self.options.pixels_form)
        path = self.folder / MANIFEST_NAME
        path.unlink(missing_ok=True)
        write_json(path, encode(self._manifest()))
        return open_bundle(self.folder)
