"""Hexagon, Qualcomm's processor for nets: its generations, its compiler, and what that leaves out.

The compiler comes with ONNX Runtime's plug-in for QNN and runs on x86-64 too, where an emulator
takes Hexagon's place.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import IO

import onnx

from edgeunet.errors import GraphError, MissingDependencyError, UnknownNameError
from edgeunet.runtime.backends.placement import Placement

from .one_image import inputs_of

PLACEMENT = Placement("qnn", "int8", emulated=True)
COMPILED = "EPContext"
"""Operator of a part that was compiled, as ONNX Runtime writes it."""
CONVOLUTIONS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that hold nearly all of a net's work."""


GENERATIONS = ("v68", "v69", "v73", "v75", "v79", "v81")
"""Of Hexagon with its tensor unit: what is compiled for if no SoC is named."""

SOCS: Mapping[str, str] = MappingProxyType(
    {
        **{each: each for each in GENERATIONS},
        "QCS6490": "v68",
        "QCS8300": "v75",
        "QCS9100": "v73",
        "SA8255": "v73",
        "SA8295": "v68",
        "SM8350": "v68",
        "SM8450": "v69",
        "SM8475": "v69",
        "SM8550": "v73",
        "SM8650": "v75",
        "SM8750": "v79",
        "SM8850": "v81",
    }
)
"""Generation of a SoC's Hexagon by its name, as in ExecuTorch's qc_schema.py, which Qualcomm wrote.

The compiler takes a SoC's number too. With one, `onnxruntime-qnn` 2.7.0 makes graphs from frames to
masks of which 18 % of the pixels are right in the emulator, without it 99.6 % (v73, SM8550's and
QCS9100's numbers, mobile_unet); so it is told the generation alone.
"""


def find_generations(name: str | None) -> tuple[str, ...]:
    """The generation of a SoC's Hexagon, by its name in any case of letters; all without a name.

    Raises:
        UnknownNameError: there is no such SoC.

    Example:
        >>> from edgeunet.exporting.npu.hexagon import find_generations
        >>> find_generations("qcs6490")
        ('v68',)
    """
    if name is None:
        return GENERATIONS
    known = {each.lower(): generation for each, generation in SOCS.items()}
    if name.lower() not in known:
        raise UnknownNameError("SoC", name, SOCS)
    return (known[name.lower()],)


@dataclass(frozen=True)
class Placed:
    """Where the nodes of a compiled graph are.

    parts: how many Hexagon computes. outside: nodes that the CPU computes. fed: tensors that the
    parts are handed though they do not depend on the image, such as weights in float.
    """

    parts: int
    outside: tuple[onnx.NodeProto, ...]
    fed: tuple[str, ...]

    @classmethod
    def of(cls, compiled: bytes) -> Placed:
        """Read back from what the compiler wrote."""
        graph = onnx.load_from_string(compiled).graph
        parts = [node for node in graph.node if node.op_type == COMPILED]
        outside = tuple(node for node in graph.node if node.op_type != COMPILED)
        seen = {value.name for value in inputs_of(graph)}  # what depends on the image
        for node in graph.node:
            if seen.intersection(node.input):
                seen.update(node.output)
        read = (name for node in parts for name in node.input)
        return cls(len(parts), outside, tuple(name for name in read if name not in seen))


@dataclass(frozen=True)
class Unit:
    """A node as the compiler judged it.

    node: its name in the file; empty if it has none. operator: such as "Conv". pairs: whether Q and
    DQ around it are judged with it, else it computes in float. reason: why it is left to the CPU,
    in the compiler's words; empty if it is not.
    """

    node: str
    operator: str
    pairs: bool
    reason: str


_UNIT = re.compile(
    r"Validation (?:PASSED|FAILED) for (?P<count>\d+) nodes in OrtNodeUnit \((?P<kind>\w+)\) :\n"
    r"(?P<nodes>(?:\tOperator type: .*\n)+)(?:\tREASON : (?P<reason>.*))?"
)
_NODE = re.compile(r"\tOperator type: (\S+) Node name: (.*) Node index: \d+")
_COPIED = re.compile(r"_token_\d+$")  # which ONNX Runtime adds to a node that it writes anew
# Ends of the graph, which it is told to leave to the CPU.
_AT_AN_END = re.compile(r"consume a graph input|generate a graph output")


def read_units(log: str) -> tuple[Unit, ...]:
    r"""What a log of the compiler says of the nodes; each once, and its refusal if there is one.

    Example:
        >>> from edgeunet.exporting.npu.hexagon import read_units
        >>> read_units(
        ...     "Validation FAILED for 1 nodes in OrtNodeUnit (Conv) :\n"
        ...     "\tOperator type: Conv Node name: /head/Conv_token_3 Node index: 9\n"
        ...     "\tREASON : it says why\n"
        ... )
        (Unit(node='/head/Conv', operator='Conv', pairs=False, reason='it says why'),)
    """
    units: dict[tuple[str, str], Unit] = {}
    for found in _UNIT.finditer(log):
        reason = found["reason"] or ""
        if _AT_AN_END.search(reason):
            continue
        names = [name for kind, name in _NODE.findall(found["nodes"]) if kind == found["kind"]]
        name = _COPIED.sub("", names[0]) if names else ""
        unit = Unit(name, found["kind"], int(found["count"]) > 1, reason)
        # The compiler judges twice, and it is the refusal that counts.
        if unit.reason or (name, unit.operator) not in units:
            units[name, unit.operator] = unit
    return tuple(units.values())


def compile_graph(content: bytes, generation: str, *, log: IO[bytes] | None = None) -> bytes:
    """What the compiler makes of a graph: an ONNX file that needs no other.

    Args:
        generation: of Hexagon, such as "v73". log: gets all that it says.

    Raises:
        MissingDependencyError: ONNX Runtime's plug-in for QNN is missing. BackendError: it cannot
        be started. GraphError: the compiler gives up, and why.

    Example:
        >>> content = Path("model.int8.qnn.onnx").read_bytes()  # doctest: +SKIP
        >>> compiled = compile_graph(content, "v68")  # doctest: +SKIP
    """
    if not PLACEMENT.provider.is_installed:
        raise MissingDependencyError("onnxruntime_qnn")
    settings = {
        "htp_arch": generation.removeprefix("v"),
        "htp_graph_finalization_optimization_mode": "3",  # the most thorough
    }
    return PLACEMENT.compiled(content, settings, log=log)


def judged(content: bytes, generation: str) -> tuple[tuple[Unit, ...], bytes | GraphError]:
    """What the compiler says of each node, and what it makes of the graph, or why it gives up.

    Raises:
        MissingDependencyError, BackendError: see `compile_graph`.

    Example:
        >>> content = Path("model.int8.qnn.onnx").read_bytes()  # doctest: +SKIP
        >>> units, made = judged(content, "v68")  # doctest: +SKIP
    """
    made: bytes | GraphError
    with tempfile.TemporaryFile() as log:
        try:
            made = compile_graph(content, generation, log=log)
        except GraphError as error:
            made = error
        log.seek(0)
        return read_units(log.read().decode(errors="replace")), made
