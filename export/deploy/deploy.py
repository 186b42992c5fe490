"""Writes a bundle's net for a consumer other than edgeunet's runtime: `edgeunet deploy`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from edgeunet import __version__
from edgeunet.bundle.bundle import ENGINES_DIR, Bundle, open_bundle
from edgeunet.bundle.manifest import MANIFEST_NAME, Flavour
from edgeunet.bundle.schema import SchemaError, load_json
from edgeunet.errors import UnknownNameError, UsageError
from edgeunet.files import entries, locked, new_directory, sha256, write_json

from . import (
    bioimageio,
    cpp,
    deepstream,
    executorch,
    gstreamer,
    litert,
    ncnn,
    onnx_file,
    openvino,
    qualcomm,
    rockchip,
    triton,
    web,
)
from .base import Deployment, Target
from .options import DeployOptions, check_options

TARGETS = {
    each.TARGET.name: each.TARGET
    for each in (
        bioimageio,
        cpp,
        deepstream,
        executorch,
        gstreamer,
        litert,
        ncnn,
        onnx_file,
        openvino,
        qualcomm,
        rockchip,
        triton,
        web,
    )
}
RECORD_NAME = "deployment.json"
_COMPILED = "__pycache__"
_MADE = {ENGINES_DIR, _COMPILED}
# Behind the name of the graph that nvinfer built it of, and beside that.
_ENGINE = re.compile(r"_b\d+_(gpu|dla)\d+_\w+\.engine", re.ASCII)


def deploy(
    bundle: str | Path,
    to: str,
    output: str | Path,
    options: DeployOptions | None = None,
    *,
    force: bool = False,
    report: Callable[[str], None] = lambda step: None,
) -> tuple[Flavour, ...]:
    """Write a folder for another consumer, whole or not at all.

    Args:
        bundle: directory of the bundle.
        to: name of a target, one of `TARGETS`.
        output: directory to write. `force` replaces an earlier deployment, nothing else.
        options: None for the target's best graph.
        report: called with each step.

    Returns:
        The graphs that were deployed, the best one first.

    Raises:
        UnknownNameError: no such target. BundleError: see `open_bundle`.
        UsageError: a graph that the bundle does not have or the target cannot use, an option that
            does nothing for the target, or an input that the target cannot prepare.
        ParityError: what was written gives other masks than the runtime.
        OutputExistsError, OutputError: see `output`.

    Example:
        >>> from edgeunet.exporting.deploy import deploy
        >>> deploy(bundle, "onnx", "for-others")
        ('fp32',)
        >>> sorted(path.name for path in Path("for-others").iterdir())
        ['README.md', 'deployment.json', 'model.onnx']
    """
    options = options or DeployOptions()
    if to not in TARGETS:
        raise UnknownNameError("target", to, TARGETS)
    check_options(options, to, {name: each.options for name, each in TARGETS.items()})
    target, opened, path = TARGETS[to], open_bundle(bundle), Path(output)
    flavours = _flavours(opened, target, options.flavour)
    with locked(path), new_directory(path, force=force, strangers=strangers_in) as folder:
        made = Deployment(opened, flavours, folder, options, report)
        target.write(made)
        write_json(folder / RECORD_NAME, _record(made, target))
    return flavours


def _flavours(bundle: Bundle, target: Target, wanted: Flavour | None) -> tuple[Flavour, ...]:
    """The graphs to deploy, the best one first."""
    held = bundle.manifest.flavours
    usable = tuple(flavour for flavour in target.flavours if flavour in held)
    if wanted is not None:
        if wanted not in target.flavours:
            raise UsageError(
                f"got flavour {wanted}, and {target.name} takes {', '.join(target.flavours)}. Pass "
                "one of these."
            )
        bundle.model_path(wanted)  # raises if the bundle was exported without it
        return (wanted,)
    if not usable:
        raise UsageError(
            f"{target.name} takes {', '.join(target.flavours)}, but {bundle.root} holds "
            f"{', '.join(held)}. Export it again with --fp16 or --int8."
        )
    return usable if target.several else usable[:1]


def _record(made: Deployment, target: Target) -> dict[str, object]:
    """What was deployed, and the hash of each file."""
    folder = made.folder
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        "target": target.name,
        "flavours": made.flavours,
        "any_size": made.options.form.any_size,
        "model": made.bundle.manifest.model,
        "bundle": sha256(made.bundle.root / MANIFEST_NAME),
        "edgeunet": __version__,
        "files": {path.relative_to(folder).as_posix(): sha256(path) for path in files},
    }


def _is_engine(name: str, known: Iterable[str]) -> bool:
    return any(name.startswith(graph) and _ENGINE.fullmatch(name, len(graph)) for graph in known)


def strangers_in(folder: Path) -> list[str]:
    """Names in a folder that do not belong to a deployment; all of them if it is none.

    What programs make of a deployment as they run, engines and compiled Python, belongs to it.
    """
    names = entries(folder)
    try:
        listed = {Path(name) for name in load_json(folder / RECORD_NAME)["files"]}
        known = {RECORD_NAME, *(path.parts[0] for path in listed)}
    except (FileNotFoundError, SchemaError, TypeError, KeyError, IndexError):
        return names
    if any(name.endswith(".py") for name in known):
        known.add(_COMPILED)
    strangers = [name for name in names if name not in known and not _is_engine(name, known)]
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        folders = inner.parts[:-1]
        if (
            folders
            and folders[0] in known
            and not _MADE.intersection(folders)
            and inner not in listed
            and (path.is_symlink() or not path.is_dir())
        ):
            strangers.append(inner.as_posix())
    return strangers
