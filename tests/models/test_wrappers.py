"""What is taken off around a state dict, and which one is taken if there are several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from edgeunet.errors import CheckpointError, UsageError
from edgeunet.models.cardless import judge_for
from edgeunet.models.foreign import recognise
from edgeunet.models.wrappers import Unwrapped, unwrap
from support.foreign import original, state

pytestmark = pytest.mark.usefixtures("no_gradients")

NET = state("milesial")
EMA = {name: tensor * 0.5 for name, tensor in NET.items()}


def unwrapped(content: Mapping[Any, Any], **options: bool) -> Unwrapped:
    return unwrap(content, judge_for(None), source="net.pth", **options)


def same(found: Unwrapped, wanted: Mapping[str, Tensor]) -> bool:
    return found.tensors.keys() == wanted.keys() and all(
        torch.equal(tensor, wanted[name]) for name, tensor in found.tensors.items()
    )


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


# What comes off


def test_a_plain_state_dict_stays_as_it_is() -> None:
    found = unwrapped(NET)
    assert same(found, NET)
    assert (found.place, found.fits, found.notices) == ("", True, ())


WRAPPERS = ("state_dict", "model", "net", "module", "model_state_dict", "_orig_mod", "unet.0", "4")


@given(
    layers=st.lists(
        st.tuples(st.sampled_from(["dict", "prefix"]), st.sampled_from(WRAPPERS)), max_size=5
    )
)
def test_wrappers_come_off_however_they_are_stacked(layers: list[tuple[str, str]]) -> None:
    content: dict[Any, Any] = dict(NET)
    for kind, name in layers:
        if kind == "dict":
            content = {"epoch": 3, name: content, "loss": torch.zeros(())}
        else:
            content = {
                key if key in ("epoch", "loss") else f"{name}.{key}": value
                for key, value in content.items()
            }
    found = unwrapped(content)
    found.tensors.pop("loss", None)  # no layer, so that it may stay
    assert same(found, NET)
    assert found.notices == ()


def test_wrappers_of_single_layers_come_off() -> None:
    """As `torch.compile` and FSDP leave them if they wrap blocks instead of the net."""
    content = {
        name.replace("inc.", "inc._orig_mod.").replace("up1.", "up1._fsdp_wrapped_module."): tensor
        for name, tensor in NET.items()
    }
    assert content.keys() != NET.keys()
    assert same(unwrapped(content), NET)


def test_the_state_of_an_optimizer_is_passed_over() -> None:
    net = original("milesial")
    optimizer = torch.optim.AdamW(net.parameters())
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    content = {"optimizer": optimizer.state_dict(), "net": NET, "epoch": 3}
    found = unwrapped(content)
    assert same(found, NET)
    assert found.notices == ()
    # Moments by name have the shapes of weights, and are none.
    moments = {name: torch.zeros_like(tensor) for name, tensor in net.named_parameters()}
    assert same(unwrapped({"optimizer": {"exp_avg": moments}, "net": NET}), NET)


def test_a_layer_beside_the_net_is_told() -> None:
    """Lightning keeps the loss in the same state dict; or the net has a second part."""
    content = {**under("model", NET), "criterion.weight": torch.zeros(3), "step": torch.zeros(())}
    found = unwrapped({"state_dict": content, "optimizer": {"a.b": torch.zeros(3)}})
    assert same(found, NET)
    assert found.notices == (
        "does not use what is beside state_dict.model: state_dict.criterion.weight.",
    )


# Averaged weights

RAW_AND_AVERAGED: dict[str, dict[str, Any]] = {
    "timm": {"state_dict": NET, "state_dict_ema": EMA},
    "DeiT": {"model": NET, "model_ema": EMA, "epoch": 3},
    "nested": {"model": NET, "ema": {"module": EMA, "updates": 3, "decay": 0.999}},
    "prefixes": {"state_dict": {**under("model", NET), **under("ema_model.module", EMA)}},
    "BasicSR": {"params": NET, "params_ema": EMA},
    "camel case": {"model": NET, "modelEMA": EMA},
    "stochastic": {"net": NET, "swa_model": {**under("module", EMA), "n_averaged": torch.ones(1)}},
}


@pytest.mark.parametrize("kind", RAW_AND_AVERAGED)
def test_averaged_weights_are_taken_and_told(kind: str) -> None:
    found = unwrapped(RAW_AND_AVERAGED[kind])
    assert same(found, EMA)
    (notice,) = found.notices
    assert notice == f"takes the averaged weights, {found.place}. Pass --raw for the others."
    raw = unwrapped(RAW_AND_AVERAGED[kind], raw=True)
    assert same(raw, NET)
    assert raw.notices == ()


def test_averaged_parameters_get_the_statistics_of_the_raw_net() -> None:
    """An average of the parameters alone lacks the buffers of batch normalisation."""
    net = original("milesial")
    shadow = {name: EMA[name] for name, _ in net.named_parameters()}
    assert shadow.keys() != NET.keys()
    found = unwrapped({"model": NET, "ema": {"shadow": shadow}})
    assert same(found, {**NET, **shadow})
    assert "takes the averaged weights, ema.shadow" in found.notices[0]


def test_a_net_of_pytorchs_own_averaging_is_read() -> None:
    net = original("milesial")
    found = unwrapped(AveragedModel(net).state_dict())
    assert same(found, NET)


def test_averaged_weights_that_do_not_fit_are_told() -> None:
    other = {f"layer{index}.weight": torch.zeros(2) for index in range(5)}
    found = unwrapped({"model": NET, "ema": other})
    assert same(found, NET)
    assert found.notices == ("takes the raw weights: the averaged ones, ema, do not fit the net.",)


def test_raw_weights_need_averaged_ones_beside_them() -> None:
    with pytest.raises(
        UsageError, match=r"net\.pth holds no averaged weights that fit\. Leave out"
    ):
        unwrapped(NET, raw=True)
    with pytest.raises(UsageError, match=r"net\.pth holds averaged weights only\. Leave out --raw"):
        unwrapped({"ema": EMA}, raw=True)
    assert same(unwrapped({"ema": EMA}), EMA)


# What is refused


def test_several_nets_are_named() -> None:
    content = {"state_dict": {**under("student", NET), **under("teacher", EMA)}}
    with pytest.raises(
        CheckpointError,
        match=r"net.pth holds 2 state dicts that fit: state_dict.student and state_dict.teacher.",
    ):
        unwrapped(content)


def test_what_fits_best_is_returned_for_the_error() -> None:
    damaged = {name: tensor for name, tensor in NET.items() if not name.startswith("outc")}
    found = unwrapped({"epoch": 3, "state_dict": under("module", damaged)})
    assert (found.place, found.fits) == ("state_dict.module", False)
    assert same(found, damaged)
    assert recognise(found.tensors) is None


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, {"net": {}}, {"nets": [NET]}])
def test_files_without_tensors_are_refused(content: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"net\.pth holds no tensors; expected a state dict"):
        unwrapped(content)


def test_dicts_that_hold_themselves_end() -> None:
    circle: dict[str, Any] = dict(NET)
    circle["again"] = circle
    assert same(unwrapped(circle), NET)
    many: dict[str, Any] = {"a.weight": torch.zeros(2)}
    for _ in range(12):
        many = {str(index): many for index in range(10)}
    with pytest.raises(CheckpointError, match="holds more than 100000 tensors and dicts"):
        unwrapped(many)


def test_names_are_shown_with_escapes() -> None:
    found = unwrapped({"\x1b[2Jema": EMA})
    assert found.place == r"\x1b[2Jema"
