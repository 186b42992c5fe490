"""What was measured on one card, a JSON line a step, and the tables of it in Markdown.

python benchmarks/gpu_report.py benchmarks/results/CARD.jsonl

`gpu.py` and `gpu_check.py` append to that file. A step that ran several times counts with its last
line.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeunet.runtime.bench import PrecisionResult, decide

RESULTS = Path(__file__).with_name("results")
Line = dict[str, Any]
_NAMED = ("step", "bundle", "precision", "tensorrt")
_ORDER = ("fp32", "fp16", "int8")


def results_file(folder: Path, card: str) -> Path:
    """Where the lines of a card are kept: `nvidia-h100-80gb-hbm3.jsonl`."""
    return folder / f"{re.sub(r'[^a-z0-9]+', '-', card.lower()).strip('-')}.jsonl"


def write_line(line: Line, path: Path | None) -> None:
    """Print a line and append it to a file, both at once: a run that is killed keeps it."""
    text = json.dumps(line)
    print(text, flush=True)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(text + "\n")


def name_of(line: Line) -> str:
    """Step, bundle, precision and TensorRT's version, as far as a line has them."""
    return " ".join(line[key] for key in _NAMED if key in line)


def markdown(lines: Sequence[Line]) -> str:
    """Tables of what one card's lines hold."""
    last = {name_of(line): line for line in lines}
    left_out = [name for name, line in last.items() if "left_out" in line]
    done = [line for line in last.values() if "left_out" not in line]
    found = {
        step: [line for line in done if line["step"] == step] for step in {d["step"] for d in done}
    }
    text = [
        *_machine(found.get("machine", [])),
        *_engines(found.get("engine", [])),
        *_verdicts(found.get("engine", [])),
        *_kernels(found.get("kernels", [])),
        *_early_exit(found.get("early-exit", [])),
        *_torch([*found.get("torch", []), *found.get("torch-compile", [])]),
        *_checks([line for line in done if line["step"].startswith("check-")]),
    ]
    if left_out:
        text += ["", f"No time was left for: {', '.join(left_out)}."]
    return "\n".join(text).strip() + "\n"


def _machine(lines: list[Line]) -> list[str]:
    text = []
    for line in lines:
        if "problem" in line:
            text += [f"The machine: {line['problem']}", ""]
            continue
        found = line["result"]
        tensorrt = found.get("tensorrt") or "none"
        text += [
            f"{found['gpu']} ({found['capability']}), CUDA {found['cuda']}, TensorRT {tensorrt}; "
            "by `benchmarks/gpu.py`.",
            "",
        ]
    return text


def _engines(lines: list[Line]) -> list[str]:
    if not lines:
        return []
    batches = sorted({int(b) for line in lines for b in line.get("result", {}).get("net_ms", ())})
    head = ["bundle", "precision", "golden pixels", *(f"net ms, batch {b}" for b in batches)]
    head += ["net frames/s, batch 8", "host to host frames/s", "of the net", "build s"]
    table = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for line in lines:
        start = f"| {line['bundle']} | {line['precision']}"
        if "problem" in line:
            table.append(f"{start} | {_short(line['problem'])} |")
            continue
        row = line["result"]
        times = {int(batch): value for batch, value in row["net_ms"].items()}
        bare = 8000 / times[8] if 8 in times else None
        cells = [f"{row['agreement']:.3%}"]
        cells += [f"{times[batch]:.3f}" if batch in times else "" for batch in batches]
        cells += [
            f"{bare:.0f}" if bare else "",
            f"{row['frames_per_second']:.0f}",
            f"{row['frames_per_second'] / bare:.0%}" if bare else "",
            f"{row['build_seconds']:.0f}",
        ]
        table.append(f"{start} | {' | '.join(cells)} |")
    return table


def _verdicts(lines: list[Line]) -> list[str]:
    """Which precision to use, by the time of one frame."""
    text = []
    for bundle in dict.fromkeys(line["bundle"] for line in lines):
        found = {line["precision"]: line for line in lines if line["bundle"] == bundle}
        results = [
            PrecisionResult(
                precision,
                next(iter(found[precision].get("result", {}).get("net_ms", {}).values()), None),
                found[precision].get("result", {}).get("agreement"),
                found[precision].get("problem"),
            )
            for precision in _ORDER
            if precision in found
        ]
        if any(result.latency_ms is not None for result in results):
            text.append(f"- {bundle}: {decide(results).why}")
    return ["", *text] if text else []


def _kernels(lines: list[Line]) -> list[str]:
    text = []
    for line in lines:
        if "problem" in line:
            text += ["", f"Kernels: {line['problem']}"]
            continue
        filters = list(line["result"][0]["resample_shares"])
        head = ["kernels", "classes", "batch", "device copy GB/s", "preprocess", "postprocess"]
        text += ["", f"| {' | '.join([*head, *filters])} |", "|---" * len([*head, *filters]) + "|"]
        for row in line["result"]:
            shares = [row["preprocess_share"], row["postprocess_share"]]
            shares += [row["resample_shares"][how] for how in filters]
            cells = [row["precision"], str(row["classes"]), str(row["batch"])]
            cells += [f"{row['copy_gb_per_s']:.0f}", *(f"{share:.0%}" for share in shares)]
            text.append(f"| {' | '.join(cells)} |")
    return text


def _torch(lines: list[Line]) -> list[str]:
    if not lines:
        return []
    text = [
        "",
        "| PyTorch | form | ms, batch 1 | ms, batch 8 | host to host frames/s |",
        "|---" * 5 + "|",
    ]
    for line in lines:
        if "problem" in line:
            text.append(f"| {line['bundle']} | {_short(line['problem'])} |")
            continue
        row = line["result"]
        for form, times in row["net_ms"].items():
            rate = row["frames_per_second"].get(form)
            text.append(
                f"| {line['bundle']} | {row['torch']} {form} | {times['1']:.3f} | "
                f"{times['8']:.3f} | {'' if rate is None else f'{rate:.0f}'} |"
            )
    return text


def _early_exit(lines: list[Line]) -> list[str]:
    text = []
    for line in lines:
        text.append("")
        if "problem" in line:
            text.append(f"Early exit of {line['bundle']}: {line['problem']}")
            continue
        found = line["result"]
        gain = found["early_exit"] / found["everything"]
        text.append(
            f"Early exit of {line['bundle']}: {found['skipped']} of {found['frames']} frames skip "
            f"the decoder, {found['differ']:.3%} of the pixels differ; "
            f"{found['everything']:.0f} -> {found['early_exit']:.0f} frames/s, {gain:.2f}x."
        )
    return text


def _checks(lines: list[Line]) -> list[str]:
    if not lines:
        return []
    text = ["", "| check, PyTorch as the engine | verdict | figures |", "|---" * 3 + "|"]
    for line in lines:
        wrong = [line["problem"]] if "problem" in line else line["wrong"]
        verdict = "right" if not wrong else "wrong: " + _short("; ".join(wrong))
        figures = ", ".join(f"{key} {value}" for key, value in line.get("result", {}).items())
        text.append(f"| {name_of(line)} | {verdict} | {figures} |")
    return text


def _short(problem: str) -> str:
    """The end of a problem, on one line of a table."""
    return " ".join(problem.split()).replace("|", "/")[-300:]


if __name__ == "__main__":
    print(markdown([json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]))
