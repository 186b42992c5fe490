"""The README.md of a bundle on the Hugging Face Hub."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..bundle.bundle import REPORT_NAMES, Bundle
from ..bundle.schema import SchemaError, load_json
from ..errors import BundleError, first_line, printable

README_NAME = "README.md"
MARK = "<!-- Written by edgeunet. Delete this line to keep your own text at the next push. -->"
"""What a model card has that the next push may replace."""


def model_card(bundle: Bundle, repository: str) -> str:
    """Text of the README.md of a bundle on the Hub.

    Raises:
        BundleError: parity.json cannot be read.

    Example:
        >>> from edgeunet.hub.model_card import model_card
        >>> from edgeunet.runtime import open_bundle
        >>> model_card(open_bundle(bundle), "me/cells").splitlines()[1]
        'library_name: edgeunet'
    """
    manifest = bundle.manifest
    spec = manifest.input
    rows = {
        "input": f"{spec.height}x{spec.width}, {', '.join(spec.channels)}, {spec.depth}",
        "frames of another size": "in windows" if spec.window else spec.resize,
        "classes": ", ".join(manifest.classes),
        "graphs": ", ".join(manifest.flavours),
        "depths": ", ".join(map(str, bundle.depths)),
        "gate": "" if manifest.gate is None else "skips the decoder on frames without a class",
        "weights": manifest.weights,
        "origin": manifest.origin,
    }
    return f"""---
library_name: edgeunet
pipeline_tag: image-segmentation
tags:
- edgeunet
- image-segmentation
- onnx
---
{MARK}

# {_plain(manifest.model)}, {manifest.precision}

A segmentation net as a bundle of edgeunet: ONNX graphs, and how frames become their input.

| | |
|---|---|
{_table((name, text) for name, text in rows.items() if text)}

## Use

```python
import edgeunet

segment = edgeunet.load(edgeunet.from_hub("hf://{repository}", download=True))
mask = segment(frame).masks[0]  # frame: (H, W, {len(spec.frame_channels)}); mask: class ids (H, W)
```
{_figures(bundle.root / REPORT_NAMES[0])}"""


def _figures(path: Path) -> str:
    """The stages of parity.json as a section of Markdown; empty without that file."""
    try:
        found: dict[str, Any] = load_json(path)
        lines = [
            (stage["name"], f"{stage['agreement']:.2%}", _points(stage["miou"]))
            for stage in found["stages"]
        ]
        compared = f"{found['frames']} frames, compared with {found['reference']}"
        reference = _points(found["reference_miou"])
    except FileNotFoundError:
        return ""
    except (SchemaError, KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"{path} cannot be read: {first_line(error)}. Remove it, or write it anew: "
            f"`edgeunet parity {path.parent} -o {path.parent}`."
        ) from None
    return f"""
## Figures

{_plain(compared)}; its mIoU: {reference}.

| stage | pixels that agree | mIoU |
|---|---|---|
{_table(lines)}
"""


def _points(value: float | None) -> str:
    return "no labels" if value is None else f"{value:.2f}"


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(map(_plain, row))} |" for row in rows)


def _plain(text: str) -> str:
    """Text, such as the name of a class, that Markdown and HTML show as it is."""
    return re.sub(r"([\\`*_\[\]<>|&#])", r"\\\1", printable(text))
