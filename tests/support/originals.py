"""Nets of others, restated: their keys and their forward passes, no more.

What tests of foreign checkpoints compare with. Widths are free, so that tests can be quick.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def shake(net: nn.Module, *, seed: int = 0) -> Any:
    """Random weights and batch statistics of a trained net's size; in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in net.state_dict().items():
        if name.endswith("running_var") or (name.endswith("weight") and tensor.ndim == 1):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.ndim == 4:
            fan_in = tensor[0].numel() if tensor.shape[0] else 1
            tensor.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
        elif tensor.is_floating_point():
            tensor.normal_(0, 0.3, generator=generator)
    return net.eval()


def same(before: int, after: int, *, bias: bool = True) -> nn.Conv2d:
    """3x3 convolution that keeps the size."""
    return nn.Conv2d(before, after, 3, padding=1, bias=bias)


# The layer that ends level 5, the head, and channels in widths: of that layer, dec4_1, dec3_1 and
# dec2_1, and of unpool4..1.
TUTORIALS = {
    "original": ("dec5_1", "fc", (8, 4, 2, 1), (8, 4, 2, 1)),
    "score_fr": ("enc5_2", "score_fr", (16, 8, 4, 1), (8, 4, 2, 1)),
    "regular": ("enc5_2", "score_fr", (16, 8, 4, 2), (8, 4, 2, 1)),
}


class TutorialUNet(nn.Module):
    """hanyoseob/youtube-cnn-002-pytorch-unet, or one of its forms with `score_fr`."""

    def __init__(self, form: str, classes: int, *, width: int, channels: int = 3) -> None:
        super().__init__()
        self.deepest, self.last, left, risen = TUTORIALS[form]
        before = channels
        for level in range(1, 5):
            after = width << (level - 1)
            self.cbr(f"enc{level}_1", before, after)
            self.cbr(f"enc{level}_2", after, after)
            before = after
        self.cbr("enc5_1", before, 16 * width)
        self.cbr(self.deepest, 16 * width, left[0] * width)
        before = left[0] * width
        for level, after, up in zip((4, 3, 2, 1), (*left[1:], 1), risen, strict=True):
            skip = width << (level - 1)
            self.add_module(f"unpool{level}", nn.ConvTranspose2d(before, up * width, 2, stride=2))
            self.cbr(f"dec{level}_2", up * width + skip, skip)
            self.cbr(f"dec{level}_1", skip, after * width)
            before = after * width
        self.add_module(self.last, nn.Conv2d(before, classes, 1))

    def cbr(self, name: str, before: int, after: int) -> None:
        self.add_module(name, nn.Sequential(same(before, after), nn.BatchNorm2d(after), nn.ReLU()))

    def forward(self, x: Tensor) -> Tensor:
        at = self.get_submodule
        skips = []
        for level in range(1, 5):
            x = at(f"enc{level}_2")(at(f"enc{level}_1")(x))
            skips.append(x)
            x = nn.functional.max_pool2d(x, 2)
        x = at(self.deepest)(at("enc5_1")(x))
        for level in (4, 3, 2, 1):
            x = torch.cat((at(f"unpool{level}")(x), skips[level - 1]), dim=1)
            x = at(f"dec{level}_1")(at(f"dec{level}_2")(x))
        out: Tensor = at(self.last)(x)
        return out


class Node(nn.Module):
    """Two convolutions of the nested U-Net."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = same(before, after), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = same(after, after), nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu()


class NestedUNet(nn.Module):
    """4uiiurz1's and bigmb's nested U-Net; `heads` is "final", "final1-4" or "seg_outputs"."""

    def __init__(self, heads: str, classes: int, *, width: int, channels: int = 3) -> None:
        super().__init__()
        rows = [width << i for i in range(5)]
        for i in range(5):
            for j in range(5 - i):
                before = j * rows[i] + rows[i + 1] if j else rows[i - 1] if i else channels
                self.add_module(f"conv{i}_{j}", Node(before, rows[i]))
        self.heads = heads
        if heads == "seg_outputs":
            self.seg_outputs = nn.ModuleList(nn.Conv2d(width, classes, 1) for _ in range(4))
        else:
            for name in ("final",) if heads == "final" else (f"final{j}" for j in range(1, 5)):
                self.add_module(name, nn.Conv2d(width, classes, 1))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logits by column; the last is that of inference."""
        nodes: dict[tuple[int, int], Tensor] = {}
        for i in range(5):
            below = x if i == 0 else nn.functional.max_pool2d(nodes[i - 1, 0], 2)
            nodes[i, 0] = self.get_submodule(f"conv{i}_0")(below)
        for j in range(1, 5):
            for i in range(5 - j):
                up = nn.functional.interpolate(
                    nodes[i + 1, j - 1], scale_factor=2, mode="bilinear", align_corners=True
                )
                row = [nodes[i, k] for k in range(j)]
                nodes[i, j] = self.get_submodule(f"conv{i}_{j}")(torch.cat([*row, up], dim=1))
        if self.heads == "final":
            return [self.get_submodule("final")(nodes[0, 4])]
        name = "seg_outputs.{}" if self.heads == "seg_outputs" else "final{}"
        shift = self.heads == "seg_outputs"
        return [self.get_submodule(name.format(j - shift))(nodes[0, j]) for j in range(1, 5)]


