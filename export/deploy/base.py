"""What a target of `edgeunet deploy` is, and what it has to work with."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from edgeunet.bundle.bundle import Bundle
from edgeunet.bundle.manifest import DEPTHS_DIR, MANIFEST_NAME, Exported, Flavour
from edgeunet.bundle.schema import MAX_BYTES
from edgeunet.errors import ParityError, printable
from edgeunet.files import read_file, write_bytes
from edgeunet.parity.pixels import Candidate, MasksOf, PixelsParity, compare_masks, compare_pixels
from edgeunet.runtime import load
from edgeunet.runtime.backends import Backend
from edgeunet.runtime.backends.ort import open_flavour

from ..graphs.pixels import PixelsForm, write_pixels
from .options import DeployOptions

LABELS = "labels.txt"
TEMPLATES = Path(__file__).parent / "templates"
# What Markdown reads as more than text. An underscore within a word is plain.
_MARKS = re.compile(r"[\\`*~|\[\]]|(?<![^\W_])_|_(?![^\W_])")


@dataclass(frozen=True)
class Target:
    """Something that takes a net other than edgeunet's own runtime.

    makes: what is written, for people. needs: what runs it.
    flavours: graphs of a bundle that it can use, the best one first.
    write: fills the folder of a deployment.
    several: whether a deployment holds all of these graphs, not only the best.
    options: fields of `DeployOptions` that it uses, beside the flavour.
    runner: runs what lies in a folder by the target's own runtime, if that can be called here.
    backend: opens what lies in a folder as a backend, if a simulator of the target's can be called
    here. It is a stage of the comparison then, beside those of the bundle's graphs.
    """

    name: str
    makes: str
    needs: str
    flavours: tuple[Flavour, ...]
    write: Callable[[Deployment], None]
    several: bool = False
    options: tuple[str, ...] = ()
    runner: Callable[[Path, Flavour], MasksOf] | None = None
    backend: Callable[[Path, Flavour], Backend] | None = None


@dataclass(frozen=True)
class Deployment:
    """A folder that is being made.

    flavours: those to deploy, the best one first. folder: empty, under a temporary name.
    options: as the user chose them; the flavour is in `flavours`.
    report: takes the name of each step.
    """

    bundle: Bundle
    flavours: tuple[Flavour, ...]
    folder: Path
    options: DeployOptions
    report: Callable[[str], None]

    @property
    def flavour(self) -> Flavour:
        """The best one."""
        return self.flavours[0]

    def write_pixels(self, name: str, flavour: Flavour, form: PixelsForm | None = None) -> Path:
        """Write a graph from frames to masks, and compare it with the runtime on golden frames.

        Args:
            name: of the file, relative to the folder.
            form: None for what the options say.

        Raises:
            UsageError: see `write_pixels`. ParityError: its masks are others than the runtime's.
        """
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_pixels(self.bundle, flavour, path, form or self.options.form)
        self.require(name, compare_pixels(self.bundle, path, flavour))
        return path

    def prove(self, name: str, masks_of: MasksOf, flavour: Flavour) -> None:
        """Compare what was written with the runtime, on golden frames.

        Args:
            name: of the file, relative to the folder. masks_of: runs it on frames of the form that
            the options ask for. flavour: that it computes.

        Raises:
            ParityError: its masks are others than the runtime's.
        """
        with open_flavour(self.bundle, flavour) as backend:
            candidate = Candidate(masks_of, backend, self.options.form.any_size)
            self.require(name, compare_masks(self.bundle, candidate, flavour))

    def copy_bundle(self, name: str, flavour: Flavour) -> Path:
        """Copy the bundle, for edgeunet's own runtime, and compare its masks with the reference's.

        Engines stay behind: they are code for one machine.

        Args:
            name: of the folder, relative to the deployment's. flavour: whose precision is checked.

        Raises:
            BundleError: a file is not the one that the manifest lists.
            ParityError: other masks of the golden frames than the bundle promises.
        """
        path = self.folder / name
        _copy(self.bundle, path)
        precision = cast(Exported, flavour.partition(".")[0])
        with load(path, "onnxruntime", precision=precision) as segmenter:
            agreement = segmenter.self_check()
        self.report(f"{name}: {agreement:.3%} of the golden pixels as the reference's")
        return path

    def require(self, name: str, found: PixelsParity, *, how: str = "") -> None:
        """Report how many pixels agree; ParityError if they are too few.

        Args:
            name: of the file. how: words behind it in the error, if it does not run alone.
        """
        if not found.ok:
            raise ParityError(
                f"{name}{how} gives {found.agreement:.3%} of the runtime's masks on the golden "
                f"frames; expected {found.wanted:.2%}. `edgeunet parity {self.bundle.root}` says "
                "whether the bundle itself is right."
            )
        self.report(f"{name}: {found.agreement:.3%} of the golden pixels as the runtime's")

    def write_template(self, template: str, name: str, /, **values: object) -> Path:
        """Fill a file of `templates/` and write it.

        Values are escaped in HTML and Markdown. In code, write texts of a bundle with `| tojson`.

        Args:
            template: such as "onnx/README.md". name: of the file, relative to the folder.
        """
        environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=template.endswith(".html"),
            finalize={".md": in_markdown, ".html": printable}.get(Path(template).suffix),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(environment.get_template(template).render(values), encoding="utf-8")
        return path

    def write_labels(self) -> None:
        """Write labels.txt: a name of a class on each line, by id, as programs for phones read."""
        lines = [f"{printable(name)}\n" for name in self.bundle.manifest.classes]
        (self.folder / LABELS).write_text("".join(lines), encoding="utf-8")

    def write_page(self, template: str, **values: object) -> None:
        """Fill the README.md of a target whose graph goes from frames to masks."""
        manifest, form = self.bundle.manifest, self.options.form
        spec = manifest.input
        self.write_template(
            template,
            "README.md",
            model=manifest.model,
            flavour=self.flavour,
            size="any size, one in each batch" if form.any_size else f"{spec.height}x{spec.width}",
            height=spec.height,
            width=spec.width,
            depth=spec.depth,
            channels=spec.frame_channels,
            classes=manifest.classes,
            gated=manifest.gate is not None,
            confidence=form.confidence,
            **values,
        )


def _copy(bundle: Bundle, folder: Path) -> None:
    """Copy what the manifests list, and compare each file with its hash."""
    folder.mkdir(parents=True)
    for name in bundle.manifest.files:
        write_bytes(folder / name, bundle.file(bundle.root / name).read())
    manifest = read_file(bundle.root / MANIFEST_NAME, most=MAX_BYTES)
    write_bytes(folder / MANIFEST_NAME, manifest)
    for depth, shallower in bundle.shallower.items():
        _copy(shallower, folder / DEPTHS_DIR / str(depth))


def in_markdown(value: object) -> str:
    r"""Text of unknown origin as Markdown shows it: on one line, without markup of its own.

    Example:
        >>> from edgeunet.exporting.deploy.base import in_markdown
        >>> in_markdown("<b>red_cell</b>") == "&lt;b&gt;red_cell&lt;/b&gt;"
        True
    """
    return _MARKS.sub(r"\\\g<0>", html.escape(printable(value), quote=False))
