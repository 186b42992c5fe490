"""Graph passes over `onnx_ir` models, grouped by subject.

A pass changes the model that it is given, and checks what must hold before and after.
"""

from .activations import HardSwishInInt8, PReluToLeakyRelu
from .affine import FoldAffine
from .clean import (
    CancelTransposes,
    Clean,
    ConcatInInt8,
    MoveBytes,
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
from .layout import (
    ChannelsLastStem,
    ExpandGates,
    MapsOfTokens,
    ResizeChannelsLast,
    SpreadDepthToSpace,
    TokensOfMaps,
)
from .phases import DeconvToPhases, UpsampledConvToDeconv, UpsampledConvToPhases
from .upsampling import (
    DeconvToDepthToSpace,
    DepthToSpaceToDeconv,
    DepthToSpaceToPixelShuffle,
    DropResize,
    PixelShuffleToDepthToSpace,
    ResizeToConv,
    ResizeToDeconv,
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
    "DepthToSpaceToDeconv",
    "DepthToSpaceToPixelShuffle",
    "DropResize",
    "ExpandGates",
    "FoldAffine",
    "FoldShapes",
    "HardSwishInInt8",
    "MapsOfTokens",
    "MoveBytes",
    "PReluToLeakyRelu",
    "PadToConv",
    "PixelShuffleToDepthToSpace",
    "Prepare",
    "QuantizeConstants",
    "ResizeChannelsLast",
    "ResizeInFloat",
    "ResizeToConv",
    "ResizeToDeconv",
    "ResizeToGather",
    "RoundOnce",
    "SpreadDepthToSpace",
    "TokensOfMaps",
    "TransposeHead",
    "UpsampledConvToDeconv",
    "UpsampledConvToPhases",
    "WidenConvolutions",
]
