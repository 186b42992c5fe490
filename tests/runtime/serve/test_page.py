"""The page in a real browser."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgeunet.data.cells import PALETTE, snapshots
from edgeunet.errors import SourceError
from edgeunet.runtime import load
from edgeunet.runtime.options import LoadOptions
from edgeunet.runtime.serve import server as server_module
from edgeunet.runtime.serve.server import open_service
from edgeunet.runtime.sources import Frames, Source
from support.certificates import make_certificate
from support.chromium import Page, chromium
from support.media import write_png, write_video
from support.serving import Client, read_record, running, serving

TOKEN = "of the page"
ELSEWHERE = "board.test"
# [height, width] of the canvas, and all its pixels as numbers. They are read from a copy, because
# reading a canvas changes how the browser draws it.
PIXELS = """(() => {
    const canvas = document.querySelector('#canvas'), {width, height} = canvas;
    const copy = new OffscreenCanvas(width, height).getContext('2d');
    copy.drawImage(canvas, 0, 0);
    return [[height, width], Array.from(copy.getImageData(0, 0, width, height).data)];
})()"""
SHOWN = "document.querySelector('#notice')?.hidden"
HINT = "document.querySelector('#hint').textContent"
NEXT_FRAME = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image with cells, in the size of the net."""
    drawn = snapshots(40, height=64, width=96, seed=1)
    image = next(frame.image for frame in drawn if 0.2 < np.mean(frame.mask > 0) < 0.8)
    return write_png(tmp_path_factory.mktemp("cells") / "cells.png", image)


@pytest.fixture(scope="module")
def server(fp32_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    film = write_video(tmp_path_factory.mktemp("film") / "film.mp4")
    with serving(fp32_bundle, film, token=TOKEN) as client:
        yield client


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, cells: Path) -> Iterator[Page]:
    """With a camera that shows cells, and a host that is not this machine to the browser."""
    film = tmp_path_factory.mktemp("camera") / "camera.y4m"
    (frame,) = Frames.open(cells).read()
    planes = cv2.cvtColor(frame.image, cv2.COLOR_RGB2YUV_I420).tobytes()
    film.write_bytes(b"YUV4MPEG2 W96 H64 F25:1 Ip A1:1 C420\n" + 5 * (b"FRAME\n" + planes))
    flags = (
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={film}",
        f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1",
        "--ignore-certificate-errors",
    )
    with chromium(tmp_path_factory.mktemp("profile"), *flags) as page:
        yield page


@pytest.fixture
def page(browser: Page, server: Client) -> Iterator[Page]:
    """The page, playing. It must request nothing from other hosts and log no errors."""
    browser.errors.clear()
    browser.requests.clear()
    own = f"http://{server.host}:{server.port}/"
    browser.open(f"{own}?token=of+the+page")
    browser.wait(f"document.readyState === 'complete' && {SHOWN}")
    yield browser
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith((own, "blob:"))] == []
    browser.run("localStorage.clear()")


