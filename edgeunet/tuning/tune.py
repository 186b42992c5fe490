"""`edgeunet tune`: from a data set and a target to a bundle that holds it on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..bundle.bundle import strangers_in
from ..data import cells
from ..data.check import check_dataset
from ..data.datasets import Dataset, open_dataset
from ..data.description import LAYOUT
from ..doctor import package_versions, processor_identity
from ..errors import UsageError, printable
from ..fields import check, describe, described
from ..files import check_directory, entries, locked, new_directory
from ..models import model_class
from ..steps import count_of
from ..training.config import TrainConfig
from ..training.group import check_device
from ..training.recipe import check_loss
from .journal import Journal
from .lab import NetLab
from .outcome import Outcome
from .page import write_page
from .search import Request, search
from .space import space_of
from .target import Target, seconds_of

JOURNAL, PAGE, BUNDLE = "tune.json", "tune.html", "bundle"
"""Files of a search in its folder, and the bundle that was chosen."""

_DATA = "data"  # folder of procedural frames
_CELLS = {"train": 600, "val": 60, "height": 256, "width": 320}


@dataclass(frozen=True)
class TuneOptions:
    """What to search for; the help texts of the fields say what each is.

    data: folder, or `cells`. target: see `Target.parse`. budget: see `seconds_of`.

    Example:
        >>> from edgeunet.tuning.tune import TuneOptions
        >>> TuneOptions("mobile_unet", "dataset", "fps>=30").budget
        '2h'
    """

    model: str = field(metadata=describe("Variant; `edgeunet models` lists them.", metavar="NAME"))
    data: str = field(
        metadata=describe("Data set, or `cells` for procedural frames.", metavar="DIR")
    )
    target: str = field(
        metadata=describe(
            'Speed of whole frames on this machine: "fps>=30" or "p50<=15ms".', metavar="SPEED"
        )
    )
    max_drop: float = described(
        1.0,
        "Points of mIoU that the choice may lose against the best that was trained equally long.",
        ge=0,
        metavar="POINTS",
    )
    budget: str = described("2h", "Time for all, such as 90s, 45m or 1h30m.", metavar="TIME")
    layout: str | None = described(
        None, LAYOUT, metavar="NAME", shown_default="what the folder shows"
    )
    device: str = described("cpu", "PyTorch device that trains, such as cuda.", section="Training")
    workers: int | None = described(
        None,
        "Processes that make crops, or draw those that a GPU makes.",
        ge=0,
        shown_default="0, for a GPU one a core, at most 8",
        section="Training",
    )

    def __post_init__(self) -> None:
        check(self)
        if self.layout is not None and self.data == cells.NAME:
            raise UsageError(f"got --layout {self.layout} with --data {cells.NAME}. Leave it out.")


def tune(
    output: Path,
    options: TuneOptions,
    *,
    config: TrainConfig | None = None,
    report: Callable[[str], None] = lambda step: None,
) -> Outcome:
    """Search for the most accurate net of a variant that is fast enough on this machine.

    Input sizes, widths and the variant's own choices are measured on the engines and in the
    precisions that `auto` chooses from, see `survey`; the fast enough ones are trained by
    successive halving, see `Race`. The winner is trained on, exported, and measured again; if it
    misses the target then, the next one is taken.

    Args:
        output: folder of the search. A search that was killed resumes in it, and one that has ended
            gives its outcome again. Another target or budget makes use of all that was measured and
            trained there. Receives tune.json, tune.html and, if a configuration holds the target,
            `bundle`.
        config: how to train, see `train`; `epochs` are the most of one training, and `patience` is
            not used, since nets are compared after equal epochs. None for the recipe of the
            variant's paper.
        report: called with the name of each step, and with how far a training is, see `Steps`.

    Raises:
        UnknownNameError: no such variant. UsageError: a target or a budget that cannot be parsed, a
            budget that is too short, or an output of something else. DatasetError: not a data set,
            or one that cannot be trained on. OutputError: another search writes the output.
    """
    target, budget = Target.parse(options.target), seconds_of(options.budget)
    config = config or TrainConfig.for_model(options.model)
    _check_crop(options.model, config.crop)
    check_loss(config.loss)
    check_device(options.device)
    _check_output(output)
    dataset = None
    if options.data != cells.NAME:
        dataset = open_dataset(options.data, options.layout)
        check_dataset(dataset)
    output.mkdir(parents=True, exist_ok=True)
    with locked(output, lock=output / ".edgeunet.lock"):
        dataset = dataset or _cells(output / _DATA)
        journal = Journal(output / JOURNAL, _identity(options, config, dataset))
        lab = NetLab(
            options.model,
            dataset,
            output,
            config,
            layout=options.layout,
            device=options.device,
            workers=options.workers,
            count=count_of(report),
        )
        request = Request(
            options.model, lab.dataset.name, target, options.max_drop, budget, config.epochs
        )
        space = space_of(options.model, (lab.spec.height, lab.spec.width))
        outcome = _placed(search(request, space, lab, journal, report=report), output)
        journal.write(outcome.to_json())
        write_page(output / PAGE, outcome)
    return outcome


def _check_crop(model: str, crop: tuple[int, int]) -> None:
    """Refuse crops that the variant cannot take, before minutes of measuring."""
    multiple = model_class(model).size_multiple
    if any(side % multiple for side in crop):
        raise UsageError(
            f"crop is {crop[0]}x{crop[1]}; {model} needs multiples of {multiple}. Pass --crop."
        )


def _check_output(output: Path) -> None:
    """Refuse a folder of something else."""
    check_directory(output, force=True)
    if not output.is_dir() or (output / JOURNAL).exists():
        return
    strangers = [name for name in entries(output) if name not in (_DATA, ".edgeunet.lock")]
    if strangers:
        raise UsageError(
            f"{printable(output)} holds {printable(strangers[0])}, but no {JOURNAL}: it is not the "
            "folder of a search. Choose a new one."
        )


def _identity(options: TuneOptions, config: TrainConfig, dataset: Dataset) -> dict[str, Any]:
    """What searches in one folder have in common: all but target, points and budget.

    So whoever asks for another speed, or gives more time, has all that was measured already.
    """
    data = options.data if options.data == cells.NAME else str(Path(options.data).resolve())
    recipe = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(config).items()}
    return {
        "model": options.model, "data": data, "layout": options.layout,
        "contents": dataset.digest, "classes": list(dataset.classes), **recipe,
        "device": options.device,
        # Times belong to these.
        "machine": " ".join(processor_identity().values()),
        **{f"version of {name}": version for name, version in package_versions().items()},
    }  # fmt: skip


def _cells(folder: Path) -> Dataset:
    """Procedural frames, drawn once."""
    if not folder.exists():
        cells.write_dataset(folder, **_CELLS)
    return open_dataset(folder)


def _placed(outcome: Outcome, output: Path) -> Outcome:
    """The outcome with a copy of its bundle where users look for it."""
    place = output / BUNDLE
    if outcome.chosen is None:
        if not place.exists():
            return outcome
        note = f"{printable(place)} is what an earlier search in this folder chose."
        return replace(outcome, notes=(*outcome.notes, note))
    with new_directory(place, force=True, strangers=strangers_in) as folder:
        shutil.copytree(output / outcome.chosen.bundle, folder, dirs_exist_ok=True)
    return replace(outcome, chosen=replace(outcome.chosen, bundle=str(place)))
