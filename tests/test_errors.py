"""How an error says to install what is missing."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace

import pytest

from edgeunet import errors
from edgeunet.errors import MissingDependencyError, how_to_install
from support.project import extras


@pytest.fixture
def opencv(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """Puts an OpenCV in place: pip's wheel, that of JetPack, or None."""

    def install(kind: str | None) -> None:
        def distribution(name: str) -> object:
            if kind == "wheel":
                return SimpleNamespace()
            raise PackageNotFoundError(name)

        monkeypatch.setattr(errors, "distribution", distribution)
        spec = SimpleNamespace() if kind else None
        monkeypatch.setattr(errors.importlib.util, "find_spec", lambda name: spec)

    return install


@pytest.mark.parametrize("extra", ["cpu", "video", "export", "train"])
def test_another_opencv_is_not_overwritten_by_that_of_an_extra(
    opencv: Callable[[str | None], None], extra: str
) -> None:
    opencv("JetPack's")
    assert how_to_install("onnxruntime", extra) == "pip install onnxruntime"
    assert "Install it with: pip install av." in str(MissingDependencyError("av", extra))


@pytest.mark.parametrize(
    ("kind", "extra"),
    [("wheel", "cpu"), (None, "cpu"), ("JetPack's", "trt"), ("JetPack's", "serve")],
)
def test_extra_is_named_where_it_overwrites_nothing(
    opencv: Callable[[str | None], None], kind: str | None, extra: str
) -> None:
    opencv(kind)
    assert how_to_install("any", extra) == f"pip install 'edgeunet[{extra}]'"


def test_extras_that_bring_opencv_are_those_of_the_project() -> None:
    bring = {name for name, wanted in extras().items() if "opencv-python-headless>=4.9" in wanted}
    bring |= {name for name, wanted in extras().items() if "edgeunet[cpu]" in wanted}
    bring |= {name for name, wanted in extras().items() if "edgeunet[export]" in wanted}
    assert bring == errors._EXTRAS_WITH_OPENCV
