"""Values and loggers of the module."""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Callable, Iterable
from typing import Any

# numpy's name of each DataType that it has
NUMPY = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "UINT8": "uint8",
}


def stored(name: str, default: Callable[[Any], Any] = lambda self: None) -> property:
    """Property that only stores its value. default: computes the initial one from the object."""

    def read(self: Any) -> Any:
        return self.__dict__.get(f"_{name}", default(self))

    return property(read, lambda self, value: setattr(self, f"_{name}", value))


def tell(logger: Any, severity: str, message: str) -> None:
    """Log as TensorRT does: it swallows exceptions of the logger."""
    call(logger, "log", getattr(type(logger)._trt.ILogger, severity), message)


def call(listener: Any, method: str, *arguments: Any) -> Any:
    """Call a method that user code overrides. If it raises, print the error and return None."""
    try:
        return getattr(listener, method)(*arguments)
    except Exception as error:
        print(f"[ERROR] Exception caught in {method}(): {error}", file=sys.stderr)
        return None


def global_logger(owner: Any, logger: Any) -> Any:
    """The logger of internal messages: that of the first builder or runtime, while it lives.

    A later builder's own logger only gets messages about its misuse.
    """
    trt = owner._trt
    first = trt._first() if trt._first else None
    if first is None:
        trt._first = weakref.ref(owner)
        return logger
    if first._logger is not logger:
        tell(
            logger,
            "WARNING",
            "The logger passed into createInferBuilder differs from one already registered for an "
            "existing builder, runtime, or refitter. So the current new logger is ignored, and "
            "TensorRT will use the existing one which is returned by nvinfer1::getLogger().",
        )
    return first._logger


def is_rtx(trt: Any) -> bool:
    """Whether it is TensorRT-RTX, which builds without a GPU."""
    return hasattr(trt, "ComputeCapability")


def need_gpu(owner: Any, logger: Any) -> None:
    """Fail as without a driver: the factory returns nothing, and pybind11 raises TypeError."""
    if not owner._trt.scenario.gpu and not is_rtx(owner._trt):
        tell(logger, "WARNING", "CUDA initialization failure with error: 35.")
        raise TypeError("pybind11::init(): factory function returned nullptr")


def host_memory(trt: Any, content: bytes) -> Any:
    """IHostMemory: a buffer without length or items.

    It is a ctypes array, since Python classes cannot implement the buffer protocol otherwise.
    """
    kind = trt.IHostMemory
    meta = type("_Meta", (type(ctypes.Array), type(kind)), {})
    body = {"_type_": ctypes.c_int8, "_length_": len(content), "__module__": kind.__module__}
    hidden: dict[str, Any] = dict.fromkeys(("__len__", "__getitem__", "__setitem__", "__iter__"))
    hidden["__bool__"] = lambda self: True  # the array's own asks for a length
    whole = meta("IHostMemory", (kind, ctypes.Array), {**body, **hidden, "_recorded": True})
    return whole.from_buffer_copy(content)


class ILogger:
    def _setup(self) -> None: ...

    def log(self, severity: Any, msg: str) -> None:
        raise RuntimeError('Tried to call pure virtual function "ILogger::log"')


class Logger:
    def _setup(self, min_severity: Any = None) -> None:
        self._min_severity = min_severity or self._trt.ILogger.WARNING

    min_severity = stored("min_severity")

    def log(self, severity: Any, msg: str) -> None:
        if severity <= self.min_severity:
            print(f"[TRT] [{severity.name[0]}] {msg}", file=sys.stderr)


class IProgressMonitor:
    def _setup(self) -> None: ...


class IHostMemory:
    nbytes = property(lambda self: ctypes.sizeof(self))


class Dims:
    """A shape. Equals lists and tuples; comparing it with anything else raises TypeError."""

    def _setup(self, shape: Iterable[int] = ()) -> None:
        self._sizes = [int(size) for size in shape]

    MAX_DIMS = property(lambda self: 8)

    def __len__(self) -> int:
        return len(self._sizes)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self._sizes[index])
        if not -len(self._sizes) <= index < len(self._sizes):
            raise IndexError("Out of bounds")
        return self._sizes[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._sizes[index] = value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (list, tuple)):
            raise TypeError(f"__eq__(): incompatible function arguments: {other!r}")
        return self._sizes == list(other)

    __hash__ = None

    def __repr__(self) -> str:
        return repr(tuple(self._sizes))

    __str__ = __repr__
