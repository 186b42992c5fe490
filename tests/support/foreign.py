"""Small checkpoints of other people's nets, and ours that are equal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from edgeunet.errors import CheckpointError, UsageError
from edgeunet.models import Checkpoint, SegmentationNet, create_model
from edgeunet.models.foreign import recognise
from edgeunet.models.state_dict import load_weights
from edgeunet.models.structure import resize
from support.originals import MilesialUNet, NestedUNet, TutorialUNet, shake

Build = Callable[..., nn.Module]
# Every form that is known: our variant, and how to build it with some classes.
FORMS: dict[str, tuple[str, Build]] = {
    "tutorial": ("unet", lambda n, **kw: TutorialUNet("score_fr", n, **kw)),
    "tutorial regular": ("unet", lambda n, **kw: TutorialUNet("regular", n, **kw)),
    "tutorial original": ("unet", lambda n, **kw: TutorialUNet("original", n, **kw)),
    "nested final": ("unetpp", lambda n, **kw: NestedUNet("final", n, **kw)),
    "nested final1-4": ("unetpp", lambda n, **kw: NestedUNet("final1-4", n, **kw)),
    "nested seg_outputs": ("unetpp", lambda n, **kw: NestedUNet("seg_outputs", n, **kw)),
    "milesial": ("unet", lambda n, **kw: MilesialUNet(False, n, **kw)),
    "milesial biased": ("unet", lambda n, **kw: MilesialUNet(False, n, bias=True, **kw)),
    "milesial bilinear": ("unet", lambda n, **kw: MilesialUNet(True, n, **kw)),
    "milesial bilinear biased": ("unet", lambda n, **kw: MilesialUNet(True, n, bias=True, **kw)),
}
TITLES = {
    "tutorial": "a U-Net of tutorials (enc1_1 ... dec1_1)",
    "nested": "a nested U-Net (conv0_0 ... conv0_4)",
    "milesial": "a U-Net of milesial's",
}
every_form = pytest.mark.parametrize("form", FORMS)
# One of each format, for what does not depend on the form.
every_format = pytest.mark.parametrize("form", ["tutorial", "nested final", "milesial bilinear"])


def original(form: str, classes: int = 3, *, width: int = 4, **arguments: Any) -> nn.Module:
    """A small net of others, trained by chance."""
    net: nn.Module = shake(FORMS[form][1](classes, width=width, **arguments))
    return net


def state(form: str, classes: int = 3, **arguments: Any) -> dict[str, Tensor]:
    return original(form, classes, **arguments).state_dict()


def ours(tensors: dict[str, Tensor]) -> SegmentationNet:
    """Our net of a recognised state dict, in double precision."""
    foreign = recognise(tensors)
    assert foreign is not None
    net = create_model(foreign.model, **foreign.arguments)
    if foreign.structure is not None:
        resize(net, foreign.structure, source="test")
    load_weights(net, foreign.tensors, source="test")
    return net.double().eval()


def image(channels: int = 3) -> Tensor:
    """Double: sums in another order then agree, and what is left is the translation."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, channels, 32, 48, generator=generator, dtype=torch.double)


def logits_of(output: Any) -> Tensor:
    """Of the nested net's columns the last."""
    logits: Tensor = output[-1] if isinstance(output, list) else output
    return logits


def saved(folder: Path, tensors: dict[str, Tensor], name: str = "net.pth") -> str:
    path = folder / name
    if path.suffix == ".safetensors":
        save_file({n: t.contiguous() for n, t in tensors.items()}, path)
    else:
        torch.save(tensors, path)
    return str(path)


def refusal(model: str, weights: str, **options: Any) -> str:
    with pytest.raises((CheckpointError, UsageError)) as error:
        Checkpoint.open(weights, model, **{"size": (32, 48), **options})
    return str(error.value)
