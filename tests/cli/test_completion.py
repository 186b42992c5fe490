"""What a shell completes: bundles that are there, nets, and the weights of the net."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from edgeunet.cli.main import main


def completed(*words: str) -> list[str]:
    """Completions of the last word, with `/` behind folders and `*` behind files."""
    shell = ShellComplete(main, {}, "edgeunet", "_EDGEUNET_COMPLETE")
    found = shell.get_completions(list(words[:-1]), words[-1])
    return [item.value + {"dir": "/", "file": "*"}.get(item.type, "") for item in found]


def test_bundles_are_completed_and_other_folders_are_not(
    fp32_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b/two", "b/one"):
        shutil.copytree(fp32_bundle, tmp_path / name)
    (tmp_path / "b" / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    assert completed("inspect", "b/") == ["b/one", "b/two"]
    assert completed("parity", "b/one", "b/t") == ["b/two"]
    assert completed("inspect", f"{tmp_path}/b/o") == [f"{tmp_path}/b/one"]
    monkeypatch.chdir("b")
    assert completed("bench", "") == ["one", "two"]


@pytest.mark.parametrize("word", ["", "no such", "no such/folder/"])
def test_where_no_bundle_is_the_shell_goes_on_with_folders(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert completed("deploy", word) == [f"{word}/"]


def test_run_and_serve_complete_packaged_weights_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in ("run", "predict", "serve"):
        assert completed(command, "mobile_unet:c") == [
            "mobile_unet:c/",
            "mobile_unet:camvid",
            "mobile_unet:camvid_light",
            "mobile_unet:cells",
        ]


def test_weights_are_those_of_the_net() -> None:
    assert completed("export", "--model", "unet") == ["unet", "unet3p", "unetpp"]
    assert completed("train", "--model", "mob") == ["mobile_unet"]
    assert completed("export", "--model", "unetpp", "--weights", "") == [
        "cells",
        "em_membrane",
        "*",
    ]
    assert completed("export", "--model", "smp:Unet", "--weights", "be") == ["be*"]
    assert completed("train", "--model", "eff_unet", "--weights", "cam") == ["camvid", "cam*"]
