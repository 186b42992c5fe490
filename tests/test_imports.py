"""What each part of the package loads, and the names that it promises."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgeunet
from support.media import write_video
from support.project import module_files

ROOT = Path(__file__).parents[1]
# What only building or running an engine needs.
BUILDING = {"pycuda", "tensorrt", "tensorrt_rtx_bindings"}
HEAVY = {
    "av",
    "cv2",
    "httpx2",
    "huggingface_hub",
    "jinja2",
    "numpy",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "safetensors",
    "scipy",
    "torch",
    "torch_pruning",
    *BUILDING,
}
# What a device that only runs bundles does without.
WORKSTATION = {"jinja2", "onnx", "onnx_ir", "onnxscript", "safetensors", "torch"}
WORKSTATION_PARTS = {
    "demo",
    "exporting",
    "gate",
    "models",
    "parity",
    "pruning",
    "training",
    "tuning",
}
# The runtime's own imports. Exceptions: backends/pytorch.py, loaded by name, and the module that
# changes graphs which TensorRT cannot build, and imports onnx when it does.
RUNTIME_PARTS = {
    "__version__",
    *("bundle", "data", "doctor", "errors", "extras", "fields", "files", "latency", "listing"),
    "metrics",
    "native_output",
    "runtime",
    "shapes",
    "user_folders",
}
PYTORCH_BACKEND = "edgeunet.runtime.backends.pytorch"
GRAPH_CHANGES = "edgeunet.runtime.gpu.engine.precision"


CALL = "import sys; from edgeunet.cli import main; "


def loaded_by(code: str, *arguments: object) -> set[str]:
    """Modules that a fresh interpreter holds after running the code."""
    report = "\nimport json, sys\nprint('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code + report, *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def tops(modules: set[str]) -> set[str]:
    return {name.split(".")[0] for name in modules}


def parts(modules: set[str]) -> set[str]:
    """Subpackages and modules of edgeunet among them."""
    return {name.split(".")[1] for name in modules if name.startswith("edgeunet.")}


# Fresh interpreters


def test_import_of_the_package_loads_nothing_heavy() -> None:
    modules = loaded_by("import edgeunet; edgeunet.__version__, dir(edgeunet)")
    assert "edgeunet" in modules
    assert tops(modules) & HEAVY == set()
    assert parts(modules) == set()


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_command_line_itself_loads_nothing_heavy(option: str) -> None:
    modules = loaded_by(f"from edgeunet.cli import main; main(['{option}'], standalone_mode=False)")
    assert "edgeunet.cli.main" in modules
    assert tops(modules) & HEAVY == set()


@pytest.mark.parametrize(
    ("command", "absent"),
    [
        (["models", "--size", "352x480"], {*WORKSTATION, "cv2", "onnxruntime"}),
        (["inspect", "BUNDLE"], {*WORKSTATION, "onnxruntime"}),
        (["lint", "BUNDLE/model.fp32.onnx", "--target", "ort-cpu"], {"cv2", "torch"}),
    ],
)
def test_light_commands_start_without_what_they_do_not_use(
    command: list[str], absent: set[str], fp32_bundle: Path
) -> None:
    given = [word.replace("BUNDLE", str(fp32_bundle)) for word in command]
    modules = loaded_by(f"{CALL}main(sys.argv[1:], standalone_mode=False)", *given)
    assert f"edgeunet.cli.{command[0]}" in modules
    assert tops(modules) & absent == set()


@pytest.mark.parametrize(
    "code",
    [
        "import edgeunet.runtime",
        "from edgeunet import Result, Segmenter, load",
        "import edgeunet.cli.run, edgeunet.cli.bench, edgeunet.cli.inspect, edgeunet.cli.doctor",
        "import edgeunet.cli.serve",
    ],
)
def test_runtime_loads_nothing_of_the_workstation(code: str) -> None:
    modules = loaded_by(code)
    assert "edgeunet.runtime.segmenter" in modules
    assert tops(modules) & (WORKSTATION | BUILDING) == set()
    assert parts(modules) & WORKSTATION_PARTS == set()


def test_runtime_alone_loads_nothing_of_the_server() -> None:
    modules = loaded_by("import edgeunet.runtime, edgeunet.cli.run")
    assert tops(modules) & {"prometheus_client", "starlette", "uvicorn"} == set()
    assert "edgeunet.runtime.serve" not in modules


def test_engines_are_built_without_torch() -> None:
    modules = loaded_by("import edgeunet.cli.build")
    assert "edgeunet.runtime.gpu.engine.build" in modules
    assert tops(modules) & (WORKSTATION | BUILDING) == set()
    assert parts(modules) & WORKSTATION_PARTS == set()


def test_run_loads_nothing_of_the_workstation(fp32_bundle: Path, tmp_path: Path) -> None:
    source = write_video(tmp_path / "clip.mp4", 3)
    modules = loaded_by(
        f"{CALL}main(sys.argv[1:], standalone_mode=False)",
        "run", fp32_bundle, source, "-o", tmp_path / "out.mp4",
    )  # fmt: skip
    assert (tmp_path / "out.mp4").is_file()
    assert {"av", "cv2", "onnxruntime"} <= tops(modules)
    assert tops(modules) & WORKSTATION == set()
    assert parts(modules) & WORKSTATION_PARTS == set()


# Public names


def test_public_names() -> None:
    assert edgeunet.__all__ == [
        "EdgeUNetError",
        "ExportOptions",
        "Result",
        "Segmenter",
        "Tiling",
        "create_model",
        "export",
        "export_bundle",
        "from_hub",
        "list_models",
        "load",
        "push_to_hub",
    ]


@pytest.mark.parametrize("name", edgeunet.__all__)
def test_public_name_resolves(name: str) -> None:
    value = getattr(edgeunet, name)
    assert value.__name__ == name
    assert value.__doc__
    assert name in dir(edgeunet)


def test_other_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="'edgeunet' has no attribute 'segment'"):
        edgeunet.segment  # noqa: B018 - reading it raises


@pytest.mark.parametrize(
    "package",
    [
        "exporting",
        "models",
        "parity",
        "runtime",
        "runtime.backends",
        "runtime.backends.tiling",
        "runtime.gpu.engine",
        "runtime.gpu.kernels",
        "runtime.serve",
        "runtime.sinks",
        "runtime.sources",
    ],
)
def test_names_of_a_package_are_sorted_and_resolve(package: str) -> None:
    module = importlib.import_module(f"edgeunet.{package}")
    assert module.__all__ == sorted(module.__all__)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


MODULES = sorted(module.name for module in pkgutil.walk_packages(edgeunet.__path__, "edgeunet."))


def test_every_file_is_found_as_a_module() -> None:
    files = {
        ".".join(["edgeunet", *part, *path.relative_to(folder).with_suffix("").parts])
        for part, folder in (
            ([], ROOT / "edgeunet"),
            (["exporting"], ROOT / "export"),
            (["runtime"], ROOT / "runtime"),
        )
        for path in module_files(folder)
    }
    files = {name.removesuffix(".__init__") for name in files} - {"edgeunet"}
    assert set(MODULES) == files


@pytest.mark.parametrize("name", [name for name in MODULES if name != "edgeunet.__main__"])
def test_module_imports(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__name__ == name
    assert module.__doc__


# Directions, by source


def imports(path: Path, module: str) -> Iterator[str]:
    """Absolute names of all modules that a file imports, inside functions too.

    module: the file's own name; `__init__` included where it is a package's.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            # `from edgeunet import models` names a module too.
            yield from [base, *(f"{base}.{alias.name}" for alias in node.names)]


