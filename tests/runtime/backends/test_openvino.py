"""OpenVINO is given what was checked, computes in what was named, and can be closed at any time."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeunet.bundle.bundle import Bundle, open_bundle
from edgeunet.bundle.manifest import PARTS, flavour_file
from edgeunet.errors import BackendError, BundleError, GraphError, UsageError
from edgeunet.runtime.backends import openvino as backend_module
from edgeunet.runtime.backends.openvino import (
    LARGEST_BATCH,
    OpenVinoNet,
    _sizes,
    open_openvino,
    use_signed_bytes,
)
from edgeunet.runtime.backends.openvino_library import Device, find_device, load_openvino
from edgeunet.runtime.backends.ort import open_flavour
from edgeunet.runtime.backends.preprocess import Preprocessor
from edgeunet.runtime.options import LoadOptions
from support.hostile_graphs import external, model_of
from support.small_bundle import write_bundle

pytest.importorskip("openvino", reason="needs the extra [openvino]")
ONE = LoadOptions(threads=1)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The content that OpenVINO parsed."""
    seen: list[bytes] = []

    def spy(part: Any, content: bytes) -> Any:
        seen.append(content)
        return original(part, content)

    original = backend_module._Part._read
    monkeypatch.setattr(backend_module._Part, "_read", spy)
    return seen


def images_of(bundle: Bundle, count: int) -> np.ndarray[Any, Any]:
    frames = bundle.golden().frames
    return Preprocessor(bundle.manifest.input)([frames[i % len(frames)] for i in range(count)])


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_logits_are_those_of_onnx_runtime(int8_bundle: Path, precision: Any) -> None:
    """For INT8 on the same graph. FP16 is rounded alike."""
    bundle = open_bundle(int8_bundle).at(precision)
    flavour = "int8.openvino" if precision == "int8" else precision
    images = images_of(bundle, 3)
    with open_openvino(bundle, ONE) as found, open_flavour(bundle, flavour, threads=1) as wanted:
        logits, expected = found.net.infer(images).logits, wanted.net.infer(images).logits
    assert np.mean(logits.argmax(1) == expected.argmax(1)) >= (0.99 if precision == "int8" else 1)
    if precision == "fp16":
        assert np.array_equal(logits, logits.astype(np.float16))


