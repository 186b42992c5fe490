"""One contract that every backend keeps, with every graph that it runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import pytest

from edgeunet.bundle.bundle import Bundle, open_bundle
from edgeunet.bundle.manifest import MANIFEST_NAME, Flavour, Precision
from edgeunet.errors import BackendError, UnknownNameError, UsageError
from edgeunet.files import sha256
from edgeunet.runtime.backends import create_backend, list_backends
from edgeunet.runtime.backends.base import NetBackend
from edgeunet.runtime.backends.ort import open_flavour
from edgeunet.runtime.backends.preprocess import Preprocessor
from edgeunet.runtime.backends.providers import PROVIDERS
from edgeunet.runtime.backends.smoothing import Smoother
from edgeunet.runtime.frames import Batch
from edgeunet.runtime.options import LoadOptions
from support.gpu_machine import gpu_machine
from support.rockchip import board, compiled

ROOT = Path(__file__).parents[3]
MAX_BATCH = 4


@dataclass(frozen=True)
class Case:
    """A backend with one of its graphs, and how near it must come to PyTorch.

    logit_error: largest error allowed, as a share of the reference's range; None: INT8, whose
    loss on random weights is unbounded, must correlate. precision: to run the bundle in. tensorrt:
    version of the stand-in, which runs on a simulated GPU. flavour: one of ONNX Runtime's graphs.
    """

    backend: str
    options: LoadOptions
    logit_error: float | None
    precision: Precision = "int8"
    tensorrt: str | None = None
    flavour: Flavour | None = None

    def __str__(self) -> str:
        version = [] if self.tensorrt is None else [self.tensorrt, self.precision]
        version += ["bf16"] if self.precision == "bf16" else []
        threads = [] if self.options.threads is None else [str(self.options.threads)]
        named = filter(None, [self.options.provider, self.flavour])
        return "-".join([self.backend, *named, *threads, *version])

    @property
    def name(self) -> str:
        """Of the backend that it opens."""
        return " ".join(filter(None, [self.backend, self.options.provider]))

    @contextmanager
    def open(self, bundle: Bundle) -> Iterator[NetBackend]:
        """The backend, on a machine that has what it needs."""
        with ExitStack() as stack:
            if self.tensorrt is not None:
                stack.enter_context(gpu_machine(self.tensorrt))
            opened = bundle.at(self.precision)
            if self.backend == "rknn":
                folder = Path(stack.enter_context(TemporaryDirectory()))
                stack.enter_context(board())
                opened = compiled(opened, folder, self.precision)
            if self.flavour is not None:
                created = open_flavour(opened, self.flavour, threads=self.options.threads)
            else:
                created = create_backend(self.backend, opened, self.options)  # type: ignore[assignment]
            yield stack.enter_context(created)


CASES = [
    Case("onnxruntime", LoadOptions(), 1e-5, flavour="fp32"),
    Case("onnxruntime", LoadOptions(), 5e-3, flavour="fp16"),
    Case("onnxruntime", LoadOptions(), None),
    Case("onnxruntime", LoadOptions(threads=1), 1e-5, "fp32"),
    Case("openvino", LoadOptions(), 1e-5, "fp32"),
    Case("openvino", LoadOptions(threads=1), 5e-3, "fp16"),
    Case("openvino", LoadOptions(), None),
    Case("pytorch", LoadOptions(), 0.0),
    Case("pytorch", LoadOptions(), 3e-2, "bf16"),
    Case("tensorrt", LoadOptions(), 1e-5, "fp32", tensorrt="8.6.0"),
    Case("tensorrt", LoadOptions(), 5e-3, "fp16", tensorrt="8.6.0"),
    Case("tensorrt", LoadOptions(), None, "int8", tensorrt="8.6.0"),
    Case("tensorrt", LoadOptions(), 5e-3, "fp16", tensorrt="10.16.1"),
    Case("tensorrt", LoadOptions(), None, "int8", tensorrt="11.4.0"),
    Case("rknn", LoadOptions(), 1e-5, "fp16"),
    Case("rknn", LoadOptions(device=1), None),
    Case("rtx", LoadOptions(), 1e-5, "fp32", tensorrt="rtx-1.7.1"),
    Case("rtx", LoadOptions(), 5e-3, "fp16", tensorrt="rtx-1.7.1"),
    Case("rtx", LoadOptions(), None, "int8", tensorrt="rtx-1.7.1"),
    *(
        Case("onnxruntime", LoadOptions(provider=name), 5e-3, "fp16")
        for name, provider in PROVIDERS.items()
        if provider.is_installed and provider.has_hardware() and "fp16" in provider.graphs
    ),
    Case("onnxruntime", LoadOptions(provider="qnn"), None),  # Hexagon, or its emulator
]


@pytest.fixture(scope="module")
def bundle(int8_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    copy = tmp_path_factory.mktemp("backends") / "bundle"  # engines are written into it
    return open_bundle(shutil.copytree(int8_bundle, copy))


@pytest.fixture(scope="module", params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    chosen: Case = request.param
    if chosen.options.provider == "qnn" and not PROVIDERS["qnn"].is_installed:
        pytest.skip("needs the extra [qnn]")
    return chosen


@pytest.fixture(scope="module")
def backend(case: Case, bundle: Bundle) -> Iterator[NetBackend]:
    with case.open(bundle) as created:
        yield created


@pytest.fixture(scope="module")
def reference(bundle: Bundle, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    with create_backend("pytorch", bundle) as created:
        return created.net.infer(images).logits


@pytest.fixture(scope="module")
def frames(bundle: Bundle) -> list[npt.NDArray[np.uint8]]:
    return list(bundle.golden().frames)


@pytest.fixture(scope="module")
def images(bundle: Bundle, frames: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
    return Preprocessor(bundle.manifest.input)(frames)


def test_every_backend_is_under_the_contract() -> None:
    assert {case.backend for case in CASES} == set(list_backends())


@pytest.mark.parametrize("batch", range(1, MAX_BATCH + 1))
def test_outputs_have_the_manifests_shape(
    backend: NetBackend, bundle: Bundle, images: npt.NDArray[np.float32], batch: int
) -> None:
    assert bundle.manifest.max_batch == MAX_BATCH
    logits, presence = backend.net.infer(images[:batch])
    assert logits.shape == (batch, len(bundle.manifest.classes), *bundle.manifest.logits_size)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    assert presence is None


def test_batch_equals_its_images_alone(
    backend: NetBackend, case: Case, images: npt.NDArray[np.float32]
) -> None:
    together = backend.net.infer(images[:MAX_BATCH]).logits
    alone = np.concatenate([backend.net.infer(image[None]).logits for image in images[:MAX_BATCH]])
    tolerance = 0.0 if case.logit_error is None else 1e-4
    np.testing.assert_allclose(together, alone, rtol=0, atol=tolerance)
    assert np.ptp(together, axis=0).max() > 1e-2, "the images are the same, or no batch counts"


def test_inference_is_deterministic_and_keeps_its_input(
    backend: NetBackend, images: npt.NDArray[np.float32]
) -> None:
    before = images.copy()
    first = backend.net.infer(images)
    kept = first.logits.copy()
    second = backend.net.infer(images)
    np.testing.assert_array_equal(first.logits, second.logits)
    backend.net.infer(np.zeros_like(images))
    np.testing.assert_array_equal(first.logits, kept, "a later call changed what was returned")
    np.testing.assert_array_equal(images, before)


def test_logits_are_near_pytorchs(
    backend: NetBackend,
    case: Case,
    images: npt.NDArray[np.float32],
    reference: npt.NDArray[np.float32],
) -> None:
    logits = backend.net.infer(images).logits
    if case.logit_error is None:
        assert np.corrcoef(logits.ravel(), reference.ravel())[0, 1] > 0.98
    else:
        assert np.abs(logits - reference).max() <= case.logit_error * np.ptp(reference)


def test_segment_is_preprocessing_inference_and_postprocessing(
    backend: NetBackend, frames: list[npt.NDArray[np.uint8]]
) -> None:
    crops = [frame[:50, 3:74] for frame in frames[:3]]
    result = backend.segment(Batch.of(crops))
    logits, presence = backend.net.infer(backend.preprocess(crops))
    np.testing.assert_array_equal(result.masks, backend.postprocess(logits, presence, (50, 71)))
    assert result.masks.shape == (3, 50, 71)
    assert result.masks.dtype == np.uint8
    assert result.presence is None
    assert min(vars(result.timings).values()) > 0
    assert len(np.unique(result.masks)) > 1, "one class alone shows nothing"


def test_confidence_is_that_of_the_masks(
    backend: NetBackend, frames: list[npt.NDArray[np.uint8]]
) -> None:
    assert backend.segment(Batch.of(frames[:2])).confidence is None
    result = backend.segment(Batch.of(frames[:2], confidence=True))
    wanted = backend.postprocess.confidence(
        *backend.net.infer(backend.preprocess(frames[:2])), frames[0].shape[:2]
    )
    assert result.confidence is not None and result.confidence.dtype == np.uint8
    assert np.abs(result.confidence.astype(int) - wanted).max() <= 1
    assert np.ptp(wanted) > 50


def test_stream_is_segment_for_each_batch(
    backend: NetBackend, frames: list[npt.NDArray[np.uint8]]
) -> None:
    batches = [frames[:1], frames[1:3], frames[:3], frames[2:3]]
    results = list(backend.stream(map(Batch.of, batches)))
    for batch, result in zip(batches, results, strict=True):
        np.testing.assert_array_equal(result.masks, backend.segment(Batch.of(batch)).masks)


def test_frames_of_several_sizes_are_those_of_each_alone(
    backend: NetBackend, frames: list[npt.NDArray[np.uint8]]
) -> None:
    mixed = [frames[0], frames[1][:50, 3:74], frames[2][:50, 3:74], frames[3][:33]]
    (streamed,) = backend.stream([Batch.of(mixed, confidence=True)])
    for found in (backend.segment(Batch.of(mixed, confidence=True)), streamed):
        for frame, result in zip(mixed, found, strict=True):
            alone = backend.segment(Batch.of([frame], confidence=True))
            assert np.mean(result.mask != alone.masks[0]) <= 1e-3
            assert result.confidence is not None and alone.confidence is not None
            assert np.abs(result.confidence.astype(int) - alone.confidence[0]).max() <= 1
            assert len(np.unique(result.mask)) > 1, "one class alone shows nothing"


def test_smoothed_stream_is_that_of_smoothed_logits(
    backend: NetBackend, bundle: Bundle, frames: list[npt.NDArray[np.uint8]]
) -> None:
    batches = [frames[:2], frames[2:3], frames[:1]]
    spec, size = bundle.manifest.input, frames[0].shape[:2]
    smoother = Smoother(spec, 0.7)
    results = list(backend.stream(map(Batch.of, batches), smoother=Smoother(spec, 0.7)))
    plain = []
    for batch, result in zip(batches, results, strict=True):
        images = backend.preprocess(batch)
        logits = backend.net.infer(images).logits
        smoothed = smoother(
            Batch.of(batch).frames, images, logits, decided=np.zeros(len(batch), bool)
        )
        np.testing.assert_array_equal(result.masks, backend.postprocess(smoothed, None, size))
        plain.append(backend.postprocess(logits, None, size))
    masks = np.concatenate([result.masks for result in results])
    assert (masks != np.concatenate(plain)).any(), "smoothing changed nothing"


def test_net_alone_can_be_called_again(
    backend: NetBackend, frames: list[npt.NDArray[np.uint8]], images: npt.NDArray[np.float32]
) -> None:
    before = backend.net.infer(images[:2]).logits
    call = backend.net_alone(Batch.of(frames[:2]))
    call()
    call()
    np.testing.assert_array_equal(backend.net.infer(images[:2]).logits, before)


def test_closes_at_the_end_of_its_block(
    case: Case, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    with case.open(bundle) as created:
        closed: list[str] = []
        with monkeypatch.context() as patch:
            patch.setattr(created, "close", lambda: closed.append(created.name))
            with created as entered:
                assert entered is created
                assert closed == []
            assert closed == [case.name]
            with pytest.raises(ZeroDivisionError), created:
                raise ZeroDivisionError
            assert closed == [case.name] * 2


def test_says_its_name(backend: NetBackend, case: Case) -> None:
    assert backend.name == case.name


# Choice


def test_unknown_backend_lists_the_known_ones(bundle: Bundle) -> None:
    with pytest.raises(UnknownNameError) as error:
        create_backend("tpu", bundle)
    assert "'tpu'" in str(error.value)
    assert all(name in str(error.value) for name in [*list_backends(), "auto"])


def test_graph_that_the_bundle_lacks_names_the_option(fp32_bundle: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a bundle with fp16.* holds fp32\..*--fp16"):
        open_flavour(open_bundle(fp32_bundle), "fp16")


def test_graph_that_cannot_be_loaded_is_named(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "model.fp32.onnx"
    path.write_bytes(b"\x08\x08")  # a model without a graph
    manifest = replace(bundle.manifest, files={**bundle.manifest.files, path.name: sha256(path)})
    with pytest.raises(BackendError, match=r"ONNX Runtime cannot load .*model\.fp32\.onnx"):
        open_flavour(replace(bundle, root=tmp_path, manifest=manifest), "fp32")


def test_input_of_another_size_is_a_backend_error(bundle: Bundle) -> None:
    with (
        create_backend("onnxruntime", bundle) as created,
        pytest.raises(BackendError, match=r"failed on \(1, 3, 64, 64\)"),
    ):
        created.net.infer(np.zeros((1, 3, 64, 64), np.float32))


CREATE_WITHOUT = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[1].split(",")))
from edgeunet.errors import MissingDependencyError
from edgeunet.runtime.backends import create_backend
from edgeunet.bundle.bundle import open_bundle
try:
    create_backend(sys.argv[2], open_bundle(sys.argv[3]))
except MissingDependencyError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("modules", "name", "extra"),
    [("onnxruntime,openvino", "auto", "cpu"), ("torch", "pytorch", "export")],
)
def test_missing_extra_is_named(fp32_bundle: Path, modules: str, name: str, extra: str) -> None:
    assert (fp32_bundle / MANIFEST_NAME).is_file()
    done = subprocess.run(
        [sys.executable, "-c", CREATE_WITHOUT, modules, name, str(fp32_bundle)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"{modules.partition(',')[0]} is not installed" in done.stdout
    assert f"pip install '.[{extra}]'" in done.stdout
