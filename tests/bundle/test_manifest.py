"""The manifest: its first key, and values that it refuses."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given

from edgeunet.bundle.manifest import InputSpec, Manifest
from edgeunet.bundle.schema import SchemaError, decode, encode
from support.formats import manifests

# Round trips


@given(manifest=manifests())
def test_manifest_json_has_the_schema_version_first(manifest: Manifest) -> None:
    data = encode(manifest)
    assert next(iter(data)) == "schema_version"
    assert decode(Manifest, json.loads(json.dumps(data))) == manifest


# Refusals


@pytest.mark.parametrize("std", [math.nan, 0.0, -1.0])
def test_input_needs_positive_std(std: float) -> None:
    data = {**encode(InputSpec(8, 8)), "std": [0.2, std, 0.2]}
    with pytest.raises(SchemaError, match="std"):
        decode(InputSpec, data)
