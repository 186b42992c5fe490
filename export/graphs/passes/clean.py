"""Remove what computes nothing: Identity, Constant nodes, unused initialisers and nodes."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx_ir.passes import Sequential
from onnx_ir.passes.common import (
    IdentityEliminationPass,
    LiftConstantsToInitializersPass,
    RemoveUnusedNodesPass,
)


def clean(model: onnx.ModelProto) -> onnx.ModelProto:
    """Same function, same inputs and outputs, with shapes inferred.

    Afterwards: no Identity and no Constant node, and every initialiser is used.
    """
    passes = Sequential(
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        IdentityEliminationPass(),
        RemoveUnusedNodesPass(),
    )
    cleaned = ir.to_proto(passes(ir.from_proto(model)).model)
    return onnx.shape_inference.infer_shapes(cleaned, strict_mode=True)
