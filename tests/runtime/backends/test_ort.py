"""Processors on which ONNX Runtime must be asked for wider INT8 products."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeunet.bundle.bundle import open_bundle
from edgeunet.runtime.backends import ort
from edgeunet.runtime.backends.ort import OrtNet, lacks_vnni

WIDE = "session.x64quantprecision"


@pytest.mark.parametrize(
    ("text", "lacks"),
    [
        ("processor : 0\nflags\t\t: fpu sse4_2 avx2 fma\n", True),
        ("processor : 0\nflags\t\t: fpu avx2 avx512f avx512_vnni\n", False),
        ("processor : 0\nflags\t\t: fpu avx2 avx_vnni\n", False),
        ("processor : 0\nFeatures\t: fp asimd asimddp\n", False),
        ("", False),
    ],
)
def test_vnni_is_read_from_the_flags(text: str, lacks: bool, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert lacks_vnni(tmp_path / "cpuinfo") is lacks


def test_without_a_list_of_flags_nothing_is_assumed(tmp_path: Path) -> None:
    assert not lacks_vnni(tmp_path / "missing")


@pytest.mark.parametrize(
    ("as_written", "lacking", "wide"),
    [(False, True, True), (False, False, False), (True, True, False)],
)
def test_wider_products_are_asked_for_only_where_they_are_needed(
    int8_bundle: Path, monkeypatch: pytest.MonkeyPatch, as_written: bool, lacking: bool, wide: bool
) -> None:
    """They cost more than half of the speed where VNNI is there."""
    monkeypatch.setattr(ort, "lacks_vnni", lambda: lacking)
    with OrtNet(open_bundle(int8_bundle).model_path("int8.cpu"), as_written=as_written) as net:
        options = net._first.get_session_options()
        if wide:
            assert options.get_session_config_entry(WIDE) == "1"
        else:
            with pytest.raises(RuntimeError, match=WIDE):
                options.get_session_config_entry(WIDE)
