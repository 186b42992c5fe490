"""Target `executorch`: the program runs in ExecuTorch, and what it does not take is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeunet.bundle.manifest import Flavour
from edgeunet.exporting.deploy import executorch
from support.converters import Converter

CONVERTER = Converter(
    executorch,
    needed="executorch.exir",
    reason="needs the extra [executorch], which [dev] is without: 0.4 GB",
    convert="to_edge_transform_and_lower",
)


@pytest.mark.parametrize("flavour", ["int8", "fp32"])
def test_masks_are_the_runtimes(int8_bundle: Path, tmp_path: Path, flavour: Flavour) -> None:
    CONVERTER.gives_the_runtimes_masks(int8_bundle, tmp_path, flavour)


def test_other_masks_are_refused(fp32_bundle: Path, tmp_path: Path) -> None:
    CONVERTER.refuses_other_masks(fp32_bundle, tmp_path)


def test_a_failing_converter_is_told(fp32_bundle: Path, tmp_path: Path) -> None:
    CONVERTER.tells_why_a_graph_is_not_taken(fp32_bundle, tmp_path)


def test_missing_package_is_named(fp32_bundle: Path, tmp_path: Path) -> None:
    CONVERTER.is_named_if_it_is_missing(fp32_bundle, tmp_path)
