"""`edgeunet models`."""

from __future__ import annotations

from edgeunet.catalogue import VARIANTS, list_weights
from support.commands import data, succeeds


def test_models_gives_parameters_arithmetic_and_weights() -> None:
    rows = {row["name"]: row for row in data("models", "--size", "512x640")}
    assert list(rows) == list(VARIANTS)
    assert rows["mobile_unet"]["parameters"] == 2_376_826
    assert rows["mobile_unet"]["gflops"] == round(VARIANTS["mobile_unet"].flops(512, 640) / 1e9, 2)
    tags = {name: [entry["tag"] for entry in row["weights"]] for name, row in rows.items()}
    assert tags == {name: list_weights(name) for name in VARIANTS}


def test_table_names_weights_as_run_takes_them() -> None:
    table = succeeds("models").stdout.splitlines()
    (line,) = (each.split() for each in table if each.startswith("mobile_unet:camvid "))
    assert line[2:] == ["352x480", "11", "no", "-"]
    (line,) = (each.split() for each in table if each.startswith("unet3p:magnetic_tile "))
    assert line[4] == "yes" and float(line[5]) > 50
    assert table[-1].endswith("-: the weights were trained on them too")
