"""What a push may change on the Hub; the Hub is a server on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeunet import from_hub, push_to_hub
from edgeunet.bundle.manifest import MANIFEST_NAME
from edgeunet.errors import BundleError, OutputError, UsageError
from edgeunet.files import sha256
from edgeunet.hub.model_card import MARK, README_NAME
from support.hub_server import ADDRESS, NAME, Hub, contents, rewrite


def test_pushes_go_to_main_only(hub: Hub, bundle: Path) -> None:
    with pytest.raises(UsageError, match="Pushes go to main: hf://me/net"):
        push_to_hub(bundle, f"{ADDRESS}@v1")
    assert hub.asked == []


def test_damaged_bundle_is_not_pushed(hub: Hub, bundle: Path) -> None:
    (bundle / "golden.npz").write_bytes(b"damaged")
    with pytest.raises(BundleError, match="golden"):
        push_to_hub(bundle, ADDRESS)
    assert hub.asked == []


def test_compiled_net_is_not_pushed(hub: Hub, bundle: Path) -> None:
    (bundle / "model.rknn").write_bytes(b"code")
    manifest = json.loads((bundle / MANIFEST_NAME).read_text())
    manifest["files"]["model.rknn"] = sha256(bundle / "model.rknn")
    (bundle / MANIFEST_NAME).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"lists model.rknn; expected data alone"):
        push_to_hub(bundle, ADDRESS)
    assert hub.asked == []


@pytest.mark.parametrize(
    "files",
    [
        {"pytorch_model.bin": b"weights"},
        {"config.json": b"{}", MANIFEST_NAME: b'{"name": "another program\'s", "files": []}'},
        {MANIFEST_NAME: b"[]"},
        {MANIFEST_NAME: b"no JSON"},
        {MANIFEST_NAME: b'{"schema_version": 1, "classes": [], "files": 3}'},
    ],
)
def test_other_repositories_are_not_changed(
    files: dict[str, bytes], hub: Hub, bundle: Path
) -> None:
    found = hub.put(NAME, files)
    with pytest.raises(UsageError, match=r"is not a bundle. Nothing was changed"):
        push_to_hub(bundle, ADDRESS)
    assert found.files == files
    assert len(found.history) == 1


def test_new_bundle_takes_the_place_of_the_old_one(
    hub: Hub, bundle: Path, depths_bundle: Path
) -> None:
    push_to_hub(depths_bundle, ADDRESS, private=False)
    found = hub.repositories[NAME]
    assert not found.private
    found.files["LICENSE"] = b"theirs"
    found.commit()
    push_to_hub(bundle, ADDRESS)
    assert set(found.files) == {*contents(bundle), README_NAME, ".gitattributes", "LICENSE"}
    assert contents(from_hub(ADDRESS, download=True)) == contents(bundle)


def test_bundle_of_another_version_is_replaced(hub: Hub, bundle: Path) -> None:
    old = rewrite(contents(bundle), lambda manifest: manifest.update(schema_version=1))
    found = hub.put(NAME, {**old, "old.onnx": b""})
    push_to_hub(bundle, ADDRESS)
    assert set(found.files) == {*contents(bundle), "old.onnx", README_NAME}


def test_change_meanwhile_is_not_overwritten(
    hub: Hub, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = hub.put(NAME, {".gitattributes": b""})

    def change(*args: object) -> bool:
        found.files["mine"] = b"meanwhile"
        found.commit()
        return True

    monkeypatch.setattr("edgeunet.hub.push._may_write_readme", change)
    with pytest.raises(OutputError, match="412"):
        push_to_hub(bundle, ADDRESS)
    assert set(found.files) == {".gitattributes", "mine"}


def test_readme_is_replaced_unless_it_is_somebodys_own(hub: Hub, bundle: Path) -> None:
    push_to_hub(bundle, ADDRESS)
    found = hub.repositories[NAME]
    written = found.files[README_NAME]
    for content, wanted in ((MARK.encode() + b" old", written), (b"---\nlicense: mit\n---\n",) * 2):
        found.files[README_NAME] = content
        found.commit()
        push_to_hub(bundle, ADDRESS)
        assert found.files[README_NAME] == wanted
