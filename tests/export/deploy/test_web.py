"""Target `web`: its page in a real browser, and what is refused."""

from __future__ import annotations

import http.server
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.cells import PALETTE, snapshots
from edgeunet.errors import UsageError
from edgeunet.exporting.deploy import Deployment, DeployOptions, deploy, web
from edgeunet.runtime import load
from support.chromium import Page, chromium
from support.commands import ROOT
from support.made import Made
from support.media import read_mask_png, write_png, write_video
from support.small_bundle import names

HINT = "document.querySelector('#hint').textContent"
STATUS = "document.querySelector('#status-text')?.textContent"
NO_GPU = "No available adapters"  # Chromium logs that itself
AGREEMENT = {"fp32": 0.999, "int8.cpu": 0.99}


@pytest.fixture(scope="module")
def package(made: Made) -> Path:
    """onnxruntime-web, as npm has it."""

    def fetch(folder: Path) -> None:
        try:
            web.fetch_package(folder)
        except UsageError as error:
            pytest.skip(str(error))

    return made("onnxruntime-web", fetch) / web.PACKAGE_FILE


@pytest.fixture(scope="module")
def site(int8_bundle: Path, package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("web") / "site"
    assert deploy(int8_bundle, "web", folder, DeployOptions(package=package)) == (
        "fp32", "int8.cpu", "fp16",
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """The folder, served by its own script."""
    command = [sys.executable, str(site / "serve.py"), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[0]
        process.terminate()


@pytest.fixture(scope="module")
def golden(int8_bundle: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return open_bundle(int8_bundle).golden().frames


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """With a camera that shows cells."""
    folder = tmp_path_factory.mktemp("browser")
    film = folder / "camera.y4m"
    planes = cv2.cvtColor(crowded(), cv2.COLOR_RGB2YUV_I420).tobytes()
    film.write_bytes(b"YUV4MPEG2 W96 H64 F25:1 Ip A1:1 C420\n" + 5 * (b"FRAME\n" + planes))
    fake = ("--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={film}")
    with chromium(folder / "profile", *fake) as page:
        page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        yield page


@pytest.fixture
def page(browser: Page, address: str) -> Iterator[Page]:
    """The page, with a net. It must log no errors."""
    browser.open(address)
    browser.wait(f"{STATUS} === 'Ready'", seconds=60)
    browser.errors.clear()
    yield browser
    assert [error for error in browser.errors if NO_GPU not in error] == []


def crowded() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A frame (64, 96, 3) with cells in it."""
    drawn = snapshots(40, height=64, width=96, seed=1)
    return next(frame.image for frame in drawn if 0.2 < np.mean(frame.mask > 0) < 0.8)


def choose_net(page: Page, name: str) -> None:
    page.run(f"document.querySelector('[value=\"{name}\"]').click()")
    page.wait(
        f"document.querySelector('[value=\"{name}\"]:checked:enabled') && {STATUS} !== 'Loading'"
    )


def show(page: Page, path: Path) -> None:
    page.choose_file("#file", path)
    page.wait(f"{HINT}.startsWith('{path.name}, ')")


def saved_mask(page: Page, folder: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """What the button gives."""
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    page.run("document.querySelector('#save-mask').click()")
    for _ in range(200):
        found = list(folder.glob("mask-*.png"))
        if found:
            return read_mask_png(found[0])
        time.sleep(0.05)
    pytest.fail("no mask was saved")


@pytest.mark.parametrize("flavour", list(AGREEMENT))
def test_masks_are_those_of_the_runtime(
    page: Page, site: Path, int8_bundle: Path, golden: Any, flavour: str
) -> None:
    """At the net's size and at another one, which the graph resizes."""
    large = cv2.resize(golden[0], (231, 149), interpolation=cv2.INTER_CUBIC)
    frames = [*golden[:4], large]
    for index, frame in enumerate(frames):
        write_png(site / f"{index}.png", frame)
    found = page.run(
        f"""(async () => {{
            const {{Segmenter}} = await import(`${{location.origin}}/edgeunet.js`);
            const net = await Segmenter.load('model/', {{use: '{flavour} wasm'}}), masks = [];
            for (let i = 0; i < {len(frames)}; i++) {{
                const picture = await (await fetch(`${{i}}.png`)).blob();
                masks.push(Array.from((await net.segment(picture)).mask));
            }}
            net.close();
            return masks;
        }})()"""
    )
    precision = "fp32" if flavour == "fp32" else "int8"
    with load(int8_bundle, precision=precision) as segmenter:
        wanted = [segmenter([frame]).masks[0] for frame in frames]
    masks = [
        np.array(ids, np.uint8).reshape(each.shape) for ids, each in zip(found, wanted, strict=True)
    ]
    same = np.concatenate(
        [(mask == each).ravel() for mask, each in zip(masks, wanted, strict=True)]
    )
    assert same.mean() >= AGREEMENT[flavour]
    assert all(len(np.unique(mask)) > 1 for mask in masks)


def test_image_is_shown_under_its_mask_and_both_are_saved(
    page: Page, int8_bundle: Path, tmp_path: Path
) -> None:
    image = crowded()
    with load(int8_bundle, precision="fp32") as segmenter:
        wanted = segmenter([image]).masks[0]
    choose_net(page, "fp32 wasm")
    show(page, write_png(tmp_path / "cells.png", image))
    np.testing.assert_array_equal(saved_mask(page, tmp_path), wanted)
    share = page.run("document.querySelectorAll('.share')[1].textContent")
    assert share == f"{100 * np.mean(wanted == 1):.1f} %"
    page.run(
        "(() => { const slider = document.querySelector('#opacity'); slider.value = 100;"
        "for (const kind of ['input', 'change']) slider.dispatchEvent(new Event(kind)) })()"
    )
    canvas = page.run(
        """(async () => {
            await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
            const copy = new OffscreenCanvas(96, 64).getContext('2d');
            copy.drawImage(document.querySelector('#canvas'), 0, 0);
            return Array.from(copy.getImageData(0, 0, 96, 64).data);
        })()"""
    )
    shown = np.array(canvas, np.uint8).reshape(64, 96, 4)[..., :3]
    np.testing.assert_array_equal(shown[wanted == 1], np.full_like(shown[wanted == 1], PALETTE[1]))
    np.testing.assert_array_equal(shown[wanted == 0], image[wanted == 0])


def test_graphs_are_timed_once_and_the_choice_is_kept(page: Page, address: str) -> None:
    times = "Array.from(document.querySelectorAll('.choice span'), each => each.textContent)"
    for name in ("int8.cpu wasm", "fp32 wasm"):
        choose_net(page, name)
        before = page.run(times)
        assert len(before) == 2
        assert all(each.endswith(" ms") for each in before)
        page.open(address)
        page.wait(f"{STATUS} === 'Ready'")
        assert page.run("document.querySelector('[name=graph]:checked').value") == name
        assert page.run(times) == before


def test_camera_gives_masks(page: Page, address: str, int8_bundle: Path, tmp_path: Path) -> None:
    page.run("document.querySelector('#camera').click()")
    page.wait(f"{HINT}.startsWith('the browser refuses the camera. Allow it')")
    page.call("Browser.grantPermissions", permissions=["videoCapture"], origin=address.rstrip("/"))
    page.run("document.querySelector('#camera').click()")
    page.wait("Number(document.querySelector('#figure').textContent) > 0", seconds=30)
    mask = saved_mask(page, tmp_path)
    with load(int8_bundle, precision="fp32") as segmenter:
        wanted = segmenter([crowded()]).masks[0]
    assert np.mean(mask == wanted) > 0.95  # its colours are rounded
    page.run("document.querySelector('#camera').click()")
    page.wait(f"{STATUS} === 'Ready'")
    assert page.run("document.querySelector('#video').srcObject") is None


def test_film_plays_and_ends(page: Page, tmp_path: Path) -> None:
    page.drop_file(write_video(tmp_path / "film.mp4", 12))
    page.wait("document.querySelector('#pause').textContent === 'Play again'", seconds=30)
    text = page.run("document.querySelector('#facts').innerText")
    frames = page.run("document.querySelectorAll('#facts dd')[2].textContent")
    assert "96×64" in text
    assert int(frames.split(" of ")[1]) > 0
    page.choose_file("#file", write_png(tmp_path / "after.png", crowded()))
    page.wait(f"{STATUS} === 'Image' && document.querySelector('#player').hidden")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("notes.txt", "notes.txt: expected an image or a film that this browser reads"),
        ("broken.png", "broken.png: expected an image or a film that this browser reads"),
        ("broken.mp4", "broken.mp4: expected a film that this browser plays"),
    ],
)
def test_file_that_cannot_be_read_is_named(
    page: Page, tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / name).write_text("nothing to see")
    page.choose_file("#file", tmp_path / name)
    page.wait(f"{HINT}.startsWith('{said}')")
    page.errors.clear()  # the browser may log it too


def test_nothing_leaves_the_browser(page: Page, site: Path) -> None:
    """Neither from the page nor from a worker, which is how the net runs."""
    asked: list[str] = []

    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(204)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    (site / "leak.js").write_text(
        "onmessage = ({data}) => fetch(data).then(() => 'left', () => 'kept').then(postMessage)"
    )
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        other = f"http://127.0.0.1:{server.server_address[1]}/"
        assert page.run(f"fetch('{other}').then(() => 'left', () => 'kept')") == "kept"
        worker = page.run(
            f"""new Promise(done => {{
                const code = `import "${{location.origin}}/leak.js";`;
                const blob = new Blob([code], {{type: 'text/javascript'}});
                const worker = new Worker(URL.createObjectURL(blob), {{type: 'module'}});
                worker.onmessage = ({{data}}) => done(data);
                worker.postMessage('{other}');
            }})"""
        )
        server.shutdown()
    assert worker == "kept"
    assert asked == []
    page.errors.clear()  # the browser logs what it refused


def test_incomplete_folder_says_so(page: Page) -> None:
    loading = """import(`${location.origin}/edgeunet.js`).then(({Segmenter}) =>
        Segmenter.load('nothing/').catch(error => error.message))"""
    assert "nothing/net.json: expected the net, got HTTP 404. Copy the" in page.run(loading)
    page.errors.clear()


@pytest.mark.parametrize("width", [390, 1400])
def test_page_fits_the_width(page: Page, address: str, width: int) -> None:
    page.open(address, width=width)
    page.wait(f"{STATUS} === 'Ready'")
    assert page.run("document.documentElement.scrollWidth") <= width


def test_example_counts_what_is_in_a_picture(
    page: Page, address: str, site: Path, tmp_path: Path
) -> None:
    shutil.copytree(site, site / "example" / "net", ignore=shutil.ignore_patterns("example"))
    shutil.copy(ROOT / "examples" / "web" / "index.html", site / "example")
    page.open(f"{address}example/")
    page.wait("document.body?.dataset.ready", seconds=60)
    page.choose_file("#file", write_png(tmp_path / "cells.png", crowded()))
    page.wait("document.querySelectorAll('li').length === 3")
    lines = page.run("Array.from(document.querySelectorAll('li'), each => each.textContent)")
    assert [line.split(":")[0] for line in lines] == ["background", "cell", "dividing"]


def test_npm_that_is_missing_is_named_with_what_helps(
    int8_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"found none\. .* run `npm pack onnxruntime-web@.*--pack"):
        deploy(int8_bundle, "web", tmp_path / "out")
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\nexit 3\n")
    npm.chmod(0o755)
    with pytest.raises(UsageError, match=r"does not get onnxruntime-web@.*: exit code 3"):
        deploy(int8_bundle, "web", tmp_path / "out")
    assert names(tmp_path) == ["npm"]


def test_other_package_is_refused(int8_bundle: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.tgz"
    other.write_bytes(b"another release")
    for path, said in ((other, "expected onnxruntime-web@"), (tmp_path / "no.tgz", "No such file")):
        with pytest.raises(UsageError, match=said):
            deploy(int8_bundle, "web", tmp_path / "out", DeployOptions(package=path))
    with pytest.raises(UsageError, match="onnx does not use it; web does"):
        deploy(int8_bundle, "onnx", tmp_path / "out", DeployOptions(package=other))
    assert names(tmp_path) == ["other.tgz"]


def test_frames_that_browsers_lack_are_refused(fp32_bundle: Path, tmp_path: Path) -> None:
    manifest = open_bundle(fp32_bundle).manifest
    spec = InputSpec(64, 96, channels=("nir",), mean=(0.5,), std=(0.5,))
    bundle: Any = SimpleNamespace(manifest=replace(manifest, input=spec))
    with pytest.raises(UsageError, match="takes nir of uint8"):
        web.write(Deployment(bundle, ("fp32",), tmp_path, DeployOptions(), print))
