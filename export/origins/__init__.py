"""Where nets come from: one file an origin.

A registry from the prefix of `--model PREFIX:NAME` to the function that opens such a net. To add an
origin, write its file and add a line here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from edgeunet.errors import UnknownNameError

from ..options import ExportOptions, class_names, for_the_net
from .base import Origin

Opener = Callable[[str, ExportOptions], Origin]

# Prefix -> module and function. Modules are imported on first use, since each needs a library.
ORIGINS: dict[str, tuple[str, str]] = {
    "bioimageio": (".bioimageio", "open_bioimageio"),
    "hf": (".hf", "open_hf"),
    "monai": (".monai", "open_monai"),
    "nnunet": (".nnunet", "open_nnunet"),
    "smp": (".smp", "open_smp"),
    "torchvision": (".torchvision", "open_torchvision"),
}
_SCRIPT = ".py"


def open_origin(options: ExportOptions) -> Origin:
    """The net in the file `options.onnx`, or the one that `options.model` names.

    The name is PREFIX:NAME, or FILE.py:FUNCTION.

    Raises:
        UnknownNameError: no such prefix. MissingDependencyError: its library is missing. See the
            origins for others.
    """
    options = for_the_net(options)
    if options.onnx is not None:
        from .onnx_file import OnnxOrigin  # onnx and ONNX Runtime are not always there

        return OnnxOrigin(
            options.onnx,
            size=options.size,
            output=options.head,
            classes=class_names(options.classes),
            preparation=options.preparation,
        )
    prefix, _, name = (options.model or "").partition(":")
    file, _, function = (options.model or "").rpartition(":")
    if file.endswith(_SCRIPT):
        from .script import open_script  # PyTorch, which ONNX files do not need

        return open_script(Path(file), function, options)
    if prefix not in ORIGINS:
        raise UnknownNameError("origin", prefix, ORIGINS)
    module, function = ORIGINS[prefix]
    opener: Opener = getattr(importlib.import_module(module, __name__), function)
    return opener(name, options)
