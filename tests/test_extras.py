"""The extras: which package belongs to which, and how to install it."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement

from edgeunet import extras
from edgeunet.errors import MissingDependencyError
from edgeunet.extras import PACKAGES, find_package, how_to_install, is_installed
from support.commands import ROOT
from support.project import extras as wanted_extras
from support.project import module_files


def test_every_extra_that_a_module_may_lack_is_known() -> None:
    """Else a command ends with a traceback where one is missing."""
    needed = {"click", "cv2", "numpy", "edgeunet"}  # of every install; OpenCV may be JetPack's
    with_onnx = {"google"}  # protobuf
    # With messages of their own; rknn in an environment of its own.
    loaded_late = {"pycuda", "rknn", "tensorrt", "tensorrt_rtx_bindings"}
    peers = {"MNN", "nncf"}  # of `bench --peers`, which looks for them first
    optional = {package.module for package in PACKAGES}
    known = needed | with_onnx | loaded_late | peers | optional | sys.stdlib_module_names
    for folder in ("edgeunet", "export", "runtime"):
        for path in module_files(ROOT / folder):
            for name in imported_by(path):
                assert name in known, f"{path} imports {name}"


def imported_by(path: Path) -> Iterator[str]:
    """Top-level names of the modules that a file imports absolutely."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            assert node.module is not None
            yield node.module.split(".")[0]


@pytest.fixture
def opencv(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """Puts an OpenCV in place: pip's wheel, that of JetPack, or None."""

    def install(kind: str | None) -> None:
        def distribution(name: str) -> object:
            if kind == "wheel":
                return SimpleNamespace()
            raise PackageNotFoundError(name)

        monkeypatch.setattr(extras, "distribution", distribution)
        spec = SimpleNamespace() if kind else None
        monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: spec)

    return install


def test_extra_without_torch_is_named_beside_the_one_with_it(
    opencv: Callable[[str | None], None],
) -> None:
    opencv("wheel")
    assert how_to_install("onnx", "quantize") == (
        "pip install '.[export]', or '.[quantize]' for ONNX files alone"
    )


@pytest.mark.parametrize("extra", ["cpu", "video", "export", "train"])
def test_another_opencv_is_not_overwritten_by_that_of_an_extra(
    opencv: Callable[[str | None], None], extra: str
) -> None:
    opencv("JetPack's")
    assert how_to_install("onnxruntime", extra) == "pip install onnxruntime"
    assert "Install it with: pip install av." in str(MissingDependencyError("av", extra))


@pytest.mark.parametrize(
    ("kind", "extra"),
    [("wheel", "cpu"), (None, "cpu"), ("JetPack's", "trt"), ("JetPack's", "serve")],
)
def test_extra_is_named_where_it_overwrites_nothing(
    opencv: Callable[[str | None], None], kind: str | None, extra: str
) -> None:
    opencv(kind)
    assert how_to_install("any", extra) == f"pip install '.[{extra}]'"


def test_no_extra_but_its_own_brings_pycuda_which_takes_a_compiler() -> None:
    bring = {name for name, wanted in wanted_extras().items() if "pycuda" in " ".join(wanted)}
    assert bring == {"pycuda"}


def test_extras_that_bring_opencv_are_those_of_the_project() -> None:
    wanted = {name: list(map(Requirement, lines)) for name, lines in wanted_extras().items()}

    def brings(name: str) -> bool:
        return any(
            (each.name == "opencv-python-headless" and not each.marker)
            or (each.name == "edgeunet" and any(map(brings, each.extras)))
            for each in wanted[name]
        )  # fmt: skip

    assert {name for name in wanted if brings(name)} == extras._EXTRAS_WITH_OPENCV


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_a_missing_module_names_the_extra_of_its_package(package: extras.Package) -> None:
    assert find_package(f"{package.module}.part") is package
    assert f"{package.module} is not installed" in str(MissingDependencyError(package.module))
    assert any(each.startswith(package.name) for each in wanted_extras()[package.extra])


def test_a_module_of_no_extra_is_unknown() -> None:
    assert find_package("json") is None


def test_package_alone_is_named_as_the_index_knows_it(
    opencv: Callable[[str | None], None],
) -> None:
    opencv("JetPack's")
    assert how_to_install("onnx_ir", "export") == "pip install onnx-ir"


def test_a_folder_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python imports one, such as what `deploy -o openvino_net` wrote, or a removal left."""
    (tmp_path / "openvino_net").mkdir()
    (tmp_path / "real_package").mkdir()
    (tmp_path / "real_package" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.util.find_spec("openvino_net") is not None
    assert [is_installed(name) for name in ("openvino_net", "real_package")] == [False, True]
