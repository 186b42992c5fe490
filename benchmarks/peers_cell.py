"""One net with one number of threads and one batch size: every column, timed in turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from peers_nets import Images, Kept

from edgeunet.benchmark.entries import Entry
from edgeunet.benchmark.peers import PEERS, PeerNet, peer_versions
from edgeunet.benchmark.timing import first_seconds, sampled_latencies
from edgeunet.benchmark.tools import Made, open_openvino, open_ort
from edgeunet.doctor import environment, instructions
from edgeunet.errors import first_line
from edgeunet.runtime.backends.choice import candidates, choose
from edgeunet.runtime.backends.openvino_library import openvino_core
from edgeunet.runtime.backends.preprocess import Preprocessor
from edgeunet.runtime.options import LoadOptions

Logits = npt.NDArray[np.float32]
Call = Callable[[], Logits]

OURS = "edgeunet "
"""How the columns of this package begin."""


def compiled_mark(kept: Kept, threads: int, batch: int) -> Path:
    """Exists if `torch.compile` has filled its cache for this cell: that takes a minute each."""
    return kept.folder / f"compiled-{threads}-{batch}"


def images_of(kept: Kept, batch: int) -> Images:
    """So many golden frames as the net's input, in turn."""
    bundle = kept.bundle
    images = Preprocessor(bundle.manifest.input)(list(bundle.golden().frames))
    return np.stack(list(islice(cycle(images), batch)))


@torch.inference_mode()
def compile_net(kept: Kept, threads: int, batch: int) -> None:
    """Fill the cache of `torch.compile`."""
    torch.set_num_threads(threads)
    torch.compile(kept.net())(torch.from_numpy(images_of(kept, batch)))
    compiled_mark(kept, threads, batch).touch()


@torch.inference_mode()
def measure_cell(kept: Kept, threads: int, batch: int, *, budget: float) -> dict[str, Any]:
    """Median milliseconds of a frame, and agreement with PyTorch eager, by column.

    Columns that do not run are in `problems` with their reasons. `auto` is the column that the
    backend of this name chooses; it measures for itself.
    """
    torch.set_num_threads(threads)
    images = images_of(kept, batch)
    problems: dict[str, str] = {}
    with ExitStack() as stack:
        answers: dict[str, Logits] = {}
        calls: dict[str, Callable[[], None]] = {}
        first: dict[str, float] = {}
        for name, opener in _openers(kept, images, threads, problems, stack).items():
            try:
                call = _keeping(answers, name, opener())
                first[name] = first_seconds(call)
                calls[name] = call
            except Exception as error:  # other projects' errors are of every kind
                problems[name] = f"{type(error).__name__}: {first_line(error)}"
        times = sampled_latencies(calls, budget=budget, rounds=4, first=first)
        classes = {name: np.array(found).argmax(1) for name, found in answers.items()}
    reference = classes["PyTorch eager"]
    agreement = {name: float(np.mean(found == reference)) for name, found in classes.items()}
    chosen, why = _auto(kept, threads, again=batch == 1)
    return {
        "row": kept.row.name,
        "threads": threads,
        "batch": batch,
        "ms": {name: statistics.median(each) / batch for name, each in times.items()},
        "calls": {name: len(each) for name, each in times.items()},
        "agreement": agreement,
        "auto": chosen,
        "why": why,
        "problems": problems,
        "machine": environment() | peer_versions() | {"instructions": _instructions()},
    }


def _keeping(answers: dict[str, Logits], name: str, call: Call) -> Callable[[], None]:
    """A call that notes its newest answer."""

    def run() -> None:
        answers[name] = call()

    return run


def _openers(
    kept: Kept, images: Images, threads: int, problems: dict[str, str], stack: ExitStack
) -> dict[str, Callable[[], Call]]:
    """What opens each column."""
    openers: dict[str, Callable[[], Call]] = {}
    bundle, options = kept.bundle, LoadOptions(threads=threads)
    for candidate in candidates(bundle, options):
        openers[OURS + candidate.label] = lambda candidate=candidate: _ours(
            Entry(bundle, options, candidate), images, stack
        )
    openers["PyTorch eager"] = lambda: _torch(kept.net(), images)
    if compiled_mark(kept, threads, len(images)).exists():
        openers["PyTorch compiled"] = lambda: _torch(torch.compile(kept.net()), images)
    else:
        problems["PyTorch compiled"] = "not compiled beforehand by --prepare"
    shape = (len(images), *images.shape[1:])
    made = Made(bundle.model_path("fp32"), shape)  # type: ignore[arg-type]

    def foreign(run: Callable[[Images], Any]) -> Call:
        return lambda: run(images)[0]

    openers["ONNX Runtime FP32"] = lambda: foreign(open_ort(made, threads))
    capable = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    for precision, hint in (("FP32", "f32"), ("BF16", "bf16")):
        if precision in capable:
            openers[f"OpenVINO {precision}"] = lambda hint=hint: foreign(
                open_openvino(made, threads, INFERENCE_PRECISION_HINT=hint)
            )
    for peer in PEERS:
        folder = kept.folder / "peers" / peer.name
        if peer.missing is not None or not (folder / "made").exists():
            problems[peer.label] = peer.missing or "not converted; --prepare says why"
            continue
        model = replace(made, path=folder / (folder / "made").read_text())
        openers[peer.label] = lambda peer=peer, model=model: _peer(
            stack.enter_context(PeerNet(peer, model, threads=threads)), images
        )
    return openers


def _ours(entry: Entry, images: Images, stack: ExitStack) -> Call:
    net = stack.enter_context(entry.open()).backend.net
    return lambda: net.infer(images).logits


def _peer(net: PeerNet, images: Images) -> Call:
    return lambda: net.infer(images).logits


def _torch(net: Any, images: Images) -> Call:
    tensor = torch.from_numpy(images)
    return lambda: net(tensor).numpy()


def _instructions() -> str:
    """Such as "INT8: AMX, VNNI; BF16: AMX; FP16: none"."""
    found = instructions().items()
    return "; ".join(f"{kind}: {', '.join(names) or 'none'}" for kind, names in found)


def _auto(kept: Kept, threads: int, *, again: bool) -> tuple[str, str]:
    """The column that `auto` takes, and its reason; measured on one frame, for all batches."""
    choice = choose(kept.bundle, LoadOptions(threads=threads), again=again)
    return OURS + choice.use.label, choice.why
