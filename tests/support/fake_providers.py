"""An ONNX Runtime that has another provider, which the CPU computes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any, Literal

import numpy as np
import onnxruntime
import pytest

from edgeunet.runtime.backends import placement, providers
from edgeunet.runtime.backends.placement import CPU

Fault = Literal["", "left out", "raises", "takes nothing", "takes a part", "stops", "is wrong"]


@dataclass
class FakeProvider:
    """How a provider behaves, and what it was given.

    title: ONNX Runtime's name of it. devices: kinds that its plug-in finds; None if it is built in.
    given: what each session was given beside graph and options. settings: its own, of each session.
    batches: sizes of the calls.
    """

    title: str
    fault: Fault
    devices: tuple[str, ...] | None
    given: list[dict[str, Any]] = field(default_factory=list)
    settings: list[dict[str, str]] = field(default_factory=list)
    chosen: list[str] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    registered: list[str] = field(default_factory=list)


class FakeSession:
    """A session of the CPU's that says it is the provider's."""

    def __init__(self, fake: FakeProvider, content: bytes, options: Any, given: Any) -> None:
        self.fake = fake
        fake.given.append(given)
        fake.settings += [settings for _, settings in given.get("providers", [])]
        if fake.fault == "raises":
            raise RuntimeError("\n[ONNXRuntimeError] : 1 : FAIL : CUDA failure 100: no device\n...")
        self.session = onnxruntime.InferenceSession(content, options, providers=[CPU])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def get_providers(self) -> list[str]:
        return [CPU] if self.fake.fault == "left out" else [self.fake.title, CPU]

    def get_provider_graph_assignment_info(self) -> list[Any]:
        nodes = [
            node
            for part in self.session.get_provider_graph_assignment_info()
            for node in part.get_nodes()
        ]
        at = {"takes nothing": 0, "takes a part": 1}.get(self.fake.fault, len(nodes))
        shares = {self.fake.title: nodes[:at], CPU: nodes[at:]}
        return [
            SimpleNamespace(ep_name=name, get_nodes=share.copy)
            for name, share in shares.items()
            if share
        ]

    def run(self, names: Any, feed: dict[str, Any]) -> list[Any]:
        self.fake.batches.append(len(next(iter(feed.values()))))
        if self.fake.fault == "stops":
            raise RuntimeError("CUDA failure 700: an illegal memory access")
        outputs: list[Any] = self.session.run(names, feed)
        if self.fake.fault == "is wrong":
            outputs[0] = outputs[0] + np.float32([0, 9])[:, None, None]
        return outputs


class _Sessions:
    """ONNX Runtime's `InferenceSession`, for that provider and for the CPU."""

    get_provider_graph_assignment_info = None  # a new ONNX Runtime has it

    def __init__(self, fake: FakeProvider) -> None:
        self.fake = fake

    def __call__(self, content: bytes, options: Any, **given: Any) -> Any:
        if given.get("providers") == [CPU]:
            return onnxruntime.InferenceSession(content, options, **given)
        return FakeSession(self.fake, content, options, given)


class _Runtime(ModuleType):
    """The module `onnxruntime` with that provider."""

    def __init__(self, fake: FakeProvider) -> None:
        super().__init__("onnxruntime")
        self.__file__ = onnxruntime.__file__
        self.fake, self.InferenceSession = fake, _Sessions(fake)

    def __getattr__(self, name: str) -> Any:
        return getattr(onnxruntime, name)

    def get_available_providers(self) -> list[str]:
        built_in = self.fake.devices is None or self.fake.registered
        return [self.fake.title, CPU] if built_in else [CPU]

    def register_execution_provider_library(self, name: str, library: str) -> None:
        if name in self.fake.registered:
            raise RuntimeError(f"library is already registered under {name}")
        self.fake.registered.append(name)

    def get_ep_devices(self) -> list[Any]:
        found = [(self.fake.title, kind) for kind in self.fake.devices or ()]
        return [
            SimpleNamespace(ep_name=name, device=SimpleNamespace(type=SimpleNamespace(name=kind)))
            for name, kind in [(CPU, "CPU"), *(found if self.fake.registered else [])]
        ]


@contextmanager
def fake_provider(
    name: str, fault: Fault = "", *, devices: tuple[str, ...] | None = None
) -> Iterator[FakeProvider]:
    """While it lasts, ONNX Runtime has a provider: built in, or as a plug-in with these devices."""
    known = providers.PROVIDERS[name]
    fake = FakeProvider(known.title, fault, devices)

    def add(options: Any, found: list[Any], settings: dict[str, str]) -> None:
        fake.chosen += [each.device.type.name for each in found]
        fake.settings.append(settings)

    with pytest.MonkeyPatch.context() as patch:
        for module in (placement, providers):
            patch.setattr(module, "onnxruntime", _Runtime(fake))
        if known.plugin is not None:
            plugin = ModuleType(known.plugin)
            plugin.__spec__ = ModuleSpec(known.plugin, None)
            plugin.get_library_path = lambda: "library.so"  # type: ignore[attr-defined]
            patch.setitem(sys.modules, known.plugin, plugin)
            patch.setattr(onnxruntime.SessionOptions, "add_provider_for_devices", add)
        yield fake
