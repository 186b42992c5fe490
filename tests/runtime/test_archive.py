"""Large inputs on workers: equal to a plain run, resumed, and whole after kills and signals."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import pickle
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeunet.errors import BackendError, BundleError, IncompleteError, UsageError
from edgeunet.runtime import archive as archive_module
from edgeunet.runtime import load
from edgeunet.runtime.archive import do_unit, run_archive
from edgeunet.runtime.options import LoadOptions
from edgeunet.runtime.pipeline.cluster import Cluster, ray_cluster
from edgeunet.runtime.run import run
from edgeunet.runtime.sinks.shards import GO_ON, ShardFolder
from edgeunet.runtime.sources.items import list_items
from edgeunet.runtime.sources.units import UnitReader
from support.archived import areas, cell_images, shard, tar_of
from support.commands import ROOT
from support.media import read_mask_png

DAMAGED = {"bad.png": b"none", "empty.png": b""}


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    """One Ray for all tests of this file."""
    pytest.importorskip("ray.data", reason="Ray is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        with ray_cluster(None, workers=2, payload=0):
            yield


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tar of 12 frames of cells, and two damaged ones."""
    members = {f"d/{name}": content for name, content in {**cell_images(12), **DAMAGED}.items()}
    return tar_of(tmp_path_factory.mktemp("images") / "images.tar", members)


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what must be refused, or is done, before Ray is asked."""
    monkeypatch.setattr(
        archive_module, "ray_cluster", lambda *_, **__: pytest.fail("Ray was started")
    )


def plain(bundle: Path, images: Path, output: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Masks of `edgeunet run`, by name without suffix."""
    run(bundle, images, str(output), backend="onnxruntime", skip_damaged=True)
    return {path.stem: read_mask_png(path) for path in output.glob("*.png")}


def contents(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(output.glob("*.tar"))}


