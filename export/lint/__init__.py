"""Rules that real builders enforce, or silently break, checked on an ONNX file without them."""

from .flavours import lint_flavours
from .linter import lint, lint_all
from .rule import Finding, LintReport, Target

__all__ = ["Finding", "LintReport", "Target", "lint", "lint_all", "lint_flavours"]