def pixels(page: Page) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The canvas, (H, W, 3)."""
    page.run(NEXT_FRAME)
    size, values = page.run(PIXELS)
    return np.array(values, float).reshape(*size, 4)[..., :3]


def set_opacity(page: Page, percent: int) -> None:
    page.run(
        f"(() => {{ const slider = document.querySelector('#opacity'); slider.value = {percent};"
        "slider.dispatchEvent(new Event('input', {bubbles: true})) })()"
    )


def send_image(page: Page, path: Path) -> None:
    page.choose_file("#file", path)
    page.wait("!document.querySelector('#back').hidden")


def test_stream_moves(page: Page) -> None:
    one = pixels(page)
    for _ in range(50):
        if np.abs(pixels(page) - one).mean() > 5:
            return
    pytest.fail("the picture does not change")


def test_numbers_appear(page: Page, server: Client) -> None:
    page.wait("Number(document.querySelector('#fps').textContent) > 0")
    page.wait("document.querySelectorAll('#stages tr').length === 5")
    text = page.run("document.body.innerText")
    for word in ("film.mp4", "mobile_unet", "FP32", "onnxruntime", "Playing", "cell", "Dropped"):
        assert word in text
    assert page.run("location.search") == "", "the token is still in the address"
    page.wait("document.querySelector('#canvas').ariaLabel.startsWith('Segmented picture')")


def test_upload_is_shown_and_the_stream_returns(page: Page, cells: Path, fp32_bundle: Path) -> None:
    send_image(page, cells)
    with load(fp32_bundle) as segmenter:
        (frame,) = Frames.open(cells).read()
        mask = segmenter([frame.image]).masks[0]
    set_opacity(page, 100)
    shown = pixels(page)
    for class_id in (1, 2):
        colours = shown[mask == class_id]
        assert colours.size, "the class does not appear"
        np.testing.assert_array_equal(colours, np.broadcast_to(PALETTE[class_id], colours.shape))
    assert np.abs(shown[mask == 0] - frame.image[mask == 0]).mean() < 5
    assert "cells.png, 96×64, segmented in" in page.run(HINT)
    share = page.run("document.querySelectorAll('.share')[1].textContent")
    assert share == f"{100 * np.mean(mask == 1):.1f} %"
    page.run("document.querySelector('#back').click()")
    page.wait("document.querySelector('#status-text').textContent === 'Playing'")
    page.wait(f"{HINT}.startsWith('Drop') && {SHOWN}")


def test_switches_and_opacity_change_the_picture(
    page: Page, cells: Path, fp32_bundle: Path
) -> None:
    page.drop_file(cells)
    page.wait("!document.querySelector('#back').hidden")
    with load(fp32_bundle) as segmenter:
        (frame,) = Frames.open(cells).read()
        mask = segmenter([frame.image]).masks[0]
    cell, other = mask == 1, mask != 1
    set_opacity(page, 0)
    bare = pixels(page)
    set_opacity(page, 50)
    half = pixels(page)
    wanted = (bare[cell] + PALETTE[1]) / 2
    assert np.abs(half[cell] - wanted).max() <= 2
    switch = "document.querySelectorAll('.class')[1]"
    assert page.run(f"{switch}.getAttribute('aria-checked')") == "true"
    page.run(f"{switch}.click()")
    assert page.run(f"{switch}.getAttribute('aria-checked')") == "false"
    off = pixels(page)
    np.testing.assert_array_equal(off[cell], bare[cell])
    np.testing.assert_array_equal(off[other], half[other])
    page.run("document.querySelector('#all').click()")
    page.run("document.querySelector('[value=outline]').click()")
    outlined = pixels(page)
    changed = np.any(outlined != bare, axis=2)
    assert 0 < changed.sum() < np.any(half != bare, axis=2).sum()
    page.run("document.querySelector('#none').click()")
    np.testing.assert_array_equal(pixels(page), bare)


CAMERA = "document.querySelector('#camera').click()"
PACE = "document.querySelector('#pace').textContent"
# Keeps the frame that the page sends last.
TAP = """(() => {
    const send = WebSocket.prototype.send;
    WebSocket.prototype.send = function(blob) { window.sent = blob; send.call(this, blob); };
})()"""
SENT = "window.sent.arrayBuffer().then(buffer => Array.from(new Uint8Array(buffer)))"


def test_camera_of_the_device_is_shown_under_its_masks(page: Page, server: Client) -> None:
    page.run(CAMERA)
    page.wait(f"{HINT}.startsWith('The browser refuses the camera. Allow it')")
    origin = f"http://{server.host}:{server.port}"
    page.call("Browser.grantPermissions", permissions=["videoCapture"], origin=origin)
    page.run(TAP)
    page.run(CAMERA)
    page.wait(f"{PACE}.includes('ms to the mask')")
    assert page.run("document.querySelector('#status-text').textContent") == "Your camera"
    page.wait("fetch('stats').then(r => r.json()).then(s => s.viewers === 1)")
    body = bytes(page.run(SENT))
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "application/octet-stream"}
    answer = server.ask("/segment", method="POST", body=body, **headers)
    wanted = read_record(io.BytesIO(answer.body)).ids
    assert {1, 2} <= set(np.unique(wanted))
    set_opacity(page, 100)
    shown = pixels(page)
    for class_id in (1, 2):
        colours = shown[wanted == class_id]
        np.testing.assert_array_equal(colours, np.broadcast_to(PALETTE[class_id], colours.shape))
    page.run(CAMERA)
    page.wait("document.querySelector('#status-text').textContent === 'Playing'")
    page.wait("fetch('stats').then(r => r.json()).then(s => s.viewers === 1)")
    assert page.run("document.querySelector('#video').srcObject") is None
    page.errors.clear()


def test_camera_needs_https_and_says_so(
    browser: Page, fp32_bundle: Path, cells: Path, tmp_path: Path
) -> None:
    certificate = make_certificate(tmp_path)
    secure = {"certificate": certificate, "key": tmp_path / "key.pem"}
    with serving(fp32_bundle, cells, token=TOKEN) as client:
        browser.open(f"http://{ELSEWHERE}:{client.port}/?token=of+the+page")
        browser.wait(f"document.readyState === 'complete' && {SHOWN}")
        browser.run(CAMERA)
        browser.wait(f"{HINT}.includes('Start the server with --certificate and --key')")
    with serving(fp32_bundle, cells, token=TOKEN, **secure) as client:
        origin = f"https://{ELSEWHERE}:{client.port}"
        browser.call("Browser.grantPermissions", permissions=["videoCapture"], origin=origin)
        browser.open(f"{origin}/?token=of+the+page", width=390, height=844)
        browser.wait(f"document.readyState === 'complete' && {SHOWN}")
        browser.run(CAMERA)
        browser.wait(f"{PACE}.includes('ms to the mask')")
        assert browser.run("document.documentElement.scrollWidth") <= 390
        client.service.stop()
        browser.wait(f"{HINT} === 'No answer from the server: the server ends.'")
        browser.open("about:blank")


def test_switches_work_with_the_keyboard(page: Page) -> None:
    page.run("document.querySelectorAll('.class')[2].focus()")
    space = {"key": " ", "code": "Space", "windowsVirtualKeyCode": 32}
    page.call("Input.dispatchKeyEvent", type="keyDown", text=" ", **space)
    page.call("Input.dispatchKeyEvent", type="keyUp", **space)
    assert page.run("document.activeElement.getAttribute('aria-checked')") == "false"


def test_chosen_classes_survive_a_reload(page: Page, server: Client) -> None:
    page.run("document.querySelectorAll('.class')[2].click()")
    page.open(f"http://{server.host}:{server.port}/")  # the cookie logs it in
    page.wait("document.querySelectorAll('.class').length === 3")
    states = "Array.from(document.querySelectorAll('.class'), r => r.getAttribute('aria-checked'))"
    assert page.run(states) == ["false", "true", "false"]


def test_pause_keeps_the_picture_and_stops_the_stream(page: Page, server: Client) -> None:
    page.run("document.querySelector('#pause').click()")
    one = pixels(page)
    page.wait("fetch('stats').then(r => r.json()).then(s => s.viewers === 0)")
    np.testing.assert_array_equal(pixels(page), one)
    assert page.run("document.querySelector('#status-text').textContent") == "Paused"


def test_file_that_is_no_image_shows_an_error(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("nothing to see")
    page.choose_file("#file", path)
    page.wait(f"{HINT}.includes('this is no image')")
    assert any("415" in error for error in page.errors), "the browser logs it too"
    page.errors.clear()


@pytest.mark.parametrize("width", [390, 1400])
def test_page_fits_the_width(page: Page, server: Client, width: int) -> None:
    page.open(f"http://{server.host}:{server.port}/", width=width)
    page.wait("document.querySelectorAll('.class').length === 3")
    assert page.run("document.documentElement.scrollWidth") <= width


def test_login_form_accepts_only_the_token(browser: Page, fp32_bundle: Path, images: Path) -> None:
    with serving(fp32_bundle, images, token=TOKEN) as client:
        browser.open(f"http://{client.host}:{client.port}/")
        browser.wait("document.querySelector('#token') !== null")
        told = "document.querySelector('.wrong')?.checkVisibility()"
        assert browser.run(told) is False
        for token, then in (("of a page", told), ("of the page", "!document.forms.length")):
            browser.run(f"document.querySelector('#token').value = '{token}'")
            browser.run("document.forms[0].requestSubmit()")
            browser.wait(then)
        browser.wait("document.querySelectorAll('.class').length === 3")
        assert browser.run("location.search") == ""
        browser.open("about:blank")


def test_failure_is_shown_until_frames_come(
    browser: Page, fp32_bundle: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, here = server_module.open_playing, True

    def open_camera(frames: Frames) -> Source:
        if here:
            return opened(frames)
        raise SourceError("the camera is away.")

    monkeypatch.setattr(server_module, "open_playing", open_camera)
    with open_service(fp32_bundle, [str(images)], port=0) as service:
        here = False
        with running(service) as client:
            browser.open(f"http://{client.host}:{client.port}/")
            text = "document.querySelector('#notice')?.innerText"
            browser.wait(f"{text}?.includes('the camera is away.')")
            pill = browser.run("document.querySelector('#status-text').textContent")
            assert pill == "Reconnecting"
            here = True
            browser.wait(SHOWN)
            browser.open("about:blank")


def test_depths_are_listed_deepest_first(browser: Page, depths_bundle: Path, images: Path) -> None:
    with serving(depths_bundle, images, options=LoadOptions(target_fps=0.5)) as client:
        browser.open(f"http://{client.host}:{client.port}/")
        browser.wait("document.querySelectorAll('#frames dt').length === 10")
        terms = browser.run("Array.from(document.querySelectorAll('#frames dt'), t => t.innerText)")
        assert terms[1:5] == ["Segmented", "at depth 3", "at depth 2", "at depth 1"]
        browser.open("about:blank")
