"""Segments an image in ncnn, from a folder that edgeunet deployed.

edgeunet deploy BUNDLE --to ncnn -o FOLDER
pip install ncnn numpy pillow
python segment.py FOLDER IMAGE.png MASK.png OVERLAY.png

The mask has the class ids, the overlay their colours.
"""

import importlib.util
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image


def main(folder: str, image: str, output: str, overlay: str) -> None:
    """Write the class ids at the image's size, and the image with the classes' colours."""
    spec = importlib.util.spec_from_file_location("deployed", Path(folder, "segment.py"))
    deployed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(deployed)
    segmenter = deployed.Segmenter()

    picture = Image.open(image).convert("RGB")
    height, width = segmenter.about["size"]
    frame = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    start = time.perf_counter()
    ids = segmenter(frame)
    milliseconds = (time.perf_counter() - start) * 1e3

    mask = Image.fromarray(ids).resize(picture.size, Image.Resampling.NEAREST)
    mask.save(output)
    colours = np.array(segmenter.about["palette"], np.uint8)[np.asarray(mask)]
    Image.blend(picture, Image.fromarray(colours), 0.5).save(overlay)
    print(f"{milliseconds:.1f} ms")
    for class_id, name in enumerate(segmenter.about["classes"]):
        print(f"{name}: {(ids == class_id).mean():.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
