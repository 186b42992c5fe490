"""Segments an image with a program of ExecuTorch, in Python without edgeunet.

    edgeunet deploy BUNDLE --to executorch -o FOR-PHONES
    pip install executorch pillow
    python segment.py FOR-PHONES IMAGE.png MASK.png

In Kotlin, Swift and C++ `forward` takes the same frame and gives the same mask first.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from executorch.runtime import Runtime
from PIL import Image


def main(folder: str, image: str, output: str) -> None:
    """Write the class ids of an image that has the size of the net's input."""
    method = Runtime.get().load_program(Path(folder, "model.pte")).load_method("forward")
    _, height, width, channels = method.metadata.input_tensor_meta(0).sizes()
    pixels = np.array(Image.open(image).convert("RGB" if channels == 3 else "L"))
    if pixels.shape[:2] != (height, width):
        raise SystemExit(f"{image} is {pixels.shape}; resize it to {height}x{width} first")
    frame = torch.from_numpy(pixels).reshape(1, height, width, channels)
    mask = method.execute([frame])[0][0].numpy()
    Image.fromarray(mask).save(output)
    names = Path(folder, "labels.txt").read_text(encoding="utf-8").splitlines()
    for index in np.unique(mask):
        print(f"{names[index]}: {np.mean(mask == index):.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
