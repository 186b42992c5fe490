"""Graph passes over `onnx_ir` models, grouped by subject.

A pass changes the model that it is given, and checks what must hold before and after.
"""

from .clean import (
    CancelTransposes,
    Clean,
    ConcatInInt8,
    QuantizeConstants,
    ResizeInFloat,
    RoundOnce,
)
from .convolutions import (
    BatchNormToConv,
    ConvToMatMul,
    PadToConv,
    TransposeHead,
    WidenConvolutions,
)
from .folding import FoldShapes, Prepare
from .layout import ChannelsLastStem, ExpandGates, SpreadDepthToSpace
from .phases import DeconvToPhases, UpsampledConvToPhases
from .upsampling import (
    DeconvToDepthToSpace,
    PixelShuffleToDepthToSpace,
    ResizeToConv,
    ResizeToGather,
)

__all__ = [
    "BatchNormToConv",
    "CancelTransposes",
    "ChannelsLastStem",
    "Clean",
    "ConcatInInt8",
    "ConvToMatMul",
    "DeconvToDepthToSpace",
    "DeconvToPhases",
    "ExpandGates",
    "FoldShapes",
    "PadToConv",
    "PixelShuffleToDepthToSpace",
    "Prepare",
    "QuantizeConstants",
    "ResizeInFloat",
    "ResizeToConv",
    "ResizeToGather",
    "RoundOnce",
    "SpreadDepthToSpace",
    "TransposeHead",
    "UpsampledConvToPhases",
    "WidenConvolutions",
]
