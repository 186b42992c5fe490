"""`edgeunet parity`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import click

from ..bundle.bundle import Bundle, open_bundle
from ..data.description import LAYOUT
from ..data.fit import Fit, Reading
from ..errors import UsageError
from ..files import check_directory, locked, write_json
from ..parity import golden_samples, measure, write_html
from ..parity.pixels import Candidate
from ..runtime.backends import Backend
from ..runtime.options import LoadOptions
from ..runtime.sources.labelled import labelled_frames
from .bundle_options import backend_option
from .common import DIRECTORY, Command, echo, echo_json, json_option, option, progress
from .options import options_from


@click.command("parity", cls=Command)
@click.argument("bundle", type=DIRECTORY)
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
@option("-o", "output", type=DIRECTORY, help="Directory for parity.json and parity.html.")
@option("--wide", is_flag=True, help="Also print tolerances, boundaries and errors of logits.")
@json_option
def command(
    bundle: Path,
    data: Path | None,
    layout: str | None,
    backend: str,
    options: LoadOptions,
    reading: Reading,
    tensorrt: bool,
    deployed: tuple[Path, ...],
    output: Path | None,
    wide: bool,
    as_json: bool,
) -> None:
    """Compare a bundle's masks with PyTorch's, stage by stage.

    The exit code is 1 if a stage is out of tolerance.
    """
    if layout is not None and (data is None or not data.is_dir()):
        raise UsageError(f"got --layout {layout} without a data set. Pass its folder as --data.")
    if output is not None:
        check_directory(output, force=True)
        # Until the command ends, so that both files are of one run.
        click.get_current_context().with_resource(locked(output))
    opened = open_bundle(bundle)
    if data is None:
        samples, name = list(golden_samples(opened)), "its golden frames"
    else:
        fit = Fit(opened.manifest.input, reading)
        classes = len(opened.manifest.classes)
        found = labelled_frames(data, num_classes=classes, fit=fit, layout=layout)
        samples, name = list(found), data.resolve().name
    with ExitStack() as stack:
        others = _opened(opened, deployed, stack)
        report = stack.enter_context(progress("comparing", len(samples)))
        parity, worst = measure(
            opened,
            samples,
            data=name,
            backend=backend,
            options=options,
            simulate=tensorrt,
            deployed=others,
            progress=report,
        )
    if output is not None:
        write_json(output / "parity.json", parity.to_json())
        write_html(output / "parity.html", parity, worst, opened.manifest.palette)
    if as_json:
        echo_json(parity.to_json())
    else:
        echo(parity.table(wide=wide))
    if parity.first_failure is not None:
        sys.exit(1)


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
