"""Segments an image on the NPU of a Rockchip board, from a folder that edgeunet deployed.

edgeunet deploy BUNDLE --to rockchip --target rk3588 -o FOLDER   # on a PC; copy FOLDER to the board
pip install rknn-toolkit-lite2 numpy pillow 'setuptools<81'      # on the board
python segment.py FOLDER IMAGE.png MASK.png OVERLAY.png

The mask has the class ids, the overlay their colours. Nothing of this has run on a board yet.
"""

import hashlib
import json
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from rknnlite.api import RKNNLite


def main(folder: str, image: str, output: str, overlay: str) -> None:
    """Write the class ids at the image's size, and the image with the classes' colours."""
    bundle = Path(folder, "bundle")
    about = json.loads((bundle / "manifest.json").read_text())
    compiled = bundle / "model.rknn"  # code for the NPU
    if hashlib.sha256(compiled.read_bytes()).hexdigest() != about["files"][compiled.name]:
        sys.exit(f"{compiled} is not what was deployed: copy it again")
    net = RKNNLite()
    if net.load_rknn(str(compiled)) or net.init_runtime():
        sys.exit("the NPU does not take the net; its runtime printed why")

    picture = Image.open(image).convert("RGB")
    size = about["input"]["width"], about["input"]["height"]
    frame = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
    start = time.perf_counter()
    logits, *presence = net.inference(inputs=[frame[None]], data_format=["nhwc"])
    milliseconds = (time.perf_counter() - start) * 1e3
    net.release()

    planes = [Image.fromarray(plane.astype(np.float32)) for plane in logits[0]]
    scores = np.stack([plane.resize(picture.size, Image.Resampling.BILINEAR) for plane in planes])
    if about["gate"]:
        closed = presence[0][0] < about["gate"]
        closed[0] &= not closed.all()  # the background stays
        scores[closed] = -np.inf
    ids = scores.argmax(0).astype(np.uint8)

    Image.fromarray(ids).save(output)
    colours = Image.fromarray(np.array(about["palette"], np.uint8)[ids])
    Image.blend(picture, colours, 0.5).save(overlay)
    print(f"{milliseconds:.1f} ms")
    for class_id, name in enumerate(about["classes"]):
        print(f"{name}: {(ids == class_id).mean():.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
