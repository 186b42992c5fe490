"""Plans: going on, refusing another run by what differs, and starting over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeunet.errors import BackendError, OutputError, UsageError
from edgeunet.runtime.frames import Ignored
from edgeunet.runtime.sinks.plans import (
    ATTEMPTS,
    begin,
    check_written,
    count_attempt,
    forget_attempts,
    make_plan,
    shard_names,
)
from edgeunet.runtime.sinks.shards import ShardFolder
from edgeunet.runtime.sources.items import Items
from edgeunet.runtime.sources.units import Unit

UNITS = (
    Unit("files", "/d", names=("1.png", "2.png"), stamps=("1 1", "2 2"), images=2),
    Unit("members", "/a.tar", "9 9", names=("x.png",), start=0, stop=1, images=1),
)


def plan(
    *units: Unit, bundle: str = "cells", manifest: str = "aa", **options: Any
) -> dict[str, Any]:
    items = Items(units or UNITS, Ignored())
    return make_plan(items, bundle=(bundle, manifest), options={"batch": None, **options})


@pytest.fixture
def folder(tmp_path: Path) -> ShardFolder:
    return ShardFolder(tmp_path / "out")


def finish(folder: ShardFolder, name: str) -> None:
    with folder.writing(f"{name}.tar"):
        pass
    folder.write_json(f"{name}.json", {"frames": 2})


def test_a_run_goes_on_with_what_is_not_done(folder: ShardFolder) -> None:
    assert begin(folder, plan(), force=False) == {}
    finish(folder, "00000")
    with folder.writing("00001.tar"):  # killed before its report
        pass
    assert begin(folder, plan(), force=False) == {"00000": {"frames": 2}}
    assert begin(folder, plan(), force=True) == {}
    assert folder.names() == {"plan.json"}


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (plan(manifest="bb"), "its bundle cells had another content"),
        (plan(manifest="bb", bundle="vessels"), "its bundle was cells, is vessels"),
        (plan(batch=4), "batch was not given, is 4"),
        (plan(replace(UNITS[0], names=("1.png", "3.png")), UNITS[1]),
         "of the input, /d/3.png is new; of the input, /d/2.png is gone"),
        (plan(replace(UNITS[0], stamps=("1 1", "2 3")), UNITS[1]), "/d/2.png was changed"),
        (plan(UNITS[0], replace(UNITS[1], stamp="9 8")), "/a.tar was changed"),
        (plan(UNITS[1], UNITS[0]), "the input is cut into other units"),
        ({**plan(), "format": 2}, "format 1, expected 2"),
    ],
)  # fmt: skip
def test_another_run_is_refused_by_what_differs(
    folder: ShardFolder, now: dict[str, Any], words: str
) -> None:
    begin(folder, plan(), force=False)
    finish(folder, "00000")
    with pytest.raises(UsageError, match="is of another run: ") as caught:
        begin(folder, now, force=False)
    assert words in str(caught.value)
    assert folder.names() == {"plan.json", "00000.tar", "00000.json"}
    assert begin(folder, now, force=True) == {}
    assert begin(folder, now, force=False) == {}


def test_folders_of_others_are_left_alone(folder: ShardFolder, tmp_path: Path) -> None:
    folder.write_json("mine.json", 1)
    for force in (False, True):
        with pytest.raises(UsageError, match=r"holds mine\.json and no plan\.json"):
            begin(folder, plan(), force=force)
    folder.write_json("plan.json", {"format": 1, "units": "none"})
    with pytest.raises(UsageError, match="is not that of a run"):
        begin(folder, plan(), force=True)
    folder.write_json("plan.json", plan())
    begin(folder, plan(), force=True)
    assert folder.read_json("mine.json") == 1


def test_a_unit_that_ends_workers_is_named(folder: ShardFolder) -> None:
    for run in ("first", "second"):  # each run counts anew
        for _ in range(ATTEMPTS):
            count_attempt(folder, "00001", run=run)
        with pytest.raises(BackendError, match=f"unit 00001 ended its worker {ATTEMPTS} times"):
            count_attempt(folder, "00001", run=run)
    forget_attempts(folder, "00001")
    count_attempt(folder, "00001", run="second")
    assert folder.names() == set(), "notes are no results"


def test_shards_that_lie_elsewhere_are_missed(folder: ShardFolder) -> None:
    finish(folder, "00000")
    check_written(folder, ["00000"])
    with pytest.raises(OutputError, match=r"lacks 1 shards .* such as 00001\. .* share"):
        check_written(folder, ["00000", "00001"])


def test_names_are_wide_enough() -> None:
    assert shard_names(100_001)[-1] == "100000"
    assert shard_names(100_001)[0] == "000000"
