"""`edgeunet train`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import click

from ..bundle.manifest import Filter, Resize
from ..catalogue import RUN_WEIGHTS
from ..data.check import Contents
from ..data.datasets import Dataset, open_dataset
from ..data.description import LAYOUT
from ..data.preparation import RAW
from ..errors import UsageError
from ..fields import described
from ..gate.report import GateReport
from ..training.callbacks import Callback, Run
from ..training.config import Progress, TrainConfig
from ..training.loggers import LOGGERS
from ..training.page import PAGE
from ..training.preview import write_preview
from ..training.recipe import check_lessons
from ..training.train import train
from .common import DIRECTORY, Choice, Command, echo, echo_json, echo_next, json_option, option
from .completion import complete_model
from .config_file import config_option, write_config
from .options import options_from


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Arguments of `train`, and of the variant, besides its `TrainConfig`; None was not given."""

    size: tuple[int, int] | None = described(
        None, "Input size of the net at inference.", shown_default="the images'"
    )
    channels: tuple[str, ...] | None = described(
        None,
        "Channels of the net in its order, or rgb, bgr or gray.",
        metavar="NAME,…",
        shown_default="rgb, or the images'",
    )
    levels: tuple[float, ...] | None = described(
        None,
        "Raw values that mean black and white.",
        metavar="LO,HI",
        shown_default="0,255, or 0,65535 for 16 bit",
    )
    resize: Resize | None = described(
        None, "How frames are brought to the input size.", shown_default="stretch"
    )
    fill: float | None = described(
        None, "Raw value of the padding.", metavar="VALUE", shown_default="the mean colour"
    )
    filter: Filter | None = described(
        None, "How pixels are resized; docs/data.md compares them.", shown_default="bilinear"
    )
    initial: str | None = described(
        None,
        "Checkpoint to start from. It sets net and input options not given, except --size.",
        flag="--weights",
        metavar="TAG|FILE|RUN",
        shown_default="random weights",
    )
    raw: bool = described(False, RAW)
    encoder_weights: Path | None = described(
        None,
        "Classifier, trained on ImageNet, to start the encoder from: see docs/train.md.",
    )
    teacher: str | None = described(
        None,
        "Trained net to learn from beside the labels, such as mobile_unet:camvid.",
        metavar="MODEL:TAG|FILE|RUN|BUNDLE",
        section="Teacher",
    )
    unlabelled: str | None = described(
        None,
        "Frames that the teacher alone answers for.",
        metavar="DIR|VIDEO",
        section="Teacher",
    )
    folds: int | None = described(
        None,
        "Cross-validate first: train so many nets, each without a part of the training images, "
        "and judge them on it.",
        metavar="N",
        shown_default="none",
        section="Training",
    )
    group_by: str | None = described(
        None,
        "Regular expression that finds in an image's path what images of one film or place have "
        "in common; --folds keeps those together.",
        metavar="REGEX",
        shown_default="neighbours by name",
        section="Training",
    )
    gate_open: float | None = described(
        None,
        "Share of the images with a class that its gate must be open on, with 95 % confidence; "
        "--folds finds the thresholds.",
        metavar="PERCENT",
        shown_default="no promise",
        section="Training",
    )
    device: str = described("cpu", "PyTorch device, such as cuda.")
    devices: int | None = described(
        None,
        "Devices that train together, each in a process of its own; they share each --batch.",
        ge=1,
        metavar="N",
        shown_default="1",
    )
    workers: int | None = described(
        None,
        "Processes that make crops, or draw those that a GPU makes.",
        ge=0,
        shown_default="0, for a GPU one a core, at most 8",
    )
    width: int | None = described(
        None, "Channels of the first stage.", ge=1, shown_default="the variant's", section="Net"
    )
    encoder: Literal["b0", "lite0"] | None = described(
        None, "Encoder, eff_unet only.", shown_default="b0", section="Net"
    )
    decoder: Literal["full", "light"] | None = described(
        None, "Decoder, mobile_unet only.", shown_default="full", section="Net"
    )
    cgm: bool | None = described(
        None, "Add the classification-guided gate.", shown_default="no-cgm", section="Net"
    )
    deep_supervision: bool | None = described(
        None,
        "Add heads at every scale, unetpp and unet3p only.",
        shown_default="deep-supervision",
        section="Net",
    )
    padding: Literal["same", "valid"] | None = described(
        None, "Padding of convolutions, unet only.", shown_default="same", section="Net"
    )


