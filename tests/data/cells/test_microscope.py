"""How a colony is drawn: masks, instances, and frames without cells."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from edgeunet.data.cells import CellFrame, Scene, snapshots, time_lapse
from support.cells import BACKGROUND, SCENE, check_frame, is_empty


def test_masks_and_instances_agree(film: list[CellFrame]) -> None:
    for frame in film:
        check_frame(frame, SCENE.height, SCENE.width)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    cells=st.integers(0, 12),
    seed=st.integers(0, 2**32),
)
def test_every_size(height: int, width: int, cells: int, seed: int) -> None:
    scene = Scene(height=height, width=width, cells=cells, seed=seed, radius=8.0, period=20)
    frames = list(time_lapse(scene, 2)) + list(snapshots(1, height=height, width=width, seed=seed))
    for frame in frames:
        check_frame(frame, height, width)
    assert cells or is_empty(frames[0])


def test_empty_frames_are_noise_and_background(film: list[CellFrame]) -> None:
    empty = [index for index, frame in enumerate(film) if is_empty(frame)]
    assert not is_empty(film[0])
    assert not is_empty(film[-1])
    assert len(empty) >= SCENE.empty * SCENE.period
    assert empty == list(range(empty[0], empty[-1] + 1)), "one stretch a period"
    one, other = (film[index].image.astype(int) for index in empty[:2])
    assert 0.5 < (one - other).std() < 20
    with_cells = film[0].image[film[0].mask == BACKGROUND].mean()
    assert abs(one.mean() - with_cells) < 15, "the light stays on"
