"""What the targets share whose converters read a module of PyTorch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import onnx

from edgeunet.bundle.manifest import Flavour
from edgeunet.errors import (
    EdgeUNetError,
    ExportError,
    MissingDependencyError,
    first_line,
)

try:
    import torch
except ImportError:
    raise MissingDependencyError("torch", "export") from None

from ..graphs.torch_module import TorchGraph
from .base import Deployment


def torch_program(
    deployment: Deployment, flavour: Flavour, *, rounded: bool = True
) -> tuple[TorchGraph, torch.Tensor]:
    """The graph from frames to masks as a module, and an example of its input.

    Args:
        rounded: see `TorchGraph`.

    Raises:
        UsageError, ParityError: see `Deployment.write_pixels`. ExportError: see `TorchGraph`.
    """
    graph = deployment.write_pixels("model.onnx", flavour)
    module = TorchGraph(onnx.load(graph), rounded=rounded).eval()
    graph.unlink()
    spec = deployment.bundle.manifest.input
    shape = (1, spec.height, spec.width, len(spec.frame_channels))
    return module, torch.zeros(shape, dtype=getattr(torch, spec.depth))


@contextmanager
def converting(name: str, flavour: Flavour) -> Iterator[None]:
    """For the time of a conversion: no gradients, and only its failure is told.

    Converters print warnings about themselves, and raise errors of every kind.

    Args:
        name: of the converter, for the error.
    """
    with torch.no_grad(), quiet():
        try:
            yield
        except (EdgeUNetError, OSError, ImportError):  # a full disk says nothing of the graph
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise ExportError(
                f"{name} does not take the graph {flavour}: {reason} Deploy another flavour, or "
                "--to onnx."
            ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back what libraries warn of that the user can do nothing about."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
