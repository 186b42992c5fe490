"""Segments images of any size with OpenVINO, several at once.

    edgeunet deploy BUNDLE --to openvino -o FOLDER --pixels any
    pip install openvino pillow
    python segment.py FOLDER/model.xml MASKS IMAGE...

Masks are PNG files whose values are class ids.
"""

import sys
from pathlib import Path

sys.modules["openvino_telemetry"] = None  # importing OpenVINO would report that
import numpy as np
import openvino
from PIL import Image


def main(model: str, folder: str, *images: str) -> None:
    """Write the mask of each RGB image into the folder."""
    # Processors with AMX would compute in BF16, which `edgeunet deploy` did not compare.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "THROUGHPUT"}
    net = openvino.Core().compile_model(model, "CPU", settings)
    Path(folder).mkdir(parents=True, exist_ok=True)

    def write(request: openvino.InferRequest, image: Path) -> None:
        (mask,) = request.get_tensor("masks").data
        Image.fromarray(mask).save(Path(folder, f"{image.stem}.png"))

    queue = openvino.AsyncInferQueue(net)
    queue.set_callback(write)
    for image in map(Path, images):
        frame = np.asarray(Image.open(image).convert("RGB"))
        queue.start_async({"frames": frame[None]}, image)
    queue.wait_all()


if __name__ == "__main__":
    main(*sys.argv[1:])
