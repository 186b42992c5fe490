"""Export a checkpoint as a bundle: graphs, golden frames and the parity report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeunet.bundle.bundle import strangers_in
from edgeunet.bundle.manifest import (
    DEPTHS_DIR,
    Exported,
    InputSpec,
)
from edgeunet.data import cells
from edgeunet.data.fit import Fit
from edgeunet.errors import CalibrationError, UsageError
from edgeunet.files import locked, new_directory
from edgeunet.parity import ParityReport
from edgeunet.steps import count_of

from .graphs.pixels import check_form
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
from .options import ExportOptions, check_options
from .origins import open_origin
from .origins.base import Origin
from .proof import check_simulator
from .repair import Training
from .writer import BundleWriter

if TYPE_CHECKING:
    from torch import nn


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
    *("pixels", "pixels_confidence", "qat_epochs", "reading"),
)
"""Fields of `ExportOptions` that `export` takes beside its own arguments."""


def export(
    net: nn.Module,
    path: str | Path,
    *,
    size: tuple[int, int] | None = None,
    classes: Sequence[str] = (),
    precision: Exported = "fp32",
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
    training = _training(options, origin, folder.with_name(name))
    selection = _selection(options, origin, report)
    whole = BundleWriter(folder, name, origin, options, selection, report, training)
    parts = []
    for shallow in origins[:-1]:
        depth = str(shallow.card.arguments["depth"])
        place = folder / DEPTHS_DIR / depth
        place.mkdir(parents=True)
        part = replace(
            whole,
            folder=place,
            name=f"{name}/{DEPTHS_DIR}/{depth}",
            origin=shallow,
            training=None if training is None else training.of_depth(depth),
        )
        part.write_depth()
        parts.append(part)
    parity = whole.write_depth() if options.depths else whole.write()
    for written in (*parts, whole):
        if written.training is not None:
            written.training.state.unlink(missing_ok=True)
    return parity


def _training(options: ExportOptions, origin: Origin, output: Path) -> Training | None:
    """How INT8 may be trained; what cannot be is refused before frames are looked at."""
    if not options.qat_epochs or options.data is None:
        return None
    from .int8.training import ImageCrops  # PyTorch, which ONNX files do not need

    reading, layout = options.reading, options.layout
    crops = ImageCrops.of_dataset(options.data, origin.card, reading=reading, layout=layout)
    training = Training(crops, options.qat_epochs, output)
    training.check()
    return training


def _selection(options: ExportOptions, origin: Origin, report: Callable[[str], None]) -> Selection:
    """Frames to take golden frames from and to calibrate with; checked if they calibrate."""
    card = origin.card
    calibrates = options.precision == "int8" and options.calib_table is None
    if options.calib is not None:
        report("choosing frames")
        fit = Fit(card.input, options.reading)
        candidates = describe_source(
            options.calib,
            num_classes=len(card.classes),
            fit=fit,
            layout=options.layout,
            count=count_of(report),
        )
        selection = select(candidates)
        if calibrates:
            report("comparing them with the training data")
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
