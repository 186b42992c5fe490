"""Graph passes over `onnx_ir` models, grouped by subject.

A pass changes the model that it is given, and checks what must hold before and after.
"""

from .clean import CancelTransposes, Clean, ConcatInInt8, ResizeInFloat
from .convolutions import (
    BatchNormToConv,
    ConvToMatMul,
    PadToConv,
    TransposeHead,
    WidenConvolutions,
)
from .folding import FoldShapes, Prepare
from .layout import ChannelsLastStem, ExpandGates, SpreadDepthToSpace
from .upsampling import DeconvToDepthToSpace, ResizeToConv

__all__ = [
    "BatchNormToConv",
    "CancelTransposes",
    "ChannelsLastStem",
    "Clean",
    "ConcatInInt8",
    "ConvToMatMul",
    "DeconvToDepthToSpace",
    "ExpandGates",
    "FoldShapes",
    "PadToConv",
    "Prepare",
    "ResizeInFloat",
    "ResizeToConv",
    "SpreadDepthToSpace",
    "TransposeHead",
    "WidenConvolutions",
]
