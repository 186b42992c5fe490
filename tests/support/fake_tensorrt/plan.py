"""The stand-in's plan: a header in JSON, then the graph in ONNX, which is what it runs."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import asdict, dataclass
from typing import Any

_MAGIC = b"fake-plan-1\n"

Shape = tuple[int, ...]


@dataclass(frozen=True)
class PlanTensor:
    """A network's input or output; a dim is a number, or the name of a dynamic one."""

    name: str
    is_input: bool
    dtype: str
    dims: tuple[int | str, ...]

    @property
    def shape(self) -> Shape:
        """Dims as TensorRT tells them: -1 for a dynamic one."""
        return tuple(dim if isinstance(dim, int) else -1 for dim in self.dims)


@dataclass(frozen=True)
class Plan:
    """What a builder made; `profiles` give (min, opt, max) for the name of each input.

    targets: compute capabilities that it runs on. dla: the core it was built for.
    """

    version: str
    card: str
    targets: tuple[str, ...]
    dla: int | None
    tensors: tuple[PlanTensor, ...]
    profiles: tuple[dict[str, tuple[Shape, Shape, Shape]], ...]
    flags: tuple[str, ...]
    onnx: bytes

    @property
    def onnx_sha256(self) -> str:
        return hashlib.sha256(self.onnx).hexdigest()

    def to_bytes(self) -> bytes:
        fields = asdict(self)
        onnx: bytes = fields.pop("onnx")
        header = json.dumps({**fields, "onnx_sha256": self.onnx_sha256}).encode()
        return _MAGIC + struct.pack("<Q", len(header)) + header + onnx

    @classmethod
    def from_bytes(cls, content: bytes) -> Plan | None:
        """None where the bytes are no plan, or not all of one."""
        start = len(_MAGIC) + 8
        if len(content) < start or not content.startswith(_MAGIC):
            return None
        (length,) = struct.unpack("<Q", content[len(_MAGIC) : start])
        try:
            fields: dict[str, Any] = json.loads(content[start : start + length])
        except ValueError:
            return None
        expected = fields.pop("onnx_sha256")
        onnx = content[start + length :]
        if hashlib.sha256(onnx).hexdigest() != expected:
            return None
        tensors = tuple(
            PlanTensor(**{**tensor, "dims": tuple(tensor["dims"])}) for tensor in fields["tensors"]
        )
        profiles = tuple(
            {name: tuple(tuple(shape) for shape in shapes) for name, shapes in profile.items()}
            for profile in fields["profiles"]
        )
        lists = {name: tuple(fields[name]) for name in ("targets", "flags")}
        return cls(**{**fields, **lists, "tensors": tensors, "profiles": profiles, "onnx": onnx})
