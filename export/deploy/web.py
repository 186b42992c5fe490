"""Target `web`: a static page that runs the net in the browser, by onnxruntime-web.

onnxruntime-web is on npm alone. It comes from a file that the user gives, or by the user's own npm,
and is taken only if it is the package that this target was tested with.
"""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import edgeunet.runtime
from edgeunet import __version__
from edgeunet.bundle.manifest import RGB, Flavour, Manifest
from edgeunet.errors import UsageError
from edgeunet.files import write_json

from ..graphs.pixels import PixelsForm
from .base import TEMPLATES, Deployment, Target

PACKAGE = "onnxruntime-web@1.30.0"
PACKAGE_FILE = "onnxruntime-web-1.30.0.tgz"
INTEGRITY = (
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
"""SHA-512 that npm publishes of it: `npm view onnxruntime-web@1.30.0 dist.integrity`."""

_RUNTIME = (
    # Without a GPU, and with one: the second also has WebGPU, and is twice as large.
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
    "ort.webgpu.min.mjs",
    "ort-wasm-simd-threaded.asyncify.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)
_OWN = ("check.js", "edgeunet.js", "films.js", "main.js", "png.js", "serve.py", "worker.js")
_OF_SERVE = ("icon.svg", "legend.js", "look.js", "view.js")
_SERVE_PAGE = Path(edgeunet.runtime.__file__).parent / "serve" / "page"
_NPM_SECONDS = 600
_LARGEST_PACKAGE = 1 << 28


def write(deployment: Deployment) -> None:
    """Write the page, the graphs and what runs them."""
    manifest, folder = deployment.bundle.manifest, deployment.folder
    spec = manifest.input
    if spec.frame_channels != RGB or spec.depth != "uint8":
        raise UsageError(
            f"expected a net for RGB frames of 8 bit, which browsers have, but this one takes "
            f"{', '.join(spec.frame_channels)} of {spec.depth}. Deploy it to onnx."
        )
    package = _package(deployment)
    for flavour in deployment.flavours:
        deployment.write_pixels(_graph(flavour), flavour, PixelsForm(any_size=True))
    write_json(folder / "model" / "net.json", _describe(manifest, deployment.flavours, folder))
    _write_runtime(folder / "ort", package)
    texts = {"model": manifest.model, "height": spec.height, "width": spec.width}
    deployment.write_template("web/index.html", "index.html", **texts)
    deployment.write_template(
        "web/README.md", "README.md", **texts, flavours=deployment.flavours, package=PACKAGE
    )
    for name in _OWN:
        shutil.copyfile(TEMPLATES / "web" / name, folder / name)
    for name in _OF_SERVE:
        shutil.copyfile(_SERVE_PAGE / name, folder / name)
    sheets = (_SERVE_PAGE / "style.css", TEMPLATES / "web" / "style.css")
    text = "".join(sheet.read_text(encoding="utf-8") for sheet in sheets)
    (folder / "style.css").write_text(text, encoding="utf-8")


def fetch_package(folder: Path) -> Path:
    """Fetch onnxruntime-web by npm, which keeps it in its cache. Returns the file in the folder.

    Raises:
        UsageError: no npm, or npm cannot get it.
    """
    npm = shutil.which("npm")
    remedy = (
        f"Where there is npm and a network, run `npm pack {PACKAGE}`, and pass the file that it "
        f"writes: --package {PACKAGE_FILE}"
    )
    if npm is None:
        raise UsageError(f"expected npm, which has {PACKAGE}; found none. {remedy}")
    command = [npm, "pack", PACKAGE, "--ignore-scripts", "--silent"]
    try:
        done = subprocess.run(  # noqa: S603 - fixed words
            command, cwd=folder, capture_output=True, text=True, timeout=_NPM_SECONDS, check=False
        )
        problem = f"exit code {done.returncode}; `npm pack {PACKAGE}` says why"
    except subprocess.TimeoutExpired:
        problem = f"no answer within {_NPM_SECONDS} seconds"
    path = folder / PACKAGE_FILE
    if not path.is_file():
        raise UsageError(f"npm does not get {PACKAGE}: {problem}. {remedy}")
    return path


def _package(deployment: Deployment) -> bytes:
    """The checked content of onnxruntime-web's package."""
    if deployment.options.package is not None:
        return _checked(deployment.options.package)
    deployment.report(f"fetching {PACKAGE} by npm (33 MB, once)")
    with tempfile.TemporaryDirectory(prefix="edgeunet-") as folder:
        return _checked(fetch_package(Path(folder)))


def _checked(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_PACKAGE)
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror}. Pass what `npm pack {PACKAGE}` wrote."
        ) from None
    found = base64.b64encode(hashlib.sha512(content).digest()).decode()
    if found != INTEGRITY:
        raise UsageError(
            f"{path}: expected {PACKAGE} with SHA-512 {INTEGRITY[:16]}…, got {found[:16]}…. Run "
            f"`npm pack {PACKAGE}` again, and pass what it writes."
        )
    return content


def _write_runtime(folder: Path, package: bytes) -> None:
    """Unpack what runs graphs, by name, and put the licence beside it: the package has none."""
    folder.mkdir()
    with tarfile.open(fileobj=io.BytesIO(package), mode="r:gz") as archive:
        for name in _RUNTIME:
            member = archive.extractfile(f"package/dist/{name}")
            assert member is not None, "the hash was right"
            (folder / name).write_bytes(member.read())
    shutil.copyfile(TEMPLATES / "web" / "LICENSE.onnxruntime", folder / "LICENSE")


def _graph(flavour: Flavour) -> str:
    return f"model/{flavour}.onnx"


def _describe(manifest: Manifest, flavours: tuple[Flavour, ...], folder: Path) -> dict[str, object]:
    """`model/net.json`: what the page must know of the net."""
    gate = manifest.gate or (None,) * len(manifest.classes)
    return {
        "model": manifest.model,
        "size": (manifest.input.height, manifest.input.width),
        "classes": [
            {"name": name, "colour": colour, "threshold": threshold}
            for name, colour, threshold in zip(
                manifest.classes, manifest.palette, gate, strict=True
            )
        ],
        "graphs": [
            {
                "flavour": flavour,
                "file": Path(_graph(flavour)).name,
                "bytes": (folder / _graph(flavour)).stat().st_size,
            }
            for flavour in flavours
        ],
        "edgeunet": __version__,
    }


TARGET = Target(
    name="web",
    makes="a static page that segments images, films and cameras in the browser",
    needs=(
        "a browser (Chrome 94, Firefox 114, Safari 16.4 or newer); to write it, npm or --package"
    ),
    flavours=("fp32", "int8.cpu", "fp16"),
    write=write,
    several=True,
    options=("package",),
)
