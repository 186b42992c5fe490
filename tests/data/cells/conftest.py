"""A film of cells."""

from __future__ import annotations

import pytest

from edgeunet.data.cells import CellFrame, time_lapse
from support.cells import SCENE


@pytest.fixture(scope="module")
def film() -> list[CellFrame]:
    return list(time_lapse(SCENE, SCENE.period))