_NOT_OF_CROPS = {
    *("device", "devices", "encoder_weights", "folds", "gate_open", "group_by", "teacher"),
    "workers",
}
"""Fields of `TrainOptions` that crops do not depend on."""

CONFIG = "config.toml"
"""Of a run, for `--config`."""


def _use_recipe(ctx: click.Context, param: click.Parameter, model: str) -> str:
    """Make what the variant's paper trains with the default of its options."""
    recipe = TrainConfig.for_model(model)
    names = ("loss", "elastic")
    # What --config says goes before it.
    defaults = {name: getattr(recipe, name) for name in names}
    ctx.default_map = {**defaults, **(ctx.default_map or {})}
    return model


@click.command("train", cls=Command)
@config_option
@option(
    "--model",
    metavar="NAME",
    required=True,
    is_eager=True,
    callback=_use_recipe,
    shell_complete=complete_model,
    help="Variant; `edgeunet models` lists them.",
)
@option("--data", metavar="DIR", required=True, help="Data set, or `cells` for procedural frames.")
@option("--layout", metavar="NAME", show_default="what the folder shows", help=LAYOUT)
@options_from(TrainOptions, "options")
@options_from(TrainConfig, "config", section="Training")
@option(
    "--log",
    multiple=True,
    type=Choice(tuple(LOGGERS)),
    show_default="none",
    help="Where else to write the curves; may be given twice. See docs/train.md.",
)
@option("--check", is_flag=True, help="Check the whole data set instead of training.")
@option(
    "--preview",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.png",
    show_default="none",
    help="Write the first crops, each beside its labels, instead of training.",
)
@option("-o", "output", type=DIRECTORY, help="Directory of the run; resumed if it exists.")
@json_option
def command(
    model: str,
    data: str,
    layout: str | None,
    options: TrainOptions,
    config: TrainConfig,
    log: tuple[str, ...],
    check: bool,
    preview: Path | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Train a variant, or resume its training.

    Checks all images and masks first, and prints how much there is of each class.

    Writes config.toml, the options that were given, and best.safetensors, the weights of the epoch
    with the highest validation mIoU, or with --with-val of the last epoch. The page train.html
    shows classes, curves, the confusion matrix and the worst frames. An interrupted run
    resumes and ends with bit-identical weights.

    \b
    The crops that it would train on, as a picture:
      edgeunet train --model mobile_unet --data camvid --preview crops.png

    \b
    A recipe, judged on films that its nets have not seen; then a net of all:
      edgeunet train --model mobile_unet --data camvid --with-val -o run \\
          --folds 3 --group-by '([^/]+)_'
    """  # noqa: D301 - click's mark for lines that stay as they are
    if check and preview is not None:
        raise UsageError("got --check and --preview, each of which is done alone. Pass one.")
    if output is None and preview is None and not check:
        raise UsageError(
            "no output. Pass -o DIR to train, --check to check the data set only, or --preview "
            "FILE.png to see its crops."
        )
    opened = data if layout is None else open_dataset(data, layout)
    given = {name: value for name, value in asdict(options).items() if value is not None}
    if check:
        contents = _check(model, opened, config, given)
        return echo_json(contents.to_json()) if as_json else echo(contents.table())
    if preview is not None:
        check_lessons(options.teacher, options.unlabelled, config)
        of_crops = {name: value for name, value in given.items() if name not in _NOT_OF_CROPS}
        count = write_preview(preview, model, opened, output, config=config, **of_crops)
        if as_json:
            return echo_json({"preview": str(preview), "crops": count})
        return echo(f"the first {count} crops, wrote {preview}")
    assert output is not None
    with _progress_bar(f"training {model}") as report:
        card = train(
            model,
            opened,
            output,
            config=config,
            callbacks=[_KeptOptions(), *(LOGGERS[name]() for name in dict.fromkeys(log))],
            report=report,
            describe=lambda contents: echo(contents.table(), err=True),
            **given,
        )
    if as_json:
        paths = {"checkpoint": str(output / RUN_WEIGHTS), "page": str(output / PAGE)}
        return echo_json({**paths, "metrics": card.metrics})
    if (judged := card.metrics.get("cross_validation")) is not None:
        scores = ", ".join(f"{fold['miou']:.2f}" for fold in judged["folds"])
        echo(f"cross-validated mIoU {judged['miou']:.2f} % (folds: {scores})")
    miou = card.metrics.get("miou")
    found = "trained on val too" if miou is None else f"mIoU {miou:.2f} %"
    weights, frames = output / RUN_WEIGHTS, shlex.quote(data)
    if (gate := card.metrics.get("gate")) is not None:
        echo(GateReport.of_record(gate).table())
    echo(f"{found}, wrote {weights} and {output / PAGE}")
    echo_next(
        f"edgeunet export --model {model} --weights {shlex.quote(str(weights))} --int8 "
        f"--calib {frames} --data {frames}"
    )


class _KeptOptions(Callback):
    """Writes the options that the command was given, once the run's folder is known to be its."""

    def on_start(self, run: Run) -> None:
        write_config(run.folder / CONFIG, without=("output", "check", "preview"))


class _CheckedError(Exception):
    """Ends a training before it begins."""


def _check(model: str, data: str | Dataset, config: TrainConfig, given: dict[str, Any]) -> Contents:
    """What a data set holds; the errors are those that training would end with."""
    found: list[Contents] = []

    def stop(contents: Contents) -> None:
        found.append(contents)
        raise _CheckedError

    with TemporaryDirectory(prefix="edgeunet-check-") as folder, suppress(_CheckedError):
        train(model, data, Path(folder) / "run", config=config, describe=stop, **given)
    return found[0]


@contextmanager
def _progress_bar(label: str) -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal, otherwise one line per epoch, on stderr. It starts with the training."""
    terminal = sys.stderr.isatty()
    printed = ("", 0)
    bar: Any = None  # its items are Progress, which click cannot infer from a length
    with ExitStack() as stack:

        def report(progress: Progress) -> None:
            nonlocal printed, bar
            if bar is None:
                bar = stack.enter_context(_bar(label, hidden=not terminal))
            bar.update(round(1000 * progress.done) - bar.pos, progress)
            if not terminal and progress.epoch and (progress.run, progress.epoch) != printed:
                echo(_line(progress), err=True)
            printed = progress.run, progress.epoch

        yield report


def _bar(label: str, *, hidden: bool) -> Any:
    return click.progressbar(
        length=1000,
        label=label,
        show_eta=False,  # wrong for resumed runs; `_line` has ours
        item_show_func=lambda progress: None if progress is None else _line(progress),
        file=sys.stderr,
        hidden=hidden,
    )


def _line(progress: Progress) -> str:
    """Epoch, loss, rate and remaining time on one line."""
    miou = "" if progress.miou is None else f", mIoU {progress.miou:.2f} %"
    left = timedelta(seconds=round(progress.remaining))
    rate = f"{progress.rate:.1f} img/s, {left} left"
    run = f"{progress.run}, " if progress.run else ""
    return f"{run}epoch {progress.epoch}, loss {progress.loss:.4f}, {rate}{miou}"
