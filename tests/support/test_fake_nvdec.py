"""The stand-in for PyNvVideoCodec has nothing that the real one lacks."""

from __future__ import annotations

import inspect
import json

import pytest

from support import fake_nvdec
from support.commands import ROOT
from support.fake_nvdec import FakeNvdec

# Recorded from 2.2.4 by `dir` and from its docstrings, with a libcuda of placeholders.
API = json.loads((ROOT / "tests/support/pynvvideocodec_2.2.4.json").read_text())


@pytest.mark.parametrize("name", ["CreateDecoder", "GetDecoderCaps"])
def test_functions_have_parameters_of_the_real_ones(name: str) -> None:
    _, *parameters = inspect.signature(getattr(FakeNvdec, name)).parameters
    assert set(parameters) <= set(API["parameters"][name])


@pytest.mark.parametrize("name", API["classes"])
def test_classes_have_members_of_the_real_ones(name: str) -> None:
    made = vars(getattr(fake_nvdec, name))
    members = {member for member in made if not member.startswith("_")}
    assert members <= API["classes"][name].keys()
    if name == "PacketData":
        assert vars(fake_nvdec.PacketData()).keys() <= API["classes"][name].keys()


def test_module_has_names_of_the_real_one() -> None:
    found = {name for name, value in vars(FakeNvdec).items() if not name.startswith("_")}
    assert found <= set(API["module"])
