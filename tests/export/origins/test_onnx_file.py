"""ONNX files as origins: their own answers, their graphs, and what is known of them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from edgeunet.bundle.manifest import RGB
from edgeunet.bundle.steps import ImageStatistics
from edgeunet.data.preparation import Preparation
from edgeunet.errors import ExportError, UsageError
from edgeunet.exporting.origins.onnx_file import OnnxOrigin
from edgeunet.parity import plain
from edgeunet.runtime.backends.ort import OrtNet
from support.commands import ROOT
from support.onnx_forms import (
    FORMS,
    MEAN,
    SIZE,
    STD,
    Builder,
    Form,
    answers,
    body,
    frames,
    weights_of,
)


def opened(form: Form, folder: Path, **options: object) -> OnnxOrigin:
    return OnnxOrigin(form.write(folder / "net.onnx"), **({"size": SIZE} | options))


@pytest.mark.parametrize("name", FORMS)
def test_form_segments_as_its_file_and_its_graph(name: str, tmp_path: Path) -> None:
    form, given = FORMS[name](), frames(2, seed=1)
    origin = opened(form, tmp_path)
    ids, margins = answers(form, given)
    found = [origin.segment(frame) for frame in given]
    masks = np.stack([mask for _, mask in found])
    # Frames are normalised, and for the file that is taken back: not to the last bit.
    assert margins[masks != ids].max(initial=0) < form.tolerance
    assert masks.dtype == np.uint8
    origin.write_graph(tmp_path / "graph.onnx")
    images = np.concatenate([plain.to_input(frame, origin.card.input) for frame in given])
    logits = OrtNet(tmp_path / "graph.onnx").infer(images).logits
    wanted = np.concatenate([outputs.logits for outputs, _ in found])
    np.testing.assert_allclose(logits, wanted, atol=form.tolerance)


def test_frame_of_another_size_has_the_logits_enlarged(tmp_path: Path) -> None:
    origin = opened(FORMS["argmax"](), tmp_path)
    frame = frames(1)[0].repeat(2, 0).repeat(2, 1)
    outputs, mask = origin.segment(frame)
    assert mask.shape == (2 * SIZE[0], 2 * SIZE[1])
    np.testing.assert_array_equal(mask, origin.decide(outputs, mask.shape))


def test_frames_can_be_letterboxed(tmp_path: Path) -> None:
    form, said = FORMS["argmax"](), Preparation(resize="pad", fill=114.0)
    origin = opened(form, tmp_path, preparation=said)
    height = SIZE[0] - 8
    frame = frames(1)[0][:height]
    padded = np.pad(frame, ((0, 8), (0, 0), (0, 0)), constant_values=114)
    ids, margins = answers(form, padded[None])
    _, mask = origin.segment(frame)
    differs = mask != ids[0, :height]
    assert margins[0, :height][differs].max(initial=0) < form.tolerance
    with pytest.raises(UsageError, match=r"it is for padding\. Pass .* --resize and --fill"):
        opened(form, tmp_path, preparation=Preparation(fill=114.0))


def test_card(tmp_path: Path) -> None:
    origin = opened(FORMS["bytes"](), tmp_path, classes=("sky", "road", "car"))
    card, spec = origin.card, origin.card.input
    assert (card.model, card.classes, card.data) == (
        "onnx:net.onnx",
        ("sky", "road", "car"),
        "unknown",
    )
    assert (spec.height, spec.width, spec.channels, spec.levels) == (*SIZE, RGB, (0, 255))
    np.testing.assert_allclose(spec.mean, MEAN, atol=1e-6)
    np.testing.assert_allclose(spec.std, STD, atol=1e-6)
    assert origin.notes[0] == "input 'frame': NHWC uint8, 3 channels, 24x32"
    assert not any("assumed" in note for note in origin.notes)


def test_images_are_measured_if_that_is_said(tmp_path: Path) -> None:
    said = Preparation(statistics=ImageStatistics(), levels=(0, 4095))
    spec = opened(FORMS["argmax"](), tmp_path, preparation=said).card.input
    assert (spec.statistics, spec.mean, spec.std) == (said.statistics, (0,) * 3, (1,) * 3)
    assert (spec.height, spec.width, spec.depth) == (*SIZE, "uint16")


def test_what_is_assumed_is_told(tmp_path: Path) -> None:
    assert (
        "assumed ImageNet's; pass --mean and --std"
        in opened(FORMS["sigmoid"](), tmp_path).notes[-1]
    )
    told = opened(FORMS["sigmoid"](), tmp_path, preparation=Preparation(mean=(0.5,), std=(0.25,)))
    assert told.card.input.mean == (0.5,) * 3
    assert not any("assumed" in note for note in told.notes)


@pytest.mark.parametrize(
    ("form", "classes", "wanted"),
    [
        ("sigmoid", (), ("background", "foreground")),
        ("sigmoid", ("cell",), ("background", "cell")),
        ("bytes", (), ("class 0", "class 1", "class 2")),
    ],
)
def test_names_of_classes(
    form: str, classes: tuple[str, ...], wanted: tuple[str, ...], tmp_path: Path
) -> None:
    assert opened(FORMS[form](), tmp_path, classes=classes).card.classes == wanted


def test_metadata_name_classes_and_preparation(tmp_path: Path) -> None:
    form = FORMS["sigmoid"]()
    onnx.helper.set_model_props(form.model, {
        "names": "{0: 'wall', 1: 'cell'}", "model_info mean_values": "127.5",
        "model_info scale_values": "51", "model_info reverse_input_channels": "False",
    })  # fmt: skip
    card = opened(form, tmp_path).card
    assert card.classes == ("wall", "cell")
    assert (card.input.mean, card.input.std) == ((0.5,) * 3, (0.2,) * 3)
    assert card.input.channels == RGB[::-1]


@dataclass(frozen=True)
class Refused:
    form: str
    options: dict[str, object]
    message: str


@pytest.mark.parametrize(
    "case",
    [
        Refused(
            "bytes", {"classes": ("a", "b")}, r"net.onnx: the graph has 3 classes, got 2 names"
        ),
        Refused("bytes", {"preparation": Preparation(mean=(0.5,))}, "normalises its input itself"),
        Refused(
            "bytes", {"preparation": Preparation(channels=("gray",))}, "--channels gray does not"
        ),
        Refused("bytes", {"size": (32, 32)}, "--size 32x32 does not fit"),
        Refused("bytes", {"output": "nothing"}, "no output 'nothing'"),
        Refused(
            "sigmoid", {"preparation": Preparation(std=(0.0,))}, "std is .* it must be positive"
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(case: Refused, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=case.message) as caught:
        opened(FORMS[case.form](), tmp_path, **case.options)
    assert str(caught.value).startswith(str(tmp_path / "net.onnx"))


def behind(folder: Path, *ops: str, classes: int = 3, kind: int = TensorProto.FLOAT) -> Path:
    """The tiny net with operators behind it."""
    b = Builder()
    z = body(b, "x", weights_of(classes, 12))
    for op in ops:
        z = b.add(op, z)
    model = b.model(("x", TensorProto.FLOAT, ["n", 3, *SIZE]), ("y", kind, ["n", classes, *SIZE]))
    onnx.save(model, folder / "net.onnx")
    return folder / "net.onnx"


def test_probabilities_of_an_unknown_form_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"looks like probabilities.*--head NAME"):
        OnnxOrigin(behind(tmp_path, "HardSigmoid", classes=1))


def test_logits_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="logits that are not finite"):
        OnnxOrigin(behind(tmp_path, "Neg", "Sqrt"))


def test_logits_inside_can_be_named(tmp_path: Path) -> None:
    path = behind(tmp_path, "HardSigmoid", classes=1)
    head = onnx.load(path).graph.node[-1].input[0]
    origin = OnnxOrigin(path, output=head)
    assert origin.card.classes == ("background", "foreground")
    origin.write_graph(tmp_path / "graph.onnx")


def test_file_that_does_not_run_is_one_line(tmp_path: Path) -> None:
    b = Builder(dtype=np.float64)
    body(b, "x", weights_of(3, 13))
    model = b.model(
        ("x", TensorProto.DOUBLE, ["n", 3, *SIZE]), ("y", TensorProto.DOUBLE, ["n", 3, *SIZE])
    )
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(ExportError, match="does not run on ONNX Runtime") as caught:
        OnnxOrigin(tmp_path / "net.onnx")
    assert "\n" not in str(caught.value)


def test_wrong_graph_is_never_written_in_silence(tmp_path: Path) -> None:
    origin = opened(FORMS["half"](), tmp_path)
    node = next(node for node in origin.found.model.graph if node.op_type == "Sigmoid")
    node.op_type = "HardSigmoid"
    with pytest.raises(ExportError, match="the rewritten graph differs from the file by"):
        origin.write_graph(tmp_path / "graph.onnx")


def test_torch_is_not_loaded(tmp_path: Path) -> None:
    path = FORMS["tensorflow"]().write(tmp_path / "net.onnx")
    code = (
        "import sys; from pathlib import Path; "
        "from edgeunet.exporting.origins.onnx_file import OnnxOrigin; "
        "OnnxOrigin(Path(sys.argv[1])).write_graph(Path(sys.argv[1] + '.out')); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=True)
