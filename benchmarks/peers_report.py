"""Markdown of what `peers.py` measured: one part for each processor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

from peers_column import OURS

from edgeunet.bundle.golden import PROMISED, REQUIRED
from edgeunet.bundle.manifest import Precision

Line = dict[str, Any]

HEADING = """# `auto` against everything else

By `benchmarks/peers.py`: 352x480, the net alone, milliseconds a frame (medians of calls in turns;
trust the ratios within a row). Columns that begin with "edgeunet" are this package's engines and
precisions, of which `auto` takes one by its own measurement; the others are other projects' tools
at their defaults on the same FP32 net, calibrated on the same frames. Each column has a process of
its own, to which each call is a message (0.1 ms or less). Agreement is with PyTorch eager. The best
column of a row is bold. A column whose masks this package would refuse does not count. Nets of
width 32 and those of other libraries (segmentation_models_pytorch, YOLO26n-sem of Ultralytics) were
trained for a minute only: they show speed and agreement, not quality. GFLOPs count a multiply-add
as two. mIoU is PyTorch's and that of the fastest INT8 on CamVid's val, which the weights `camvid`
were trained on with train: it shows what INT8 keeps, not how good a net is.
"""
_NEAR = 1.03
"""`auto` counts as the best column if it takes at most so many times as long."""


def markdown(lines: Sequence[Line]) -> str:
    """Tables of all lines, by processor, threads and batch; the newest line of a cell counts."""
    newest: dict[tuple[str, int, int, str], Line] = {}
    for line in lines:
        key = line["machine"]["processor"], line["threads"], line["batch"], line["row"]
        newest[key] = line
    parts = [HEADING]
    for processor in dict.fromkeys(key[0] for key in newest):
        mine = [line for key, line in newest.items() if key[0] == processor]
        parts += _processor(processor, mine)
    return "\n".join(parts)


def _processor(name: str, lines: Sequence[Line]) -> Iterator[str]:
    machine = lines[-1]["machine"]
    known = ("onnxruntime", "openvino", "torch", "nncf", "ncnn", "MNN")
    versions = ", ".join(f"{each} {machine[each]}" for each in known if each in machine)
    yield f"## {name}, {machine['cores']} cores\n"
    yield f"Instructions for {machine['instructions']}. {versions}\n"
    gains = [_gain(line) for line in lines]
    near = sum(_auto_ratio(line) <= _NEAR for line in lines)
    mean = math.exp(sum(map(math.log, gains)) / len(gains))
    worst = max(map(_auto_ratio, lines))
    yield (
        f"`auto` is within {_NEAR - 1:.0%} of the best column in {near} of {len(lines)} cells (at "
        f"worst {worst:.2f}x of it), and {mean:.2f}x as fast as the best peer in the geometric "
        f"mean (at least {min(gains):.2f}x, at most {max(gains):.2f}x).\n"
    )
    for threads, batch in dict.fromkeys((line["threads"], line["batch"]) for line in lines):
        mine = [line for line in lines if (line["threads"], line["batch"]) == (threads, batch)]
        plural = "s" if threads > 1 else ""
        yield f"### {threads} thread{plural}, batch {batch}, milliseconds a frame\n"
        yield from _summary(mine)
        yield from _nets(mine)
        yield from _columns(mine)
    yield from _notes(lines)


def _summary(lines: Sequence[Line]) -> Iterator[str]:
    yield "| net | `auto` takes | ms | pixels agree | best peer | ms | `auto` is | of the best |"
    yield "|---|---|---|---|---|---|---|---|"
    for line in lines:
        auto, peer = line["auto"], _best_peer(line)
        yield (
            f"| {line['row']} | {auto.removeprefix(OURS)} | {line['ms'][auto]:.1f} "
            f"| {line['agreement'][auto]:.2%} | {peer} | {line['ms'][peer]:.1f} "
            f"| {_gain(line):.2f}x as fast | {_auto_ratio(line):.2f}x |"
        )
    yield ""


def _nets(lines: Sequence[Line]) -> Iterator[str]:
    """What each net costs, and how fast the fastest program of each precision is."""
    yield "| net | GFLOPs | FP32 | INT8 | of FP32 | peers' FP32 | peers' INT8 | mIoU | INT8 |"
    yield "|---" * 9 + "|"
    for line in lines:
        fp32, int8 = (_fastest(line, precision, ours=True) for precision in ("fp32", "int8"))
        share = int8[0] / fp32[0] if fp32 and int8 else None
        peers = [_fastest(line, precision, ours=False) for precision in ("fp32", "int8")]
        miou = line["miou"]
        stage = "openvino int8" if int8 and "openvino" in int8[1] else "int8"
        cells = [
            f"{line['gflops']:.2f}",
            *map(_timed, (fp32, int8)),
            "–" if share is None else f"{share:.2f}",
            *map(_timed, peers),
            *(f"{miou[name]:.2f}" if name in miou else "–" for name in ("pytorch", stage)),
        ]
        yield f"| {line['row']} | {' | '.join(cells)} |"
    yield ""


def _fastest(line: Line, precision: Precision, *, ours: bool) -> tuple[float, str] | None:
    """Milliseconds and column of the fastest whose masks count."""
    found = [
        (spent, name.removeprefix(OURS))
        for name, spent in _eligible(line).items()
        if _precision(name) == precision and name.startswith(OURS) is ours
    ]
    return min(found, default=None)


def _timed(found: tuple[float, str] | None) -> str:
    return "–" if found is None else f"{found[0]:.1f} ({found[1].rsplit(' ', 1)[0]})"


def _columns(lines: Sequence[Line]) -> Iterator[str]:
    names = list(dict.fromkeys(name for line in lines for name in line["ms"]))
    names.sort(key=lambda name: not name.startswith(OURS))  # stable
    yield f"| net | {' | '.join(names)} |"
    yield "|---" * (len(names) + 1) + "|"
    for line in lines:
        best = min(_eligible(line).values())
        cells = []
        for name in names:
            spent = line["ms"].get(name)
            shown = "–" if spent is None else f"{spent:.1f}"
            cells.append(f"**{shown}**" if spent == best else shown)
        yield f"| {line['row']} | {' | '.join(cells)} |"
    yield ""


def _notes(lines: Sequence[Line]) -> Iterator[str]:
    """What did not run, and masks that are further off than promised."""
    reasons: dict[str, list[str]] = {}
    for line in lines:
        for name, reason in line["problems"].items():
            reasons.setdefault(f"{name}: {reason}", []).append(_place(line))
    for reason, places in reasons.items():
        where = "everywhere" if len(places) == len(lines) else ", ".join(places)
        yield f"- {reason} ({where})"
    for line in lines:
        for name, share in line["agreement"].items():
            precision = _precision(name)
            if share < REQUIRED[precision]:
                yield f"- {_place(line)}: {name} agrees on {share:.2%} of pixels: does not count"
            elif name.startswith(OURS) and share < PROMISED[precision]:
                yield f"- {_place(line)}: {name} agrees on {share:.2%}, below its promise"
    yield ""


def _place(line: Line) -> str:
    return f"{line['row']}, {line['threads']}x{line['batch']}"


def _eligible(line: Line) -> dict[str, float]:
    """Milliseconds of the columns whose masks a bundle of their precision would be taken with."""
    return {
        name: spent
        for name, spent in line["ms"].items()
        if line["agreement"][name] >= REQUIRED[_precision(name)]
    }


def _precision(column: str) -> Precision:
    """Of a column; PyTorch computes in FP32."""
    last = column.split()[-1].lower()
    return cast(Precision, last) if last in REQUIRED else "fp32"


def _best_peer(line: Line) -> str:
    times = {name: ms for name, ms in _eligible(line).items() if not name.startswith(OURS)}
    return min(times, key=times.__getitem__)


def _gain(line: Line) -> float:
    """How many times as fast as the best peer `auto` is."""
    return float(line["ms"][_best_peer(line)] / line["ms"][line["auto"]])


def _auto_ratio(line: Line) -> float:
    """Time of what `auto` takes, over the best column's."""
    return float(line["ms"][line["auto"]] / min(_eligible(line).values()))
