"""Write down the surface of a real TensorRT: python record.py MODULE FILE.json

It holds the names that a version has, and how its calls are written; `fake_tensorrt` is made of it.
Run it in an interpreter that has the package, again for every version that matters:

    python3.10 -m venv v8 && v8/bin/pip install tensorrt==8.6.0 nvidia-cudnn-cu12==8.9.7.29
    v8/bin/python record.py tensorrt 8.6.0.json

From TensorRT 10 on, the wheels of the bindings alone are enough, and no GPU is needed: stand-ins
for the libraries that they link are compiled with gcc, which export the names and do nothing.

    python3 -m venv v10 && v10/bin/pip install --no-deps tensorrt-cu12-bindings==10.16.1.11
    v10/bin/python record.py tensorrt_bindings 10.16.1.json --placeholders /tmp/libs10
    (likewise tensorrt-cu12-bindings==10.3.0, which JetPack 6.1 and 6.2 carry)
    python3 -m venv v11 && v11/bin/pip install --no-deps tensorrt-cu13-bindings==11.4.0.106
    v11/bin/python record.py tensorrt_bindings 11.4.0.json --placeholders /tmp/libs11

TensorRT-RTX loads as it is installed, by `.[rtx]`:

    python record.py tensorrt_rtx_bindings rtx-1.7.1.json

Needs nothing but the standard library, and nm and gcc for `--placeholders`.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import importlib.util
import json
import re
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

# Written for the interpreter, or by pybind11 for itself.
_COMMON = {
    *(set(dir(object)) - {"__lt__"}),
    *(
        "__module__",
        "__del__",
        "__dict__",
        "__weakref__",
        "__entries",
        "__members__",
        "__qualname__",
    ),
    *("__annotations__", "__firstlineno__", "__static_attributes__"),
}
_OVERLOAD = re.compile(r"^\d+\. (?=\w+\()", re.MULTILINE)
_SELF = re.compile(r"\(self(: [\w.:]+)?(, )?")
_READ = re.compile(r"-> (.+)$")
_SET = re.compile(r".*arg\d: (.+?)(?:, /)?\) -> None$")
_PREFIX = re.compile(r"\b(tensorrt\w*\.)+(?=\w)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("module")
    parser.add_argument("file", type=Path)
    parser.add_argument("--placeholders", type=Path, help="folder for stand-ins of the libraries")
    arguments = parser.parse_args()
    if arguments.placeholders is not None:
        load_placeholders(arguments.module, arguments.placeholders)
    surface = record(importlib.import_module(arguments.module))
    arguments.file.write_text(_written(surface))


def load_placeholders(module: str, folder: Path) -> None:
    """Compile and load libraries that satisfy the linker for a package of bindings alone."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{module} is not installed")
    (binding,) = Path(spec.origin).parent.glob("tensorrt*.so")
    folder.mkdir(parents=True, exist_ok=True)
    listed = _output("nm", "-D", "--undefined-only", str(binding))
    names = re.findall(r" U ((?:create|get|init)\w+)$", listed, re.MULTILINE)
    source = folder / "placeholders.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in names))
    for library in re.findall(r"\[(libnv\w+\.so\.\d+)\]", _output("readelf", "-d", str(binding))):
        path = folder / library
        soname = f"-Wl,-soname,{library}"
        subprocess.run(["gcc", "-shared", "-fPIC", soname, source, "-o", path], check=True)
        ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)  # its soname satisfies the binding's need


def record(module: ModuleType) -> dict[str, Any]:
    """The public names of a module: enums, classes, functions, constants."""
    surface: dict[str, Any] = {
        "version": module.__version__,
        "enums": {},
        "classes": {},
        "functions": {},
        "constants": {},
    }
    for name, value in sorted(vars(module).items()):
        home = str(getattr(value, "__module__", ""))
        if name.startswith("_") or isinstance(value, ModuleType):
            continue
        if isinstance(value, type):
            if home.startswith(module.__name__):
                _record_class(value, surface)
        elif hasattr(type(value), "__members__"):
            surface["constants"][name] = f"{type(value).__qualname__}.{value.name}"
        elif callable(value) and (home.startswith(module.__name__) or not home):
            surface["functions"][name] = _signatures(value)
    surface["constants"].pop("value", None)  # left over from a loop in the package's __init__.py
    return surface


