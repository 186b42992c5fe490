"""Run lengths of a map of ids as COCO writes them, for all its ids in one pass.

COCO walks down the columns, the first column first, and counts pixels outside and inside in turn,
beginning outside. `maskApi.c` of pycocotools is the reference: both forms are equal to its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.integer[Any]]
Counts = npt.NDArray[np.int64]

_BITS = 5  # of a number in one character
_WHOLE = 3  # numbers before the first that is a difference


def run_lengths(ids: Ids) -> dict[int, Counts]:
    """Uncompressed run lengths of every id in a map (H, W), by ascending id.

    It costs one pass over the pixels and one sort of the runs, however many ids there are.

    Args:
        ids: (H, W) of any integers, such as class ids, with less than 2**31 pixels.

    Example:
        >>> from edgeunet.shapes.runs import run_lengths
        >>> runs = run_lengths(np.array([[0, 1], [2, 1]], np.uint8))
        >>> {key: counts.tolist() for key, counts in runs.items()}
        {0: [0, 1, 3], 1: [2, 2], 2: [1, 1, 2]}
    """
    keys, counts, firsts = _runs(ids)
    return dict(zip(keys.tolist(), np.split(counts, firsts[1:]), strict=True))


def compressed_runs(ids: Ids) -> dict[int, str]:
    """`run_lengths` as the text that COCO writes into files, by ascending id.

    Each number is cut into 5 bits a character, the lowest first; the sixth bit says that more
    follow, and the characters begin at "0". From the fourth number on it is the difference to the
    last but one. See `rleToString` in `maskApi.c`.

    Example:
        >>> from edgeunet.shapes.runs import compressed_runs
        >>> compressed_runs(np.array([[0, 1], [2, 1]], np.uint8))
        {0: '013', 1: '22', 2: '112'}
    """
    keys, counts, firsts = _runs(ids)
    text, ends = _compressed(counts, firsts)
    begins = [0, *ends[:-1]]
    return {
        key: text[begin:end] for key, begin, end in zip(keys.tolist(), begins, ends, strict=True)
    }


def compress(counts: Sequence[int]) -> str:
    """Uncompressed run lengths of one mask as text, see `compressed_runs`.

    Example:
        >>> from edgeunet.shapes.runs import compress
        >>> compress([5, 2, 2, 2, 5])
        '52203'
    """
    return _compressed(np.asarray(counts, np.int64), np.zeros(1, np.int64))[0]


def _runs(ids: Ids) -> tuple[Ids, Counts, Counts]:
    """The ids in a map, run lengths of all of them in a row, and where those of each begin."""
    down = _columns(ids)
    bounds = np.flatnonzero(down[1:] != down[:-1]) + 1
    starts = np.concatenate([[0], bounds])
    ends = np.concatenate([bounds, [down.size]])
    values = down[starts]
    order = np.argsort(values, kind="stable")
    values, starts, ends = values[order], starts[order], ends[order]
    group = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    last = np.concatenate([group[1:], [len(values)]]) - 1
    # Outside and inside in turn: from the end of the run before, or from the first pixel.
    counts = np.empty(2 * len(values), np.int64)
    counts[1::2] = ends - starts
    before = np.concatenate([[0], ends[:-1]])
    before[group] = 0
    counts[::2] = starts - before
    # Behind an id's last run, unless that reaches the last pixel.
    rest = down.size - ends[last]
    has_rest = rest > 0
    counts = np.insert(counts, 2 * last[has_rest] + 2, rest[has_rest])
    firsts = 2 * group + np.concatenate([[0], np.cumsum(has_rest)[:-1]])
    return values[group], counts, firsts


def _columns(ids: Ids) -> Ids:
    """The pixels of a map (H, W), column after column."""
    if ids.dtype in (np.uint8, np.int32):  # OpenCV turns these several times faster
        turned: Ids = np.asarray(cv2.transpose(np.ascontiguousarray(ids)), ids.dtype)
        return turned.reshape(-1)
    down: Ids = ids.T.reshape(-1)
    return down


def _compressed(counts: Counts, firsts: Counts) -> tuple[str, list[int]]:
    """All numbers as text, and where the text of each group ends."""
    numbers = counts.copy()
    numbers[2:] -= counts[:-2]
    for place in range(_WHOLE):
        whole = firsts[firsts + place < np.append(firsts[1:], len(counts))] + place
        numbers[whole] = counts[whole]
    # In n characters there is room for a sign and 5n - 1 bits.
    size = numbers ^ (numbers >> 63)
    most = int(size.max()).bit_length() // _BITS + 1
    lengths = np.ones(len(counts), np.int64)
    for length in range(1, most):
        lengths += size >> (_BITS * length - 1) > 0
    ends = np.cumsum(lengths)
    starts = ends - lengths
    text = np.empty(ends[-1], np.uint8)
    for at in range(most):
        if at:
            longer = np.flatnonzero(lengths > at)
            starts, lengths, numbers = starts[longer], lengths[longer], numbers[longer]
        text[starts + at] = 48 + (numbers >> _BITS * at & 31) + 32 * (lengths > at + 1)
    return text.tobytes().decode("ascii"), ends[np.append(firsts[1:], len(counts)) - 1].tolist()
