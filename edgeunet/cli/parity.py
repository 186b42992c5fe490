"""`edgeunet parity`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import click

from ..bundle.bundle import Bundle, open_bundle
from ..data.description import LAYOUT
from ..data.fit import Fit, Reading
from ..data.palettes import in_safe_colours
from ..errors import UsageError
from ..files import check_directory, locked, write_json
from ..parity import ParityReport, golden_samples, measure, write_html, write_index
from ..parity.pixels import Candidate
from ..runtime.backends import Backend
from ..runtime.options import LoadOptions
from ..runtime.sources.labelled import LabelledFrame, labelled_frames
from .bundle_options import backend_option
from .common import DIRECTORY, Choice, Command, echo, echo_json, json_option, option, progress
from .completion import BundlePath
from .options import options_from


@click.command("parity", cls=Command)
@click.argument("bundles", type=BundlePath(), nargs=-1, required=True)
@option(
    "--data",
    type=DIRECTORY,
    show_default="the golden frames",
    help="Data set (its val split), images or video.",
)
@option("--layout", metavar="NAME", show_default="what the folder shows", help=LAYOUT)
@backend_option
@options_from(LoadOptions, "options", section="Net", leave_out=("target_fps",))
@options_from(Reading, "reading", section="Frames")
@option(
    "--tensorrt",
    is_flag=True,
    help="Also compare the INT8 graphs for TensorRT, simulated on the CPU.",
)
@option(
    "--deployed",
    type=DIRECTORY,
    multiple=True,
    help="Also compare what `deploy` wrote of the bundle, on the target's own runtime.",
)
@option(
    "-o",
    "output",
    type=DIRECTORY,
    help="Directory for parity.json and parity.html; of several bundles, for a folder each and "
    "index.html.",
)
@option(
    "--palette",
    type=Choice(("safe", "own")),
    default="safe",
    help="Colours on the page: told apart with any colour vision, or the bundle's own.",
)
@option("--wide", is_flag=True, help="Also print tolerances, boundaries and errors of logits.")
@json_option
def command(
    bundles: tuple[Path, ...],
    data: Path | None,
    layout: str | None,
    backend: str,
    options: LoadOptions,
    reading: Reading,
    tensorrt: bool,
    deployed: tuple[Path, ...],
    output: Path | None,
    palette: str,
    wide: bool,
    as_json: bool,
) -> None:
    """Compare the masks of bundles with PyTorch's, stage by stage.

    The exit code is 1 if a stage is out of tolerance.
    """
    if layout is not None and (data is None or not data.is_dir()):
        raise UsageError(f"got --layout {layout} without a data set. Pass its folder as --data.")
    if deployed and len(bundles) > 1:
        raise UsageError("--deployed belongs to one bundle; compare the others without it.")
    if output is not None:
        check_directory(output, force=True)
        # Until the command ends, so that all files are of one run.
        click.get_current_context().with_resource(locked(output))
    reports: dict[str, ParityReport] = {}
    for name, bundle in _named(bundles).items():
        opened = open_bundle(bundle)
        samples, source = _samples(opened, data, reading, layout)
        with ExitStack() as stack:
            others = _opened(opened, deployed, stack)
            report, worst = measure(
                opened,
                samples,
                data=source,
                backend=backend,
                options=options,
                simulate=tensorrt,
                deployed=others,
                progress=stack.enter_context(progress(f"comparing {name}", len(samples))),
            )
        reports[name] = report
        if output is not None:
            folder = output if len(bundles) == 1 else output / name
            folder.mkdir(parents=True, exist_ok=True)
            own = opened.manifest.palette
            colours = in_safe_colours(own) if palette == "safe" else own
            write_json(folder / "parity.json", report.to_json())
            write_html(folder / "parity.html", report, worst, colours)
        if not as_json:
            echo(report.table(wide=wide))
    if output is not None and len(bundles) > 1:
        write_index(output / "index.html", reports)
    if as_json:
        found = [report.to_json() for report in reports.values()]
        echo_json(found if len(bundles) > 1 else found[0])
    if any(report.first_failure is not None for report in reports.values()):
        sys.exit(1)


def _named(bundles: Sequence[Path]) -> dict[str, Path]:
    """Bundles by the names of their folders, which a report of several has too."""
    named: dict[str, Path] = {}
    for bundle in bundles:
        name = bundle.resolve().name
        if name in named:
            raise UsageError(
                f"{named[name]} and {bundle} have the same name; compare one after the other."
            )
        named[name] = bundle
    return named


def _samples(
    bundle: Bundle, data: Path | None, reading: Reading, layout: str | None
) -> tuple[list[LabelledFrame], str]:
    """Frames to compare on, and what a report calls them."""
    if data is None:
        return list(golden_samples(bundle)), "its golden frames"
    fit = Fit(bundle.manifest.input, reading)
    classes = bundle.manifest.classes
    found = labelled_frames(data, classes=classes, fit=fit, layout=layout)
    return list(found), data.resolve().name


def _opened(
    bundle: Bundle, folders: tuple[Path, ...], stack: ExitStack
) -> Mapping[str, Candidate | Backend]:
    """What was deployed, by name."""
    if not folders:
        return {}
    from ..exporting.deploy import open_deployed  # needs packages that parity does without

    found: dict[str, Candidate | Backend] = {}
    for folder in folders:
        name, candidate = open_deployed(bundle, folder, stack)
        found[f"{name}, {folder}" if name in found else name] = candidate
    return found
