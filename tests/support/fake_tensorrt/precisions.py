"""In which precision the layers of a network run, and which of them have no tactic in it."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import TensorProto

from .scenario import NoTactic
from .values import is_rtx, tell

_MB = 1 << 20


def precision_of(network: Any, config: Any, name: str) -> str:
    """ "INT8", "HALF" or "FLOAT".

    A node that reads a Q/DQ pair runs in INT8, whatever its layer's constraint is: nobody has seen
    what the real one does with both.
    """
    model = onnx.load_from_string(network._onnx)
    producers = {output: node for node in model.graph.node for output in node.output}
    (node,) = (each for each in model.graph.node if each.name == name)
    before = [producers[read].op_type for read in node.input if read in producers]
    if "DequantizeLinear" in before:
        return "INT8"
    if network._strong:
        kinds = {each.name: each.data_type for each in model.graph.initializer}
        return "HALF" if TensorProto.FLOAT16 in map(kinds.get, node.input) else "FLOAT"
    flags = config._flag_names()
    (layer,) = (each for each in network._layers if each._name == name)
    wanted = layer._constraint
    if wanted and {"OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS"} & set(flags):
        return str(wanted)
    return "HALF" if "FP16" in flags else "FLOAT"


def head_of(network: Any) -> str | None:
    """Name of the convolution that gives the logits."""
    model = onnx.load_from_string(network._onnx)
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    has_logits = any(value.name == "logits" for value in model.graph.output)
    return convolutions[-1] if has_logits and convolutions else None


def fail_without_tactics(network: Any, config: Any, logger: Any) -> bool:
    """Log what the real one does about the first layer without tactics; whether there is one."""
    trt = network._trt
    if trt.scenario.short_elsewhere is not None:
        tell(logger, "VERBOSE", "=============== Computing costs for another layer")
        _log_shortage(trt, logger, trt.scenario.short_elsewhere)
    for fault in trt.scenario.no_tactics:
        if not _strikes(fault, network, config):
            continue
        layer = fault.layer or fault.node
        tell(logger, "VERBOSE", f"=============== Computing costs for {layer}")
        if fault.memory is not None:
            _log_shortage(trt, logger, fault.memory)
        place = "[optimizer.cpp::computeCosts::3869] " if trt.__version__ == "8.6.0" else ""
        inside = "" if place else " In computeCosts at optimizer/common/tactic/optimizer.cpp:4115"
        words = f"Could not find any implementation for node {layer}."
        tell(logger, "ERROR", f"{place}Error Code 10: Internal Error ({words}{inside})")
        return True
    return False


def _strikes(fault: NoTactic, network: Any, config: Any) -> bool:
    if fault.node not in {layer._name for layer in network._layers}:
        return False
    sources = network._trt.TacticSource.__members__
    if fault.cure in sources and config.get_tactic_sources() >> int(sources[fault.cure]) & 1:
        return False
    return precision_of(network, config, fault.node) == fault.precision


def _log_shortage(trt: Any, logger: Any, memory: tuple[int, int | None]) -> None:
    requested, available = memory
    old = trt.__version__ == "8.6.0" and not is_rtx(trt)
    size = requested if old else requested * _MB
    if available is not None:
        tell(
            logger,
            "WARNING",
            f"Tactic Device request: {requested}MB Available: {available}MB. Device memory is "
            "insufficient to use tactic.",
        )
    tell(
        logger,
        "WARNING",
        f"UNSUPPORTED_STATE{'' if old else ': '}Skipping tactic 0 due to insufficient memory on "
        f"requested size of {size} detected for tactic 0x0000000000000018.",
    )