def runtime_files() -> dict[str, Path]:
    return {
        ".".join(["edgeunet.runtime", *path.relative_to(ROOT / "runtime").with_suffix("").parts]):
        path
        for path in module_files(ROOT / "runtime")
    }  # fmt: skip


@pytest.mark.parametrize("module", [name for name in runtime_files() if name != PYTORCH_BACKEND])
def test_runtime_imports_only_what_is_common(module: str) -> None:
    found = set(imports(runtime_files()[module], module))
    assert tops(found) & WORKSTATION == ({"onnx"} if module == GRAPH_CHANGES else set())
    assert parts(found) <= RUNTIME_PARTS


def test_engines_are_built_without_onnx_unless_a_graph_is_changed() -> None:
    assert "onnx" not in loaded_by(f"import {GRAPH_CHANGES}")


def test_pytorch_backend_is_the_exception() -> None:
    """Also shows that `imports` finds what it looks for."""
    found = set(imports(runtime_files()[PYTORCH_BACKEND], PYTORCH_BACKEND))
    assert tops(found) & WORKSTATION == {"torch"}
    assert parts(found) - RUNTIME_PARTS == {"models"}


def test_imports_are_found_in_every_form(tmp_path: Path) -> None:
    path = tmp_path / "file.py"
    path.write_text(
        "import a.b as c\nfrom d import e\nfrom . import f\nfrom ..g import h\n"
        "def late():\n    from ...models import i\n"
    )
    assert set(imports(path, "edgeunet.runtime.backends.file")) == {
        "a.b", "d", "d.e", "edgeunet.runtime.backends", "edgeunet.runtime.backends.f",
        "edgeunet.runtime.g", "edgeunet.runtime.g.h", "edgeunet.models", "edgeunet.models.i",
    }  # fmt: skip


COMMON = [
    *("catalogue", "errors", "extras", "fields", "files", "latency", "listing", "metrics", "steps"),
    "native_output",
    "user_folders",
    "data.cost",
    "data.headers",
    "data.images",
    "data.resize",
    "data.tiff",
    *(f"bundle.{path.stem}" for path in sorted((ROOT / "edgeunet" / "bundle").glob("[a-z]*.py"))),
]


@pytest.mark.parametrize("module", COMMON)
def test_common_modules_import_only_each_other(module: str) -> None:
    path = ROOT.joinpath("edgeunet", *module.split(".")).with_suffix(".py")
    found = set(imports(path, f"edgeunet.{module}"))
    assert parts(found) <= {"bundle", "data", "errors", "extras", "fields", "files"}
    assert {name for name in found if name.startswith("edgeunet.data.")} <= {
        "edgeunet.data.cost", "edgeunet.data.headers", "edgeunet.data.images", "edgeunet.data.tiff",
        *(name for name in found if name.count(".") == 3),  # what these define
    }  # fmt: skip
    assert tops(found) & HEAVY <= {"numpy", "cv2"}
