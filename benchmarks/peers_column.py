"""One column of `peers.py`, in a process of its own.

    python peers_column.py FOLDER ROW THREADS BATCH COLUMN

Prints the shape of the logits as a line of JSON, the logits, and then a byte whenever it has
computed the same frames again, which it does for each line that comes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeunet.benchmark.entries import Entry
from edgeunet.benchmark.peers import PEERS, PeerNet
from edgeunet.benchmark.tools import Made, open_openvino, open_ort
from edgeunet.bundle.bundle import Bundle, open_bundle
from edgeunet.runtime.backends.candidates import candidates
from edgeunet.runtime.backends.preprocess import Preprocessor
from edgeunet.runtime.options import LoadOptions

Images = npt.NDArray[np.float32]
Call = Callable[[], Any]

OURS = "edgeunet "
"""How the columns of this package begin."""
TORCH = "PyTorch "
"""How those of PyTorch begin: "eager" and "compiled" follow."""
LIBRARY = "ONNX Runtime FP32"
HINTS = {"FP32": "f32", "BF16": "bf16"}
"""Precisions of OpenVINO's columns, and its names for them."""


def images_of(bundle: Bundle, batch: int) -> Images:
    """So many golden frames as the net's input, in turn."""
    images = Preprocessor(bundle.manifest.input)(list(bundle.golden().frames))
    return np.stack(list(islice(cycle(images), batch)))


def _open(
    name: str, folder: Path, bundle: Bundle, images: Images, threads: int, stack: ExitStack
) -> Call:
    """What computes the logits of the images in this column."""
    options = LoadOptions(threads=threads)
    for candidate in candidates(bundle, options):
        if name == OURS + candidate.label:
            opened = stack.enter_context(Entry(bundle, options, candidate).open())
            net = opened.backend.net
            return lambda: net.infer(images).logits
    made = Made(bundle.model_path("fp32"), (len(images), *images.shape[1:]))  # type: ignore[arg-type]
    for peer in PEERS:
        if name == peer.label:
            own = folder / "peers" / peer.name
            model = replace(made, path=own / (own / "made").read_text())
            foreign = stack.enter_context(PeerNet(peer, model, threads=threads))
            return lambda: foreign.infer(images).logits
    if name == LIBRARY:
        run = open_ort(made, threads)
    else:
        hint = HINTS[name.split()[-1]]
        run = open_openvino(made, threads, INFERENCE_PRECISION_HINT=hint)
    return lambda: run(images)[0]


def _torch(name: str, folder: Path, row: str, images: Images, threads: int) -> Call:
    # It takes seconds to import, which the other columns save.
    import torch
    from peers_nets import ROWS, Kept

    torch.set_num_threads(threads)
    net = Kept(ROWS[row], folder).net()
    run = torch.compile(net) if name.endswith("compiled") else net
    tensor = torch.from_numpy(images)

    def call() -> Any:
        with torch.inference_mode():
            return run(tensor).numpy()

    return call


def main(folder: Path, row: str, threads: int, batch: int, name: str) -> None:
    """Answer as this module says."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries print
    bundle = open_bundle(folder / "bundle")
    images = images_of(bundle, batch)
    with ExitStack() as stack:
        call = (
            _torch(name, folder, row, images, threads)
            if name.startswith(TORCH)
            else _open(name, folder, bundle, images, threads, stack)
        )
        logits = np.ascontiguousarray(call(), np.float32)
        answers.write(json.dumps(logits.shape).encode() + b"\n" + logits.tobytes())
        answers.flush()
        while sys.stdin.buffer.readline():
            call()
            answers.write(b".")
            answers.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
