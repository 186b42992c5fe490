"""What to export: the options of `export_bundle`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from edgeunet.bundle.calibration_table import Method
from edgeunet.bundle.manifest import MAX_CLASSES, Exported
from edgeunet.catalogue import run_of, weights_file
from edgeunet.data import cells
from edgeunet.data.description import LAYOUT
from edgeunet.data.fit import Reading
from edgeunet.data.preparation import RAW, Preparation
from edgeunet.errors import UnknownNameError, UsageError, printable
from edgeunet.fields import check, described
from edgeunet.files import read_file

from .graphs.pixels import PixelsForm

CalibMethod = Literal["auto", Method]
Pixels = Literal["fixed", "any"]
_OTHERS = "Other people's nets"
_PIXELS = "Graphs from pixels to masks"
_LARGEST_NAMES = 2**16  # bytes of a file with the names of classes


@dataclass(frozen=True)
class ExportOptions:
    """What to export; the help texts of the fields say what each is.

    model, onnx: one of the two. model: a variant, or PREFIX:NAME of `origins.ORIGINS`.
    weights: see `Checkpoint.open`; None takes those of the procedural cells, or what the origin
    holds. preparation: of frames, for weights without a card.
    reading: of the frames in `calib` and `data`. For weights without a card it belongs to the net
    too, as what `Preparation` says.
    depths: the deepest is the bundle itself, the others are whole bundles in its `depths/`.
    calib: golden frames come from it too. INT8 needs it, or `calib_table`, unless the weights are
    the procedural ones.
    size: (height, width), pixels. data: without it parity is measured on procedural frames for
    procedural weights, else on the golden frames.
    max_iou_drop: counts on labelled frames; without labels the promised agreement must hold.

    Example:
        >>> edgeunet.ExportOptions("mobile_unet", precision="int8", size=(256, 320)).max_batch
        8
    """

    model: str | None = described(
        None, "Variant; `edgeunet models` lists them. Or a net of a library.", metavar="NAME"
    )
    weights: str | None = described(
        None,
        "Tag, checkpoint or training run.",
        metavar="TAG|FILE|RUN",
        shown_default=cells.NAME,
    )
    precision: Exported = "fp32"
    raw: bool = described(False, RAW)
    num_classes: int | None = described(None, "Number of classes that the weights must have.", ge=1)
    preparation: Preparation | None = None
    depth: int | None = described(
        None, "Cut the net down to this depth.", ge=1, le=4, section="unetpp"
    )
    depths: tuple[int, ...] = described(
        (),
        "Depths to carry in one bundle, for `run --target-fps`.",
        metavar="N,N[,N…]",
        section="unetpp",
    )
    ensemble: bool = described(
        False, "Average all heads instead of using the deepest.", section="unetpp"
    )
    calib: Path | None = described(
        None, "Images, data set or video to calibrate with.", section="INT8 calibration"
    )
    calib_method: CalibMethod = described(
        "auto", "How to choose the ranges; auto measures which is best.", section="INT8 calibration"
    )
    calib_table: Path | None = described(
        None,
        "calibration.json of an earlier export, instead of --calib.",
        section="INT8 calibration",
    )
    qat_epochs: int = described(
        0,
        "Passes over the train split of --data to train INT8 in, if it loses too much as "
        "calibrated.",
        ge=0,
        section="INT8 calibration",
    )
    data: Path | None = described(
        None, "Data set to measure parity on.", shown_default="the golden frames"
    )
    layout: str | None = described(
        None, LAYOUT, metavar="NAME", shown_default="what the folder shows"
    )
    size: tuple[int, int] | None = described(
        None, "Input size of the net.", shown_default="the checkpoint's"
    )
    max_batch: int = described(8, "Largest batch that the graphs take.", ge=1)
    max_iou_drop: float = described(
        0.5, "IoU points that the bundle may lose against the original.", metavar="POINTS"
    )
    reading: Reading = Reading()  # noqa: RUF009  # frozen
    pixels: Pixels | None = described(
        None,
        "Write model.*.pixels.onnx too: frames of the net's size, or of any, to masks.",
        section=_PIXELS,
    )
    pixels_confidence: bool = described(
        False, "Let them put out the confidence of each pixel too.", section=_PIXELS
    )
    onnx: Path | None = described(
        None, "ONNX file instead of --model.", metavar="FILE", section=_OTHERS
    )
    arch: tuple[str, ...] = described(
        (), "Arguments of a library's net.", metavar="KEY=VALUE,…", section=_OTHERS
    )
    classes: tuple[str, ...] = described(
        (),
        "Names of the classes, or a file with one a line.",
        metavar="NAME,…|FILE",
        section=_OTHERS,
    )
    head: str | None = described(
        None, "Output of the net that is the logits.", shown_default="the first", section=_OTHERS
    )

    @property
    def pixels_form(self) -> PixelsForm | None:
        """Of the graphs from frames to masks; None without them."""
        if self.pixels is None:
            return None
        return PixelsForm(any_size=self.pixels == "any", confidence=self.pixels_confidence)

    @property
    def name(self) -> str:
        """Name of the bundle unless another is chosen: model, weights and precision.

        Weights in a file are called by it, and those of a training run by the run.

        Example:
            >>> edgeunet.ExportOptions("unet", "runs/mine/best.safetensors").name
            'unet-mine-fp32'
            >>> edgeunet.ExportOptions("hf:models/segformer-b0").name
            'segformer-b0-fp32'
            >>> edgeunet.ExportOptions("bioimageio:nets/nuclei.zip").name
            'nuclei-fp32'
            >>> edgeunet.ExportOptions("nets/mine.py:make_net").name
            'mine-fp32'
        """
        if self.onnx is not None:
            return f"{self.onnx.stem}-{self.precision}"
        prefix, _, name = (self.model or "").rpartition(":")
        if prefix.endswith(".py"):  # of a function in a file
            name = prefix
        base = Path(name.rstrip("/")).name.removesuffix(".py").removesuffix(".zip")
        words = [base, self.precision]
        weights = self.weights or (None if prefix else cells.NAME)
        if weights is not None:
            path = weights_file(Path(weights))
            if path.suffix or path.name != weights:
                weights = run_of(path) or path.stem
            words.insert(1, weights)
        return "-".join(words)


def check_options(options: ExportOptions) -> None:
    """UsageError for options that exclude each other, or that are out of range."""
    check(options)
    if options.precision == "bf16":  # type: ignore[comparison-overlap]  # users may
        raise UsageError(
            "precision is bf16, but BF16 is how a machine computes the graph of FP32, which every "
            "bundle holds. Export for fp32, fp16 or int8, and pass bf16 to run, bench or parity: "
            "--precision bf16."
        )
    if options.precision not in get_args(Exported):
        raise UnknownNameError("precision", str(options.precision), get_args(Exported))
    if (options.model is None) == (options.onnx is None):
        got = "neither" if options.model is None else "both"
        raise UsageError(f"got {got} of --model and --onnx. Pass one of them.")
    _check_model(options.model)
    theirs = options.onnx is not None or ":" in (options.model or "")
    ours = ("depth", "depths", "ensemble", "num_classes")
    for name in ours if theirs else ("arch", "classes", "head"):
        if getattr(options, name):
            flag, net = name.replace("_", "-"), printable(options.onnx or options.model)
            whose = "one of our nets" if theirs else "other people's nets"
            raise UsageError(f"got --{flag} for {net}; it is for {whose}. Leave it out.")
    if options.onnx is not None:
        given = [name for name in ("weights", "arch", "raw") if getattr(options, name)]
        if given:
            flags = ", ".join(f"--{name}" for name in given)
            raise UsageError(
                f"got {flags} for {printable(options.onnx)}, which holds net and weights. Leave it "
                "out."
            )
    if options.pixels_confidence and options.pixels is None:
        raise UsageError("got --pixels-confidence without --pixels. Add --pixels fixed or any.")
    if options.depths and options.depth is not None:
        raise UsageError("got both depth and depths. Pass depths alone, with all of them.")
    if options.depths and options.calib_table is not None:
        raise UsageError(
            "got depths and a calibration table, but a table belongs to the graph of one depth. "
            "Pass --calib with frames; all depths are calibrated on the same frames."
        )
    folders = [path for path in (options.calib, options.data) if path is not None]
    if options.layout is not None and not any(path.is_dir() for path in folders):
        raise UsageError(
            f"got --layout {options.layout} without a data set. Pass its folder as --calib or "
            "--data."
        )
    if options.calib_table is not None and options.precision != "int8":
        raise UsageError("got --calib-table without --int8. Add --int8: only INT8 is calibrated.")
    if options.qat_epochs and options.precision != "int8":
        raise UsageError("got --qat-epochs without --int8. Add --int8: only INT8 needs training.")
    if options.qat_epochs and options.data is None:
        raise UsageError(
            "got --qat-epochs without --data. Pass --data with a data set: INT8 is trained on its "
            "train split, and measured on its val split."
        )
    if options.calib_table is not None and options.calib_method != "auto":
        raise UsageError(
            f"got --calib-table and --calib-method {options.calib_method}. Leave one out: a table "
            "has its method already."
        )


def _check_model(model: str | None) -> None:
    """UsageError for a file or a folder in place of a name, with the option that takes it."""
    if model is None or ":" in model:
        return
    path, shown = Path(model), printable(model)
    if path.suffix == ".onnx":
        raise UsageError(f"got --model {shown}, an ONNX file. Pass it as --onnx {shown}.")
    if path.is_dir():
        raise UsageError(
            f"got --model {shown}, a folder; expected the prefix of what wrote it. Pass "
            f"hf:{shown}, smp:{shown}, monai:{shown}, nnunet:{shown} or bioimageio:{shown}."
        )
    if path.is_file():
        raise UsageError(
            f"got --model {shown}, a file; expected the name of a net. Pass weights as --model "
            f"NAME --weights {shown}, and code as --model {shown}:FUNCTION."
        )


def class_names(given: Sequence[str]) -> tuple[str, ...]:
    """Names of the classes by id, as `--classes` gives them: the names, or a file with one a line.

    Empty lines at the end of a file do not count.

    Raises:
        UsageError: a file that is missing or no text, an empty name, or one that occurs twice.

    Example:
        >>> from edgeunet.exporting.options import class_names
        >>> class_names(["road", " car"])
        ('road', 'car')
    """
    names = list(given)
    source = "--classes"
    if len(names) == 1 and (Path(names[0]).is_file() or Path(names[0]).suffix):
        source = printable(names[0])
        try:
            text = read_file(Path(names[0]), most=_LARGEST_NAMES).decode("utf-8-sig")
        except OSError as error:
            raise UsageError(
                f"{source} cannot be read: {error.strerror or error}. Pass --classes with names, "
                "or with a file that holds one a line."
            ) from None
        except ValueError:
            raise UsageError(
                f"{source} is no short UTF-8 text. Pass a file with one name a line."
            ) from None
        names = text.rstrip().splitlines()
    names = [name.strip() for name in names]
    if len(names) > MAX_CLASSES:
        raise UsageError(f"{source} has {len(names)} names; {MAX_CLASSES} classes are possible.")
    for index, name in enumerate(names):
        if not name or name in names[:index]:
            problem = f"{printable(name)!r} twice" if name else f"no name for class {index}"
            raise UsageError(f"{source} has {problem}. Pass one name for each class.")
    return tuple(names)


def for_the_net(options: ExportOptions) -> ExportOptions:
    """The same with the net's channels and levels, for weights that do not tell them."""
    preparation = options.preparation or Preparation()
    preparation = replace(
        preparation,
        channels=options.reading.channels or preparation.channels,
        levels=options.reading.levels or preparation.levels,
    )
    return replace(options, preparation=preparation, reading=Reading())
