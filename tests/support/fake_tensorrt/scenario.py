"""The machine of a stand-in, and what goes wrong on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

OUT_OF_MEMORY = (
    "[defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)",
    "Requested amount of GPU memory (268435456 bytes) could not be allocated. There may not be "
    "enough free memory for allocation to succeed.",
    "Error Code 10: Internal Error (Could not find any implementation for node conv.)",
)


@dataclass(frozen=True)
class ParserFault:
    """An error of the parser. node: index of the ONNX node, -1 for none."""

    desc: str
    node: int = -1
    code: str = "UNSUPPORTED_NODE"


@dataclass(frozen=True)
class NoTactic:
    """A node that no tactic implements in a precision.

    Args:
        node: its name. layer: as TensorRT prints it after fusion; None: as it is.
        precision: "INT8", "HALF" or "FLOAT": fails where the node runs in that.
        cure: source of tactics that has one, such as "CUDNN".
        memory: (requested, available) in MB of a tactic that was skipped for want of memory. None
            for the latter: the log does not tell it.
    """

    node: str
    layer: str | None = None
    precision: str = "INT8"
    cure: str | None = None
    memory: tuple[int, int | None] | None = None


@dataclass
class Scenario:
    """Settings that tests change on `module.scenario` at any time.

    The card:
        gpu: False: no driver. card, capability ("sm87"): what plans are tied to. dla_cores.
        memory: of the GPU, in bytes. alignment: that addresses must have, in bytes.

    Parsing fails with parser_faults.

    Building:
        build_steps: number of steps that a progress monitor gets. before_step: called with each
            step, to sleep, wait for an event or press Ctrl-C.
        build_errors: logged, and None returned. build_raises: raised.
        needs_workspace: smallest sufficient workspace in bytes.
        no_tactics: nodes without a tactic.
        short_elsewhere: (requested, available) of tactics of another layer, which has others.
        dla_refuses: names or operators of nodes that the DLA cannot run.

    Running:
        wrong_in_fp16: share of the pixels that get the last class if the head runs in FP16.
        refuses_plan: logged, and no plan deserialised. context_errors: logged, and no context made.
        enqueue_errors: logged, and nothing run. device_memory: what a context needs, in bytes.
    """

    gpu: bool = True
    card: str = "Orin"
    capability: str = "sm87"
    dla_cores: int = 0
    memory: int = 8 << 30
    alignment: int = 256

    parser_faults: tuple[ParserFault, ...] = ()

    build_steps: int = 4
    before_step: Callable[[int], None] = field(default=lambda step: None)
    build_errors: tuple[str, ...] = ()
    build_raises: Exception | None = None
    needs_workspace: int = 0
    no_tactics: tuple[NoTactic, ...] = ()
    short_elsewhere: tuple[int, int] | None = None
    dla_refuses: frozenset[str] = frozenset()

    wrong_in_fp16: float = 0.0
    refuses_plan: str | None = None
    context_errors: tuple[str, ...] = ()
    enqueue_errors: tuple[str, ...] = ()
    device_memory: int = 1 << 20
