"""Make a module with exactly the names of a recorded TensorRT, and with our behaviour."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from .calls import accepts, parse, plain_type

_RECORDS = Path(__file__).parents[1] / "tensorrt_api"
_SPECIAL = ("__bool__", "__getitem__", "__len__", "__setitem__")
_COMMON = ("__eq__", "__hash__", "__repr__", "__str__")


def recorded_versions() -> list[str]:
    """Versions in `tests/tensorrt_api`."""
    return sorted(path.stem for path in _RECORDS.glob("*.json"))


def read_surface(version: str) -> dict[str, Any]:
    """The names of a version, as `record.py` wrote them."""
    surface: dict[str, Any] = json.loads((_RECORDS / f"{version}.json").read_text())
    return surface


def build_module(
    name: str,
    surface: Mapping[str, Any],
    behaviour: Mapping[str, type],
) -> ModuleType:
    """Make the module. behaviour: for a class's name, a class with its members.

    A recorded member without behaviour raises NotImplementedError when it is used. A member with
    behaviour that was not recorded does not exist.
    """
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    module.__version__ = surface["version"]
    kinds: dict[str, type] = {}
    for kind, enum in surface["enums"].items():
        kinds[kind] = _enum(kind, enum)
    for kind in _bases_first(surface["classes"]):
        kinds[kind] = _class(kind, surface["classes"][kind], kinds, behaviour.get(kind), module)
    for kind, made in kinds.items():
        outer, _, inner = kind.rpartition(".")
        setattr(kinds[outer] if outer else module, inner, made)
    for kind, record in surface["classes"].items():
        for constant, value in record["constants"].items():
            setattr(kinds[kind], constant, _constant(value, kinds))
    for constant, value in surface["constants"].items():
        setattr(module, constant, _constant(value, kinds))
    for called in surface["functions"]:
        setattr(module, called, _absent(called))
    return module


class StrictType(type):
    """Creates objects as pybind11 does: only if a constructor exists and has run."""

    _constructible: bool

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if not cls._constructible:
            raise TypeError(f"tensorrt.tensorrt.{cls.__name__}: No constructor defined!")
        made = super().__call__(*args, **kwargs)
        if not made.__dict__.get("_made"):
            recorded = next(kind.__name__ for kind in cls.__mro__ if "_recorded" in vars(kind))
            raise TypeError(
                f"tensorrt.tensorrt.{recorded}.__init__() must be called when overriding __init__"
            )
        return made


class Strict(metaclass=StrictType):
    """Base of all classes. Setting an attribute that the real class lacks raises AttributeError.

    Behaviour keeps its state in attributes with an underscore. `_trt` is the module.
    """

    _trt: Any

    def __setattr__(self, name: str, value: Any) -> None:
        subclassed = "_recorded" not in vars(type(self))  # Python's own classes take everything
        found = getattr(type(self), name, None)
        if not (name.startswith("_") or isinstance(found, property) or subclassed):
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        object.__setattr__(self, name, value)

    def _new(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Create an object of another class; `_setup` of its behaviour initialises it."""
        return make_object(getattr(self._trt, name), *args, **kwargs)


def make_object(kind: type, *args: Any, **kwargs: Any) -> Any:
    """Create an object of a class without a constructor."""
    made = kind.__new__(kind)
    made.__dict__["_made"] = True
    made._setup(*args, **kwargs)
    return made


def _bases_first(classes: Mapping[str, Any]) -> list[str]:
    ordered: list[str] = []

    def place(name: str) -> None:
        for base in classes[name]["bases"]:
            if base in classes:
                place(base)
        if name not in ordered:
            ordered.append(name)

    for name in classes:
        place(name)
    return ordered


def _class(
    name: str,
    record: Mapping[str, Any],
    kinds: dict[str, type],
    behaviour: type | None,
    module: ModuleType,
) -> type:
    bases = tuple(kinds[base] for base in record["bases"] if base in kinds) or (Strict,)
    deeds = vars(behaviour) if behaviour else {}
    members: dict[str, Any] = {
        key: value
        for key, value in deeds.items()
        if key.startswith("_") and not key.endswith("__") and not key.startswith("__")
    }
    members |= {
        "_trt": module,
        "_recorded": True,
        "_constructible": record["init"] is not None,
        "__doc__": behaviour.__doc__ if behaviour else None,
        "__module__": "tensorrt.tensorrt",
        "__init__": _constructor(name, record["init"] or [], deeds.get("_setup"), kinds),
    }
    for special in set(record["special"]).intersection(_SPECIAL):
        members[special] = deeds.get(special) or _absent(f"{name}.{special}")
    members |= {special: deeds[special] for special in _COMMON if special in deeds}
    for method, signatures in record["methods"].items():
        members[method] = _method(f"{name}.{method}", signatures, deeds.get(method), kinds)
    for attribute, (read, written) in record["properties"].items():
        deed = deeds.get(attribute)
        members[attribute] = _property(f"{name}.{attribute}", read, written, deed, kinds)
    return StrictType(name.rpartition(".")[2], bases, members)


