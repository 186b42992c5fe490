"""Shows on a CPU what DeepStream will give for an image, from a folder that edgeunet deployed.

    edgeunet deploy BUNDLE --to deepstream -o FOLDER
    pip install onnxruntime pillow
    python preview.py FOLDER IMAGE.png MASK.png

It reads the settings of nvinfer and does what that plug-in does with them. DeepStream computes in
the precision of its engine, and resizes frames by itself.
"""

import os
import sys
from configparser import ConfigParser
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read by the import
import numpy as np
import onnxruntime
from PIL import Image


def main(folder: str, image: str, output: str) -> None:
    """Write the class ids of an image that has the size of the net's input; 255 is no class."""
    parser = ConfigParser()
    parser.read(Path(folder, "config_infer_primary.txt"))
    settings = parser["property"]
    _, height, width = map(int, settings["infer-dims"].split(";"))
    pixels = np.asarray(Image.open(image).convert("RGB"), np.float32)
    if pixels.shape != (height, width, 3):
        raise SystemExit(f"{image} is {pixels.shape}; resize it to {height}x{width} first")
    if settings.getint("model-color-format") == 1:
        pixels = pixels[..., ::-1]
    offsets = np.array(settings.get("offsets", "0;0;0").split(";"), np.float32)
    planes = np.float32(settings["net-scale-factor"]) * (pixels - offsets)
    session = onnxruntime.InferenceSession(Path(folder, settings["onnx-file"]))
    (scores,) = session.run(
        [settings["output-blob-names"]], {"planes": planes.transpose(2, 0, 1)[None]}
    )
    labels = Path(folder, settings["labelfile-path"]).read_text(encoding="utf-8").splitlines()
    likely = scores[0].max(axis=0) > settings.getfloat("segmentation-threshold")
    mask = np.where(likely, scores[0].argmax(axis=0), 255).astype(np.uint8)
    for class_id in np.unique(mask):
        name = labels[class_id] if class_id < len(labels) else "no class"
        print(f"{name}: {(mask == class_id).mean():.1%}")
    Image.fromarray(mask).save(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
