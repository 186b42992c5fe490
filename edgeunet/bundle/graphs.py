"""Refuses ONNX graphs that could read other files or never end, before any parser gets them.

ONNX Runtime and TensorRT read the file that an external tensor names, wherever it lies. Only the
bytes tell whether a graph has one. `onnx` could parse them, but the runtime does without it, so
this module walks the messages of the protocol buffer itself and skips what it does not look for.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ..errors import GraphError
from ..files import read_file

MAX_BYTES = 1 << 30
MAX_DEPTH = 100
"""The most messages inside each other. Protocol buffers' own readers take no more."""
MAX_FIELDS = 300_000

# Field numbers of onnx.proto: message -> field -> the message that the field holds.
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse tensor",
        23: "sparse tensor",
    },
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_FUNCTION, _OPERATOR, _TENSOR_NAME, _EXTERNAL_DATA, _DATA_LOCATION = 25, 4, 8, 13, 14
_LOOPS = (b"Loop", b"Scan")
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
# ONNX Runtime's own format has this mark. It would not be read as the messages checked here.
_ORT_MARK = slice(4, 8), b"ORTM"


class _RefusedError(Exception):
    """Why a graph is refused, as the end of a sentence."""


class _Message(NamedTuple):
    """A message in the content: its kind, its bytes from `start` to `end`, and how deep it lies."""

    kind: str
    start: int
    end: int
    depth: int


def read_graph(path: Path) -> bytes:
    """Read an ONNX file once and check its content.

    Raises:
        GraphError: it cannot be read, or see `check_graph`.

    Example:
        >>> from edgeunet.bundle.graphs import read_graph
        >>> len(read_graph(bundle / "model.fp32.onnx")) > 1000
        True
    """
    try:
        content = read_file(path, most=MAX_BYTES)
    except OSError as error:
        raise GraphError(f"{path} cannot be read: {error}") from None
    check_graph(content, name=str(path))
    return content


def check_graph(content: bytes, *, name: str) -> None:
    """Refuse a serialized model that is not self-contained. Time and memory are bounded.

    Args:
        name: of the graph, for the errors.

    Raises:
        GraphError: a tensor whose data lies in another file; a loop or a local function, which
            could run or expand without end; not ONNX; or nested too deeply.
    """
    place, mark = _ORT_MARK
    try:
        if content[place] == mark:
            raise _RefusedError("is in ONNX Runtime's own format; expected an ONNX model")
        _walk(content)
    except _RefusedError as refusal:
        raise GraphError(f"{name} {refusal}. Refused.") from None


def _walk(content: bytes) -> None:
    pending = [_Message("model", 0, len(content), 0)]
    fields = 0
    while pending:
        kind, at, end, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise _RefusedError(f"has messages nested more than {MAX_DEPTH} deep")
        inside, name, external = _INSIDE[kind], b"", False
        while at < end:
            fields += 1
            if fields > MAX_FIELDS:
                raise _RefusedError(f"has more than {MAX_FIELDS} fields")
            tag, at = _varint(content, at, end)
            number, form = tag >> 3, tag & 7
            if not 0 < number < 1 << 29:
                raise _not_onnx(at)
            value, start = 0, at
            if form == _VARINT:
                value, at = _varint(content, at, end)
            elif form == _BYTES:
                size, start = _varint(content, at, end)
                at = start + size
            elif form in (_EIGHT_BYTES, _FOUR_BYTES):
                at += 8 if form == _EIGHT_BYTES else 4
            else:  # groups, which ONNX does not use
                raise _not_onnx(at)
            if at > end:
                raise _not_onnx(end)
            if kind == "tensor":
                if number == _TENSOR_NAME and form == _BYTES:
                    name = content[start:at]
                # Zero is the default of the location. No parser takes it from another form.
                external |= number == _EXTERNAL_DATA
                external |= number == _DATA_LOCATION and (form != _VARINT or value != 0)
            elif form == _BYTES and number in inside:
                pending.append(_Message(inside[number], start, at, depth + 1))
            elif kind == "model" and number == _FUNCTION:
                raise _RefusedError(
                    "has local functions, which could expand without end; no net of edgeunet has "
                    "one"
                )
            elif kind == "node" and number == _OPERATOR and content[start:at] in _LOOPS:
                raise _RefusedError(
                    f"has a {content[start:at].decode()}, which could run without end; no net of "
                    "edgeunet has one"
                )
        if external:
            raise _RefusedError(
                f"keeps the values of tensor {_shown(name)} in another file; a bundle's graphs "
                "hold all of their values"
            )


def _varint(content: bytes, at: int, end: int) -> tuple[int, int]:
    """An integer of seven bits a byte, and where the next field begins."""
    value = shift = 0
    while at < end and shift < 70:  # 64 bits fit into ten bytes
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise _not_onnx(at)


def _not_onnx(at: int) -> _RefusedError:
    return _RefusedError(f"is not an ONNX model, or was cut off (byte {at})")


def _shown(name: bytes) -> str:
    return repr(name[:80].decode("utf-8", "backslashreplace"))
