"""The results of `zoo.py` as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from zoo_nets import ZOO

Line = dict[str, Any]

PROMISED = {
    "FP16": (0.999, 0.5),
    "INT8 CPU": (0.99, 0.5),
    "INT8 TensorRT": (0.99, 0.5),
    "INT8 over FP16": (0.99, 0.5),
}
"""Share of the pixels that must agree with PyTorch, and points of mIoU that may be lost."""
ENOUGH = 75.0
"""mIoU in percent that a net must have before its losses mean something."""
_GRAPHS = tuple(PROMISED)
_NOT_YET = "not measured"


def tables(lines: Sequence[Line]) -> str:
    """Both tables, and below each what it says in one sentence."""
    by_job: dict[str, dict[str, Line]] = {}
    for line in lines:
        by_job.setdefault(line["job"], {})[line["name"]] = line
    times = by_job.get("time", {})
    parts = [
        "\n".join(_sweep_table(by_job.get("sweep", {}), times)),
        "\n".join(
            _trained_table(by_job.get("prove", {}), by_job.get("train", {}), times),
        ),
        "\n".join(f"- {text}" for text in _machines(lines)),
    ]
    return "\n\n".join(part for part in parts if part)


def _sweep_table(swept: Mapping[str, Line], times: Mapping[str, Line]) -> Iterator[str]:
    yield (
        "| net | parameters | stages | SNR of the logits, dB: FP16, INT8 CPU, INT8 TensorRT "
        "| pixels that agree | FP32 ms | INT8 ms |"
    )
    yield "|---" * 7 + "|"
    for name in ZOO:
        line, timed = swept.get(name), times.get(name, {})
        if line is None:
            yield f"| {name} | | {_NOT_YET} | | | | |"
            continue
        millions = f"{line['parameters'] / 1e6:.2f} M" if "parameters" in line else ""
        graphs = _GRAPHS[:3]
        snr = ", ".join(f"{line['snr'][g]:.1f}" for g in graphs) if "snr" in line else ""
        agree = ""
        if "agreement" in line:
            agree = ", ".join(f"{line['agreement'][g]:.2%}" for g in graphs)
        yield (
            f"| {name} | {millions} | {stages_of(line)} | {snr} | {agree} | {_ms(timed, 'fp32')} "
            f"| {_ms(timed, 'int8.cpu')} |"
        )
    through = [n for n in ZOO if n in swept and not {"refused", "fault"} & set(swept[n])]
    refused = [n for n in ZOO if "refused" in swept.get(n, {})]
    faults = [n for n in ZOO if "fault" in swept.get(n, {})]
    yield ""
    yield (
        f"{len(through)} of {len(ZOO)} nets are through all stages, {len(refused)} are refused by "
        f"name, {len(faults)} failed without a reason, {len(ZOO) - len(swept)} are not measured."
    )


def stages_of(line: Line) -> str:
    """Where a net came to, in one line."""
    if "fault" in line:
        return f"**fault: {_one_line(line['fault'].strip().splitlines()[-1])}**"
    if "refused" in line:
        return f"refused in {line['refused']['step']}: {_one_line(line['refused']['reason'])}"
    rtx: Mapping[str, str] = line["rtx"]
    failed = {name: text for name, text in rtx.items() if text != "built"}
    if failed:
        name, text = next(iter(failed.items()))
        return f"all but RTX {name.upper()}: {_one_line(text)}"
    return "all, RTX FP16 and INT8 built" if rtx else "all; RTX not installed"


def _trained_table(
    proved: Mapping[str, Line], trained: Mapping[str, Line], times: Mapping[str, Line]
) -> Iterator[str]:
    yield f"| net | mIoU | {' | '.join(_GRAPHS)} | in float | FP32 ms | INT8 ms | faster |"
    yield "|---" * (6 + len(_GRAPHS)) + "|"
    names = [name for name, net in ZOO.items() if net.trains]
    kept = []
    for name in names:
        line, timed = proved.get(name), times.get(name, {})
        blank = " | " * (len(_GRAPHS) + 3)
        if line is None or "agreement" not in line:
            why = _why_unproved(line, trained.get(name))
            yield f"| {name} | {why} |{blank}|"
            continue
        cells = [_cell(graph, line) for graph in _GRAPHS]
        kept += [name] if not any("**" in cell for cell in cells) else []
        timed = timed if timed.get("trained") else {}
        yield (
            f"| {name} | {line['miou']:.2f} | {' | '.join(cells)} | {len(line['floats'])} "
            f"| {_ms(timed, 'fp32')} | {_ms(timed, 'int8.cpu')} | {_faster(timed)} |"
        )
    yield ""
    measured = [name for name in names if "agreement" in proved.get(name, {})]
    ratios = [_faster(times[name]) for name in names if times.get(name, {}).get("trained")]
    faster = [ratio for ratio in ratios if ratio and "**" not in ratio]
    yield (
        f"{len(kept)} of {len(names)} trained nets keep the promises of accuracy, and "
        f"{len(measured)} are measured. INT8 is faster in {len(faster)} of the {len(ratios)} that "
        "were timed."
    )


def _why_unproved(line: Line | None, trained: Line | None) -> str:
    if line is not None:
        return stages_of(line)
    if trained is None or "miou" not in trained:
        return _NOT_YET
    low = trained["miou"] < ENOUGH
    return f"{trained['miou']:.2f}, {'too low to mean something' if low else _NOT_YET}"


def _cell(graph: str, line: Line) -> str:
    """Agreement and points lost; what breaks a promise is in bold."""
    agreement, drop = line["agreement"][graph], line["drop"][graph]
    least, most = PROMISED[graph]
    text = f"{agreement:.3%}, {drop:+.2f}"
    return text if agreement >= least and drop <= most else f"**{text}**"


def _ms(timed: Line, flavour: str) -> str:
    return f"{timed['ms'][flavour]:.1f}" if "ms" in timed else ""


def _faster(timed: Line) -> str:
    if "ms" not in timed:
        return ""
    ratio = timed["ms"]["fp32"] / timed["ms"]["int8.cpu"]
    return f"{ratio:.2f}x" if ratio > 1 else f"**{ratio:.2f}x**"


def _machines(lines: Iterable[Line]) -> Iterator[str]:
    """Where times were measured, each machine once."""
    seen = set()
    for line in lines:
        if line["job"] == "time" and "ms" in line:
            at = line["machine"]
            seen.add(
                f"times: {at['processor']}, VNNI {at['vnni']}, AMX {at['amx']}, "
                f"{line['threads']} threads, onnxruntime {at['onnxruntime']}"
            )
    yield from sorted(seen)


def _one_line(text: str, most: int = 200) -> str:
    text = " ".join(text.split()).replace("|", "\\|")
    return text if len(text) <= most else text[: most - 1] + "…"
