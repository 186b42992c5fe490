"""Bundles that come from the Hub; the Hub is a server on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeunet import from_hub, push_to_hub
from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.manifest import MANIFEST_NAME
from edgeunet.errors import BundleError, MissingDependencyError, UsageError
from edgeunet.hub.model_card import README_NAME
from edgeunet.user_folders import cache_folder
from support.commands import ROOT
from support.hub_server import ADDRESS, NAME, Hub, contents, left_behind, rewrite
from support.small_bundle import write_bundle


def test_what_was_pushed_comes_back(hub: Hub, bundle: Path) -> None:
    url = push_to_hub(bundle, ADDRESS)
    assert url == f"{hub.url}/me/net/commit/{hub.repositories[NAME].names['main']}"
    assert hub.repositories[NAME].private
    place = from_hub(ADDRESS, download=True)
    assert place == cache_folder() / "hub/me/net" / url.rsplit("/", 1)[1]
    assert contents(place) == contents(bundle)
    assert open_bundle(place).manifest == open_bundle(bundle).manifest
    assert not any(path.is_symlink() for path in cache_folder().rglob("*"))


def test_depths_come_along_and_reports_and_engines_stay(
    hub: Hub, depths_bundle: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(depths_bundle, tmp_path / "depths")
    (bundle / "engines").mkdir()
    (bundle / "engines" / "model.engine").write_bytes(b"code")
    (bundle / "notes.txt").write_text("mine")
    push_to_hub(bundle, ADDRESS)
    place = from_hub(ADDRESS, download=True)
    assert open_bundle(place).depths == (1, 2, 3)
    own = contents(bundle)
    stay = {name for name in own if Path(name).name in ("parity.json", "parity.html")}
    stay |= {"engines/model.engine", "notes.txt"}
    assert "depths/1/manifest.json" in own and "parity.html" in stay
    assert contents(place) == {name: own[name] for name in own.keys() - stay}
    assert set(hub.repositories[NAME].files) == {
        *(own.keys() - stay), README_NAME, ".gitattributes",
    }  # fmt: skip


def test_revisions_are_kept_beside_each_other(hub: Hub, bundle: Path, tmp_path: Path) -> None:
    push_to_hub(bundle, ADDRESS)
    first = from_hub(ADDRESS, download=True)
    hub.repositories[NAME].names["v1"] = first.name
    push_to_hub(write_bundle(tmp_path / "second", weight=2.0), ADDRESS, message="Heavier")
    assert from_hub(ADDRESS) == first, "nothing was asked for"
    second = from_hub(ADDRESS, download=True)
    assert second != first
    assert from_hub(ADDRESS) == second
    shutil.rmtree(first)
    assert from_hub(f"{ADDRESS}@v1", download=True) == from_hub(f"{ADDRESS}@v1") == first
    assert contents(first) == contents(bundle)
    assert from_hub(ADDRESS) == second
    assert from_hub(f"{ADDRESS}@{second.name}", download=True) == second
    assert contents(second) == contents(tmp_path / "second")


def test_what_is_here_is_not_fetched_again(hub: Hub, bundle: Path) -> None:
    push_to_hub(bundle, ADDRESS)
    place = from_hub(ADDRESS, download=True)
    hub.asked.clear()
    assert from_hub(ADDRESS, download=True) == place
    assert hub.asked == ["GET /api/models/me/net/revision/main"]
    (place / "golden.npz").write_bytes(b"damaged")
    assert from_hub(ADDRESS, download=True) == place
    assert contents(place) == contents(bundle)


def test_nothing_is_asked_unasked(hub: Hub, bundle: Path) -> None:
    push_to_hub(bundle, ADDRESS)
    hub.asked.clear()
    with pytest.raises(UsageError, match=r'from_hub\("hf://me/net", download=True\)'):
        from_hub(ADDRESS)
    place = from_hub(ADDRESS, download=True)
    hub.asked.clear()
    assert from_hub(ADDRESS) == place
    assert hub.asked == []


def test_copy_here_is_found_without_the_library(
    hub: Hub, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_to_hub(bundle, ADDRESS)
    place = from_hub(ADDRESS, download=True)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert from_hub(ADDRESS) == place
    for call in (lambda: from_hub(ADDRESS, download=True), lambda: push_to_hub(bundle, ADDRESS)):
        with pytest.raises(MissingDependencyError, match=r"pip install '.*\[hub\]'"):
            call()


@pytest.mark.parametrize("content", ["", "../../..", "f" * 40])
def test_note_of_a_revision_leads_nowhere_else(hub: Hub, bundle: Path, content: str) -> None:
    push_to_hub(bundle, ADDRESS)
    from_hub(ADDRESS, download=True)
    shutil.copytree(bundle, cache_folder(), dirs_exist_ok=True)
    (cache_folder() / "hub/me/net/revisions/main").write_text(content)
    with pytest.raises(UsageError, match="has not been fetched yet"):
        from_hub(ADDRESS)


def test_other_repositories_are_no_bundles(hub: Hub) -> None:
    hub.put(NAME, {"model.safetensors": b"", "modeling.py": b"import os"})
    with pytest.raises(BundleError, match=r"hf://me/net is not a bundle: it has no manifest.json"):
        from_hub(ADDRESS, download=True)
    assert left_behind() == []


def test_changed_file_is_refused_by_its_hash(hub: Hub, bundle: Path) -> None:
    files = contents(bundle)
    graph = bytearray(files["model.fp32.onnx"])
    graph[len(graph) // 2] ^= 1
    hub.put(NAME, {**files, "model.fp32.onnx": bytes(graph)})
    with pytest.raises(BundleError) as caught:
        from_hub(ADDRESS, download=True)
    assert str(caught.value).startswith("hf://me/net/model.fp32.onnx has SHA-256 ")
    assert str(caught.value).endswith("Nothing of it was kept.")
    assert left_behind() == []


def named(name: str) -> Callable[[dict[str, object]], object]:
    """Lists one more file."""
    return lambda manifest: manifest["files"].update({name: "0" * 64})  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (named("../x.json"), r"names the file '../x.json', which lies outside"),
        (named("/x.json"), r"names the file '/x.json', which lies outside"),
        (named("C:x.json"), r"names the file 'C:x.json', which lies outside"),
        (named("model.rknn"), r"lists model.rknn; expected data alone .*deploy it where it runs"),
        (named("code.py"), r"lists code.py; expected data alone"),
        (named("x.json"), r"hf://me/net lacks x.json"),
        (named("large.npz"), r"hf://me/net has \d+ bytes in large.npz; expected at most"),
        (
            lambda m: [named(name)(m) for name in ("half.npz", "half2.npz")],
            r"hf://me/net has 60000 bytes in half2.npz; expected at most",
        ),
        (lambda m: [named(f"{n}.npz")(m) for n in range(101)], r"lists 10\d files; .* at most 100"),
        (lambda m: m.update(depths={"../1": "0"}), r"manifest.json is damaged: .*got '../1'"),
        (lambda m: m.update(schema_version=0), r"hf://me/net/manifest.json has schema version 0"),
        (lambda m: m.clear(), r"hf://me/net/manifest.json has schema version None"),
    ],
)
def test_hostile_manifests_are_refused_before_more_is_fetched(
    change: Callable[[dict[str, object]], object], said: str,
    hub: Hub, bundle: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("edgeunet.hub.fetch.MAX_TOTAL_BYTES", 100_000)
    more = {"../x.json": b"{}", "/x.json": b"{}", "model.rknn": b"", "code.py": b""}
    more |= {"large.npz": bytes(100_001), "half.npz": bytes(60_000), "half2.npz": bytes(60_000)}
    hub.put(NAME, {**rewrite(contents(bundle), change), **more})
    with pytest.raises(BundleError, match=said):
        from_hub(ADDRESS, download=True)
    assert left_behind() == []
    assert not any(name in asked for asked in hub.asked for name in ("x.json", "rknn", "code.py"))


def test_large_manifest_is_not_fetched(hub: Hub, bundle: Path) -> None:
    hub.put(NAME, {**contents(bundle), MANIFEST_NAME: bytes((4 << 20) + 1)})
    with pytest.raises(BundleError, match=r"bytes in manifest.json; expected at most 4194304"):
        from_hub(ADDRESS, download=True)
    assert not any("resolve" in asked for asked in hub.asked)


def test_code_beside_a_bundle_is_not_fetched(hub: Hub, bundle: Path) -> None:
    hub.put(NAME, {**contents(bundle), "../../x.py": b"", "run.py": b"", "engines/a.engine": b""})
    assert contents(from_hub(ADDRESS, download=True)) == contents(bundle)


def test_killed_download_leaves_nothing_half(hub: Hub, bundle: Path, tmp_path: Path) -> None:
    push_to_hub(bundle, ADDRESS)
    hub.stalls = "model.fp32.onnx"
    process = subprocess.Popen(
        [sys.executable, "-c", f"import edgeunet; edgeunet.from_hub('{ADDRESS}', download=True)"],
        cwd=ROOT, env={**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert hub.stalled.wait(60)
    finally:
        process.kill()
        assert process.wait() == -signal.SIGKILL
    folder = cache_folder() / "hub/me/net"
    assert MANIFEST_NAME in left_behind(), "nothing to test"
    assert [path.name[:10] for path in folder.iterdir()] == [".edgeunet-"]
    with pytest.raises(UsageError, match="has not been fetched yet"):
        from_hub(ADDRESS)
    hub.stalls = ""
    place = from_hub(ADDRESS, download=True)
    assert contents(place) == contents(bundle)
    assert sorted(path.name for path in folder.iterdir()) == sorted([place.name, "revisions"])
