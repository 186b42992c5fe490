"""What is told of variants and weights without PyTorch is what PyTorch counts."""

from __future__ import annotations

from math import ceil
from pathlib import Path

import pytest
import torch

from edgeunet import catalogue
from edgeunet.catalogue import (
    VARIANTS,
    find_weights,
    list_weights,
    packaged_name,
    summarise,
    weights_file,
)
from edgeunet.errors import UnknownNameError, UsageError
from edgeunet.models import Checkpoint, create_model, list_models
from edgeunet.models.summary import count, variant_cost

# Costs


def test_every_variant_is_listed() -> None:
    assert list(VARIANTS) == list_models()


@pytest.mark.parametrize("name", list_models())
def test_cost_is_that_of_the_net_at_any_size(name: str) -> None:
    assert VARIANTS[name] == variant_cost(name), "write this row into edgeunet/catalogue.py"
    with torch.device("meta"):
        net = create_model(name, num_classes=2)
    step = net.size_multiple
    for height, width in ((step, step), (7 * step, 3 * step)):
        assert VARIANTS[name].flops(height, width) == count(net, height=height, width=width).flops


def test_sizes_are_rounded_up_to_what_each_net_takes() -> None:
    for row in summarise(33, 50):
        step = VARIANTS[row.name].step
        taken = ceil(33 / step) * step, ceil(50 / step) * step
        assert row.gflops == round(VARIANTS[row.name].flops(*taken) / 1e9, 2) > 0


def test_size_without_a_pixel_is_refused() -> None:
    with pytest.raises(UsageError, match="size is 0x320; both sides must be at least 1"):
        summarise(0, 320)


def test_weights_are_summarised_as_they_open() -> None:
    rows = summarise(256, 320)
    assert any(row.weights for row in rows)
    for row in rows:
        assert [weights.tag for weights in row.weights] == list_weights(row.name)
        for weights in row.weights:
            opened = Checkpoint.open(weights.tag, row.name)
            spec = opened.card.input
            assert weights.parameters == sum(p.numel() for p in opened.net.parameters())
            assert weights.input == f"{spec.height}x{spec.width}"
            assert weights.classes == opened.net.num_classes
            assert weights.gated == (opened.card.gate is not None)
            assert weights.miou == opened.card.metrics.get("miou")


# Finding weights


@pytest.fixture
def tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of weights: two tags of mobile_unet, one with a dot, and one of unet."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in ("mobile_unet.cells", "mobile_unet.camvid.v2", "unet.roads"):
        (folder / f"{name}.safetensors").touch()
        (folder / f"{name}.json").touch()
    monkeypatch.setattr(catalogue, "WEIGHTS_DIR", folder)
    return folder


@pytest.mark.usefixtures("tags")
def test_tags_are_listed_by_model() -> None:
    assert list_weights("mobile_unet") == ["camvid.v2", "cells"]
    assert list_weights("unet") == ["roads"]
    assert list_weights("unetpp") == []


@pytest.mark.parametrize("tag", ["cells", "camvid.v2"])
def test_weights_are_found_by_tag(tags: Path, tag: str) -> None:
    for name in (tag, f"mobile_unet:{tag}"):
        assert find_weights("mobile_unet", name) == tags / f"mobile_unet.{tag}.safetensors"
    with pytest.raises(UnknownNameError, match=f"unknown weights of mobile_unet 'unet:{tag}'"):
        find_weights("mobile_unet", f"unet:{tag}")


@pytest.mark.usefixtures("tags")
def test_weights_are_found_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = tmp_path / "net.safetensors"
    saved.touch()
    assert find_weights("mobile_unet", str(saved)) == saved
    monkeypatch.chdir(tmp_path)
    assert find_weights("mobile_unet", "net.safetensors") == Path("net.safetensors")


@pytest.mark.usefixtures("tags")
def test_directory_of_a_run_stands_for_its_net(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    assert find_weights("mobile_unet", str(run)) == weights_file(run) == run, "no net yet"
    (run / "best.safetensors").touch()
    assert find_weights("mobile_unet", str(run)) == weights_file(run) == run / "best.safetensors"


@pytest.mark.usefixtures("tags")
def test_tag_wins_over_a_file_of_that_name(
    tmp_path: Path, tags: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cells").touch()
    monkeypatch.chdir(tmp_path)
    assert find_weights("mobile_unet", "cells") == tags / "mobile_unet.cells.safetensors"


@pytest.mark.usefixtures("tags")
@pytest.mark.parametrize(
    ("model", "known"), [("mobile_unet", "camvid.v2, cells"), ("unet", "roads"), ("unetpp", "none")]
)
def test_unknown_tag_lists_those_of_the_model(model: str, known: str) -> None:
    with pytest.raises(UnknownNameError) as error:
        find_weights(model, "moon")
    assert str(error.value) == f"unknown weights of {model} 'moon'. Known: {known}."


def test_packaged_weights_have_a_name_that_a_path_goes_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert packaged_name("unet:cells") == ("unet", "cells")
    assert packaged_name("nets/unet") is packaged_name("other:cells") is None
    assert packaged_name("C:\\net") is None
    with pytest.raises(UsageError, match=r"unet is a variant; expected a bundle, .*: unet:cells"):
        packaged_name("unet")
    with pytest.raises(UnknownNameError, match=r"unknown variant 'mobilenet'.*'mobile_unet'"):
        packaged_name("mobilenet:camvid")
    with pytest.raises(UnknownNameError, match=r"weights of unet 'cell'\. Did you mean 'cells'"):
        packaged_name("unet:cell")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "unet:cells").mkdir()
    assert packaged_name("unet:cells") is None