def _record_class(kind: type, surface: dict[str, Any]) -> None:
    """Note a class and those nested in it under their qualified names."""
    for value in vars(kind).values():
        if isinstance(value, type) and value.__qualname__.startswith(kind.__qualname__ + "."):
            _record_class(value, surface)
    if hasattr(kind, "__members__"):
        members = {name: int(member) for name, member in kind.__members__.items()}
        surface["enums"][kind.__qualname__] = {
            "members": members,
            "properties": _properties(kind),
            "special": _special(kind),
        }
        return
    methods: dict[str, list[str]] = {}
    constants: dict[str, Any] = {}
    for name, value in sorted(vars(kind).items()):
        if name.startswith("_") or isinstance(value, (type, property)):
            continue
        if hasattr(type(value), "__members__"):
            constants[name] = f"{type(value).__qualname__}.{value.name}"
        elif callable(value) or isinstance(value, staticmethod):
            methods[name] = _signatures(getattr(kind, name))
        elif "static_property" not in type(value).__name__:
            constants[name] = value if isinstance(value, (int, float, str)) else repr(value)
    made = vars(kind).get("__init__")
    surface["classes"][kind.__qualname__] = {
        "bases": [base.__qualname__ for base in kind.__bases__ if base.__name__ != "object"
                  and not base.__name__.startswith("pybind11")],
        # None: only the package itself makes such objects.
        "init": _signatures(made) if (made.__doc__ or "").startswith("__init__(") else None,
        "methods": methods,
        "properties": _properties(kind),
        "constants": constants,
        "special": _special(kind),
    }  # fmt: skip


def _properties(kind: type) -> dict[str, list[str | None]]:
    """Type that each property reads as, and that it is set to; None where it is not possible."""
    return {
        name: [_told(value.fget, _READ), _told(value.fset, _SET)]
        for name, value in sorted(vars(kind).items())
        if not name.startswith("_") and "property" in type(value).__name__
    }


def _told(function: Any, pattern: re.Pattern[str]) -> str | None:
    if function is None:
        return None
    found = pattern.search((function.__doc__ or "").strip())
    return _PREFIX.sub("", found.group(1)) if found else ""


def _special(kind: type) -> list[str]:
    """Methods with double underscores that the class defines beyond the usual ones."""
    own = {name for name, value in vars(kind).items() if name.startswith("__") and value}
    return sorted(name for name in own - _COMMON if "pybind11" not in name)


def _signatures(function: Any) -> list[str]:
    """How a function may be called, one string for each overload; empty where it is not told."""
    text = function.__doc__ or ""
    name = getattr(function, "__name__", "")
    if "\nOverloaded function." in text:
        lines = [part.splitlines()[0] for part in _OVERLOAD.split(text)[1:]]
    elif text.startswith(f"{name}("):
        lines = [text.splitlines()[0]]
    else:
        return []
    # "name(self: tensorrt.tensorrt.Kind, a: int) -> None" becomes "(a: int) -> None"
    plain = (_PREFIX.sub("", line[line.index("(") :]) for line in lines)
    return [_SELF.sub("(", line, count=1) for line in plain]


def _written(surface: dict[str, Any]) -> str:
    """JSON with a line for each class, enum, function and constant."""
    sections = []
    for section, content in surface.items():
        if isinstance(content, dict):
            lines = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in content.items())
            text = "{\n" + ",\n".join(lines) + "\n}"
        else:
            text = json.dumps(content)
        sections.append(f"{json.dumps(section)}: {text}")
    return "{\n" + ",\n".join(sections) + "\n}\n"


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
