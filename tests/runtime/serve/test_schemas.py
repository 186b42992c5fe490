"""The schemas of answers are valid, and leave nothing open."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from edgeunet.runtime.serve.schemas import COUNT, ERROR, HEALTH, SEGMENTED, STATS, record_of


def objects(schema: Any) -> list[dict[str, Any]]:
    """All schemas of objects in a schema."""
    if isinstance(schema, list):
        return [found for each in schema for found in objects(each)]
    if not isinstance(schema, dict):
        return []
    inner = [found for each in schema.values() for found in objects(each)]
    return [schema, *inner] if schema.get("type") == "object" else inner


@pytest.mark.parametrize("schema", [ERROR, HEALTH, SEGMENTED, STATS])
def test_all_objects_are_closed(schema: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(schema)
    found = objects(schema)
    assert found
    for each in found:
        assert each["additionalProperties"] is False or "properties" not in each


def test_key_that_is_missing_or_new_is_found() -> None:
    made = Draft202012Validator(record_of({"a": COUNT, "b": COUNT}, optional="b"))
    made.validate({"a": 1})
    for answer in ({"b": 1}, {"a": 1, "c": 1}, {"a": -1}):
        with pytest.raises(ValidationError):
            made.validate(answer)
