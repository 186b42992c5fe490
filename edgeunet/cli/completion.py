"""What a shell may complete besides commands and options: bundles, nets and weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from ..bundle.manifest import MANIFEST_NAME
from ..catalogue import VARIANTS, list_weights


class BundlePath(click.Path):
    """Path of a bundle.

    packaged: whether the command takes MODEL:TAG of packaged weights too.
    """

    def __init__(self, *, packaged: bool = False) -> None:
        super().__init__(path_type=Path)
        self._packaged = packaged

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Bundles and folders that begin so; packaged weights."""
        found = [CompletionItem(path) for path in _bundles(incomplete)]
        if not found:  # a bundle may be deeper
            found = [CompletionItem(incomplete, type="dir")]
        if self._packaged:
            names = (f"{model}:{tag}" for model in VARIANTS for tag in list_weights(model))
            found += [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return found


def complete_model(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Variants that begin so."""
    return [CompletionItem(name) for name in VARIANTS if name.startswith(incomplete)]


def complete_weights(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Packaged weights of the variant that was given before, and files."""
    model = str(ctx.params.get("model"))
    tags = list_weights(model) if model in VARIANTS else []
    found = [CompletionItem(tag) for tag in tags if tag.startswith(incomplete)]
    return [*found, CompletionItem(incomplete, type="file")]


def _bundles(incomplete: str) -> Iterator[str]:
    """Folders with a manifest whose path begins so."""
    folder = incomplete.rpartition("/")[0] + "/" if "/" in incomplete else ""
    try:
        names = sorted(path.name for path in Path(folder or ".").iterdir())
    except OSError:
        return
    for name in names:
        path = folder + name
        if path.startswith(incomplete) and Path(path, MANIFEST_NAME).is_file():
            yield path
