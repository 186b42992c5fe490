"""U-Nets of tutorials."""

from __future__ import annotations

import pytest

from edgeunet.models.foreign import recognise
from support.foreign import FORMS, every_form, state

pytestmark = pytest.mark.usefixtures("no_gradients")


# What is known of the originals


@every_form
def test_structure_is_told_where_no_width_gives_it(form: str) -> None:
    foreign = recognise(state(form))
    assert foreign is not None
    assert foreign.model == FORMS[form][0]
    assert (foreign.structure is not None) == (form in ("tutorial", "tutorial original"))
    if form == "tutorial":  # dec2_1 maps 2 widths to 1, and unpool1 keeps it
        assert foreign.structure is not None
        assert foreign.structure["decoder.2.fuse.1.0"] == (8, 4)
        assert foreign.structure["decoder.3.up"] == (4, 4)
