"""Channels -> positions: what several neighbouring pixels hold, from one pixel's channels."""

from __future__ import annotations

from .chain import Chain


def spread(
    chain: Chain, target: str, *, shape: tuple[int, int, int], block: tuple[int, int]
) -> None:
    """Append nodes (N, rows * columns * C, H / rows, W / columns) -> (N, C, H, W).

    Source channel (row * columns + column) * C + c is channel c of a pixel at that place in the
    block. With channels last, as ONNX Runtime computes in INT8, the outer Transposes cancel
    against the convolutions' own; columns are then only counted differently, and rows are moved
    in runs of columns * C values.

    Args:
        shape: (C, H, W) of the target. block: (rows, columns).
    """
    (channels, height, width), (rows, columns) = shape, block
    chain.add("Transpose", "channels_last", perm=[0, 2, 3, 1])
    if rows > 1:
        runs = [-1, width // columns, rows, columns * channels]
        chain.add("Reshape", "rows", runs)
        chain.add("Transpose", "interleaved", perm=[0, 2, 1, 3])
    chain.add("Reshape", "columns", [-1, height, width, channels])
    chain.add("Transpose", "channels_first", output=target, perm=[0, 3, 1, 2])
