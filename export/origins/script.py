"""A user's own net: `FILE.py:FUNCTION`, which runs the code of the file."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgeunet.data.preparation import Preparation
from edgeunet.errors import UsageError, did_you_mean, first_line, printable

from ..options import ExportOptions, class_names
from .arguments import arguments_of
from .library import input_of, loaded, origin_of, preparation_of, quiet
from .module import ModuleOrigin
from .outputs import chosen_output


def open_script(path: Path, function: str, options: ExportOptions) -> ModuleOrigin:
    """The net that a function of a user's file returns.

    The file is run, with its folder first on the path of imports, and the function is called with
    the arguments of `--arch`. Weights are read as for all nets: no code in them runs.

    Raises:
        UsageError: no such file or function; an error in its code, with the line; or what it
            returns is no net. CheckpointError: weights that do not fit.
    """
    title = f"{path.name}:{function}"
    make = _function(path, function)
    arguments = arguments_of(options.arch)

    def called() -> nn.Module:
        try:
            with quiet():
                net = make(**arguments)
        except Exception as error:  # the user's code
            raise _failed(path, title, error) from None
        if not isinstance(net, nn.Module):
            raise UsageError(
                f"{title} returns {printable(type(net).__name__)}; expected a torch.nn.Module."
            )
        return net.eval()

    weights = None if options.weights is None else Path(options.weights)
    if weights is None:
        net = called()
    else:
        remedy = f"Return the net that they belong to from {function}."
        net = loaded(called, title, weights, raw=options.raw, remedy=remedy)
    channels = _channels(net)
    spec = input_of(options, title, channels, scaling=None if channels == 3 else (0.0, 1.0))
    with torch.inference_mode():
        noise = torch.zeros(1, channels, spec.height, spec.width)
        try:
            classes = chosen_output(net(noise), options.head).shape[1]
        except UsageError:
            raise
        except Exception:  # `ModuleOrigin` runs it once more, and says what size it takes
            classes = len(class_names(options.classes)) or 2
    notes = [f"ran the code of {path}"]
    if channels == 3 and preparation_of(options) == Preparation():
        notes.append("mean and std are ImageNet's; pass --mean and --std if training had others")
    return origin_of(
        net,
        options,
        spec,
        classes=classes,
        model=title,
        title=path.name,
        weights="memory" if weights is None else weights.stem,
        notes=notes,
    )


def _function(path: Path, name: str) -> Callable[..., Any]:
    """A function of a file, which is run as a module of its name."""
    if not path.is_file():
        raise UsageError(f"{path} does not exist. Pass --model FILE.py:FUNCTION.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    folder = str(path.absolute().parent)
    sys.path.insert(0, folder)
    previous = sys.modules.get(path.stem)
    sys.modules[path.stem] = module  # dataclasses and pickles of the file look there
    try:
        with quiet():
            spec.loader.exec_module(module)
    except Exception as error:  # the user's code
        raise _failed(path, str(path), error) from None
    finally:
        if previous is None:
            del sys.modules[path.stem]
        else:
            sys.modules[path.stem] = previous
        sys.path.remove(folder)
    found: Callable[..., Any] | None = getattr(module, name, None)
    if found is None or not callable(found):
        known = [each for each in vars(module) if callable(getattr(module, each))]
        raise UsageError(
            f"{path} has no function {printable(name)!r}.{did_you_mean(name, known)} It must "
            "return the net."
        )
    return found


def _failed(path: Path, title: str, error: Exception) -> UsageError:
    """An error of the user's code, with the line of the file that it comes from."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename) == path or Path(frame.filename) == path.absolute()
    ]
    place = f" in line {lines[-1]}" if lines else ""
    return UsageError(f"{title} fails{place}: {type(error).__name__}: {first_line(error)}")


def _channels(net: nn.Module) -> int:
    """Channels of the image, as the first convolution of the net takes them; else 3."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    return 3
