"""The configurations of each variant: nets that can be built, for sizes that they take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.errors import UnknownNameError
from edgeunet.models import create_model, list_models, model_class
from edgeunet.tuning.space import CHOICES, Configuration, space_of


@pytest.mark.parametrize("model", list_models())
def test_every_configuration_is_a_net_that_takes_its_size(model: str) -> None:
    space = space_of(model, (256, 320))
    assert len(set(space)) == len({each.key for each in space}) == len(space) >= 12
    narrow = {each.choice: each for each in space if each.width == min(e.width for e in space)}
    for each in narrow.values():
        net = create_model(model, num_classes=2, **each.arguments)
        for size in {other.size for other in space}:
            net.check_size(*size)
    assert all(each.width % 8 == 0 for each in space)


def test_dimensions_of_mobile_unet() -> None:
    space = space_of("mobile_unet", (352, 480))
    assert {each.size for each in space} == {(352, 480), (256, 352), (192, 256)}
    assert {each.width for each in space} == {32, 24, 16, 8}
    assert {each.choice for each in space} == {(("decoder", "full"),), (("decoder", "light"),)}
    assert space[0] == Configuration((352, 480), 32, (("decoder", "full"),))
    assert space[0].key == "352x480-w32-full"
    assert {each.key for each in space_of("unetpp", (64, 64))} >= {"64x64-w32-d1", "64x64-w8-d4"}


@given(st.sampled_from(list_models()), st.integers(1, 8), st.integers(1, 8))
def test_small_images_have_no_configuration_twice(model: str, rows: int, columns: int) -> None:
    step = model_class(model).size_multiple
    space = space_of(model, (rows * step, columns * step))
    assert len(set(space)) == len(space) > 0
    assert max(each.size for each in space) == (rows * step, columns * step)


def test_choices_are_of_variants_and_unknown_ones_are_named() -> None:
    assert set(CHOICES) <= set(list_models())
    with pytest.raises(UnknownNameError, match="Did you mean 'mobile_unet'"):
        space_of("mobile_net", (64, 64))
