"""Edits of the manifests of a bundle of several depths."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeunet.files import sha256


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> str:
    """Change a manifest and return its new hash."""
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    return sha256(path)


def edit_nested(bundle: Path, depth: int, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest of a carried depth, and its hash in the outer manifest."""
    digest = edit(bundle / "depths" / str(depth) / "manifest.json", change)
    edit(bundle / "manifest.json", lambda manifest: manifest["depths"].update({str(depth): digest}))
