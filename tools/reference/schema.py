"""The manifest of a bundle as a page and as a JSON Schema, from the dataclasses that read it."""

from __future__ import annotations

import inspect
import json
import types
import typing
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

from edgeunet.bundle.manifest import SCHEMA_VERSION, Exported, InputSpec, Manifest
from edgeunet.bundle.schema import MAX_BYTES
from edgeunet.bundle.statistics import FrameStatistics
from edgeunet.bundle.steps import ImageStatistics, Window
from reference.docstrings import fields_in
from reference.markdown import prose

SCHEMA = "reference/manifest.schema.json"
PAGE = "reference/manifest.md"

# How the page heads each object.
_OBJECTS = {
    Manifest: "The manifest",
    InputSpec: "`input`",
    ImageStatistics: "`input.statistics`",
    Window: "`input.window`",
    FrameStatistics: "`frames`",
}
_SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean"}
_INTRODUCTION = f"""# manifest.json

What [a bundle](../bundle.md) says of itself: UTF-8, JSON, at most {MAX_BYTES >> 20} MiB. This is
version {SCHEMA_VERSION}. Keys that are not listed are refused, at every level. A
[JSON Schema](manifest.schema.json) (draft 2020-12) says the same to other programs:

```python
import json
import jsonschema

with open("manifest.schema.json") as schema, open("bundle/manifest.json") as manifest:
    jsonschema.validate(json.load(manifest), json.load(schema))
```

The schema knows types, keys and words. The reader checks more: that values fit each other, such as
one colour for each class; that numbers are finite and in range; that an integer is not written as
`1.0`; and the hash of every file that `files` names. `None` in the texts is JSON's `null`."""


def pages() -> dict[str, str]:
    """Path inside docs/ -> content."""
    return {PAGE: _page(), SCHEMA: json.dumps(_schema(), indent=2, ensure_ascii=False) + "\n"}


def _schema() -> dict[str, Any]:
    root = _object(Manifest)
    root["properties"]["schema_version"]["const"] = SCHEMA_VERSION
    # A machine may compute in another precision; the reader refuses a file that says so.
    root["properties"]["precision"]["enum"] = list(typing.get_args(Exported))
    root["required"].append("schema_version")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "manifest.json of an edgeunet bundle",
        **root,
        "$defs": {cls.__name__: _object(cls) for cls in _OBJECTS if cls is not Manifest},
    }


def _object(cls: type) -> dict[str, Any]:
    """The schema of a dataclass."""
    summary, meanings = _described(cls)
    hints = typing.get_type_hints(cls)
    return {
        "description": " ".join(summary.split("\n\n")[0].split()),
        "type": "object",
        "properties": {
            field.name: {"description": meanings[field.name], **_type(hints[field.name])}
            for field in fields(cls)
        },
        "required": [field.name for field in fields(cls) if _is_required(field)],
        "additionalProperties": False,
    }


def _described(cls: type) -> tuple[str, dict[str, str]]:
    names = [field.name for field in fields(cls)]
    summary, meanings = fields_in(inspect.getdoc(cls) or "", names)
    assert set(meanings) == set(names), f"describe {set(names) - set(meanings)} in {cls.__name__}"
    return summary, meanings


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _type(hint: Any) -> dict[str, Any]:
    """The schema of a type, as `edgeunet.bundle.schema.decode` reads it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return {}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_type(argument) for argument in arguments]}
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _type(arguments[1])}
    if origin is tuple and arguments[-1] is Ellipsis:
        return {"type": "array", "items": _type(arguments[0])}
    if origin is tuple:
        items = [_type(argument) for argument in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "items": False}
    if is_dataclass(hint):
        return {"$ref": f"#/$defs/{typing.cast(type, hint).__name__}"}
    return {"type": "null" if hint is type(None) else _SCALARS[hint]}


def _page() -> str:
    parts = [_INTRODUCTION]
    for cls, title in _OBJECTS.items():
        summary, meanings = _described(cls)
        text = summary.split("\n\nExample:")[0].split("\n\n|")[0]
        hints = typing.get_type_hints(cls)
        rows = ["| key | value | |", "|---|---|---|"]
        for field in sorted(fields(cls), key=lambda field: field.name != "schema_version"):
            value = _words(field, hints[field.name])
            rows.append(f"| `{field.name}` | {value} | {prose(meanings[field.name])} |")
        paragraphs = [prose(" ".join(each.split())) for each in text.split("\n\n")]
        parts += [f"## {title}", *paragraphs, "\n".join(rows)]
    return "\n\n".join(parts) + "\n"


def _words(field: Field[Any], hint: Any) -> str:
    """The type of a field in words, and its default."""
    text = _type_in_words(Exported if field.name == "precision" else hint)
    if _is_required(field) or field.name == "schema_version":
        return text
    default = field.default_factory() if field.default is MISSING else field.default  # type: ignore[misc]
    return f"{text}; default `{json.dumps(default)}`"


def _type_in_words(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type_in_words(argument) for argument in arguments)
    if origin is typing.Literal:
        return ", ".join(f"`{json.dumps(word)}`" for word in arguments)
    if origin is dict:
        inner = "" if arguments[1] is Any else f" of {_plural(_type_in_words(arguments[1]))}"
        return f"object{inner}"
    if origin is tuple and arguments[-1] is Ellipsis:
        return f"list of {_plural(_type_in_words(arguments[0]))}"
    if origin is tuple:
        return f"[{', '.join(map(_type_in_words, arguments))}]"
    if is_dataclass(hint):
        return "object"
    return "`null`" if hint is type(None) else _SCALARS[hint]


def _plural(words: str) -> str:
    return words if words.endswith("]") else f"{words}s"
