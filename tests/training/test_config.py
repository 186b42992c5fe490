"""Options of training, and the progress of a run."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.errors import UnknownNameError, UsageError
from edgeunet.training import config as configs
from edgeunet.training.config import Clock, TrainConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate is 0; expected more than 0"),
        ({"elastic": -1.0}, "elastic is -1; expected at least 0"),
        ({"scale": (1.5, 0.5)}, r"scale is 1\.5 to 0\.5; the smaller zoom comes first"),
        ({"crop": (0, 64)}, "crop is 0, 64; expected at least 1"),
        ({"patience": 0}, "patience is 0; expected at least 1"),
        (
            {"patience": 5, "with_val": True},
            r"got --patience, but .* looked at \(--with-val",
        ),
        ({"patience": 5, "validate_every": 0}, "got --patience, but val is not looked at"),
        (
            {"patience": 91},
            "patience is 91, which never ends 100 epochs early: .* every 5 .* Pass 90 or less",
        ),
        ({"patience": 1, "epochs": 10}, r"never ends 10 epochs early: .* Pass more --epochs\."),
        ({"focus": 1.5}, r"focus is 1\.5; expected at least 0 and at most 1"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TrainConfig(**values)


@given(epochs=st.integers(1, 40), every=st.integers(1, 12), patience=st.integers(1, 40))
def test_patience_is_taken_if_it_can_end_a_run(epochs: int, every: int, patience: int) -> None:
    """As it does if no validation is better than the first one."""
    validated = [*range(every, epochs, every), epochs]
    ends = any(each < epochs and each - validated[0] >= patience for each in validated)
    try:
        TrainConfig(epochs=epochs, validate_every=every, patience=patience)
    except UsageError:
        assert not ends
    else:
        assert ends


def test_unknown_loss_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown loss 'x'\. Known: cross_entropy_dice"):
        TrainConfig(loss="x")


def test_recipe_of_the_paper_is_kept_except_for_changes() -> None:
    assert TrainConfig.for_model("mobile_unet") == TrainConfig()
    unet = TrainConfig.for_model("unet", border=1.0)
    assert (unet.loss, unet.border, unet.elastic) == ("weighted_cross_entropy", 1.0, 10.0)


def test_weight_of_borders_needs_the_loss_that_has_one() -> None:
    told = "border is 5, but the loss cross_entropy_dice gives borders no weight. Leave it out"
    with pytest.raises(UsageError, match=told):
        TrainConfig(border=5.0)
    with pytest.raises(UsageError, match="the loss hybrid gives"):
        TrainConfig.for_model("unet", border=0.0, loss="hybrid")
    TrainConfig(loss="weighted_cross_entropy", border=5.0)
    TrainConfig.for_model("unet", loss="hybrid")


def test_clock_tells_rate_and_what_remains_since_the_resumption(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(configs.time, "monotonic", lambda: now[0])
    clock = Clock(0.5, images=1000)  # resumed in the middle
    now[0] = 110.0
    progress = clock.progress(0.75, epoch=3, loss=0.2)
    assert progress.rate == pytest.approx(25)  # 250 images in 10 s
    assert progress.remaining == pytest.approx(10)
    assert (progress.epoch, progress.loss, progress.miou) == (3, 0.2, None)
