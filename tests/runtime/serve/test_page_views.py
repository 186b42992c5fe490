"""The page with several sources, two nets and recordings, in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeunet.runtime import load
from edgeunet.runtime.sources import Frames
from support.chromium import Page, chromium
from support.serving import Client, serving, wait_for

NEXT_FRAME = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
# The pixels of a canvas, from a copy, because reading a canvas changes how the browser draws it.
PIXELS = """(() => {
    const canvas = document.querySelector('%s'), {width, height} = canvas;
    const copy = new OffscreenCanvas(width, height).getContext('2d');
    copy.drawImage(canvas, 0, 0);
    return [[height, width], Array.from(copy.getImageData(0, 0, width, height).data)];
})()"""
TILES = "document.querySelectorAll('.tile')"
PLAYING = "document.querySelector('#status-text').textContent === 'Playing'"
MARK = (255, 20, 147)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("films")


@pytest.fixture(scope="module")
def image(images: Path) -> Path:
    return images / "1.png"


@pytest.fixture(scope="module")
def server(depths_bundle: Path, image: Path, film: Path, folder: Path) -> Iterator[Client]:
    """An image, a film and a lost camera; two nets; a folder for films."""
    sources = (f"still={image}", f"film={film}", "door=rtsp://admin:hunter2@127.0.0.1:1/")
    shallow = depths_bundle / "depths" / "1"
    with serving(depths_bundle, *sources, compare=shallow, record=folder) as client:
        yield client


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(browser: Page, server: Client) -> Iterator[Page]:
    """All sources. The page must log no errors."""
    browser.errors.clear()
    browser.open(f"http://{server.host}:{server.port}/")
    browser.wait(f"document.readyState === 'complete' && {TILES}.length === 3")
    browser.wait(f"[...{TILES}].filter(t => t.dataset.stale === 'false').length === 2")
    yield browser
    assert browser.errors == []
    browser.run("localStorage.clear()")
    browser.open("about:blank")


def pixels(page: Page, canvas: str = "#canvas") -> np.ndarray[Any, np.dtype[np.float64]]:
    """A canvas, (H, W, 3)."""
    page.run(NEXT_FRAME)
    size, values = page.run(PIXELS % canvas)
    return np.array(values, float).reshape(*size, 4)[..., :3]


def show(page: Page, name: str) -> None:
    page.run(f"[...document.querySelectorAll('.pick')].find(b => b.innerText === '{name}').click()")


def test_grid_shows_all_and_a_click_shows_one(page: Page, server: Client) -> None:
    assert page.run("document.querySelector('#status-text').textContent") == "2 of 3 sources"
    told = page.run(f"[...{TILES}].map(t => t.innerText)")
    assert [text.split("\n")[-2] for text in told] == ["still", "film", "door"]
    assert "refuses port 1" in told[2]
    assert "hunter2" not in "".join(told)
    one = pixels(page, ".tile:nth-child(2) canvas")
    wait_for(lambda: np.abs(pixels(page, ".tile:nth-child(2) canvas") - one).mean() > 1)
    assert page.run("document.documentElement.scrollWidth") <= 1400
    page.run(f"{TILES}[1].click()")
    page.wait(f"{PLAYING} && document.querySelector('#notice').hidden")
    assert page.run("document.querySelector('#grid').hidden && location.hash") == "#film"
    wait_for(lambda: server.ask("/stats").json["sources"][0]["viewers"] == 0)
    page.run("history.back()")
    page.wait("!document.querySelector('#grid').hidden")
    wait_for(lambda: server.ask("/stats").json["sources"][0]["viewers"] == 1)
    show(page, "film")
    page.wait(f"{PLAYING} && document.querySelector('#notice').hidden")
    show(page, "door")
    page.wait("document.querySelector('#notice').innerText.includes('refuses port 1')")
    others = ["#canvas", "#save", "#divider", "#net-left", "#differences"]
    seen = page.run(f"{others}.filter(each => document.querySelector(each).checkVisibility())")
    assert seen == [], "of another source"


def test_divider_and_differences_show_both_nets(
    page: Page, depths_bundle: Path, image: Path
) -> None:
    frame = next(Frames.open(image).read()).image
    with load(depths_bundle) as deep, load(depths_bundle / "depths" / "1") as shallow:
        left, right = (net([frame]).masks[0] for net in (deep, shallow))
        palette = np.array(deep.manifest.palette, float)
    show(page, "still")
    page.wait(f"{PLAYING} && !document.querySelector('#divider').hidden")
    page.run("document.querySelector('#opacity').value = 100")
    page.run("document.querySelector('#opacity').dispatchEvent(new Event('input'))")
    page.run("document.querySelector('#divider').focus()")
    for key, net in (("ArrowRight", left), ("ArrowLeft", right)):
        for _ in range(50):  # to the end
            page.call("Input.dispatchKeyEvent", type="keyDown", key=key)
        shown, seen = pixels(page), palette[net].any(axis=2)  # black is transparent
        np.testing.assert_array_equal(shown[seen], palette[net][seen])
    page.run("document.querySelector('#differences').click()")
    marked = (pixels(page) == MARK).all(axis=2)
    np.testing.assert_array_equal(marked, left != right)
    assert marked.any(), "the nets agree everywhere"
    page.wait("document.querySelector('#agreement').textContent.endsWith(' %')")
    told = float(page.run("document.querySelector('#agreement').textContent").split()[0])
    assert told == pytest.approx(100 * np.mean(left == right), abs=0.1)
    assert page.run("document.querySelectorAll('#nets tr').length") == 2


def test_button_records_what_is_shown(page: Page, folder: Path) -> None:
    show(page, "film")
    page.wait(PLAYING)
    page.run("document.querySelector('#record-kind').value = 'mask'")
    page.run("document.querySelector('#record-toggle').click()")
    note = "document.querySelector('#record-note').textContent"
    page.wait(f"/^film: recording the mask, [1-9]/.test({note})")
    page.run("document.querySelector('#record-toggle').click()")
    page.wait(f"{note}.startsWith('film: saved film-mask-')")
    (film,) = folder.glob("*.mp4")
    assert film.name in page.run(note)


def test_many_recordings_are_told_in_one_sentence(page: Page) -> None:
    each = {
        "active": False, "finishing": False, "kind": "mask", "seconds": 1, "frames": 7,
        "dropped": 0, "files": 2, "file": "a.mp4", "error": None,
    }  # fmt: skip
    none = {**each, "frames": 0, "files": 0, "file": None}
    full = {**each, "error": "the recording ended: the disk is full."}
    recordings = {"a": each, "b": {**each, "active": True}, "c": none, "d": full}
    told = page.run(f"""import('/static/recorder.js').then(({{Recorder}}) => {{
        new Recorder(() => '', () => {{}}).update({json.dumps(recordings)}, null);
        return document.querySelector('#record-note').textContent;
    }})""")
    assert told == (
        "Sources: 1 being recorded, 2 saved, 1 without a film; 6 films, 21 frames. "
        "d: the recording ended: the disk is full. Saved a.mp4."
    )


def test_long_names_keep_their_dots_and_the_chosen_one_is_seen(page: Page, server: Client) -> None:
    page.open(f"http://{server.host}:{server.port}/", width=390)
    page.wait(f"{TILES}.length === 3")
    page.run("document.querySelectorAll('.pick .name').forEach(n => n.append('x'.repeat(90)))")
    page.run("document.querySelectorAll('.pick')[3].click()")
    chosen = "document.querySelector('.pick[aria-pressed=true]')"
    page.wait(f"{chosen}.dataset.name === 'door'")
    page.wait(f"{chosen}.getBoundingClientRect().right <= 390")
    assert page.run(f"{chosen}.querySelector('.dot').offsetWidth") > 5
    name = f"{chosen}.querySelector('.name')"
    assert page.run(f"{name}.offsetWidth < {name}.scrollWidth"), "cut with an ellipsis"


def test_views_fit_a_phone(page: Page, server: Client) -> None:
    for place in ("", "#film"):
        page.open("about:blank")
        page.open(f"http://{server.host}:{server.port}/{place}", width=390)
        page.wait(f"{TILES}.length === 3")
        assert page.run("document.documentElement.scrollWidth") <= 390
