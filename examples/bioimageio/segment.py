"""Segments an image by a package of BioImage.IO, in Python without edgeunet.

    edgeunet deploy BUNDLE --to bioimageio -o PACKAGE --license MIT
    pip install bioimageio.core onnxruntime
    python segment.py PACKAGE/rdf.yaml IMAGE.png MASK.png

ilastik, QuPath, deepImageJ and napari open the same package from their menus.
"""

import os
import sys

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when ONNX Runtime is imported
import imageio.v3 as imageio
import numpy as np
from bioimageio.core import load_model_description, predict


def main(package: str, image: str, output: str) -> None:
    """Write the class ids of an image that has the size of the net's input."""
    model = load_model_description(package)
    (given,), (answer,) = model.inputs, model.outputs
    height, width = (axis.size for axis in given.axes if axis.type == "space")
    pixels = imageio.imread(image)
    if pixels.shape[:2] != (height, width):
        raise SystemExit(f"{image} is {pixels.shape}; resize it to {height}x{width} first")
    planes = pixels.reshape(height, width, -1).transpose(2, 0, 1)[None].astype(np.float32)
    sample = predict(model=model, inputs={given.id: planes})
    probabilities = sample.members[answer.id].data.values  # (1, classes, height, width)
    imageio.imwrite(output, probabilities[0].argmax(axis=0).astype(np.uint8))


if __name__ == "__main__":
    main(*sys.argv[1:])