def _constructor(
    name: str, signatures: Sequence[str], setup: Any, kinds: dict[str, type]
) -> Callable[..., None]:
    checked = _method(f"{name}.__init__", signatures, setup or (lambda self: None), kinds)

    def construct(self: Any, *args: Any, **kwargs: Any) -> None:
        checked(self, *args, **kwargs)
        self.__dict__["_made"] = True

    return construct


def _method(
    name: str, signatures: Sequence[str], deed: Any, kinds: dict[str, type]
) -> Callable[..., Any]:
    known = set(inspect.signature(deed).parameters) if deed else set()

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not signatures:
            return (deed or _absent(name))(self, *args, **kwargs)
        for overload in map(parse, signatures):
            bound = overload.bind(kinds, args, kwargs)
            if bound is not None and (deed is None or bound.keys() <= known):
                return (deed or _absent(name))(self, **bound)
            if bound is not None:
                _absent(f"{name} with {', '.join(bound)}")()
        texts = "".join(f"\n    {number}. {text}" for number, text in enumerate(signatures, 1))
        raise TypeError(
            f"{name}(): incompatible function arguments. The following argument types are "
            f"supported:{texts}\n\nInvoked with: {args} {kwargs}"
        )

    call.__name__ = name.rpartition(".")[2]
    return call


def _property(
    name: str, read: str | None, written: str | None, deed: Any, kinds: dict[str, type]
) -> property:
    getter = deed.fget if isinstance(deed, property) else _absent(name)
    setter = (deed.fset if isinstance(deed, property) else None) or _absent(name)

    def assign(self: Any, value: Any) -> None:
        kind = plain_type(written or "")
        detached = value is None and kind in kinds and not hasattr(kinds[kind], "__members__")
        if not detached and not accepts(kind, value, kinds):
            raise TypeError(f"{name} takes {written}, not {value!r}")
        setter(self, value)

    return property(getter if read is not None else None, assign if written is not None else None)


def _absent(name: str) -> Callable[..., Any]:
    def refuse(*_args: Any, **_kwargs: Any) -> Any:
        raise NotImplementedError(f"the stand-in for TensorRT has no behaviour for {name}")

    return refuse


def _constant(value: Any, kinds: Mapping[str, type]) -> Any:
    """A recorded constant: "DataType.HALF" is the member."""
    if isinstance(value, str):
        kind, _, member = value.rpartition(".")
        if kind in kinds:
            return getattr(kinds[kind], member)
    return value


def _enum(name: str, record: Mapping[str, Any]) -> type:
    members: dict[str, int] = record["members"]
    short = name.rpartition(".")[2]
    body: dict[str, Any] = {
        "__module__": "tensorrt.tensorrt",
        "_ordered": "__lt__" in record["special"],
    }
    kind = type(short, (_Member,), body)
    made = {member: kind(value) for member, value in members.items()}
    for member, value in made.items():
        setattr(kind, member, value)
    kind.__members__ = made
    if "name" not in record["properties"]:  # hidden by a method of another type
        kind.name = _Member.__str__
    return kind


class _Member:
    """Member of a pybind11 enum: not an int, and only equal to members of its own kind."""

    _ordered: bool
    __members__: dict[str, _Member]

    def __init__(self, value: int) -> None:
        object.__setattr__(self, "value", int(value))

    def _own_name(self) -> str:
        names = (name for name, member in self.__members__.items() if member == self)
        return next(names, "???")

    name = property(_own_name)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __int__(self) -> int:
        return self.value

    __index__ = __hash__ = __int__

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and int(self) == int(other)

    def __lt__(self, other: Any) -> bool:
        return int(self) < self._comparable(other)

    def __le__(self, other: Any) -> bool:
        return int(self) <= self._comparable(other)

    def __gt__(self, other: Any) -> bool:
        return int(self) > self._comparable(other)

    def __ge__(self, other: Any) -> bool:
        return int(self) >= self._comparable(other)

    def _comparable(self, other: Any) -> int:
        if not self._ordered or type(other) is not type(self):
            raise TypeError("Expected an enumeration of matching type!")
        return int(other)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}.{self._own_name()}: {int(self)}>"

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self._own_name()}"
