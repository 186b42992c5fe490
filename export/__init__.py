"""From a checkpoint to a bundle: trace -> half | calibrate -> quantize -> bundle."""

from .bundle import ExportOptions, export_bundle
from .source import Preparation

__all__ = ["ExportOptions", "Preparation", "export_bundle"]
