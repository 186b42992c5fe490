"""Rules that real builders enforce, or silently break, checked on an ONNX file without them."""

from .linter import lint, lint_all, lint_flavours
from .rule import Finding, LintReport, Target

__all__ = ["Finding", "LintReport", "Target", "lint", "lint_all", "lint_flavours"]