def pairs(zeros: list[int], *, moved: bool = False) -> bytes:
    """A map that goes through pairs of these zero points, one after the other.

    moved: the bytes of the first pair are transposed between its ends.
    """
    nodes, constants, last = [], {}, "image"
    for index, zero in enumerate(zeros):
        scale, point = f"scale{index}", f"zero{index}"
        constants |= {scale: np.float32(0.05 * (index + 1)), point: np.uint8(zero)}
        held = f"held{index}"
        nodes.append(helper.make_node("QuantizeLinear", [last, scale, point], [held]))
        if moved and index == 0:
            nodes.append(helper.make_node("Transpose", [held], ["turned"], perm=[0, 1, 3, 2]))
            held = "turned"
        last = f"seen{index}"
        nodes.append(helper.make_node("DequantizeLinear", [held, scale, point], [last]))
    nodes.append(helper.make_node("Neg", [last], ["logits"]))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, 8, 8])
        for name in ("image", "logits")
    ]
    tensors = [numpy_helper.from_array(np.asarray(each), name) for name, each in constants.items()]
    graph = helper.make_graph(nodes, "pairs", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def types(model: Any) -> list[str]:
    """What pairs of a model hold their values as."""
    found = [node for node in model.get_ordered_ops() if node.get_type_name() == "FakeQuantize"]
    readers = [port.get_node() for each in found for port in each.output(0).get_target_inputs()]
    return [each.get_output_element_type(0).get_type_name() for each in readers]


def evaluated(model: Any, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """By OpenVINO's definitions of its operators, without its kernels for the CPU."""
    openvino = load_openvino()
    result = openvino.Tensor(np.zeros_like(image))
    assert model.evaluate([result], [openvino.Tensor(image)])
    return np.array(result.data)


@given(st.lists(st.sampled_from([0, 127, 128]), min_size=1, max_size=3), st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_signed_bytes_stand_for_the_same_values(zeros: list[int], seed: int) -> None:
    model = backend_module._Part._read(_part(), pairs(zeros))
    image = np.random.default_rng(seed).uniform(-9, 9, (2, 3, 8, 8)).astype(np.float32)
    wanted = evaluated(model, image)
    use_signed_bytes(model)
    assert types(model) == ["i8" if zero == 128 else "u8" for zero in zeros]
    assert np.array_equal(evaluated(model, image), wanted)


def test_bytes_that_something_else_reads_stay_unsigned() -> None:
    model = backend_module._Part._read(_part(), pairs([128, 128], moved=True))
    use_signed_bytes(model)
    assert types(model) == ["u8", "i8"]


@pytest.mark.parametrize("signed", [False, True])
def test_a_net_has_signed_bytes_where_they_are_faster(
    signed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Device, "prefers_signed", signed)
    with OpenVinoNet(pairs([128]), precision="int8") as net:
        assert types(net._first._model) == ["i8" if signed else "u8"]


def test_masks_are_those_of_unsigned_bytes(
    int8_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for steps that kernels round the other way."""
    if not find_device().prefers_signed:
        pytest.skip("this processor has no AMX")
    bundle = open_bundle(int8_bundle)
    images = images_of(bundle, 4)
    with open_openvino(bundle, ONE) as backend:
        found = backend.net.infer(images).logits
        assert "i8" in types(backend.net._first._model)
    monkeypatch.setattr(Device, "prefers_signed", False)
    with open_openvino(bundle, ONE) as backend:
        wanted = backend.net.infer(images).logits
    assert np.mean(found.argmax(1) == wanted.argmax(1)) >= 0.995


def test_graphs_are_parsed_from_the_bytes_that_were_hashed(
    gated_bundle: Path, tmp_path: Path, read: list[bytes]
) -> None:
    bundle = open_bundle(gated_bundle).at("fp32")
    with open_openvino(bundle, LoadOptions(threads=2)) as opened:
        opened.net.lane()
    parts = [bundle.part_path("fp32", part) for part in PARTS]
    assert read == [path.read_bytes() for path in parts if path is not None] * 2
    changed = open_bundle(shutil.copytree(gated_bundle, tmp_path / "copy")).at("fp32")
    (changed.root / "model.fp32.decoder.onnx").write_bytes(model_of().SerializeToString())
    with pytest.raises(BundleError, match=r"decoder\.onnx has SHA-256"):
        open_openvino(changed, ONE)


def test_other_files_and_other_formats_are_refused(tmp_path: Path) -> None:
    outside = model_of(initializers=(external("kernel", "secret"),)).SerializeToString()
    with pytest.raises(GraphError, match="in another file"):
        OpenVinoNet(outside)
    for content in (b"<?xml version='1.0'?><net></net>", b"\x1c\0\0\0TFL3" + bytes(64), b""):
        with pytest.raises((GraphError, BackendError)):
            OpenVinoNet(content)
        with pytest.raises(BackendError, match="cannot load the graph"):
            backend_module._Part._read(_part(), content)


def _part() -> Any:
    part = object.__new__(backend_module._Part)
    part._openvino, part._name = load_openvino(), "the graph"
    return part


def test_a_manifest_of_another_net_is_refused(fp32_bundle: Path) -> None:
    bundle = open_bundle(fp32_bundle)
    other = replace(bundle, manifest=replace(bundle.manifest, logits_size=(16, 48)))
    with pytest.raises(BundleError, match=r"expected one logits tensor.*\['\?', 3, 32, 48\]"):
        open_openvino(other, ONE)


@given(st.integers(1, 1024))
def test_batches_are_computed_in_few_sizes(count: int) -> None:
    sizes = list(_sizes(count))
    assert sum(sizes) == count
    assert set(sizes) <= {1, 2, 4, LARGEST_BATCH}
    assert len(sizes) <= count // LARGEST_BATCH + 3
    assert sizes == sorted(sizes, reverse=True)


def test_each_size_of_a_batch_is_compiled_once(fp32_bundle: Path) -> None:
    bundle = open_bundle(fp32_bundle)
    images = images_of(bundle, 7)
    with open_openvino(bundle, ONE) as alone:
        wanted = np.concatenate([alone.net.infer(image[None]).logits for image in images])
        for _ in range(2):
            found = alone.net.infer(images).logits
            np.testing.assert_allclose(found, wanted, atol=1e-4)
        assert sorted(alone.net._first._compiled) == [1, 2, 4]
        assert [len(idle) for idle in alone.net._first._idle.values()] == [1, 1, 1]


def test_a_type_that_is_not_computed_in_is_never_taken_for_another(fp32_bundle: Path) -> None:
    """OpenVINO computes in FP32 without a word if the processor has no BF16."""
    bundle = open_bundle(fp32_bundle)
    real = find_device()
    if "bf16" in real.precisions:
        pytest.skip("this processor has BF16")
    with pytest.raises(UsageError, match="does not compute in BF16; it does in FP32"):
        open_openvino(bundle.at("bf16"), ONE)
    liar = Device(real.name, real.title, (*real.capabilities, "BF16"))
    file = bundle.file(bundle.model_path("fp32"))
    with (
        OpenVinoNet(file, device=liar, precision="bf16", threads=2) as net,
        pytest.raises(BackendError, match=r"computes in f32 on CPU .* but was told bf16"),
    ):
        net.lane()


def test_bf16_is_near_fp32_where_there_is_some(fp32_bundle: Path) -> None:
    if "bf16" not in find_device().precisions:
        pytest.skip("this processor has no BF16")
    bundle = open_bundle(fp32_bundle)
    images = images_of(bundle, 2)
    with open_openvino(bundle.at("bf16"), ONE) as rounded, open_openvino(bundle, ONE) as exact:
        found, wanted = (each.net.infer(images).logits for each in (rounded, exact))
    assert 0 < np.abs(found - wanted).max() < 3e-2 * np.ptp(wanted)


def test_a_stream_computes_two_batches_at_once(fp32_bundle: Path) -> None:
    with open_openvino(open_bundle(fp32_bundle), LoadOptions(threads=2)) as backend:
        net, lane = backend.net, backend.net.lane()
        assert (net.lanes, lane) == (2, net.lane())
        net.infer(images_of(backend.bundle, 1))
        compiled = [each._first._compiled[1] for each in (net, lane)]
        assert [int(each.get_property("NUM_STREAMS")) for each in compiled] == [1, 2]
        assert {int(each.get_property("INFERENCE_NUM_THREADS")) for each in compiled} == {2}
    with open_openvino(open_bundle(fp32_bundle), ONE) as backend:
        assert (backend.net.lanes, backend.net.lane()) == (1, backend.net)


def test_threads_share_a_net_and_closing_it_ends_none(fp32_bundle: Path) -> None:
    bundle = open_bundle(fp32_bundle)
    images = images_of(bundle, 3)
    with open_openvino(bundle, ONE) as backend:
        net = backend.net
        wanted = net.infer(images).logits
        found: list[Any] = []
        started = threading.Barrier(4)

        def work() -> None:
            started.wait()
            try:
                while len(found) < 400:
                    found.append(net.infer(images).logits)
            except UsageError as error:
                found.append(error)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        started.wait()
        while len(found) < 6:
            pass
        net.close()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
    logits = [each for each in found if not isinstance(each, UsageError)]
    assert len(found) - len(logits) == 3
    assert all(np.array_equal(each, wanted) for each in logits)
    for use in (net.lane, lambda: net.ends, lambda: net.infer(images)):
        with pytest.raises(UsageError, match="it is closed"):
            use()


def test_a_failing_inference_names_the_device(tmp_path: Path) -> None:
    root = write_bundle(tmp_path / "bundle", precision="fp32")
    with OpenVinoNet(root / flavour_file("fp32")) as net:
        with pytest.raises(BackendError, match=r"OpenVINO failed on \(1, 3, 64, 8\) on CPU: Can't"):
            net.infer(np.zeros((1, 3, 64, 8), np.float32))
        assert np.isfinite(net.infer(np.zeros((1, 3, 16, 16), np.float32)).logits).all()
