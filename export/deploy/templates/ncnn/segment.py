"""Runs the net of this folder in ncnn. Needs Python, NumPy and ncnn (`pip install ncnn`).

python segment.py FRAME.npy MASK.npy

model.json says of what size and channels a frame is.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import ncnn
import numpy as np

FOLDER = Path(__file__).parent


class Segmenter:
    """Frames in, class ids out.

    folder: with model.json, model.ncnn.param and model.ncnn.bin. threads: 0 for all cores.
    """

    def __init__(self, folder: Path = FOLDER, threads: int = 0) -> None:
        self.about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        self.net = ncnn.Net()
        # ncnn computes with 16 bits if the processor can. That was not compared.
        options = self.net.opt
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
        options.use_bf16_storage = False
        if threads:
            options.num_threads = threads
        param, weights = folder / "model.ncnn.param", folder / "model.ncnn.bin"
        if self.net.load_param(str(param)) or self.net.load_model(str(weights)):
            raise RuntimeError(f"ncnn {ncnn.__version__} does not load {param}")

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Class ids (H, W) uint8 of a frame (H, W, C) of the net's size, see model.json."""
        about = self.about
        size, given = tuple(about["size"]), (*about["size"], len(about["frame_channels"]))
        if frame.shape != given:
            raise ValueError(f"expected a frame {given}, got {frame.shape}; resize it first")
        planes = np.array(frame[..., about["order"]].transpose(2, 0, 1), np.float32, order="C")
        image = ncnn.Mat(planes)
        image.substract_mean_normalize(about["mean"], about["norm"])
        extractor = self.net.create_extractor()
        extractor.input("in0", image)
        opened = np.ones(len(about["classes"]), bool)
        if about["gate"]:  # ncnn computes only what is asked for: not the decoder yet
            opened = self._extract(extractor, "out1").ravel() >= np.float32(about["gate"])
            if opened.sum() < 2:  # no class is the background
                return np.full(size, opened.argmax(), np.uint8)
        logits = self._extract(extractor, "out0")
        logits[~opened] = -np.inf
        ids: np.ndarray = logits.argmax(axis=0).astype(np.uint8)
        return ids

    def _extract(self, extractor: ncnn.Extractor, name: str) -> np.ndarray:
        code, values = extractor.extract(name)
        if code:
            raise RuntimeError(f"ncnn failed with code {code} at {name}")
        found: np.ndarray = np.array(values)
        return found


if __name__ == "__main__":
    np.save(sys.argv[2], Segmenter()(np.load(sys.argv[1])))
