"""U-Net++: depths and heads."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from edgeunet.errors import UsageError
from support.variants import image, shared, tiny

pytestmark = pytest.mark.usefixtures("no_gradients")  # switched on where needed


# U-Net++: depth, heads, ensemble


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_unetpp_pruned_net_is_a_part_of_the_whole(depth: int) -> None:
    whole, pruned = tiny("unetpp"), tiny("unetpp", depth=depth)
    state = whole.state_dict()
    shapes = {key: tensor.shape for key, tensor in state.items()}
    assert {key: tensor.shape for key, tensor in pruned.state_dict().items()}.items() <= (
        shapes.items()
    )
    for tensor in pruned.state_dict().values():
        tensor.zero_()
    pruned.load_state_dict({key: state[key] for key in pruned.state_dict()})
    x = image("unetpp")
    heads_by_depth = dict(zip((4, 3, 2, 1), whole.run(x).heads, strict=True))
    assert torch.equal(pruned(x), heads_by_depth[depth])
    assert len(pruned.encode(x)) == depth + 1
    assert pruned.size_multiple == 2**depth


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_unetpp_pruned_net_takes_its_own_size_multiple(depth: int) -> None:
    side = 2**depth
    assert tiny("unetpp", depth=depth)(torch.zeros(1, 3, side, 3 * side)).shape == (
        1, 3, side, 3 * side
    )  # fmt: skip


def test_unetpp_head_of_inference_comes_first() -> None:
    x = image("unetpp")
    whole = shared("unetpp").run(x).heads  # X^{0,4}, X^{0,3}, X^{0,2}, X^{0,1}
    net = tiny("unetpp", head=2)
    heads = net.run(x).heads
    assert len(heads) == 4
    for head, wanted in zip(heads, (whole[2], whole[0], whole[1], whole[3]), strict=True):
        assert torch.equal(head, wanted)
    assert torch.equal(net(x), whole[2])


def test_unetpp_ensemble_is_the_mean_and_trains_the_same_heads() -> None:
    x = image("unetpp")
    net = tiny("unetpp", ensemble=True)
    heads = net.run(x).heads
    assert len(heads) == 4
    torch.testing.assert_close(net(x), torch.stack(heads).mean(0))
    assert torch.equal(heads[0], shared("unetpp")(x))


def test_unetpp_without_deep_supervision_has_the_deepest_head() -> None:
    net = tiny("unetpp", deep_supervision=False)
    assert len(net.run(image("unetpp")).heads) == 1
    assert [key for key in net.state_dict() if "heads" in key] == [
        "heads.4.weight",
        "heads.4.bias",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 0}, "depth is 0; unetpp has depths 1 to 4"),
        ({"depth": 5}, "depth is 5; unetpp has depths 1 to 4"),
        ({"depth": 2, "head": 3}, "head is 3; this unetpp has heads at: 1, 2"),
        ({"deep_supervision": False, "head": 2}, "head is 2; this unetpp has heads at: 4"),
        ({"head": 2, "ensemble": True}, "one or the other"),
        ({"depth": 1, "ensemble": True}, "two heads or more"),
        ({"deep_supervision": False, "ensemble": True}, "two heads or more"),
    ],
)
def test_unetpp_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tiny("unetpp", **arguments)
