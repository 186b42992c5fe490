"""Segments an image with a model of LiteRT, in Python without edgeunet.

    edgeunet deploy BUNDLE --to litert -o FOR-PHONES
    pip install ai-edge-litert pillow
    python segment.py FOR-PHONES IMAGE.png MASK.png

In Kotlin, Swift and C++ the same model has the same signature: `frames` in, `masks` out.
"""

import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image


def main(folder: str, image: str, output: str) -> None:
    """Write the class ids of an image that has the size of the net's input."""
    interpreter = Interpreter(str(Path(folder, "model.tflite")), num_threads=2)
    run = interpreter.get_signature_runner()
    _, height, width, channels = run.get_input_details()["frames"]["shape"]
    pixels = np.asarray(Image.open(image).convert("RGB" if channels == 3 else "L"))
    if pixels.shape[:2] != (height, width):
        raise SystemExit(f"{image} is {pixels.shape}; resize it to {height}x{width} first")
    mask = run(frames=pixels.reshape(1, height, width, channels))["masks"][0]
    Image.fromarray(mask).save(output)
    names = Path(folder, "labels.txt").read_text(encoding="utf-8").splitlines()
    for index in np.unique(mask):
        print(f"{names[index]}: {np.mean(mask == index):.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
