"""PyTorch on the GPU with the net of a bundle, as JSON; `gpu.py --torch` calls it, net by net.

    python benchmarks/gpu_torch.py BUNDLE [--compile]

Milliseconds of the net alone by CUDA events, eager FP32 (with TF32 in convolutions, as PyTorch has
it by default) and eager FP16 channels last, and frames a second from host frames to host masks in
eager FP32; with `--compile` only the compiled net in FP16.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from torch.nn.functional import interpolate

from edgeunet.models.checkpoints import Checkpoint

BATCHES = (1, 8)
END_TO_END_BATCH = 8
WARM_UP, CALLS = 20, 100


@torch.inference_mode()
def main(bundle: Path, *, compiled: bool) -> None:
    """Time a bundle's net."""
    found = {"torch": torch.__version__, "gpu": torch.cuda.get_device_name()}
    net = Checkpoint.open(bundle / "checkpoint.safetensors").net.cuda().eval()
    manifest = json.loads((bundle / "manifest.json").read_text())
    spec = manifest["input"]
    shape = (3, spec["height"], spec["width"])
    times, rates = {}, {}
    if not compiled:
        rates["eager fp32"] = _end_to_end(net, bundle, spec)
        times["eager fp32"] = _times(net, shape, torch.float32)
    net = net.half().to(memory_format=torch.channels_last)
    if compiled:
        run = torch.compile(net.predict, mode="max-autotune-no-cudagraphs")
        times["compiled fp16 channels last"] = _times(run, shape, torch.float16)
    else:
        times["eager fp16 channels last"] = _times(net, shape, torch.float16)
    print(json.dumps({**found, "net_ms": times, "frames_per_second": rates}))


def _times(
    net: Callable[[torch.Tensor], Any], shape: tuple[int, ...], dtype: torch.dtype
) -> dict[int, float]:
    found = {}
    for batch in BATCHES:
        image = torch.randn(batch, *shape, device="cuda", dtype=dtype)
        if dtype == torch.float16:
            image = image.to(memory_format=torch.channels_last)
        for _ in range(WARM_UP):
            net(image)
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(CALLS + 1)]
        marks[0].record()
        for mark in marks[1:]:
            net(image)
            mark.record()
        torch.cuda.synchronize()
        spans = [a.elapsed_time(b) for a, b in pairwise(marks)]
        found[batch] = statistics.median(spans)
    return found


def _end_to_end(net: Any, bundle: Path, spec: dict[str, Any]) -> float:
    """Frames a second of the bundle's golden frames, in eager FP32."""
    with np.load(bundle / "golden.npz", allow_pickle=False) as data:
        golden = data["frames"]
    frames = golden[np.arange(END_TO_END_BATCH) % len(golden)]
    mean = torch.tensor(spec["mean"], device="cuda").view(1, -1, 1, 1)
    std = torch.tensor(spec["std"], device="cuda").view(1, -1, 1, 1)
    inner = (spec["height"], spec["width"])

    def segment() -> np.ndarray[Any, Any]:
        image = torch.from_numpy(frames).cuda().permute(0, 3, 1, 2).float()
        image = interpolate(image, inner, mode="bilinear", align_corners=False)
        logits, _ = net.predict((image / 255 - mean) / std)
        logits = interpolate(logits, frames.shape[1:3], mode="bilinear", align_corners=False)
        return logits.argmax(1).byte().cpu().numpy()

    for _ in range(WARM_UP):
        segment()
    started = time.perf_counter()
    for _ in range(CALLS):
        segment()
    return CALLS * END_TO_END_BATCH / (time.perf_counter() - started)


if __name__ == "__main__":
    main(Path(sys.argv[1]), compiled="--compile" in sys.argv[2:])
