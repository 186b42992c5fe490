"""What a segmenter runs on, if nothing is named."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from edgeunet.bundle.bundle import Bundle
from edgeunet.errors import BackendError, EdgeUNetError, MissingDependencyError, UsageError
from edgeunet.runtime import open_bundle
from edgeunet.runtime.backends import Backend, check_kind, fallback
from edgeunet.runtime.backends.candidates import Candidate
from edgeunet.runtime.backends.choice import choose
from edgeunet.runtime.options import DEFAULTS, LoadOptions
from edgeunet.runtime.segmenter import Segmenter, load
from support.engines import Engine, Machine, broken, machine_of

FP32, OTHER = Candidate("onnxruntime", "fp32"), Candidate("openvino", "fp32")
INT8 = Candidate("openvino", "int8")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return machine_of(monkeypatch, Engine(FP32, 0.03), Engine(OTHER, 0.02), Engine(INT8, 0.01))


def test_auto_runs_what_was_chosen_in_its_precision(int8_bundle: Path, machine: Machine) -> None:
    with load(int8_bundle) as segmenter:
        assert segmenter.choice is not None
        assert segmenter.choice.use == INT8
        assert (segmenter.backend.name, segmenter.manifest.precision) == ("openvino", "int8")
    with load(int8_bundle, precision="fp32") as segmenter:
        assert (segmenter.backend.name, segmenter.manifest.precision) == ("openvino", "fp32")
    with load(int8_bundle, "onnxruntime", precision="fp32") as segmenter:
        assert segmenter.choice is None


def test_what_cannot_be_opened_any_more_gives_way(
    int8_bundle: Path, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    choose(open_bundle(int8_bundle), tell=lambda why: None)
    for error, use in (
        (MissingDependencyError("openvino", "openvino"), OTHER),
        (broken("it is broken."), FP32),
    ):
        (engine,) = (each for each in machine.engines if each.candidate.precision == "int8")
        engine.error = error
        if use == FP32:
            machine.engines[1].error = error
        with load(int8_bundle) as segmenter:
            assert segmenter.choice is not None
            assert segmenter.choice.use == use
        assert f"openvino {'INT8' if use == OTHER else 'FP32'} cannot be opened here" in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        MissingDependencyError("openvino", "openvino"),
        UsageError("OpenVINO's CPU does not compute in INT8."),
    ],
    ids=["not installed", "another processor"],
)
def test_what_was_pickled_elsewhere_and_cannot_be_opened_gives_way(
    error: EdgeUNetError, int8_bundle: Path, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.engines[2].error = error
    with Segmenter.open(int8_bundle, prefer=INT8) as segmenter:
        assert segmenter.choice is not None
        assert segmenter.choice.use == OTHER
    assert f"openvino INT8 cannot be opened here: {error}" in caplog.text


def test_a_precision_that_the_bundle_lacks_by_now_gives_way(
    fp32_bundle: Path, machine: Machine
) -> None:
    with Segmenter.open(fp32_bundle, prefer=INT8) as segmenter:
        assert segmenter.manifest.precision == "fp32"


def test_a_kept_file_that_names_what_cannot_be_is_measured_again(
    int8_bundle: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = choose(open_bundle(int8_bundle), tell=lambda why: None).path
    assert path is not None
    path.write_text(path.read_text().replace('"provider": null', '"provider": "qnn"'))

    def create(name: str, bundle: Bundle, options: LoadOptions = DEFAULTS) -> Backend:
        check_kind(name, bundle, options)
        return machine.create(name, bundle, options)

    monkeypatch.setattr(fallback, "create_backend", create)
    with load(int8_bundle) as segmenter:
        assert segmenter.choice is not None
        assert (segmenter.choice.use, segmenter.choice.is_new) == (INT8, True)


def test_an_engine_that_cannot_be_opened_is_told_of_once(
    int8_bundle: Path, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """What is the only one is not measured, and nothing else can take over."""
    machine.engines[2].error = broken()
    with pytest.raises(BackendError, match="its library cannot be loaded"):
        load(int8_bundle, precision="int8")
    assert (machine.opened, caplog.text) == (["openvino INT8"], "")


def test_what_gives_wrong_masks_now_gives_way(
    int8_bundle: Path, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    choose(open_bundle(int8_bundle), tell=lambda why: None)
    machine.engines[2].wrong = 0.5
    with load(int8_bundle, checked=True) as segmenter:
        assert segmenter.choice is not None
        assert segmenter.choice.use == OTHER
    assert "cannot be used" in caplog.text
    assert "50.00% of the golden pixels agree" in caplog.text
    for each in machine.engines:
        each.wrong = 0.5
    with pytest.raises(BackendError, match="nothing here can run"):
        Segmenter.open_checked(int8_bundle)


def test_what_was_measured_just_now_is_not_checked_twice(
    int8_bundle: Path,
    depths_bundle: Path,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked: list[str] = []

    def check(segmenter: Segmenter) -> float:
        checked.append(segmenter.bundle.root.name)
        return 1.0

    monkeypatch.setattr(Segmenter, "self_check", check)
    for times in (0, 1):
        load(int8_bundle, checked=True).close()
        assert len(checked) == times, "what was kept is checked"
    load(int8_bundle).close()
    assert len(checked) == 1
    # Only the deepest of several was measured.
    machine_of(monkeypatch, Engine(FP32, 0.02), Engine(OTHER, 0.01))
    load(depths_bundle, target_fps=9, checked=True).close()
    assert len(checked) == 2


def test_pickled_segmenters_do_not_measure(int8_bundle: Path, machine: Machine) -> None:
    machine.engines[2].seconds = 0.05
    with load(int8_bundle) as segmenter:
        pickled = pickle.dumps(segmenter)
    choice_file = segmenter.choice and segmenter.choice.path
    assert choice_file is not None
    choice_file.unlink()
    machine.opened.clear()
    with pickle.loads(pickled) as segmenter:
        assert segmenter.choice is not None
        assert segmenter.choice.use == OTHER
    assert machine.opened == ["openvino FP32"]
    machine.engines[1].error = broken()
    with pickle.loads(pickled) as segmenter:  # as on another machine
        assert segmenter.choice is not None
        assert segmenter.choice.use == FP32


def test_depths_have_one_choice(depths_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = machine_of(monkeypatch, Engine(FP32, 0.02), Engine(OTHER, 0.01))
    with load(depths_bundle, target_fps=10) as segmenter:
        assert segmenter.backend.deepest.name == "openvino"
    assert machine.opened == ["onnxruntime FP32", *["openvino FP32"] * 4]


def test_pytorch_computes_in_few_precisions(int8_bundle: Path) -> None:
    with pytest.raises(UsageError, match="precision int8 needs another backend"):
        load(int8_bundle, "pytorch", precision="int8")
