"""What pyproject.toml says."""

from __future__ import annotations

import re

from support.commands import ROOT


def extras() -> dict[str, list[str]]:
    """Extra -> what pyproject.toml wants for it."""
    text = (ROOT / "pyproject.toml").read_text()
    table = text.split("[project.optional-dependencies]")[1].split("\n[")[0]
    lists = re.findall(r"^(\w+) = \[(.*?)\]$", table, re.DOTALL | re.MULTILINE)
    return {name: re.findall(r'"([^"]+)"', wanted) for name, wanted in lists if name != "dev"}
