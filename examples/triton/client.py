"""Segments images on a Triton server.

client.py MODEL IMAGE... [--url HOST:PORT] [-o DIR]

The model is one that `edgeunet deploy --to triton` made of a bundle for RGB images.
Needs tritonclient[http] and Pillow.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image
from tritonclient.http import InferenceServerClient, InferInput


def main() -> None:
    """Send the images, and write masks as pictures in the colours of their classes."""
    parser = argparse.ArgumentParser(description="Segment images on a Triton server.")
    parser.add_argument("model")
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--url", default="localhost:8000")
    parser.add_argument("-o", "--output", type=Path, default=Path("masks"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    client = InferenceServerClient(options.url, concurrency=8)
    config = client.get_model_config(options.model)
    classes, palette = (
        json.loads(config["parameters"][key]["string_value"]) for key in ("classes", "palette")
    )
    height, width, _ = map(int, config["input"][0]["dims"])

    # All requests are on their way before the first answer: the server makes batches of them.
    answers = {}
    for path in options.images:
        image = Image.open(path).convert("RGB")
        if height > 0:  # otherwise the model takes any size
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        frames = np.asarray(image)[None]
        tensor = InferInput("frames", frames.shape, "UINT8")
        tensor.set_data_from_numpy(frames)
        answers[path] = client.async_infer(options.model, [tensor])

    for path, answer in answers.items():
        (mask,) = answer.get_result().as_numpy("masks")
        picture = Image.fromarray(mask)
        picture.putpalette(np.ravel(palette).tolist())
        picture.save(options.output / f"{path.stem}.png")
        shares = np.bincount(mask.ravel(), minlength=len(classes)) / mask.size
        found = ", ".join(f"{classes[i]} {shares[i]:.1%}" for i in np.flatnonzero(shares))
        print(f"{path}: {found}")


if __name__ == "__main__":
    main()
