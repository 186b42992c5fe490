"""One checkpoint -> one bundle: every graph, golden frames and the parity report."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from edgeunet.bundle.bundle import CHECKPOINT_NAME, GOLDEN_NAME, Bundle, open_bundle
from edgeunet.bundle.calibration_table import (
    TABLE_NAME,
    CalibrationTable,
    Method,
    read_table,
    table_json,
)
from edgeunet.bundle.manifest import (
    DEPTHS_DIR,
    FLAVOURS,
    MANIFEST_NAME,
    Manifest,
    Precision,
    flavour_file,
    manifest_json,
)
from edgeunet.data import cells
from edgeunet.errors import CalibrationError, ParityError, UsageError
from edgeunet.files import new_directory, sha256, write_json
from edgeunet.models import SegmentationNet
from edgeunet.models.checkpoints import WEIGHTS_DIR, Card, save_checkpoint
from edgeunet.models.depth import prune_depth
from edgeunet.models.reference import reference_mask
from edgeunet.parity import ParityReport, write_html
from edgeunet.runtime.backends.preprocess import Preprocessor

from .graphs.fp16 import half
from .graphs.split import split_flavours
from .graphs.trace import check_size, trace
from .int8.calibration import (
    CHOSEN,
    HELD_OUT,
    Drawn,
    Selection,
    calibrate,
    check_table,
    drawn_selection,
    examine,
    open_frames,
    select,
)
from .int8.emitters import write_int8
from .lint import lint_flavours
from .proof import Proof
from .source import AS_ASSUMED, Preparation, load_source
from .variants import Net, cut_depths, ensemble_of

GOLDEN_FRAMES = 4


@dataclass(frozen=True)
class ExportOptions:
    """What to export.

    weights: a tag of the package's weights or a file, see `source`. num_classes: for weights
    without a card whose format does not tell it. preparation: of the frames, for weights without.
    depth: of the U-Net++ that is left when the deeper nodes are cut off, None for the whole net.
    depths: of the U-Net++ that the bundle carries, to switch between at run time; empty for one.
    The deepest is the bundle itself, the others are whole bundles in its `depths/`.
    ensemble: U-Net++ answers with the mean of all heads instead of the deepest.
    calib: directory of frames, data set or video to calibrate with, and to take golden frames from;
    INT8 needs it, or a table, unless the weights are the procedural ones. calib_method: how ranges
    are made of values, None for the best by measurement. calib_table: calibration.json of an
    earlier export of the same graph, instead of calibrating.
    size: (height, width) of the net's input, None for the card's.
    data: data set to measure parity on; None for procedural frames with procedural weights, else
    for the golden frames. max_batch: largest batch. max_iou_drop: IoU points that the bundle may
    lose against PyTorch on labelled frames; without labels the promised agreement must hold.

    Example:
        >>> edgeunet.ExportOptions("unetpp", precision="int8", depths=(1, 2, 4)).max_batch
        8
    """

    model: str
    weights: str = cells.NAME
    precision: Precision = "fp32"
    num_classes: int | None = None
    preparation: Preparation = AS_ASSUMED
    depth: int | None = None
    depths: tuple[int, ...] = ()
    ensemble: bool = False
    calib: Path | None = None
    calib_method: Method | None = None
    calib_table: Path | None = None
    data: Path | None = None
    size: tuple[int, int] | None = None
    max_batch: int = 8
    max_iou_drop: float = 0.5


@dataclass(frozen=True)
class _Job:
    """What is the same at all depths. source: file of the weights."""

    options: ExportOptions
    source: Path
    selection: Selection
    report: Callable[[str], None]


def export_bundle(
    output: str | Path,
    options: ExportOptions,
    *,
    force: bool = False,
    report: Callable[[str], None] = lambda step: None,
) -> ParityReport:
    """Write a bundle whole or not at all, and say how it compares with PyTorch.

    Args:
        output: directory of the bundle; it must not exist unless `force`.
        report: told each step by name.

    Returns:
        The report of the bundle itself; with depths, each has its own in its `parity.json`.

    Raises:
        UnknownNameError: no such model or weights. CheckpointError: weights that do not fit.
        UsageError: a depth or an ensemble that the net has not, depths that cannot be switched
            between, or options that exclude each other.
        CalibrationError: INT8 without frames to calibrate with, with unfit ones, or with a table
            of another graph. OutputExistsError: see `output`.
        ExportError: a graph that one of its targets refuses or misreads, see `lint`.
        ParityError: the bundle loses more than `max_iou_drop`; nothing is written.

    Example:
        >>> report = edgeunet.export_bundle("cells", edgeunet.ExportOptions("mobile_unet"))
        >>> report.first_failure is None
        True
    """
    _check_options(options)
    source, net, card = load_source(
        options.model,
        options.weights,
        num_classes=options.num_classes,
        size=options.size,
        preparation=options.preparation,
    )
    nets = _nets(net, card, options, report)
    net, card = nets[-1]
    selection = _selection(options, net, card, report)
    if net.cgm is not None and card.gate is None:
        report("the gate is not calibrated and stays unused; `edgeunet gate` calibrates it")
    job = _Job(options, source, selection, report)
    name = Path(output).name
    with new_directory(Path(output), force=force) as folder:
        for shallow, its_card in nets[:-1]:
            place = Path(DEPTHS_DIR, str(its_card.arguments["depth"]))
            (folder / place).mkdir(parents=True)
            _write_depth(folder / place, shallow, its_card, job, name=f"{name}/{place.as_posix()}")
        write = _write_depth if options.depths else _write
        return write(folder, net, card, job, name=name)


def _check_options(options: ExportOptions) -> None:
    """UsageError for options of several depths together with those of one."""
    if options.depths and options.depth is not None:
        raise UsageError("depth and depths came together; depths has all that the bundle carries.")
    if options.depths and options.calib_table is not None:
        raise UsageError(
            "depths and a calibration table came together; a table belongs to the graph of one "
            "depth. Pass --calib with frames: all depths are calibrated on the same."
        )


def _nets(
    net: SegmentationNet, card: Card, options: ExportOptions, report: Callable[[str], None]
) -> list[Net]:
    """What becomes a bundle each, the net of the outer one last; the cards have the size."""
    nets = [(net, card)]
    if options.depths:
        nets = cut_depths(net, card, options.depths, report=report)
    elif options.depth is not None:
        nets = [prune_depth(net, card, depth=options.depth, report=report)]
    if options.ensemble:
        nets = [ensemble_of(net, card) for net, card in nets]
    height, width = options.size or (card.input.height, card.input.width)
    for net, _ in nets:
        check_size(net, height, width, name=options.model)
    spec = replace(card.input, height=height, width=width)
    return [(net, replace(card, input=spec)) for net, card in nets]


def _write_depth(
    folder: Path, net: SegmentationNet, card: Card, job: _Job, *, name: str
) -> ParityReport:
    """`_write` one of several depths, and say which it is."""
    depth = f"depth {card.arguments['depth']}"
    job.report(depth)
    try:
        parity = _write(folder, net, card, job, name=name)
    except ParityError as error:
        raise ParityError(f"{depth}: {error}") from None
    found = parity.candidate
    job.report(f"{depth}: mIoU {found.miou:.2f}, {found.agreement:.2%} of the pixels as PyTorch's")
    return parity


def _write(folder: Path, net: SegmentationNet, card: Card, job: _Job, *, name: str) -> ParityReport:
    """Make an empty folder, to be called `name`, a bundle that has been proved."""
    options, report = job.options, job.report
    report("trace")
    reference = folder / flavour_file("fp32")
    height, width = card.input.height, card.input.width
    trace(net, reference, height=height, width=width, channels=card.input.channels)
    _write_flavours(folder, options, job.selection, card, report)
    report("golden frames")
    save_checkpoint(folder / CHECKPOINT_NAME, net, card)
    _write_golden(folder, net, card, job.selection)
    bundle = _seal(folder, options, card, job.source)
    report("parity")
    proof = Proof(card, options.data, options.max_iou_drop)
    parity, worst = proof.measure(bundle)
    if options.precision == "int8" and proof.excess(parity) > 0:
        fallbacks = proof.repair(bundle, labelled=parity.labelled, report=report)
        if fallbacks:
            parity, worst = proof.measure(_seal(folder, options, card, job.source))
            parity = replace(parity, fallbacks=fallbacks)
    proof.check(parity)
    parity = replace(parity, bundle=name)
    write_json(folder / "parity.json", parity.to_json())
    write_html(folder / "parity.html", parity, worst, card.palette)
    return parity


def _selection(
    options: ExportOptions, net: SegmentationNet, card: Card, report: Callable[[str], None]
) -> Selection:
    """Frames to calibrate with, examined where that is done, and to take golden ones from."""
    calibrates = options.precision == "int8" and options.calib_table is None
    if options.calib is not None:
        source = open_frames(options.calib, num_classes=len(card.classes))
        candidates = source.scan()
        selection = select(source, candidates)
        if calibrates:
            report(examine(net, candidates, selection.typical, card.input))
        return selection
    if calibrates and card.data != cells.NAME:
        raise CalibrationError(
            f"INT8 needs frames like those of the application, and the {card.data} data does not "
            "come with the package. Pass --calib with a few dozen images, a data set or a video."
        )
    count = CHOSEN + HELD_OUT if calibrates else GOLDEN_FRAMES
    drawn = list(cells.snapshots(count, height=card.input.height, width=card.input.width, seed=1))
    images, masks = [frame.image for frame in drawn], [frame.mask for frame in drawn]
    return drawn_selection(Drawn("procedural cells", images, masks))


def _write_flavours(
    folder: Path,
    options: ExportOptions,
    selection: Selection,
    card: Card,
    report: Callable[[str], None],
) -> None:
    reference = folder / flavour_file("fp32")
    if "fp16" in FLAVOURS[options.precision]:
        report("FP16")
        half(reference, folder / flavour_file("fp16"))
    if options.precision == "int8":
        table = _table(reference, options, selection, card, report)
        write_json(folder / TABLE_NAME, table_json(table))
        report("INT8")
        write_int8(folder, table)
    report("lint")
    lint_flavours(folder, FLAVOURS[options.precision])


def _table(
    reference: Path,
    options: ExportOptions,
    selection: Selection,
    card: Card,
    report: Callable[[str], None],
) -> CalibrationTable:
    """Table of the reference graph: the one that was given, or a new one."""
    if options.calib_table is not None:
        table = read_table(options.calib_table)
        check_table(table, reference, model=card.model, path=options.calib_table)
        return table
    report(f"calibration on {len(selection.chosen)} frames")
    table = calibrate(reference, selection, card, method=options.calib_method)
    report(f"calibrated by {table.method}")
    return table


def _write_golden(folder: Path, net: SegmentationNet, card: Card, selection: Selection) -> None:
    golden = selection.chosen.alike(GOLDEN_FRAMES)
    prepare = Preprocessor(card.input)
    masks, logits = [], []
    with torch.inference_mode():
        for frame in golden:
            masks.append(reference_mask(net, frame, card.input, thresholds=card.gate))
            logits.append(net.predict(torch.from_numpy(prepare([frame])))[0].numpy())
    np.savez_compressed(
        folder / GOLDEN_NAME,
        frames=np.stack(golden),
        masks=np.stack(masks),
        logits=np.concatenate(logits),
    )


def _manifest(folder: Path, options: ExportOptions, card: Card, source: Path) -> Manifest:
    with np.load(folder / GOLDEN_NAME, allow_pickle=False) as golden:
        height, width = golden["logits"].shape[2:]
    files = sorted(path.name for path in folder.iterdir() if path.is_file())
    return Manifest(
        model=options.model,
        arguments=card.arguments,
        weights=options.weights if source.parent == WEIGHTS_DIR else source.stem,
        precision=options.precision,
        classes=card.classes,
        palette=card.palette,
        input=card.input,
        logits_size=(height, width),
        max_batch=options.max_batch,
        gate=card.gate,
        files={name: sha256(folder / name) for name in files},
        depths={
            path.parent.name: sha256(path)
            for path in sorted((folder / DEPTHS_DIR).glob(f"*/{MANIFEST_NAME}"))
        },
        versions={
            "python": platform.python_version(),
            **{
                name: version(name)
                for name in ("edgeunet", "torch", "onnx", "onnxruntime", "numpy")
            },
        },
    )


def _seal(folder: Path, options: ExportOptions, card: Card, source: Path) -> Bundle:
    """Write what follows from the graphs as they are now: parts and manifest. Open the bundle."""
    if card.gate is not None:
        split_flavours(folder, FLAVOURS[options.precision])
    path = folder / MANIFEST_NAME
    path.unlink(missing_ok=True)
    write_json(path, manifest_json(_manifest(folder, options, card, source)))
    return open_bundle(folder)
