"""The 40 nets of `zoo.py`: other people's libraries, built with random weights, nothing downloaded.

Those that `zoo.py --trained` trains are narrow, so that minutes on a CPU suffice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.cells import CLASSES

SIZE = (256, 320)
"""Height and width of the frames, and of what all nets but DPT take."""
_SQUARE = (256, 256)

NUM_CLASSES = len(CLASSES)
_NARROW = (64, 32, 24, 16, 8)
_TINY_TIMM = "tu-mobilenetv3_small_100"


@dataclass(frozen=True)
class Architecture:
    """One net of the zoo.

    library: the extra of edgeunet that brings it. build: makes it with random weights. trains:
    whether it is one of those that are trained. size: (height, width) of its input.
    """

    name: str
    library: str
    build: Callable[[], nn.Module]
    trains: bool = False
    size: tuple[int, int] = SIZE

    @property
    def spec(self) -> InputSpec:
        """How frames become its input: RGB with ImageNet's statistics."""
        return InputSpec(*self.size)

    def make(self, *, seed: int = 0) -> nn.Module:
        """The net in eval mode."""
        torch.manual_seed(seed)
        return self.build().eval()


def _smp(kind: str, encoder: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import segmentation_models_pytorch as smp

        return getattr(smp, kind)(
            encoder_name=encoder, encoder_weights=None, classes=NUM_CLASSES, **options
        )

    return build


def _monai(kind: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from monai.networks import nets

        return getattr(nets, kind)(**options)

    return build


def _planar(**options: Any) -> dict[str, Any]:
    return {"spatial_dims": 2, "in_channels": 3, "out_channels": NUM_CLASSES, **options}


def _torchvision(kind: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from torchvision.models import segmentation

        make = getattr(segmentation, kind)
        return make(weights=None, weights_backbone=None, num_classes=NUM_CLASSES)

    return build


def _nnunet(kind: str, features: tuple[int, ...], **options: Any) -> Callable[[], nn.Module]:
    """As nnU-Net's planner configures 2D nets: instance norm, LeakyReLU, deep supervision."""

    def build() -> nn.Module:
        from dynamic_network_architectures.architectures import unet

        stages = len(features)
        return getattr(unet, kind)(
            input_channels=3,
            n_stages=stages,
            features_per_stage=features,
            conv_op=nn.Conv2d,
            kernel_sizes=3,
            strides=(1, *(2,) * (stages - 1)),
            n_conv_per_stage_decoder=(2,) * (stages - 1),
            num_classes=NUM_CLASSES,
            conv_bias=True,
            norm_op=nn.InstanceNorm2d,
            norm_op_kwargs={"eps": 1e-5, "affine": True},
            nonlin=nn.LeakyReLU,
            nonlin_kwargs={"inplace": True},
            deep_supervision=False,
            **{name: value[:stages] for name, value in options.items()},
        )

    return build


def _segformer() -> nn.Module:
    import transformers

    config = transformers.SegformerConfig(
        hidden_sizes=[16, 32, 64, 128],
        depths=[1, 1, 2, 2],
        num_attention_heads=[1, 2, 4, 8],
        decoder_hidden_size=64,
        num_labels=NUM_CLASSES,
    )
    return transformers.SegformerForSemanticSegmentation(config)


def _upernet(backbone: Callable[[Any], Any]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import transformers

        config = transformers.UperNetConfig(
            backbone_config=backbone(transformers),
            hidden_size=64,
            use_auxiliary_head=False,
            num_labels=NUM_CLASSES,
        )
        return transformers.UperNetForSemanticSegmentation(config)

    return build


def _convnext(transformers: Any) -> Any:
    return transformers.ConvNextConfig(
        hidden_sizes=[40, 80, 160, 320],
        depths=[2, 2, 6, 2],
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )


def _swin(transformers: Any) -> Any:
    return transformers.SwinConfig(
        image_size=SIZE,
        embed_dim=48,
        depths=[2, 2, 2, 2],
        num_heads=[3, 6, 12, 24],
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )


def _mobilevit() -> nn.Module:
    import transformers

    # The sizes of MobileViT-XXS.
    config = transformers.MobileViTConfig(
        hidden_sizes=[64, 80, 96],
        neck_hidden_sizes=[16, 16, 24, 48, 64, 80, 320],
        expand_ratio=2.0,
        num_labels=NUM_CLASSES,
    )
    return transformers.MobileViTForSemanticSegmentation(config)


def _dpt() -> nn.Module:
    import transformers

    config = transformers.DPTConfig(
        hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=192,
        image_size=_SQUARE[0],
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[24, 48, 96, 96],
        fusion_hidden_size=64,
        use_auxiliary_head=False,
        num_labels=NUM_CLASSES,
    )
    return transformers.DPTForSemanticSegmentation(config)


def _all() -> Iterator[Architecture]:
    def net(name: str, build: Callable[[], nn.Module], **options: Any) -> Architecture:
        return Architecture(name, name.partition(":")[0], build, **options)

    narrow = {"decoder_channels": _NARROW}
    yield net("smp:Unet mobilenet_v2", _smp("Unet", "mobilenet_v2", **narrow), trains=True)
    yield net("smp:Unet resnet34", _smp("Unet", "resnet34"))
    yield net("smp:Unet efficientnet-b0", _smp("Unet", "efficientnet-b0"))
    yield net("smp:UnetPlusPlus resnet18", _smp("UnetPlusPlus", "resnet18"))
    yield net("smp:MAnet resnet18", _smp("MAnet", "resnet18"))
    yield net("smp:Linknet mobilenetv3_small", _smp("Linknet", _TINY_TIMM), trains=True)
    fpn = _smp("FPN", "mobilenet_v2", decoder_pyramid_channels=64, decoder_segmentation_channels=32)
    yield net("smp:FPN mobilenet_v2", fpn, trains=True)
    yield net("smp:PSPNet resnet18", _smp("PSPNet", "resnet18"))
    yield net("smp:PAN resnet18", _smp("PAN", "resnet18"))
    yield net("smp:DeepLabV3 resnet18", _smp("DeepLabV3", "resnet18"))
    deeplab = _smp("DeepLabV3Plus", "mobilenet_v2", decoder_channels=64)
    yield net("smp:DeepLabV3Plus mobilenet_v2", deeplab, trains=True)
    yield net("smp:UPerNet resnet18", _smp("UPerNet", "resnet18", decoder_channels=64))
    yield net("smp:Segformer mit_b0", _smp("Segformer", "mit_b0"))

    yield net("timm:mobilenetv3_small_100", _smp("Unet", _TINY_TIMM, **narrow), trains=True)
    lite = _smp("Unet", "tu-tf_efficientnet_lite0", **narrow)
    yield net("timm:tf_efficientnet_lite0", lite, trains=True)
    yield net("timm:mobilenetv4_conv_small", _smp("Unet", "tu-mobilenetv4_conv_small"))
    yield net("timm:convnext_atto", _smp("Unet", "tu-convnext_atto"))
    yield net("timm:regnety_004", _smp("Unet", "tu-regnety_004"))
    yield net("timm:edgenext_xx_small", _smp("Unet", "tu-edgenext_xx_small"))
    yield net("timm:ghostnetv2_100", _smp("Unet", "tu-ghostnetv2_100"))
    yield net("timm:hrnet_w18_small", _smp("Unet", "tu-hrnet_w18_small"))

    levels = {"channels": (8, 16, 32, 64, 128), "strides": (2, 2, 2, 2)}
    wide = {"channels": (16, 32, 64, 128, 256), "strides": (2, 2, 2, 2)}
    yield net("monai:UNet", _monai("UNet", **_planar(**levels, num_res_units=2)), trains=True)
    basic = _monai("BasicUNet", **_planar(features=(8, 8, 16, 32, 64, 8)))
    yield net("monai:BasicUNet", basic, trains=True)
    yield net("monai:SegResNet", _monai("SegResNet", **_planar(init_filters=8)), trains=True)
    yield net("monai:AttentionUnet", _monai("AttentionUnet", **_planar(**wide)))
    dynamic = {
        "kernel_size": [3] * 5,
        "strides": [1, 2, 2, 2, 2],
        "upsample_kernel_size": [2] * 4,
        "filters": [16, 32, 64, 128, 256],
    }
    yield net("monai:DynUNet", _monai("DynUNet", **_planar(**dynamic)))
    flexible = {"backbone": "efficientnet-b0", "pretrained": False}
    yield net("monai:FlexibleUNet", _monai("FlexibleUNet", **_planar(**flexible)))
    vit = {"img_size": SIZE, "feature_size": 16, "hidden_size": 192, "mlp_dim": 384, "num_heads": 6}
    yield net("monai:UNETR", _monai("UNETR", **_planar(**vit)))
    yield net("monai:SwinUNETR", _monai("SwinUNETR", **_planar(feature_size=12)))

    lraspp = "lraspp_mobilenet_v3_large"
    yield net(f"torchvision:{lraspp}", _torchvision(lraspp), trains=True)
    for name in ("deeplabv3_mobilenet_v3_large", "deeplabv3_resnet50", "fcn_resnet50"):
        yield net(f"torchvision:{name}", _torchvision(name))

    features = (8, 16, 32, 64, 128)
    plain = _nnunet("PlainConvUNet", features, n_conv_per_stage=(2,) * 8)
    yield net("nnunet:PlainConvUNet", plain, trains=True)
    residual = _nnunet(
        "ResidualEncoderUNet", (16, 32, 64, 128, 256), n_blocks_per_stage=(1, 3, 4, 6, 6, 6)
    )
    yield net("nnunet:ResidualEncoderUNet", residual)

    yield net("hf:SegFormer", _segformer, trains=True)
    yield net("hf:UperNet ConvNeXt", _upernet(_convnext))
    yield net("hf:UperNet Swin", _upernet(_swin))
    yield net("hf:MobileViT", _mobilevit)
    # transformers' segmentation class takes the root of the number of patches as their rows.
    yield net("hf:DPT", _dpt, size=_SQUARE)


ZOO: dict[str, Architecture] = {net.name: net for net in _all()}
"""All nets by name."""


class Logits(nn.Module):
    """A net whose output is a tensor: the first of a tuple or list, `out`, or `.logits`."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> logits (N, classes, h, w)."""
        found = self.net(image)
        if isinstance(found, dict):
            found = found["out"] if "out" in found else found["logits"]
        return found[0] if isinstance(found, (tuple, list)) else found
