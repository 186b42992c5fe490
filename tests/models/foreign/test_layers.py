"""How a list of layers gives the shapes of a state dict, and its translation."""

from __future__ import annotations

import pytest
import torch

from edgeunet.models.foreign.layers import Layer, shapes, structure, translate

LAYERS = (
    Layer("one", "a", norm="na"),
    Layer("two", "b", norm="nb", inputs=("a",)),
    Layer("three", "c", norm="nc", inputs=("a", "b"), reverse=True),
    Layer("up", "d", inputs=("c",), kind="up"),
    Layer("head", "e", inputs=("d",), kind="head"),
)
CHANNELS = {"a": 4, "b": 5, "c": 6, "d": 3, "e": 1}


def tensors(*, biased: bool = True) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    given = {f"n{name}.weight": torch.ones(CHANNELS[name]) for name in "abc"}
    given |= {f"{name}.bias": torch.ones(CHANNELS[name]) for name in "de"}
    if biased:
        given["a.bias"] = torch.ones(4)
    return {
        name: torch.randn(shape, generator=generator)
        for name, shape in shapes(LAYERS, given).items()
    }


@pytest.mark.parametrize("biased", [True, False])
def test_inputs_follow_from_the_layers_that_are_read(biased: bool) -> None:
    found = shapes(LAYERS, tensors(biased=biased))
    assert found["a.weight"] == (4, 3, 3, 3), "the image has three channels if none are known"
    assert found["c.weight"] == (6, 9, 3, 3)
    assert found["d.weight"] == (6, 3, 2, 2), "transposed: inputs come first"
    assert found["e.weight"] == (1, 3, 1, 1)
    assert ("b.bias" in found) is biased, "all convolutions have a bias, or none"
    assert found["d.bias"] == (3,)


def test_a_state_dict_without_anything_has_shapes_without_channels() -> None:
    assert shapes(LAYERS, {})["c.weight"][0] == 0


def test_bias_before_a_norm_goes_into_its_mean() -> None:
    given = tensors()
    found = translate(LAYERS, given)
    assert "one.0.bias" not in found
    torch.testing.assert_close(
        found["one.1.running_mean"], given["na.running_mean"] - given["a.bias"]
    )


def test_inputs_in_the_opposite_order_are_turned_round() -> None:
    given = tensors()
    weight = given["c.weight"]
    assert torch.equal(
        translate(LAYERS, given)["three.0.weight"], torch.cat([weight[:, 4:], weight[:, :4]], 1)
    )


def test_one_logit_becomes_two() -> None:
    given = tensors()
    found = translate(LAYERS, given)
    assert torch.equal(found["head.bias"], torch.cat([torch.zeros(1), given["e.bias"]]))
    assert structure(LAYERS, found)["head"] == (3, 2)
    assert structure(LAYERS, found)["up"] == (6, 3)
