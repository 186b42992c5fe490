"""Encoders of torchvision: the same features, or a refusal that leaves the net as it was."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeunet.errors import CheckpointError, UsageError
from edgeunet.models import SegmentationNet, create_model, list_models
from edgeunet.models.foreign import load_encoder
from support.originals import Classifier, efficientnet_b0, mobilenet_v2, shake

BUILDS = {"mobile_unet": mobilenet_v2, "eff_unet": efficientnet_b0}
# The features after which our encoder hands its own to the decoder.
TAPS = {"mobile_unet": (1, 3, 6, 13, 17), "eff_unet": (1, 2, 3, 5, 7)}
PARAMETERS = {"mobile_unet": 3_504_872, "eff_unet": 5_288_548}  # as torchvision publishes them
every_encoder = pytest.mark.parametrize("model", BUILDS)


@cache
def classifier(model: str) -> Classifier:
    net: Classifier = shake(BUILDS[model]())
    return net


def tensors_of(model: str) -> dict[str, Tensor]:
    return dict(classifier(model).state_dict())


def last_weight(net: SegmentationNet) -> Tensor:
    """Of the last convolution that the encoder takes."""
    return next(t for t in reversed(net.encoder.state_dict().values()) if t.ndim == 4)


def refusal(net: SegmentationNet, tensors: dict[str, Tensor]) -> str:
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(CheckpointError) as error:
        load_encoder(net, tensors, source="net.pth")
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    return str(error.value)


@every_encoder
def test_features_are_those_of_the_classifier(model: str) -> None:
    net = create_model(model, num_classes=5).eval()
    head = net.get_submodule("head").weight
    before = head.clone()
    load_encoder(net, tensors_of(model), source="net.pth")
    image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = net.double().encode(image.double())
        outputs = classifier(model).double()(image.double())
        classifier(model).float()
    for found, tap in zip(features, TAPS[model], strict=True):
        assert outputs[tap].std() > 0.1
        torch.testing.assert_close(found, outputs[tap], atol=1e-5, rtol=1e-5)
    assert torch.equal(head.float(), before)  # the decoder is not touched


@every_encoder
def test_the_restated_classifier_has_the_published_parameters(model: str) -> None:
    assert sum(p.numel() for p in classifier(model).parameters()) == PARAMETERS[model]


@every_encoder
def test_batch_normalisation_has_the_epsilon_of_torchvision(model: str) -> None:
    norms = [
        m for m in create_model(model, num_classes=2).modules() if isinstance(m, nn.BatchNorm2d)
    ]
    assert {norm.eps for norm in norms} == {1e-5}


@every_encoder
def test_order_of_the_file_does_not_matter(model: str) -> None:
    """As a file with sorted keys has it: features.10 before features.2."""
    one, two = (create_model(model, num_classes=2) for _ in range(2))
    tensors = tensors_of(model)
    load_encoder(one, tensors, source="net.pth")
    load_encoder(two, {name: tensors[name] for name in sorted(tensors)}, source="net.pth")
    state = two.state_dict()
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, state[name]) or not name.startswith("encoder"), name


@every_encoder
def test_features_alone_suffice_without_the_last_convolution(model: str) -> None:
    tensors = {n: t for n, t in tensors_of(model).items() if n.startswith("features.")}
    last = max(int(name.split(".")[1]) for name in tensors)
    part = {n: t for n, t in tensors.items() if not n.startswith(f"features.{last}.")}
    assert len(part) < len(tensors)
    one, two = (create_model(model, num_classes=2) for _ in range(2))
    load_encoder(one, tensors, source="net.pth")
    load_encoder(two, part, source="net.pth")
    assert torch.equal(last_weight(one), last_weight(two))


@pytest.mark.parametrize("model", sorted(set(list_models()) - set(BUILDS)))
def test_nets_without_such_an_encoder_are_refused_by_name(model: str) -> None:
    net = create_model(model, num_classes=2, width=4)
    with pytest.raises(UsageError, match="takes no encoder weights; eff_unet takes") as error:
        load_encoder(net, tensors_of("mobile_unet"), source="net.pth")
    assert type(net).__name__ in str(error.value)


@every_encoder
def test_the_other_encoder_is_refused(model: str) -> None:
    other = next(name for name in BUILDS if name != model)
    message = refusal(create_model(model, num_classes=2), tensors_of(other))
    assert "net.pth does not fit the encoder of" in message
    assert "which takes the features of torchvision's" in message
    assert "features." in message


@pytest.mark.parametrize("arguments", [{"width": 16}, {"in_channels": 1}])
@every_encoder
def test_a_net_of_another_width_or_input_is_refused(model: str, arguments: Any) -> None:
    message = refusal(create_model(model, num_classes=2, **arguments), tensors_of(model))
    wanted = tuple(
        create_model(model, num_classes=2, **arguments).state_dict()["encoder.stem.0.weight"].shape
    )
    assert message.endswith(f"features.0.0.weight is (32, 3, 3, 3) instead of {wanted}.")


@settings(max_examples=8)
@given(data=st.data())
@every_encoder
def test_a_missing_or_misshapen_tensor_is_refused(model: str, data: Any) -> None:
    net = create_model(model, num_classes=2)
    tensors = tensors_of(model)
    wanted = sum(1 for n in net.encoder.state_dict() if not n.endswith("num_batches_tracked"))
    names = [
        n for n in tensors if n.startswith("features.") and not n.endswith("num_batches_tracked")
    ]
    name = data.draw(st.sampled_from(names[:wanted]))
    if data.draw(st.booleans()):
        del tensors[name]
        assert "net.pth does not fit the encoder of" in refusal(net, tensors)
    else:
        tensors[name] = torch.cat([tensors[name]] * 2)
        assert f": {name} is {tuple(tensors[name].shape)} instead of" in refusal(net, tensors)


@pytest.mark.parametrize("tensors", [{}, {"conv1.weight": torch.zeros(64, 3, 7, 7)}])
def test_unrelated_tensors_are_refused(tensors: dict[str, Tensor]) -> None:
    message = refusal(create_model("mobile_unet", num_classes=2), tensors)
    assert message.endswith("that are not used; got 0 under features.*.")
