"""Opens what was deployed, to compare it with its bundle: `edgeunet parity --deployed`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast, get_args

from edgeunet.bundle.bundle import Bundle
from edgeunet.bundle.manifest import MANIFEST_NAME, Flavour
from edgeunet.bundle.schema import SchemaError, load_json
from edgeunet.errors import UsageError
from edgeunet.files import sha256
from edgeunet.parity.pixels import Candidate
from edgeunet.runtime.backends import Backend
from edgeunet.runtime.backends.ort import open_flavour

from .deploy import RECORD_NAME, TARGETS


def open_deployed(
    bundle: Bundle, folder: Path, stack: ExitStack
) -> tuple[str, Candidate | Backend]:
    """Open a deployment on the target's own runtime, beside the bundle's graph of its flavour.

    One that a simulator runs is a backend, to be compared with the reference.

    Args:
        folder: that `deploy` wrote of this bundle. stack: closes the backend.

    Returns:
        A name such as "openvino int8.cpu", and what is compared.

    Raises:
        UsageError: not a deployment, of another bundle, changed since, or of a target whose
            runtime cannot be called here. MissingDependencyError: that runtime is not installed.

    Example:
        >>> from edgeunet.exporting.deploy import deploy, open_deployed
        >>> from edgeunet.runtime import open_bundle
        >>> _ = deploy(bundle, "onnx", "for-others")
        >>> with ExitStack() as stack:
        ...     name, _ = open_deployed(open_bundle(bundle), Path("for-others"), stack)
        >>> name
        'onnx fp32'
    """
    record = _record(folder)
    target = TARGETS[record["target"]]
    if record["bundle"] != sha256(bundle.root / MANIFEST_NAME):
        raise UsageError(
            f"{folder} was deployed from another bundle than {bundle.root}. Pass that one, or "
            "deploy this one."
        )
    if target.runner is None and target.backend is None:
        able = (name for name, each in TARGETS.items() if each.runner or each.backend)
        callable_here = ", ".join(able)
        raise UsageError(
            f"{folder} is for {target.name}, which is not called from here; {callable_here} are. "
            "`edgeunet deploy` compared it as far as it runs on this machine."
        )
    for name, wanted in record["files"].items():
        path = folder / name
        if not path.is_file() or sha256(path) != wanted:
            raise UsageError(f"{path} is missing or was changed since. Deploy the bundle again.")
    flavour = record["flavours"][0]
    if target.runner is None:
        assert target.backend is not None
        name = f"{target.name} {flavour.partition('.')[0]}"  # it computes that in its own way
        return name, stack.enter_context(target.backend(folder, flavour))
    backend = stack.enter_context(open_flavour(bundle, flavour))
    candidate = Candidate(target.runner(folder, flavour), backend, record["any_size"])
    return f"{target.name} {flavour}", candidate


def _record(folder: Path) -> dict[str, Any]:
    """What `deploy` recorded; UsageError if that is not what it would have."""
    try:
        record = load_json(folder / RECORD_NAME)
        names = [Path(name) for name in record["files"]]
        flavours = cast(list[Flavour], record["flavours"])
        sound = (
            record["target"] in TARGETS
            and flavours[0] in get_args(Flavour)
            and isinstance(record["any_size"], bool)
            and not any(name.is_absolute() or ".." in name.parts for name in names)
        )
    except (FileNotFoundError, NotADirectoryError, SchemaError, TypeError, LookupError):
        sound = False
    if not sound:
        raise UsageError(f"{folder} is no deployment. Pass a folder that `edgeunet deploy` wrote.")
    return cast(dict[str, Any], record)
