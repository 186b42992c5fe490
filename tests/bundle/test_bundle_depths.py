"""Bundles of several depths: damage is found, and a depth is chosen."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeunet.errors import BundleError, UsageError
from edgeunet.runtime import open_bundle
from support.depths import edit, edit_nested


@pytest.fixture
def copy(depths_bundle: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(depths_bundle, tmp_path / "copy"))


def refusal(bundle: Path) -> str:
    with pytest.raises(BundleError) as error:
        open_bundle(bundle)
    return str(error.value)


# Refused bundles


@pytest.mark.parametrize("name", ["manifest.json", "model.fp32.onnx", "golden.npz"])
def test_detects_a_changed_bit_in_a_carried_depth(copy: Path, name: str) -> None:
    path = copy / "depths" / "1" / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert f"{path} has SHA-256" in refusal(copy)


@pytest.mark.parametrize("name", ["manifest.json", "model.fp32.onnx", "."])
def test_names_a_missing_file_of_a_carried_depth(copy: Path, name: str) -> None:
    path = copy / "depths" / "2" / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert f"{copy / 'depths' / '2'} lacks {name.replace('.', 'manifest.json', name == '.')}" in (
        refusal(copy)
    )


def test_detects_a_depth_exchanged_for_another(copy: Path) -> None:
    shutil.rmtree(copy / "depths" / "1")
    (copy / "depths" / "2").rename(copy / "depths" / "1")
    assert "depths/1/manifest.json has SHA-256" in refusal(copy)


@pytest.mark.parametrize("name", ["0", "01", "3", "100", "-1", "..", "1/../1", "", "x", "1\n", "²"])
def test_refuses_depth_names_other_than_numbers_below_the_nets_own(copy: Path, name: str) -> None:
    edit(copy / "manifest.json", lambda manifest: manifest["depths"].update({name: "0" * 64}))
    assert f"depths: expected numbers below the net's own depth, got {name!r}" in refusal(copy)


@pytest.mark.parametrize("own", [None, "3", 1, 2.5, True])
def test_refuses_depths_in_a_net_without_a_depth(copy: Path, own: object) -> None:
    edit(copy / "manifest.json", lambda manifest: manifest["arguments"].update(depth=own))
    assert "depths: expected numbers below the net's own depth, got '1'" in refusal(copy)


@pytest.mark.parametrize("linked", ["depths", "depths/1"])
def test_refuses_a_link_to_a_depth_outside_the_bundle(copy: Path, linked: str) -> None:
    outside = copy.parent / "outside"
    (copy / linked).rename(outside)
    (copy / linked).symlink_to(outside, target_is_directory=True)
    assert "is a link that leaves the bundle. Refused." in refusal(
        copy
    )  # although its content is right


def test_refuses_a_depths_link_to_itself(copy: Path) -> None:
    shutil.rmtree(copy / "depths")
    (copy / "depths").symlink_to("depths")
    assert "depths" in refusal(copy)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update(classes=["x", "y", "z"]), "has another classes"),
        (lambda m: m["input"].update(height=32), "has another input"),
        (lambda m: m.update(max_batch=2), "has another max_batch"),
        (lambda m: m["arguments"].update(depth=2), "has another depth"),
        (lambda m: m["arguments"].pop("depth"), "has another depth"),
    ],
)
def test_refuses_a_carried_net_with_another_interface(
    copy: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    edit_nested(copy, 1, change)
    message = refusal(copy)
    assert f"{copy / 'depths' / '1'} {words}" in message
    assert "Export the bundle again" in message


def test_refuses_depths_within_a_carried_depth(copy: Path) -> None:
    edit_nested(copy, 2, lambda manifest: manifest.update(depths={"1": "0" * 64}))
    assert "depths/2 carries depths itself" in refusal(copy)


@pytest.mark.parametrize("depth", [0, 4, -1])
def test_refuses_a_depth_that_was_not_exported(depths_bundle: Path, depth: int) -> None:
    with pytest.raises(UsageError, match=rf"with depth {depth}, but .* carries 1, 2, 3\."):
        open_bundle(depths_bundle).at_depth(depth)


def test_refuses_to_choose_a_depth_from_a_bundle_of_one(depths_bundle: Path) -> None:
    bundle = open_bundle(depths_bundle / "depths" / "1")
    assert bundle.depths == ()
    with pytest.raises(UsageError, match=r"carries no depths to choose from\. .*--depths 1,2,3,4"):
        bundle.at_depth(1)