class Wrapped(nn.Module):
    """A module under another name, as milesial's keys have it."""

    def __init__(self, **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)


class MilesialUNet(nn.Module):
    """milesial/Pytorch-UNet; older checkpoints have a bias in each convolution."""

    def __init__(
        self, bilinear: bool, classes: int, *, width: int, channels: int = 3, bias: bool = False
    ) -> None:
        super().__init__()
        self.bilinear, half = bilinear, 2 if bilinear else 1
        stages = [width << level for level in range(4)] + [16 * width // half]

        def double(before: int, middle: int, after: int) -> Wrapped:
            layers: list[nn.Module] = []
            for one, two in ((before, middle), (middle, after)):
                layers += [same(one, two, bias=bias), nn.BatchNorm2d(two), nn.ReLU()]
            return Wrapped(double_conv=nn.Sequential(*layers))

        self.inc = double(channels, width, width)
        for level in range(1, 5):
            pool = nn.Sequential(nn.MaxPool2d(2), double(stages[level - 1], *[stages[level]] * 2))
            self.add_module(f"down{level}", Wrapped(maxpool_conv=pool))
        before = stages[-1]
        for step, level in enumerate((3, 2, 1, 0), start=1):
            after = stages[level] // half if level else width
            if bilinear:
                up: nn.Module = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
                conv = double(2 * stages[level], stages[level], after)
            else:
                up = nn.ConvTranspose2d(before, before // 2, 2, stride=2)
                conv = double(before, after, after)
            self.add_module(f"up{step}", Wrapped(up=up, conv=conv))
            before = after
        self.outc = Wrapped(conv=nn.Conv2d(width, classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        at = self.get_submodule
        x = at("inc.double_conv")(x)
        skips = []
        for level in range(1, 5):
            skips.append(x)
            x = at(f"down{level}.maxpool_conv.1.double_conv")(nn.functional.max_pool2d(x, 2))
        for step in range(1, 5):
            x = torch.cat([skips.pop(), at(f"up{step}.up")(x)], dim=1)
            x = at(f"up{step}.conv.double_conv")(x)
        out: Tensor = at("outc.conv")(x)
        return out


def conv_norm(
    before: int, after: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    conv = nn.Conv2d(before, after, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(after)]


class Inverted(nn.Module):
    """Block of torchvision's MobileNetV2."""

    def __init__(self, before: int, after: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = before * expand
        layers: list[nn.Module] = []
        if expand > 1:
            layers.append(nn.Sequential(*conv_norm(before, hidden), nn.ReLU6()))
        layers.append(nn.Sequential(*conv_norm(hidden, hidden, 3, stride, hidden), nn.ReLU6()))
        self.conv = nn.Sequential(*layers, *conv_norm(hidden, after))
        self.add = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.add else self.conv(x)


class Squeeze(nn.Module):
    """Squeeze-excitation of torchvision."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=(2, 3), keepdim=True)
        return x * self.fc2(nn.functional.silu(self.fc1(mean))).sigmoid()


class MBConv(nn.Module):
    """Block of torchvision's EfficientNet, without stochastic depth."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = before * expand
        layers: list[nn.Module] = []
        if expand > 1:
            layers.append(nn.Sequential(*conv_norm(before, hidden), nn.SiLU()))
        layers.append(nn.Sequential(*conv_norm(hidden, hidden, kernel, stride, hidden), nn.SiLU()))
        layers.append(Squeeze(hidden, before // 4))
        layers.append(nn.Sequential(*conv_norm(hidden, after)))
        self.block = nn.Sequential(*layers)
        self.add = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) if self.add else self.block(x)


class Classifier(nn.Module):
    """Features and classifier, as torchvision keeps both."""

    def __init__(self, *features: nn.Module) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x: Tensor) -> list[Tensor]:
        """What each of the features returns."""
        outputs = []
        for feature in self.features:
            x = feature(x)
            outputs.append(x)
        return outputs


def mobilenet_v2() -> Classifier:
    """torchvision's, 3,504,872 parameters."""
    features: list[nn.Module] = [nn.Sequential(*conv_norm(3, 32, 3, 2), nn.ReLU6())]
    before = 32
    for expand, after, blocks, stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2),
        (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for index in range(blocks):
            features.append(Inverted(before, after, 1 if index else stride, expand))
            before = after
    return Classifier(*features, nn.Sequential(*conv_norm(320, 1280), nn.ReLU6()))


def efficientnet_b0() -> Classifier:
    """torchvision's, 5,288,548 parameters."""
    features: list[nn.Module] = [nn.Sequential(*conv_norm(3, 32, 3, 2), nn.SiLU())]
    before = 32
    for expand, kernel, stride, after, blocks in (
        (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3),
        (6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1),
    ):  # fmt: skip
        stage = []
        for index in range(blocks):
            stage.append(MBConv(before, after, kernel, 1 if index else stride, expand))
            before = after
        features.append(nn.Sequential(*stage))
    return Classifier(*features, nn.Sequential(*conv_norm(320, 1280), nn.SiLU()))
