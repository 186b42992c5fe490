"""What the routes answer, as JSON Schema 2020-12.

Objects are closed, and all that they may hold is required: a key that is not described here, or
not answered, fails the tests.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}


def record_of(properties: dict[str, Schema], text: str = "", *, optional: str = "") -> Schema:
    """An object. optional: the name of a property that may be left out."""
    made: Schema = {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name != optional],
        "additionalProperties": False,
    }
    return {**made, "description": text} if text else made


def by_name(values: Schema, text: str) -> Schema:
    """An object whose keys depend on the bundle or the machine."""
    return {"type": "object", "additionalProperties": values, "description": text}


def list_of(items: Schema, text: str, *, length: int | None = None) -> Schema:
    """An array, of a fixed length or any."""
    made: Schema = {"type": "array", "items": items, "description": text}
    return made if length is None else {**made, "minItems": length, "maxItems": length}


def or_null(schema: Schema) -> Schema:
    """What may be missing."""
    return {"anyOf": [schema, {"type": "null"}]}


SIZE = list_of(COUNT, "Height and width in pixels.", length=2)
ERROR = record_of({"error": TEXT}, "What came, what was expected, and what helps.")

SEGMENTED = record_of(
    {
        "size": SIZE,
        "milliseconds": NUMBER,
        "presence": or_null(list_of(SHARE, "By class; null for a net without a gate.")),
        "segments": list_of(
            record_of(
                {
                    "category_id": COUNT,
                    "category": TEXT,
                    "area": {**COUNT, "description": "Pixels."},
                    "segmentation": record_of(
                        {"size": SIZE, "counts": TEXT}, "COCO's compressed run lengths."
                    ),
                }
            ),
            "One for each class in the mask.",
        ),
    }
)

HEALTH = record_of(
    {
        "status": {"enum": ["ok", "degraded", "waiting", "failed"]},
        "unwell": by_name(
            TEXT, "Why, by source. It comes with the token alone: it may name files."
        ),
    },
    "degraded: some sources give frames, some do not.",
    optional="unwell",
)

_TIMES = record_of({"p50": NUMBER, "p99": NUMBER}, "Milliseconds.")
_STAGE = record_of({"p50": NUMBER, "p99": NUMBER, "busy": SHARE}, "Milliseconds; share of time.")
_SOURCE = record_of(
    {
        "name": TEXT,
        "where": {**TEXT, "description": "What the name stands for, without passwords."},
        "live": FLAG,
        "status": record_of(
            {
                "state": {"enum": ["starting", "playing", "waiting", "failed"]},
                "reason": TEXT,
                "retrying": FLAG,
                "well": FLAG,
            }
        ),
        "fps": {**NUMBER, "description": "Frames segmented per second."},
        "latency": {**_TIMES, "description": "Milliseconds from reading a frame to its mask."},
        "frames": record_of(
            dict.fromkeys(("read", "segmented", "dropped", "skipped", "reconnects"), COUNT)
        ),
        "viewers": COUNT,
        "encode": _TIMES,
    }
)

RECORDINGS = by_name(
    record_of(
        {
            "active": FLAG,
            "finishing": FLAG,
            "kind": {"enum": ["overlay", "mask"]},
            "seconds": NUMBER,
            "frames": COUNT,
            "dropped": {**COUNT, "description": "Frames for which the encoder was too slow."},
            "files": COUNT,
            "file": or_null({**TEXT, "description": "The newest that is complete."}),
            "error": or_null(TEXT),
        }
    ),
    "By source, the last of each.",
)

_COMPARED = record_of(
    {
        "bundles": list_of(
            record_of({"name": TEXT, "model": TEXT, "precision": TEXT}), "Both.", length=2
        ),
        "backend": TEXT,
        "stages": by_name(_TIMES, "Milliseconds of the second net, by stage."),
        "agreement": by_name(or_null(SHARE), "Share of the pixels of late, by source."),
    }
)

STATS = record_of(
    {
        "model": TEXT,
        "weights": TEXT,
        "precision": TEXT,
        "backend": TEXT,
        "input": SIZE,
        "sources": list_of(_SOURCE, "In the order that they were given."),
        "classes": list_of(
            record_of(
                {
                    "name": TEXT,
                    "colour": list_of({**COUNT, "maximum": 255}, "RGB.", length=3),
                    "threshold": or_null(NUMBER),
                }
            ),
            "In the order of their ids. threshold: of the gate.",
        ),
        "uptime": {**NUMBER, "description": "Seconds."},
        "viewers": COUNT,
        "depths": by_name(COUNT, "Frames by the depth of the net, if it holds a rate."),
        "stages": by_name(_STAGE, "By stage."),
        "recordings": or_null(RECORDINGS),
        "compare": or_null(_COMPARED),
        "board": record_of(
            {
                "temperatures": by_name(NUMBER, "Degrees Celsius by sensor."),
                "power": by_name(NUMBER, "Watts by rail."),
            }
        ),
        "upload": record_of(
            {"size": COUNT, "pixels": COUNT, "frame": COUNT},
            "Most bytes and pixels of an upload, most bytes of a camera's frame.",
        ),
    }
)
