"""Segments an image on Qualcomm's Hexagon, in Python without edgeunet.

edgeunet deploy BUNDLE --to qualcomm --soc QCS6490 -o FOLDER   # on a PC; copy FOLDER to the board
pip install onnxruntime onnxruntime-qnn pillow                 # on the board
python segment.py FOLDER/model.v68.onnx IMAGE.png MASK.png

The masks of the golden frames are compared first: a board may have another driver than the compiler
knew. On a machine without Hexagon it runs in the emulator.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read by the import
import numpy as np
import onnxruntime
import onnxruntime_qnn
from PIL import Image


def open_graph(path: Path) -> onnxruntime.InferenceSession:
    """A session on Hexagon, or on its emulator."""
    files = json.loads(path.with_name("deployment.json").read_text())["files"]
    if hashlib.sha256(path.read_bytes()).hexdigest() != files.get(path.name):  # code for the NPU
        sys.exit(f"{path} is not what was deployed: copy it again")
    onnxruntime.register_execution_provider_library("QNN", onnxruntime_qnn.get_library_path())
    devices = [each for each in onnxruntime.get_ep_devices() if each.ep_name == "QNN"]
    hexagon = [each for each in devices if each.device.type.name == "NPU"]
    if not hexagon:
        print("no Hexagon here: in its emulator")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_provider_for_devices(hexagon[:1] or devices[:1], {"backend_type": "htp"})
    try:
        return onnxruntime.InferenceSession(path, options, enable_fallback=0)
    except Exception as error:  # ONNX Runtime raises several unrelated classes
        sys.exit(f"Hexagon does not take {path.name} (see README.md): {str(error).splitlines()[0]}")


def main(path: str, image: str, output: str) -> None:
    """Write the class ids of an image that has the size of the net's input."""
    session = open_graph(Path(path))
    with np.load(Path(path).with_name("check.npz")) as check:
        golden = [session.run(["masks"], {"frames": each[None]})[0][0] for each in check["frames"]]
        agreement = np.mean(np.stack(golden) == check["masks"])
    if agreement < 0.99:
        sys.exit(f"{agreement:.2%} of the golden pixels are right: see the driver's version")
    _, height, width, channels = session.get_inputs()[0].shape
    pixels = np.asarray(Image.open(image).convert("RGB" if channels == 3 else "L"))
    if pixels.shape[:2] != (height, width):
        sys.exit(f"{image} is {pixels.shape}; resize it to {height}x{width} first")
    mask = session.run(["masks"], {"frames": pixels.reshape(1, height, width, channels)})[0][0]
    Image.fromarray(mask).save(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
