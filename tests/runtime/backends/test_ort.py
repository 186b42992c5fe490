"""ONNX Runtime must use wider INT8 products on processors without VNNI."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeunet import doctor
from edgeunet.bundle.bundle import open_bundle
from edgeunet.runtime.backends import ort

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
def test_vnni_is_read_from_the_flags(
    text: str, lacks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(doctor, "_CPUINFO", tmp_path / "cpuinfo")
    assert doctor.lacks_vnni() is lacks
    warned = any("has no VNNI" in warning for warning in doctor.diagnose().warnings)
    assert warned is lacks


def test_without_cpuinfo_vnni_is_assumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_CPUINFO", tmp_path / "missing")
    assert not doctor.lacks_vnni()


@pytest.mark.parametrize(
    ("as_written", "lacking", "wide"),
    [(False, True, True), (False, False, False), (True, True, False)],
)
def test_wider_products_are_requested_only_without_vnni(
    int8_bundle: Path, monkeypatch: pytest.MonkeyPatch, as_written: bool, lacking: bool, wide: bool
) -> None:
    """With VNNI they would cost more than half of the speed."""
    monkeypatch.setattr(ort, "lacks_vnni", lambda: lacking)
    path = open_bundle(int8_bundle).model_path("int8.cpu")
    with ort.OrtNet(path, as_written=as_written) as net:
        options = net._first.get_session_options()
        if wide:
            assert options.get_session_config_entry(WIDE) == "1"
        else:
            with pytest.raises(RuntimeError, match=WIDE):
                options.get_session_config_entry(WIDE)
