"""The table of providers: names, graphs, and which are worth a try here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest

from edgeunet.bundle.manifest import FLAVOURS
from edgeunet.errors import UnknownNameError
from edgeunet.runtime import options
from edgeunet.runtime.backends import providers
from edgeunet.runtime.backends.providers import PROVIDERS, precisions_of, usable_providers
from support.fake_providers import fake_provider


def test_every_provider_that_can_be_named_is_known() -> None:
    assert {*PROVIDERS, "cpu"} == set(get_args(options.Provider))
    with pytest.raises(UnknownNameError, match="Did you mean 'cuda'"):
        precisions_of("kuda")


def test_bundles_hold_the_graphs_that_providers_get() -> None:
    for provider in PROVIDERS.values():
        for precision, flavour in provider.graphs.items():
            assert flavour in FLAVOURS[precision]
        assert provider.refuses or len(provider.graphs) == len(FLAVOURS)


@pytest.mark.parametrize(
    ("name", "here", "usable"),
    [
        ("cuda", True, True),
        ("cuda", False, False),
        ("tensorrt", True, False),  # an engine takes minutes
        ("openvino", True, False),  # the backend of that name does it
    ],
)
def test_providers_are_worth_a_try_by_package_and_hardware(
    name: str, here: bool, usable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: Any = replace(PROVIDERS[name], has_hardware=lambda: here)
    monkeypatch.setitem(providers.PROVIDERS, name, known)
    assert name not in usable_providers()
    with fake_provider(name):
        assert (name in usable_providers()) == usable
