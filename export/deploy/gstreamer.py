"""Target `gstreamer`: an element in Python for GStreamer, with the bundle that it runs.

gst-python's loader reads the files in `python/` of each folder of GST_PLUGIN_PATH:
https://gitlab.freedesktop.org/gstreamer/gstreamer, `subprojects/gst-python/plugin`.
"""

from __future__ import annotations

import shutil

from edgeunet.runtime.sources.gstreamer import formats_of

from .base import TEMPLATES, Deployment, Target


def write(deployment: Deployment) -> None:
    """Write the element and a copy of the bundle, which must give the masks that it promises."""
    manifest = deployment.bundle.manifest
    formats = formats_of(manifest.input)
    deployment.copy_bundle("bundle", deployment.flavour)
    element = deployment.folder / "python" / "edgeunetseg.py"
    element.parent.mkdir()
    shutil.copyfile(TEMPLATES / "gstreamer" / "python" / element.name, element)
    deployment.write_template(
        "gstreamer/README.md",
        "README.md",
        model=manifest.model,
        flavour=deployment.flavour,
        format=formats[0],
        formats=formats,
        gated=manifest.gate is not None,
        classes=manifest.classes,
    )


TARGET = Target(
    name="gstreamer",
    makes="an element for GStreamer that segments video, and the bundle that it runs",
    needs="GStreamer 1.20 or newer with its loader for Python, and edgeunet with [cpu] in the "
    "system's Python",
    flavours=("int8.cpu", "fp16", "fp32"),
    write=write,
)
