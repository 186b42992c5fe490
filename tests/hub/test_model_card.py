"""The README.md of a bundle on the Hub; the Hub is a server on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeunet import push_to_hub
from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.manifest import MANIFEST_NAME
from edgeunet.errors import BundleError
from edgeunet.hub.model_card import README_NAME, model_card
from support.hub_server import ADDRESS, NAME, Hub


def test_card_tells_what_the_manifest_and_parity_know(fp32_bundle: Path) -> None:
    card = model_card(open_bundle(fp32_bundle), NAME)
    report = json.loads((fp32_bundle / "parity.json").read_text())
    assert "license" not in card, "nothing knows it"
    assert "| classes | background, cell, dividing |" in card
    assert f"8 frames, compared with PyTorch; its mIoU: {report['reference_miou']:.2f}." in card
    for stage in report["stages"]:
        assert f"| {stage['name']} | {stage['agreement']:.2%} | {stage['miou']:.2f} |" in card
    import yaml

    head = yaml.safe_load(card.split("---\n")[1])
    assert head["library_name"] == "edgeunet"
    assert {"edgeunet", "image-segmentation"} <= set(head["tags"])


def test_code_of_the_card_runs(hub: Hub, fp32_bundle: Path) -> None:
    push_to_hub(fp32_bundle, ADDRESS)
    card = hub.repositories[NAME].files[README_NAME].decode()
    golden = open_bundle(fp32_bundle).golden()
    known = {"frame": golden.frames[0]}
    exec(card.split("```python\n")[1].split("```")[0], known)
    assert known["mask"].shape == golden.masks[0].shape


def test_texts_of_a_bundle_are_no_markup(bundle: Path) -> None:
    path = bundle / MANIFEST_NAME
    manifest = json.loads(path.read_text())
    manifest["classes"] = ["a | b", "<script>\n# c"]
    path.write_text(json.dumps(manifest))
    card = model_card(open_bundle(bundle), NAME)
    assert r"| classes | a \| b, \<script\>\\n\# c |" in card
    assert "Figures" not in card, "there is no parity.json"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"stages": [{"name": "fp32"}]}'])
def test_damaged_figures_are_refused(bundle: Path, content: str) -> None:
    (bundle / "parity.json").write_text(content)
    with pytest.raises(BundleError, match=r"parity.json cannot be read: .*edgeunet parity"):
        model_card(open_bundle(bundle), NAME)
