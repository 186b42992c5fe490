"""The linter on every export: each graph of a bundle for the targets it is meant for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edgeunet.bundle.manifest import Flavour, flavour_file
from edgeunet.errors import ExportError

from .linter import lint_all
from .rule import EVERY, STRONGLY_TYPED, WEAKLY_TYPED, Target

TARGETS: dict[Flavour, tuple[Target, ...]] = {
    "fp32": EVERY,
    "fp16": STRONGLY_TYPED,
    "int8": WEAKLY_TYPED,
    "int8.fp16": STRONGLY_TYPED,
    "int8.cpu": ("ort-cpu",),
}


def lint_flavours(folder: Path, flavours: Iterable[Flavour]) -> None:
    """Check the graphs in a bundle's folder.

    Raises:
        ExportError: a graph that one of its targets refuses or misreads; names both, the rule and
            the node.
    """
    for flavour in flavours:
        for report in lint_all(folder / flavour_file(flavour), TARGETS[flavour]):
            if not report.ok:
                first, others = report.errors[0], len(report.errors) - 1
                more = f" {others} more such errors." if others else ""
                raise ExportError(
                    f"the {flavour} graph breaks the rule {first.rule} of {report.target} at "
                    f"{first.node or 'the whole graph'}: {first.message}{more} No bundle was "
                    "written."
                )
