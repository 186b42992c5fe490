"""gpu.json -> Markdown: what was measured, what failed, and what there was no time for."""

from __future__ import annotations

from typing import Any

from edgeunet.runtime.bench import PrecisionResult, decide

_ORDER = ("fp32", "fp16", "int8")


def markdown(report: dict[str, Any]) -> str:
    """Tables of a run of `gpu.py`, also of one that is not finished."""
    lines = [
        *_machine(report.get("machine")),
        *_engines(report),
        *_verdicts(report["engines"]),
        *_kernels(report.get("kernels", [])),
        *_torch(report.get("torch")),
        *_early_exit(report.get("early_exit")),
    ]
    if report["left_out"]:
        lines += ["", f"No time was left for: {', '.join(report['left_out'])}."]
    return "\n".join(lines) + "\n"


def _machine(found: dict[str, Any] | None) -> list[str]:
    if found is None or "problem" in found:
        return [f"The machine: {found and found['problem']}", ""]
    return [
        f"{found['gpu']} ({found['capability']}), CUDA {found['cuda']}, TensorRT "
        f"{found['tensorrt']}; one run of `benchmarks/gpu.py`.",
        "",
    ]


def _engines(report: dict[str, Any]) -> list[str]:
    rows = report["engines"]
    if not rows:
        return []
    batches = sorted({int(batch) for row in rows for batch in row.get("net_ms", {})})
    head = ["bundle", "precision", "golden pixels", *(f"net ms, batch {b}" for b in batches)]
    head += ["net frames/s, batch 8", "host to host frames/s", "of the net", "build s"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        if "problem" in row:
            lines.append(f"| {row['bundle']} | {row['precision']} | {row['problem']} |")
            continue
        times = {int(batch): value for batch, value in row["net_ms"].items()}
        bare = 8000 / times[8] if 8 in times else None
        cells = [row["bundle"], row["precision"], f"{row['agreement']:.3%}"]
        cells += [f"{times[batch]:.3f}" if batch in times else "" for batch in batches]
        cells += [
            f"{bare:.0f}" if bare else "",
            f"{row['frames_per_second']:.0f}",
            f"{row['frames_per_second'] / bare:.0%}" if bare else "",
            f"{row['build_seconds']:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _verdicts(rows: list[dict[str, Any]]) -> list[str]:
    """Which precision to use, by the time of one frame."""
    lines = []
    for bundle in dict.fromkeys(row["bundle"] for row in rows):
        found = {row["precision"]: row for row in rows if row["bundle"] == bundle}
        results = [
            PrecisionResult(
                precision,
                next(iter(found[precision].get("net_ms", {}).values()), None),
                found[precision].get("agreement"),
                found[precision].get("problem"),
            )
            for precision in _ORDER
            if precision in found
        ]
        if any(result.latency_ms is not None for result in results):
            lines.append(f"- {bundle}: {decide(results).why}")
    return ["", *lines] if lines else []


def _kernels(rows: list[dict[str, Any]] | dict[str, Any]) -> list[str]:
    if not rows:
        return []
    if isinstance(rows, dict):
        return ["", f"Kernels: {rows['problem']}"]
    lines = [
        "",
        "| kernels | classes | batch | device copy GB/s | preprocess | postprocess |",
        "|---" * 6 + "|",
    ]
    for row in rows:
        lines.append(
            f"| {row['precision']} | {row['classes']} | {row['batch']} | "
            f"{row['copy_gb_per_s']:.0f} | {row['preprocess_share']:.0%} | "
            f"{row['postprocess_share']:.0%} |"
        )
    return lines


def _torch(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return []
    if "problem" in found:
        return ["", f"PyTorch: {found['problem']}"]
    lines = [
        "",
        f"| PyTorch {found['torch']} | form | ms, batch 1 | ms, batch 8 | host to host frames/s |",
        "|---" * 5 + "|",
    ]
    for name, net in found["nets"].items():
        for index, (form, times) in enumerate(net["net_ms"].items()):
            rate = f"{net['frames_per_second']:.0f}" if index == 0 else ""
            lines.append(f"| {name} | {form} | {times['1']:.3f} | {times['8']:.3f} | {rate} |")
    return lines


def _early_exit(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return []
    if "problem" in found:
        return ["", f"Early exit: {found['problem']}"]
    gain = found["early_exit"] / found["everything"]
    return [
        "",
        f"Early exit: {found['skipped']} of {found['frames']} frames skip the decoder; "
        f"{found['everything']:.0f} -> {found['early_exit']:.0f} frames/s, {gain:.2f}x.",
    ]
