"""What a layout is: a kind of folder that is recognised by its files, and read into samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import DatasetError, printable
from ..description import Declared, Description
from ..samples import Split


@dataclass(frozen=True)
class Layout:
    """A folder, understood.

    family: name of the kind. description: classes and how masks code them, partly from the folder.
    splits: samples of "train" and "val". notices: what was found out or decided. unused: what the
    folder holds that is not used, and why.
    """

    family: str
    description: Description
    splits: Mapping[str, Split] = field(default_factory=dict, repr=False)
    notices: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def root(self) -> Path:
        """The folder."""
        return self.description.path.parent

    def split(self, name: str) -> Split:
        """Samples of "train" or "val"; DatasetError if there are none."""
        found = self.splits.get(name, Split(()))
        if not found.samples:
            raise DatasetError(f"{printable(self.root)} has no samples for {name}.")
        return found


@dataclass(frozen=True)
class Family:
    """A kind of folder.

    name: for `--layout`. form: what such a folder holds, for people. signs: alternatives; all globs
    of one alternative match in such a folder. read: makes the layout. proof: looks into files if
    the names alone could be another kind's.
    """

    name: str
    form: str
    signs: tuple[tuple[str, ...], ...]
    read: Callable[[Path, Declared], Layout]
    proof: Callable[[Path], bool] = lambda root: True

    def found(self, root: Path) -> str | None:
        """The signs that tell the kind without doubt, as text; None if they do not."""
        for globs in self.signs:
            if all(_matches(root, each) for each in globs) and self.proof(root):
                return ", ".join(globs)
        return None

    def resembles(self, root: Path) -> bool:
        """Whether some sign is there, but not enough."""
        return any(_matches(root, each) for globs in self.signs for each in globs)


def _matches(root: Path, pattern: str) -> bool:
    return next(root.glob(pattern), None) is not None


def split_name(folder: str) -> str:
    """What a folder of a split, or a split in a file, means: "train", "val" or its own name.

    Example:
        >>> from edgeunet.data.layouts.base import split_name
        >>> [split_name(name) for name in ("training", "valid", "test", "train2017")]
        ['train', 'val', 'test', 'train']
    """
    name = folder.lower().rstrip("0123456789_-")
    if name in ("train", "training", "tr"):
        return "train"
    return "val" if name in ("val", "valid", "validation", "dev") else folder.lower()


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number and its noun.

    Example:
        >>> from edgeunet.data.layouts.base import counted
        >>> counted(1, "image"), counted(3, "image")
        ('1 image', '3 images')
    """
    return f"{number} {one if number == 1 else many or one + 's'}"


def first_of(paths: Sequence[Path]) -> str:
    """The name of the first file, in brackets behind a count.

    Example:
        >>> from pathlib import Path; from edgeunet.data.layouts.base import first_of
        >>> first_of([Path("a.png")]), first_of([Path("a.png"), Path("b.png")])
        ('(a.png)', '(a.png, ...)')
    """
    return f"({printable(paths[0].name)}{', ...' if len(paths) > 1 else ''})"
