"""The wheel: every file once, and nothing that does not belong in it."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections import Counter
from email import message_from_bytes
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import edgeunet
from edgeunet.runtime.gpu.kernels.shipped import CUBINS, INDEX, SOURCES
from support.commands import ROOT
from support.project import FOLDERS, build_wheel, extras

NEWER = {"python_version": "3.11"}

slow = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def content(wheel: zipfile.ZipFile) -> list[str]:
    """Files of the wheel but its metadata."""
    return [name for name in wheel.namelist() if ".dist-info/" not in name]


@slow
def test_wheel_holds_every_module_once(wheel: zipfile.ZipFile) -> None:
    wanted = {
        f"{inside}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, inside in FOLDERS.items()
        for path in (ROOT / folder).rglob("*.py")
    }
    assert {"edgeunet/exporting/pipeline.py", "edgeunet/runtime/backends/ort.py"} <= wanted
    assert Counter(name for name in content(wheel) if name.endswith(".py")) == Counter(wanted)


@slow
def test_wheel_holds_weights_kernels_pages_and_the_typing_marker_and_nothing_else(
    wheel: zipfile.ZipFile,
) -> None:
    weights = {
        f"edgeunet/weights/{path.name}"
        for path in (ROOT / "edgeunet" / "weights").iterdir()
        if path.suffix in (".safetensors", ".json")
    }
    rest = {name for name in content(wheel) if not name.endswith(".py")}
    kernels = {f"edgeunet/runtime/gpu/kernels/{source.name}" for source in SOURCES}
    cubins = {f"edgeunet/runtime/gpu/kernels/cubins/{path.name}" for path in CUBINS.iterdir()}
    assert {INDEX, "sm87.cubin.xz"} <= {Path(name).name for name in cubins}
    page = {
        f"edgeunet/runtime/serve/page/{path.name}"
        for path in (ROOT / "runtime" / "serve" / "page").iterdir()
    }
    assert {"index.html", "main.js", "style.css"} <= {Path(name).name for name in page}
    templates = {
        f"edgeunet/{folder}/{path.name}"
        for folder in (
            "templates",
            "benchmark/templates",
            "data/templates",
            "parity/templates",
            "training/templates",
            "tuning/templates",
        )
        for path in (ROOT / "edgeunet" / folder).iterdir()
    }
    assert {"page.css", "data.html", "gate.html", "parity.html", "roc.svg"} <= {
        Path(name).name for name in templates
    }
    deploy = ROOT / "export" / "deploy"
    deployed = {
        f"edgeunet/exporting/deploy/{path.relative_to(deploy)}"
        for path in (deploy / "templates").rglob("*")
        if path.is_file() and path.suffix != ".py"
    }
    kept = {"edgeunet/py.typed", *weights, *kernels, *cubins, *page, *templates, *deployed}
    assert rest == kept


@slow
def test_cubins_stay_small_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    sizes = [each.compress_size for each in wheel.infolist() if "/cubins/" in each.filename]
    assert 0 < sum(sizes) < 1e6


@slow
def test_wheel_holds_nothing_but_the_package(wheel: zipfile.ZipFile) -> None:
    assert {name.split("/")[0] for name in content(wheel)} == {"edgeunet"}
    assert [name for name in content(wheel) if "test" in name] == []


@slow
def test_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    folder = f"edgeunet-{edgeunet.__version__}.dist-info"
    metadata = message_from_bytes(wheel.read(f"{folder}/METADATA"))
    assert metadata["Version"] == edgeunet.__version__
    assert metadata["Requires-Python"] == ">=3.10"
    required = {line.split(">")[0] for line in metadata.get_all("Requires-Dist", [])}
    assert {"numpy", "click"} <= required
    assert {"cpu", "export", "serve", "train", "video"} <= set(
        metadata.get_all("Provides-Extra", [])
    )
    assert "edgeunet = edgeunet.cli:main" in wheel.read(f"{folder}/entry_points.txt").decode()
    assert f"{folder}/licenses/LICENSE" in wheel.namelist()


@slow
def test_wheel_runs_without_the_sources(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    code = (
        "import edgeunet.exporting, edgeunet.runtime as runtime, edgeunet.cli.main;"
        "print(runtime.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(tmp_path)


def requirements() -> list[Requirement]:
    """What the extras need, without each other."""
    lines = [line for wanted in extras().values() for line in wanted]
    return [each for each in map(Requirement, lines) if each.name != "edgeunet"]


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12"])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_pinned_versions_are_within_the_floors(python: str, machine: str) -> None:
    here = {"python_version": python, "platform_machine": machine, "sys_platform": "linux"}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    pinned = {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
        for pin in pins
        if pin.marker is None or pin.marker.evaluate(here)
    }
    for wanted in requirements():
        if wanted.marker is not None and not wanted.marker.evaluate(here):
            continue
        assert any(each.operator == ">=" for each in wanted.specifier), f"{wanted} has no floor"
        if (version := pinned.get(canonicalize_name(wanted.name))) is not None:
            assert wanted.specifier.contains(version), f"{wanted}, but {version} is pinned"


def test_what_goes_with_a_release_names_its_version_and_extras() -> None:
    assert f"\nversion: {edgeunet.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    images = sorted((ROOT / "docker").iterdir())
    assert len(images) == 2
    for image in images:
        text = image.read_text()
        assert len(text.splitlines()) <= 12, image
        (named,) = re.findall(r"/src\[([\w,]+)\]", text)
        assert set(named.split(",")) <= set(extras()), image


def test_floors_keep_out_versions_with_known_holes() -> None:
    by_name = {each.name: each for each in requirements() if each.name in ("torch", "av")}
    assert not by_name["torch"].specifier.contains("2.9.1")  # CVE-2026-24747
    assert not by_name["av"].specifier.contains("14.4.0")
    runtimes = [each for each in requirements() if each.name == "onnxruntime"]
    newer = [each for each in runtimes if each.marker and each.marker.evaluate(NEWER)]
    assert newer
    assert not any(each.specifier.contains("1.23.2") for each in newer)


@pytest.mark.parametrize(("name", "package"), [("export", "exporting"), ("runtime", "runtime")])
def test_folders_at_the_top_are_linked_relatively(name: str, package: str) -> None:
    link = ROOT / "edgeunet" / package
    assert link.is_symlink()
    assert link.readlink() == Path("..") / name
    assert link.resolve() == ROOT / name
