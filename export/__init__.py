"""From a checkpoint to a bundle: trace -> half | calibrate -> quantize -> bundle."""

from .bundle import ExportOptions, export_bundle

__all__ = ["ExportOptions", "export_bundle"]
