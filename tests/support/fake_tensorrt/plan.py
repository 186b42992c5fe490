"""The stand-in's plan: a JSON header, then the ONNX graph, which a context runs."""

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
    """An input or output. A dim is a number, or a name if it is dynamic."""

    name: str
    is_input: bool
    dtype: str
    dims: tuple[int | str, ...]

    @property
    def shape(self) -> Shape:
        """Dims as TensorRT gives them: -1 if dynamic."""
        return tuple(dim if isinstance(dim, int) else -1 for dim in self.dims)


@dataclass(frozen=True)
class Plan:
    """The result of a build. profiles: (min, opt, max) for each input's name.

    targets: compute capabilities that it runs on. dla: core that it was built for. wrong_pixels:
    share of the logits' pixels that get the last class.
    """

    version: str
    card: str
    targets: tuple[str, ...]
    dla: int | None
    tensors: tuple[PlanTensor, ...]
    profiles: tuple[dict[str, tuple[Shape, Shape, Shape]], ...]
    flags: tuple[str, ...]
    wrong_pixels: float
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
        """None if the bytes are not a whole plan."""
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
