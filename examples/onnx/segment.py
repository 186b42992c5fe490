"""Segments images by a graph from frames to masks, with ONNX Runtime and Pillow alone.

    edgeunet deploy BUNDLE --to onnx -o FOLDER --pixels any
    pip install onnxruntime pillow
    python segment.py FOLDER/model.onnx MASKS IMAGE...

Masks are PNG files whose values are class ids, shown in the colours of the classes.
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read by the import
import numpy as np
import onnxruntime
from PIL import Image


def main(graph: str, folder: str, *images: str) -> None:
    """Write the mask of each RGB image into the folder, and print the shares of the classes."""
    session = onnxruntime.InferenceSession(graph)
    manifest = json.loads(session.get_modelmeta().custom_metadata_map["edgeunet_manifest"])
    Path(folder).mkdir(parents=True, exist_ok=True)
    for image in map(Path, images):
        frame = np.asarray(Image.open(image).convert("RGB"))
        (masks,) = session.run(["masks"], {"frames": frame[None]})
        picture = Image.fromarray(masks[0])
        picture.putpalette([value for colour in manifest["palette"] for value in colour])
        picture.save(Path(folder, f"{image.stem}.png"))
        shares = np.bincount(masks.ravel()) / masks.size
        found = zip(manifest["classes"], shares, strict=False)  # shares end at the last one seen
        print(f"{image}: " + ", ".join(f"{name} {share:.1%}" for name, share in found if share))


if __name__ == "__main__":
    main(*sys.argv[1:])
