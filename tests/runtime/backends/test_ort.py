"""Options of ONNX Runtime by what the CPU has."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeunet.bundle.bundle import open_bundle
from edgeunet.runtime.backends import ort

WIDE = "session.x64quantprecision"


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
