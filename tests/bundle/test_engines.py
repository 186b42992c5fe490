"""File names of engines."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from edgeunet.bundle.engines import slug


def test_card_name_as_part_of_a_file_name() -> None:
    assert slug("NVIDIA GeForce RTX 4090 (Laptop)") == "nvidia-geforce-rtx-4090-laptop"


@given(st.text())
def test_no_card_name_leads_out_of_the_folder(name: str) -> None:
    assert re.fullmatch(r"([a-z0-9]+(-[a-z0-9]+)*)?", slug(name))