def test_workers_make_the_same_masks_as_a_run_even_if_one_is_killed(
    ray: None,
    fp32_bundle: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    killed = tmp_path / "killed"
    worker = archive_module._Worker

    class Mortal(worker):  # type: ignore[misc, valid-type]  # local, so that it is pickled whole
        def __call__(self, piece: str) -> str:
            name, _ = json.loads(piece)
            logging.getLogger("edgeunet.runtime").warning("%s is mortal", "each")
            if name == "00001" and not killed.exists():
                killed.touch()
                with self._folder.writing("00001.tar") as file:
                    file.write(b"half")
                    os.kill(os.getpid(), signal.SIGKILL)
            return str(super().__call__(piece))

    monkeypatch.setattr(archive_module, "_Worker", Mortal)
    steps: list[tuple[int, int]] = []
    with pytest.raises(IncompleteError, match=r"2 of 14 images .* others are done\. The first: "):
        run_archive(
            fp32_bundle, images, tmp_path / "two", workers=2, unit=4,
            report=lambda done, planned: steps.append((done, planned)),
        )  # fmt: skip
    assert killed.exists()
    assert steps[-1] == (14, 14)
    assert caplog.messages.count("a worker: each is mortal") == 1
    told = [message for message in caplog.messages if "cannot be read as an image" in message]
    assert sorted(message.partition(" ")[0].rpartition("/")[2] for message in told) == list(DAMAGED)
    two = tmp_path / "two"
    names = [f"{number:05d}{end}" for number in range(4) for end in (".json", ".tar")]
    assert sorted(path.name for path in two.iterdir()) == [*names, "plan.json", "summary.json"]
    wanted = plain(fp32_bundle, images, tmp_path / "plain")
    found = {key: each for path in sorted(two.glob("*.tar")) for key, each in shard(path).items()}
    assert list(found) == [f"d/{number}" for number in range(12)]
    for key, (mask, record) in found.items():
        np.testing.assert_array_equal(mask, wanted[key.removeprefix("d/")])
        assert record["shares"].keys() <= {"background", "cell", "dividing"}
    summary = json.loads((two / "summary.json").read_text())
    assert (summary["frames"], summary["damaged"], summary["units"]) == (12, 2, 4)
    assert summary["pixels"] == {
        name: sum(int((mask == number).sum()) for mask in wanted.values())
        for number, name in enumerate(("background", "cell", "dividing"))
    }
    # One worker, ended by Ctrl-C behind its first unit; then again.
    monkeypatch.undo()
    stopped = run_archive(
        fp32_bundle, images, tmp_path / "one", workers=1, unit=4,
        report=lambda *_: os.kill(os.getpid(), signal.SIGINT),
    )  # fmt: skip
    assert stopped.stopped and 0 < stopped.units < 4
    assert not (tmp_path / "one" / "summary.json").exists()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").glob("0*.json")}
    resumed = run_archive(
        fp32_bundle, images, tmp_path / "one", workers=1, unit=4, skip_damaged=True
    )
    assert stopped.units <= resumed.resumed  # one may have ended beside the signal
    assert (resumed.units, resumed.frames) == (4, 12)
    assert {path: path.stat().st_mtime_ns for path in before} == before, "done units stay"
    assert contents(tmp_path / "one") == contents(two)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_ray_starts_ends_the_run(
    number: signal.Signals,
    fp32_bundle: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[bool] = []

    @contextmanager
    def starting(*_: Any, **__: Any) -> Iterator[Cluster]:
        try:
            signal.raise_signal(number)
            yield Cluster(1, 0)
        finally:
            ended.append(True)

    monkeypatch.setattr(archive_module, "ray_cluster", starting)
    summary = run_archive(fp32_bundle, images, tmp_path / "out", workers=1)
    assert summary.stopped and ended == [True]


def test_a_worker_that_fails_ends_the_run_with_its_reason(
    ray: None, fp32_bundle: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "_checked", lambda *_: "another")
    with pytest.raises(BackendError, match=r"worker on .*: .* is another bundle there than here"):
        run_archive(fp32_bundle, images, tmp_path / "out", workers=1)


def test_what_to_do_is_said_once() -> None:
    for failed in (f"worker on a: the disk is full. {GO_ON}", "worker on a: the disk is full."):
        with pytest.raises(BackendError, match=f"^worker on a: the disk is full. {GO_ON}$"):
            list(archive_module._taken(iter([json.dumps({"failed": failed})])))


def test_an_archive_in_which_all_is_done_needs_no_ray(
    no_ray: None,
    fp32_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Here the units are done in this process, as a worker does them."""
    source = tar_of(tmp_path / "a.tar", cell_images(3))

    def here(
        job: Any, todo: dict[str, Any], done: dict[str, Any], folder: ShardFolder, *_: Any
    ) -> bool:
        worker = archive_module._Worker(job)
        for name, unit in todo.items():
            each = json.loads(worker(json.dumps([name, unit.to_json()])))
            assert each.pop("name") == name
            done[name] = each
            assert json.loads(worker(json.dumps([name, unit.to_json()])))["sha256"]  # not again
        return False

    monkeypatch.setattr(archive_module, "_run", here)
    first = run_archive(fp32_bundle, source, tmp_path / "out", workers=1, unit=2)
    monkeypatch.undo()
    monkeypatch.setattr(archive_module, "ray_cluster", lambda *_, **__: pytest.fail("started"))
    again = run_archive(fp32_bundle, source, tmp_path / "out", workers=2, unit=2)
    assert (first.frames, first.resumed, again.resumed) == (3, 0, 2)
    assert again.pixels == first.pixels
    # The example of the docs reads the shards.
    (example,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "archives.md").read_text(encoding="utf-8"), re.S
    )
    (tmp_path / "out").rename(tmp_path / "masks")
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "archives.md", "exec"), {})
    assert re.findall(r"^(\d\.png) \(64, 96\) \{'", capsys.readouterr().out, re.M) == [
        "0.png", "1.png",
    ]  # fmt: skip


def test_a_unit_of_any_content_ends(
    fp32_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Hostile names, one key for several frames, and nothing that can be read."""
    (frame, *_) = cell_images(1).values()
    names = ["../../a.png", "/a.png", "b/a.png", "a.jpg.png", "a.png"]
    tar_of(tmp_path / "a.tar", dict.fromkeys(names, frame))
    tar_of(tmp_path / "b.tar", DAMAGED)
    folder = ShardFolder(tmp_path / "out")
    with load(fp32_bundle) as segmenter, UnitReader() as reader:
        for name, count, damaged in (("a", 5, 0), ("b", 0, 2)):
            (unit,) = list_items(tmp_path / f"{name}.tar").units
            report = do_unit(segmenter, reader, folder, name, unit, batch=1)
            assert (report["frames"], len(report["damaged"])) == (count, damaged)
    found = shard(tmp_path / "out" / "a.tar")
    assert sorted(found) == ["a", "a-2", "a-3", "a_jpg", "b/a"]
    assert {record["name"] for _, record in found.values()} == set(names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "b.tar", "out"]


def test_what_cannot_run_is_refused_before_ray_starts(
    no_ray: None, fp32_bundle: Path, images: Path, tmp_path: Path
) -> None:
    def refused(kind: type[Exception], words: str, **given: Any) -> None:
        arguments = {"workers": 1, "source": images, "bundle": fp32_bundle, **given}
        with pytest.raises(kind, match=words):
            run_archive(output=tmp_path / "out", **arguments)

    refused(UsageError, "workers is 0", workers=0)
    refused(UsageError, "a frame rate is held for cameras", options=LoadOptions(target_fps=1))
    refused(UsageError, "Ray chooses the GPU", options=LoadOptions(device=1))
    refused(UsageError, "batch is 1000", batch=1000)
    refused(UsageError, "with int8", options=LoadOptions(precision="int8"))
    refused(BundleError, "none", bundle=tmp_path / "none")
    assert not (tmp_path / "out").exists()


def test_cores_are_for_workers_that_have_work(
    fp32_bundle: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    @contextmanager
    def starting(address: str | None, *, workers: int, payload: int) -> Iterator[Cluster]:
        asked.append(workers)
        raise BackendError("enough")
        yield

    monkeypatch.setattr(archive_module, "ray_cluster", starting)
    with pytest.raises(BackendError, match="enough"):
        run_archive(fp32_bundle, images, tmp_path / "out", workers=16)
    assert asked == [1]


def test_a_plan_names_all_that_changes_masks(
    fp32_bundle: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(items: Any, *, bundle: Any, options: dict[str, Any]) -> Any:
        raise KeyError(*options)

    monkeypatch.setattr(archive_module, "make_plan", make)
    with pytest.raises(KeyError) as caught:
        run_archive(fp32_bundle, images, tmp_path / "masks", workers=1)
    refused_or_alike = {"target_fps", "device", "threads", "trust_engines"}
    told = {*caught.value.args, *refused_or_alike, "reading"}
    assert {field.name for field in fields(LoadOptions)} <= told
    assert {"levels", "channels", "backend", "batch"} <= told


def test_backends_share_cores_and_gpus(int8_bundle: Path) -> None:
    job = archive_module._Job(str(int8_bundle), "m", "auto", LoadOptions(), None, "o")
    shared = archive_module._sharing(job, 3, {}, gpu=False)
    assert shared.backend == "onnxruntime"
    assert shared.options == LoadOptions(threads=3, precision="int8")
    assert archive_module._sharing(job, 3, {}, gpu=True) == job
    before = {"00000": {"backend": "onnxruntime", "precision": "fp32"}}
    resumed = archive_module._sharing(job, 3, before, gpu=False)
    assert resumed.options.precision == "fp32", "shards of one run are of one precision"
    assert archive_module._needs_gpu("auto", Cluster(8, 2), 2)
    assert not archive_module._needs_gpu("auto", Cluster(8, 2), 3)
    assert archive_module._needs_gpu("tensorrt", Cluster(8, 1), 4)
    assert archive_module._needs_gpu("onnxruntime", Cluster(8, 1), 4, "cuda")
    assert not archive_module._needs_gpu("onnxruntime", Cluster(8, 1), 4, "openvino")
    with pytest.raises(BackendError, match="rtx needs a GPU for each worker, and Ray has none"):
        archive_module._needs_gpu("rtx", Cluster(8, 0), 1)


def test_a_segmenter_goes_to_processes_of_its_own(fp32_bundle: Path) -> None:
    """By the pickle that multiprocessing, joblib and Dask use alike."""
    frame = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    with load(fp32_bundle, "onnxruntime", threads=1) as segmenter:
        wanted = areas(segmenter, frame)
        assert pickle.loads(pickle.dumps(segmenter)).manifest == segmenter.manifest
        spawning = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, spawning) as pool:  # a Pool would wait for a dead process
            assert pool.submit(areas, segmenter, frame).result() == wanted
