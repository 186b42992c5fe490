"""Nets that answer at once, for tiles of any size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeunet.bundle.bundle import Bundle
from edgeunet.bundle.manifest import InputSpec, Manifest, Resize
from edgeunet.runtime.frames import NetOutputs
from support.nets import StandIn


def bundle_of(
    height: int,
    width: int,
    *,
    classes: int = 2,
    resize: Resize = "stretch",
    gate: tuple[float, ...] | None = None,
) -> Bundle:
    """A bundle of which there is no file; a value of 127.5 is 0 to its net."""
    names = tuple(f"class {index}" for index in range(classes))
    manifest = Manifest(
        reference="checkpoint",
        origin="PyTorch",
        model="unet",
        arguments={},
        weights="none",
        precision="fp32",
        classes=names,
        palette=((0, 0, 0),) * classes,
        input=InputSpec(height, width, resize=resize, mean=(0.5,) * 3, std=(0.25,) * 3),
        logits_size=(height, width),
        max_batch=8,
        files={},
        versions={},
        gate=gate,
    )
    return Bundle(Path("nowhere"), manifest)


class Bright(StandIn):
    """Class 1 where a pixel is bright, whatever is about it. Counts the tiles of its calls."""

    kind = "bright"

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.calls: list[int] = []

    def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        self.calls.append(len(images))
        assert images.shape[2:] == self.bundle.manifest.logits_size
        plane = images.mean(axis=1, keepdims=True)
        return NetOutputs(np.concatenate([-plane, plane], axis=1), None)


class Ring(StandIn):
    """Wrong, class 1, on the outermost `width` pixels of its input, and class 0 inside."""

    kind = "ring"

    def __init__(self, bundle: Bundle, width: int) -> None:
        super().__init__(bundle)
        self.width = width

    def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        wrong = np.ones(images.shape[2:], np.float32)
        wrong[self.width : -self.width, self.width : -self.width] = -1
        return NetOutputs(np.stack([np.stack([-wrong, wrong])] * len(images)), None)


class Noisy(StandIn):
    """Logits that depend on pixel and place, and a gate that depends on the tile's brightness."""

    kind = "noisy"

    def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        count, classes = len(images), len(self.bundle.manifest.classes)
        rng = np.random.default_rng(0)
        fields = rng.normal(size=(classes, *images.shape[2:])).astype(np.float32)
        mixed = images[:, [index % 3 for index in range(classes)]]
        brightness = images.mean(axis=(1, 2, 3))[:, None]
        presence = (1 + np.tanh(4 * brightness * np.linspace(-1, 1, classes))) / 2  # a sigmoid
        return NetOutputs(mixed * fields, presence.reshape(count, classes).astype(np.float32))
