"""Trains nets of the zoo on procedural cells, from random weights; an interrupted run resumes.

Files are safetensors, never pickles: `NAME.safetensors` with the trained weights, and while the
training runs `NAME.state.safetensors` with weights, optimizer and the number of steps done.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from zoo_nets import SIZE, Architecture, Logits

from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.cells import write_dataset
from edgeunet.data.check import check_dataset
from edgeunet.data.datasets import Dataset, open_dataset
from edgeunet.data.fit import Fit, Frame
from edgeunet.files import write_bytes
from edgeunet.metrics import Mask
from edgeunet.models.reference import evaluate_on, to_input, to_mask
from edgeunet.training.augment import Augmentation
from edgeunet.training.crops import Crops, focus_on
from edgeunet.training.losses import Target, cross_entropy_dice
from edgeunet.training.optimizer import adamw

TRAIN_IMAGES, VAL_IMAGES = 240, 24
GRAPHS, TRAINED_GRAPHS = "graphs", "trained graphs"
"""Folders of the graphs that are timed."""
STATISTICS_IMAGES = 32
"""Training images that the batch statistics are taken from."""


@dataclass(frozen=True)
class Recipe:
    """How a net is trained. steps: of the optimizer, each on `batch` crops."""

    steps: int
    batch: int = 8
    crop: tuple[int, int] = (96, 128)
    learning_rate: float = 3e-3
    save_every: int = 50

    def rate(self, step: int) -> float:
        """Learning rate of a step: a linear rise for a twentieth of the steps, then a cosine."""
        rise = (step + 1) / max(1, self.steps // 20)
        return self.learning_rate * min(rise, 0.5 + 0.5 * math.cos(math.pi * step / self.steps))


def recipe_of(architecture: Architecture) -> Recipe:
    """Encoders made for ImageNet need more steps, attention a lower learning rate."""
    steps = 400 if architecture.library in ("monai", "nnunet") else 800
    return Recipe(steps, learning_rate=1e-3 if architecture.library == "hf" else 3e-3)


def open_cells(folder: Path, *, train: int = TRAIN_IMAGES, val: int = VAL_IMAGES) -> Dataset:
    """The procedural data set in `folder`, drawn if it is not there."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_dataset(folder, train=train, val=val, height=SIZE[0], width=SIZE[1])
    return open_dataset(folder)


@torch.no_grad()
def settle(net: nn.Module, spec: InputSpec, dataset: Dataset) -> None:
    """Give random weights the batch statistics of frames, and logits of mean 0 and deviation 1.

    Without these the activations of a deep net vanish or explode, one class takes all pixels, and
    what a graph deviates by is the rounding of a constant.
    """
    fit = Fit(spec)
    images = torch.cat([to_input(fit.read(s.image), spec) for s in dataset.samples("train")[:4]])
    update_bn([images], net)
    found = Logits(net.eval())(images)
    means, deviation = found.mean((0, 2, 3)), found.std()
    heads = [
        module
        for module in net.modules()
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))
        and module.out_channels == len(means)
        and module.bias is not None
    ]
    if heads:
        heads[-1].weight /= deviation
        heads[-1].bias.copy_((heads[-1].bias - means) / deviation)


def train(
    architecture: Architecture,
    cells: Path,
    folder: Path,
    recipe: Recipe,
    *,
    report: Callable[[str], None],
) -> float:
    """Train to the last step, write the weights, and return the mIoU in percent.

    Weights that the recipe has made already are kept.

    Args:
        cells: the data set, see `open_cells`. folder: of the weights and of the state.
    """
    weights = weights_file(folder, architecture)
    if weights.exists() and (about := _about(weights))["recipe"] == _fingerprint(recipe):
        return float(about["miou"])
    folder.mkdir(parents=True, exist_ok=True)
    dataset = open_cells(cells)
    net, stem = architecture.make(), file_stem(architecture.name)
    state, done = folder / f"{stem}.state.safetensors", 0
    optimizer = adamw(net, learning_rate=recipe.learning_rate, weight_decay=1e-2)
    if state.exists():
        done = _resume(state, net, optimizer, recipe)
    spec = architecture.spec
    crops = _crops(dataset, spec, recipe)
    logits = Logits(net)
    while done < recipe.steps:
        net.train()
        loss = 0.0
        stop = min(done + recipe.save_every, recipe.steps)
        for step in range(done, stop):
            # Drawn by the number of the step: a run that resumes sees what it would have seen.
            torch.manual_seed(step)
            crops.epoch_seed = step
            chosen = np.random.default_rng(step).choice(len(crops), recipe.batch, replace=False)
            images, ids = map(torch.stack, zip(*(crops[int(i)] for i in chosen), strict=True))
            found = cross_entropy_dice(logits(images), Target(ids))
            optimizer.zero_grad(set_to_none=True)
            found.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate(step)
            optimizer.step()
            loss += found.item() / (stop - done)
        done = stop
        _save(state, net, optimizer, recipe, done)
        report(f"{architecture.name}: step {done} of {recipe.steps}, loss {loss:.3f}")
    _refresh_statistics(net, crops, recipe)
    net.eval()
    miou = evaluate(net, spec, dataset)
    tensors = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    text = json.dumps({"miou": miou, "recipe": _fingerprint(recipe)})
    write_bytes(weights, save(tensors, {"zoo": text}))
    state.unlink()
    return miou


