"""The table of a search, and its rows for the picture."""

from __future__ import annotations

import json
from dataclasses import replace

from edgeunet.benchmark.report import front
from edgeunet.tuning.outcome import WIDTH, table
from support.tuning import TRIED, outcome


def test_table_has_all_that_was_measured_and_the_choice() -> None:
    text = table(outcome())
    lines = text.splitlines()
    assert lines[0].startswith("mobile_unet on <b>cells</b>, target p50<=2ms (2.00 ms a frame)")
    assert "7m 13s of 10m 0s; a processor, 2 cores" in lines[0]
    rows = {line[2:].split()[0]: line for line in lines[2:5]}
    assert list(rows) == ["64x96-w8-light", "96x128-w32-light", "128x160-w32-full"], "fastest first"
    assert rows["96x128-w32-light"].startswith(">*")
    assert rows["96x128-w32-light"].split()[2:] == [
        "openvino", "INT8", "1.50", "63.50", "14", "chosen",
    ]  # fmt: skip
    assert rows["128x160-w32-full"].startswith(" *")
    assert rows["64x96-w8-light"].startswith("  ") and " – " in rows["64x96-w8-light"]
    assert "It is fast." in lines
    assert "64x96-w8-full int8 could not be exported: it loses too much." in lines
    assert "edgeunet run search/bundle SOURCE --backend openvino --precision int8" in lines
    assert max(map(len, lines[1:])) <= WIDTH + 20


def test_check_of_the_cost_model_in_words() -> None:
    said = outcome().check
    assert said.startswith("3 of 24 configurations were measured, and 21 only predicted. ")
    assert "3 predictions were checked: off by 10% in the median, 20% at most" in said
    assert "The bundle takes 1.60 ms a frame, +7% against the same net with random weights" in said
    assert outcome(found=False).check.endswith("20% at most.")
    whole = replace(outcome(found=False), size=3, misses=())
    assert whole.check == "3 of 3 configurations were measured."


def test_rows_of_the_picture_compare_what_was_trained_equally_long() -> None:
    setting = outcome().setting()
    assert [(row.name, row.p50, row.iou_lost) for row in setting.rows] == [
        ("openvino INT8 96x128-w32-light", 1.5, 0.5),
        ("openvino INT8 128x160-w32-full", 4.0, 0.0),
        ("onnxruntime FP32 96x128-w32-light", 5.0, 0.5),
        ("onnxruntime FP32 128x160-w32-full", 16.0, 0.0),
    ]
    assert [row.name for row in front(setting.rows)] == [
        "openvino INT8 96x128-w32-light", "openvino INT8 128x160-w32-full",
    ]  # fmt: skip
    assert outcome().use in [row.title for row in setting.rows]
    assert outcome(found=False).use == ""
    assert replace(outcome(), tried=TRIED[2:]).setting().rows == ()


def test_one_that_was_out_early_is_behind_the_contender_that_beat_it() -> None:
    large, small, other = TRIED
    out = replace(other, rungs=(58.0,), fate="out after rung 1")
    late = replace(large, rungs=(60.0, 62.0))  # is overtaken by the small one
    known = replace(outcome(), tried=(late, small, out))
    assert [known.behind(each) for each in known.tried] == [1.5, 0.0, 1.0]
    known = replace(outcome(), tried=(large, small, out))
    assert [known.behind(each) for each in known.tried] == [0.0, 0.5, 1.5]


def test_command_names_the_provider_too() -> None:
    chosen = outcome().chosen
    assert chosen is not None
    gpu = replace(chosen, way="onnxruntime cuda FP16")
    assert gpu.command.endswith("--backend onnxruntime --provider cuda --precision fp16")


def test_json_has_all() -> None:
    found = json.loads(json.dumps(outcome().to_json()))
    assert found["chosen"]["bundle"] == "search/bundle"
    assert found["tried"][0]["times"] == {"onnxruntime FP32": 16.0, "openvino INT8": 4.0}
