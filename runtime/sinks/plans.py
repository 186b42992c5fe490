"""The plan of a run on many workers, in the folder that it writes: what to do, and what is done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from edgeunet.errors import BackendError, OutputError, UsageError, printable

from ..sources.items import Items
from .shards import ShardFolder

PLAN, SUMMARY = "plan.json", "summary.json"

FORMAT = 1
"""Version of what the folder holds."""

READERS = 32
"""Reports that are read at the same time: a request takes longer than a report."""

ATTEMPTS = 3
"""How often a unit may end its worker, before it is taken for the reason."""


def make_plan(
    items: Items, *, bundle: tuple[str, str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """What a run is to do, for JSON: of two runs with equal plans, each shard is the same.

    It holds no passwords.

    Args:
        bundle: its name, and the hash of its manifest. options: all that masks depend on.
    """
    return {
        "format": FORMAT,
        "bundle": {"name": printable(bundle[0]), "manifest": bundle[1]},
        "options": dict(options),
        "ignored": asdict(items.ignored),
        "units": [each.record() for each in items.units],
    }


def shard_names(count: int) -> list[str]:
    """Names of so many shards, without suffix.

    Example:
        >>> from edgeunet.runtime.sinks.plans import shard_names
        >>> shard_names(2)
        ['00000', '00001']
    """
    width = max(5, len(str(count - 1)))
    return [f"{index:0{width}d}" for index in range(count)]


def begin(
    folder: ShardFolder, plan: Mapping[str, Any], *, force: bool
) -> dict[str, dict[str, Any]]:
    """Write the plan, or go on with the one that is there.

    Args:
        force: remove what an earlier run wrote, and start over.

    Returns:
        The reports of units that are done, by the name of their shard.

    Raises:
        UsageError: the folder has another plan, or holds something else.
    """
    there = folder.names()
    if PLAN not in there:
        if there:
            raise UsageError(
                f"{folder} holds {printable(min(there))} and no {PLAN}; expected a new folder, or "
                "one of an earlier run."
            )
        folder.write_json(PLAN, plan)
        return {}
    before = folder.read_json(PLAN)
    try:
        differences = _differences(before, plan)
        old = shard_names(len(before["units"]))
    except (KeyError, TypeError, AttributeError):
        raise UsageError(f"{folder}/{PLAN} is not that of a run. Choose a new folder.") from None
    if force:
        # The plan last: a run that is killed here can be gone on with.
        folder.remove([SUMMARY, *(f"{name}{end}" for name in old for end in (".json", ".tar"))])
        folder.write_json(PLAN, plan)
        return {}
    if differences:
        raise UsageError(
            f"{folder} is of another run: {'; '.join(differences)}. Choose a new folder, or "
            "start over with --force, which removes its shards."
        )
    done = [name for name in old if {f"{name}.json", f"{name}.tar"} <= there]
    with ThreadPoolExecutor(READERS) as pool:
        reports = pool.map(lambda name: folder.read_json(f"{name}.json"), done)
        return dict(zip(done, reports, strict=True))


def count_attempt(folder: ShardFolder, name: str, *, run: str) -> None:
    """Note that a worker begins a unit.

    Args:
        run: tells this run from others, whose attempts do not count.

    Raises:
        BackendError: workers died of it before. Ray would start them again without an end.
    """
    earlier = folder.read_json(_attempts(name)) or {}
    count = earlier["count"] if earlier.get("run") == run else 0
    if count >= ATTEMPTS:
        raise BackendError(
            f"unit {name} ended its worker {count} times, for want of memory or by a crash. {PLAN} "
            "says what it holds. Run with fewer workers, or without what it holds."
        )
    folder.write_json(_attempts(name), {"run": run, "count": count + 1})


def forget_attempts(folder: ShardFolder, name: str) -> None:
    """Note that a unit is done."""
    folder.remove([_attempts(name)])


def _attempts(name: str) -> str:
    return f".edgeunet-{name}.json"


def check_written(folder: ShardFolder, names: Iterable[str]) -> None:
    """Refuse that workers wrote shards into a folder of the same name on another machine."""
    there = folder.names()
    if missing := [name for name in names if f"{name}.json" not in there]:
        raise OutputError(
            f"{folder} lacks {len(missing)} shards that workers wrote, such as {missing[0]}. They "
            "write by this path: expected a folder that all machines share, or an address."
        )


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two plans, in words."""
    told = []
    if before["format"] != now["format"]:
        told.append(f"format {before['format']}, expected {now['format']}")
    if before["bundle"]["manifest"] != now["bundle"]["manifest"]:
        name, other = now["bundle"]["name"], before["bundle"]["name"]
        told.append(
            f"its bundle was {printable(other)}, is {name}"
            if name != other
            else f"its bundle {name} had another content"
        )
    for name, value in now["options"].items():
        if (other := before["options"].get(name)) != value:
            told.append(f"{name} was {_word(other)}, is {_word(value)}")
    files, others = _stamps(now["units"]), _stamps(before["units"])
    for what, names in (
        ("is new", [name for name in files if name not in others]),
        ("is gone", [name for name in others if name not in files]),
        ("was changed", [name for name in files if files[name] != others.get(name, files[name])]),
    ):
        if names:
            more = f", and {len(names) - 1} more" if len(names) > 1 else ""
            told.append(f"of the input, {printable(names[0])} {what}{more}")
    if not told and before["units"] != now["units"]:
        told.append("the input is cut into other units")
    return told


def _word(value: Any) -> str:
    return "not given" if value is None else printable(value)


def _stamps(units: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Stamps of all files of an input, by name."""
    found: dict[str, str] = {}
    for unit in units:
        if unit["kind"] != "files":
            found[unit["where"]] = unit["stamp"]
            continue
        for name, stamp in zip(unit["names"], unit["stamps"], strict=True):
            found[f"{unit['where']}/{name}" if unit["where"] else name] = stamp
    return found