def weights_file(folder: Path, architecture: Architecture) -> Path:
    """Where the trained weights are."""
    return folder / f"{file_stem(architecture.name)}.safetensors"


def file_stem(name: str) -> str:
    """A name as a file's."""
    return name.replace(":", "-").replace(" ", "-")


def kept_graphs(folder: Path, architecture: Architecture) -> Path | None:
    """Where graphs of a net are, those of the trained net if there are."""
    places = (folder / kind / file_stem(architecture.name) for kind in (TRAINED_GRAPHS, GRAPHS))
    return next((place for place in places if place.exists()), None)


def load_trained(architecture: Architecture, folder: Path) -> tuple[nn.Module, float]:
    """The trained net in eval mode, and its mIoU in percent."""
    net, weights = architecture.make(), weights_file(folder, architecture)
    net.load_state_dict(load_file(weights))
    return net.eval(), float(_about(weights)["miou"])


@torch.inference_mode()
def evaluate(net: nn.Module, spec: InputSpec, dataset: Dataset) -> float:
    """MIoU on the validation split, in percent."""
    logits = Logits(net).eval()

    def predict(image: Frame) -> Mask:
        size = (image.shape[0], image.shape[1])
        return to_mask(logits(to_input(image, spec)), None, spec, size, thresholds=None)

    return evaluate_on(predict, dataset, "val", fit=Fit(spec)).miou


def _crops(dataset: Dataset, spec: InputSpec, recipe: Recipe) -> Crops:
    contents = check_dataset(dataset, Fit(spec))
    return Crops(
        dataset.samples("train"),
        spec,
        num_classes=len(dataset.classes),
        augment=Augmentation(recipe.crop, scale=(0.7, 1.4)),
        focus=focus_on(contents.train.by_image, share=0.33),
    )


def _refresh_statistics(net: nn.Module, crops: Crops, recipe: Recipe) -> None:
    """Take batch statistics on whole images: those from training belong to crops."""
    fit = Fit(crops.spec)
    samples = crops.samples[:: max(1, len(crops) // STATISTICS_IMAGES)]
    images = [to_input(fit.read(sample.image), crops.spec) for sample in samples]
    size = recipe.batch
    batches = [torch.cat(images[i : i + size]) for i in range(0, len(images) - size + 1, size)]
    update_bn(batches, net)


def _about(path: Path) -> dict[str, Any]:
    """What a file of this module says of itself."""
    with safe_open(path, "pt") as file:
        return dict(json.loads(file.metadata()["zoo"]))


def _fingerprint(recipe: Recipe) -> str:
    return f"{recipe.steps}x{recipe.batch} {recipe.crop} lr {recipe.learning_rate}"


def _save(
    path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, done: int
) -> None:
    # Clones, since nnU-Net's nets hold the same tensors under several names.
    tensors: dict[str, Tensor] = {f"net.{k}": v.clone() for k, v in net.state_dict().items()}
    for number, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{k}": v.clone() for k, v in values.items()}
    text = json.dumps({"done": done, "recipe": _fingerprint(recipe)})
    write_bytes(path, save(tensors, {"zoo": text}))


def _resume(path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe) -> int:
    """Load a state; returns the number of steps done, 0 if it belongs to another recipe."""
    about, tensors = _about(path), load_file(path)
    if about["recipe"] != _fingerprint(recipe):
        return 0
    net.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("net.")})
    held: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        kind, number, key = name.split(".", 2)
        if kind == "optimizer":
            held.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": held})
    return int(about["done"])
