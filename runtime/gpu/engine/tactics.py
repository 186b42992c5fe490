"""What a build changes when TensorRT finds no tactic for a layer, and its error if that fails.

A tactic is an implementation of a layer. Some versions have none for layers that should run in
INT8, such as depthwise convolutions or a SiLU behind a convolution. The first retry allows tactics
of all sources, the next ones take the layers out of INT8, one after the other. Tactics that want
more memory than is free are another matter: a retry would not find more.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeunet.bundle.engines import EngineChanges, EngineRequest
from edgeunet.errors import EngineError, MissingDependencyError

from .log import Shortage, advice_for, error_text
from .precision import head_in_fp32, head_nodes, parse_graph, quantized_nodes, without_pairs
from .toolkit import Toolkit

MAX_LAYERS = 32
"""A net with more layers in FP16 than that would not be an INT8 net."""
_FAILED = re.compile(r"find any implementation for node (.*)", re.DOTALL)
_BEHIND_THE_NAME = re.compile(
    r" due to insufficient workspace.*|\. In \S+ at .*|\.\)?\s*$", re.DOTALL
)
_MB = 1 << 20


@dataclass(frozen=True)
class NoTactic:
    """A build that failed because a layer has no tactic.

    layer: the layer's name as TensorRT prints it, of all nodes that it fused.
    shortages: of memory, by the layer's tactics. wants_workspace: TensorRT itself says so.
    text: TensorRT's messages, with advice.
    """

    layer: str
    shortages: tuple[Shortage, ...]
    wants_workspace: bool
    text: str


def find_no_tactic(log: Any) -> NoTactic | None:
    """Why the build that filled this log failed; None if a layer without tactics is not the reason.

    Args:
        log: see `fresh_logger`.
    """
    for message in reversed(log.errors):
        if found := _FAILED.search(message):
            layer = _BEHIND_THE_NAME.sub("", found[1], count=1).strip()
            wants_workspace = "insufficient workspace" in message
            return NoTactic(layer, tuple(log.shortages), wants_workspace, error_text(log))
    return None


class Retries:
    """The changes of a build, and of its next attempt after each that failed.

    Args:
        path, content: of the graph. workspace: in bytes, None if the toolkit has none.
        fp32_head: compute the head in FP32. report: gets a message about each change.

    Raises:
        EngineError: the graph has no head. MissingDependencyError: `fp32_head` without onnx.
    """

    def __init__(
        self,
        toolkit: Toolkit,
        request: EngineRequest,
        path: Path,
        content: bytes,
        *,
        workspace: int | None,
        report: Callable[[str], None],
        fp32_head: bool = False,
    ) -> None:
        self._toolkit, self._request, self._path, self._content = toolkit, request, path, content
        self._workspace, self._report = workspace, report
        self._widened_for: str | None = None
        layers = head_nodes(parse_graph(content)) if fp32_head else []
        self.changes = EngineChanges(fp32_layers=tuple(layers))

    @property
    def graph(self) -> bytes:
        """The graph of the next attempt."""
        fp16, fp32 = self.changes.fp16_layers, self.changes.fp32_layers
        widens = bool(fp32) and self._toolkit.strongly_typed
        if not fp16 and not widens:
            return self._content
        model = parse_graph(self._content)
        without_pairs(model, fp16)
        if widens:
            head_in_fp32(model)
        changed: bytes = model.SerializeToString()
        return changed

    def after(self, failure: NoTactic, *, more_sources: bool) -> None:
        """Change what the next attempt does.

        Args:
            more_sources: the attempt left out some of TensorRT's default sources of tactics.

        Raises:
            EngineError: nothing is left to change, memory is short, or onnx is not installed.
        """
        title = self._toolkit.title
        if failure.shortages or failure.wants_workspace:
            raise self._error(self._about_memory(failure))
        if more_sources and self._widened_for is None:
            self._widened_for = failure.layer
            self.changes = replace(self.changes, all_tactics=True)
            self._report(
                f"{title} found no tactic for {failure.layer}; trying those of cuBLAS and cuDNN too"
            )
            return
        if self._widened_for == failure.layer:
            self.changes = replace(self.changes, all_tactics=False)  # they did not help
        layers = self._layers_in_int8(failure)
        chosen = (*self.changes.fp16_layers, *layers)
        if not layers or len(chosen) > MAX_LAYERS:
            raise self._error(self._about_tactics(failure))
        self.changes = replace(self.changes, fp16_layers=chosen)
        self._report(
            f"{title} found no INT8 tactic for {failure.layer}; in FP16 from now on: "
            f"{', '.join(layers)}"
        )

    def _layers_in_int8(self, failure: NoTactic) -> list[str]:
        if self._request.precision != "int8":
            return []
        try:
            return quantized_nodes(parse_graph(self.graph), failure.layer)
        except MissingDependencyError as error:
            text = f"{failure.text} With onnx, the layer could run in FP16. {error}"
            raise self._error(text) from None

    def _error(self, text: str) -> EngineError:
        return EngineError(f"{self._toolkit.title} cannot build {self._path}: {text}")

    def _about_memory(self, failure: NoTactic) -> str:
        known = [each for each in failure.shortages if each.available is not None]
        if failure.wants_workspace or (not known and advice_for(failure.text)):
            return failure.text
        least = min(known or failure.shortages, key=lambda each: each.requested)
        found = "" if least.available is None else f", {least.available} MB were available"
        advice = "Close other programs that use the GPU, or export with a smaller --max-batch."
        if self._workspace is not None and least.available == self._workspace // _MB:
            advice = (
                f"That was the whole workspace: if more is free, pass --workspace "
                f"{least.requested} or more. {advice}"
            )
        return (
            f"no tactic for {failure.layer} fits into memory: the smallest requested "
            f"{least.requested} MB{found}. {advice}"
        )

    def _about_tactics(self, failure: NoTactic) -> str:
        tried = ["all sources of tactics"] if self._widened_for is not None else []
        if self.changes.fp16_layers:
            tried.append(f"FP16 for {', '.join(self.changes.fp16_layers)}")
        text = f"{failure.text} {self._toolkit.title} {self._toolkit.version} has no tactic for it"
        text += f", although these were tried: {'; '.join(tried)}. " if tried else ". "
        other = {"int8": "fp16", "fp16": "fp32"}.get(self._request.precision)
        advice = f"build --precision {other} instead, or " if other else ""
        return f"{text}More memory would not help: {advice}use another version of it."
