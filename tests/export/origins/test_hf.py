"""Folders that transformers saved, each with random weights and its processor's own image."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgeunet import ExportOptions, export_bundle
from edgeunet.bundle.bundle import open_bundle
from edgeunet.errors import CheckpointError, EdgeUNetError, UsageError
from edgeunet.exporting.origins import open_origin
from edgeunet.exporting.origins.base import Origin
from edgeunet.exporting.origins.hf import open_hf
from edgeunet.parity import plain
from edgeunet.runtime.backends.ort import OrtNet
from edgeunet.runtime.segmenter import load

transformers = pytest.importorskip("transformers", reason="needs transformers ([hf])")

RESIZE = {"do_resize": True, "size": {"height": 64, "width": 96}, "resample": 2}
NORMAL = {
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


def saved(config: Any, kind: str, folder: Path, **processor: Any) -> Path:
    """A folder with a net of random weights, whose classes differ from place to place."""
    torch.manual_seed(0)
    net = getattr(transformers, kind)(config).eval()
    with torch.inference_mode():
        for name, value in net.named_parameters():
            fan = value[0].numel() if value.ndim > 1 else 4
            value.normal_(float(value.ndim == 1 and name.endswith("weight")), fan**-0.5)
        logits = net(torch.rand(1, 3, 64, 64)).logits
        last = [value for name, value in net.named_parameters() if name.endswith("bias")]
        heads = [value for value in last if value.shape == logits.shape[1:2]]
        heads[0].sub_(logits.mean((0, 2, 3)))
    net.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def segformer(folder: Path, **processor: Any) -> Path:
    config = transformers.SegformerConfig(
        depths=[1] * 4,
        hidden_sizes=[8, 8, 16, 16],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        layer_norm_eps=0.3,
        hidden_act="gelu_new",  # the tanh approximation
        id2label={0: "road", 1: "car", 2: "sky"},
        label2id={"road": 0, "car": 1, "sky": 2},
    )
    kind = {"image_processor_type": "SegformerImageProcessor"}
    return saved(config, "SegformerForSemanticSegmentation", folder, **kind, **processor)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return segformer(tmp_path_factory.mktemp("hf") / "net", **RESIZE, **NORMAL)


def frame_of(height: int = 150, width: int = 210) -> Any:
    """Coarse colours, as of objects, and noise."""
    random = np.random.default_rng(1)
    coarse = random.integers(0, 256, (5, 7, 3), np.uint8)
    image = np.kron(coarse, np.ones((height // 5 + 1, width // 7 + 1, 1), np.uint8))
    noise = random.integers(-20, 21, (height, width, 3))
    return np.clip(image[:height, :width] + noise, 0, 255).astype(np.uint8)


def opened(folder: Path, **options: Any) -> Origin:
    return open_origin(ExportOptions(f"hf:{folder}", **options))


def by_transformers(folder: Path, frame: Any, **settings: Any) -> tuple[Any, Any]:
    """Logits and class ids by transformers' own loading, as its documentation does it."""
    net = transformers.AutoModelForSemanticSegmentation.from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=False, **settings)
    with torch.inference_mode():
        outputs = net(**processor(images=frame, return_tensors="pt"))
    sizes = [frame.shape[:2]]
    return outputs.logits.numpy(), processor.post_process_semantic_segmentation(
        outputs, target_sizes=sizes
    )[0].numpy()


def test_bundle_agrees_with_processor_net_and_postprocessing(folder: Path, tmp_path: Path) -> None:
    frame = frame_of()
    _, wanted = by_transformers(folder, frame)
    assert min(np.bincount(wanted.ravel(), minlength=3)) > wanted.size / 50
    report = export_bundle(tmp_path / "b", ExportOptions(f"hf:{folder}"))
    assert report.first_failure is None, report.table()
    assert report.reference == "transformers"
    with load(tmp_path / "b", backend="onnxruntime") as segmenter:
        found = segmenter([frame]).masks[0]
    assert found.shape == wanted.shape == (150, 210)
    assert (found == wanted).mean() >= 0.999
    manifest = open_bundle(tmp_path / "b").manifest
    assert manifest.classes == ("road", "car", "sky")
    assert (manifest.model, manifest.weights) == ("hf:segformer", "net")
    assert (manifest.reference, manifest.input.filter) == ("graph", "pillow")
    assert "transformers" in manifest.versions


def test_origin_is_the_library_to_the_bit_and_ours_is_near(folder: Path) -> None:
    frame, origin = frame_of(), opened(folder)
    logits, wanted = by_transformers(folder, frame)
    outputs, mask = origin.segment(frame)
    assert np.array_equal(mask, wanted)
    np.testing.assert_allclose(outputs.logits, logits, rtol=0, atol=1e-4 * np.abs(logits).max())


def test_usual_activation_would_be_another_net(folder: Path, tmp_path: Path) -> None:
    assert differs(folder, changed(folder, tmp_path / "a", "config.json", hidden_act="relu"))


def test_usual_epsilon_would_be_another_net(tmp_path: Path) -> None:
    (config, kind), processor = OTHERS["dpt"]()
    config.layer_norm_eps = 0.1
    folder = saved(config, kind, tmp_path / "net", **processor)
    copy = changed(folder, tmp_path / "a", "config.json", layer_norm_eps=1e-6)
    assert differs(folder, copy)


def differs(folder: Path, other: Path) -> bool:
    frame = frame_of()
    wanted, found = (opened(each).segment(frame)[0].logits for each in (folder, other))
    return bool(np.abs(found - wanted).max() > 0.01 * np.abs(wanted).max())


def changed(folder: Path, copy: Path, file: str, **values: Any) -> Path:
    """A copy of a folder, with values in a file of settings changed."""
    copy.mkdir()
    for each in folder.iterdir():
        (copy / each.name).symlink_to(each)
    settings = json.loads((folder / file).read_text()) | values
    (copy / file).unlink()
    (copy / file).write_text(json.dumps(settings))
    return copy


def upernet(backbone: Any) -> tuple[Any, str]:
    config = transformers.UperNetConfig(
        backbone_config=backbone, hidden_size=8, auxiliary_channels=8, num_labels=4
    )
    return config, "UperNetForSemanticSegmentation"


STAGES = [f"stage{index}" for index in range(1, 5)]
SMALL = {"height": 64, "width": 64}
OTHERS: dict[str, Callable[[], tuple[tuple[Any, str], dict[str, Any]]]] = {
    "upernet on convnext": lambda: (
        upernet(
            transformers.ConvNextConfig(
                hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, out_features=STAGES
            )
        ),
        {"image_processor_type": "SegformerImageProcessor", "do_reduce_labels": True, "size": 64},
    ),
    "upernet on swin": lambda: (
        upernet(
            transformers.SwinConfig(
                embed_dim=8,
                depths=[1] * 4,
                num_heads=[1, 1, 2, 2],
                window_size=4,
                image_size=64,
                out_features=STAGES,
            )
        ),
        {"image_processor_type": "SegformerImageProcessor", "size": SMALL},
    ),
    "dpt": lambda: (
        (
            transformers.DPTConfig(
                hidden_size=16,
                num_hidden_layers=4,
                num_attention_heads=2,
                intermediate_size=32,
                image_size=64,
                patch_size=16,
                backbone_out_indices=[0, 1, 2, 3],
                neck_hidden_sizes=[8, 8, 16, 16],
                fusion_hidden_size=8,
                num_labels=3,
            ),
            "DPTForSemanticSegmentation",
        ),
        {"image_processor_type": "DPTImageProcessor", "size": SMALL},
    ),
    "mobilevit": lambda: (
        (
            transformers.MobileViTConfig(
                hidden_sizes=[16, 24, 32],
                neck_hidden_sizes=[8, 8, 8, 16, 16, 16, 32],
                num_attention_heads=2,
                image_size=64,
                aspp_out_channels=16,
                num_labels=3,
            ),
            "MobileViTForSemanticSegmentation",
        ),
        {"image_processor_type": "MobileViTImageProcessor", "size": SMALL, "do_center_crop": False},
    ),
    "beit": lambda: (
        (
            transformers.BeitConfig(
                hidden_size=16,
                num_hidden_layers=4,
                num_attention_heads=2,
                intermediate_size=32,
                image_size=64,
                patch_size=16,
                out_indices=[1, 2, 3, 4],
                num_labels=3,
                use_relative_position_bias=True,
            ),
            "BeitForSemanticSegmentation",
        ),
        {"feature_extractor_type": "BeitFeatureExtractor", "size": SMALL},
    ),
}


SLOW = ("upernet on swin", "beit")  # to trace


@pytest.mark.parametrize(
    "form", [pytest.param(form, marks=pytest.mark.slow if form in SLOW else ()) for form in OTHERS]
)
def test_other_heads_and_processors_trace(form: str, tmp_path: Path) -> None:
    (config, kind), processor = OTHERS[form]()
    origin = opened(saved(config, kind, tmp_path / "net", **processor))
    frame = frame_of(70, 90)
    outputs, mask = origin.segment(frame)
    assert (origin.decide(outputs, (70, 90)) == mask).mean() >= 0.999
    origin.write_graph(tmp_path / "net.onnx")
    (found,) = OrtNet(tmp_path / "net.onnx").run(plain.to_input(frame, origin.card.input))
    largest = np.abs(outputs.logits).max()
    np.testing.assert_allclose(found, outputs.logits, rtol=0, atol=1e-4 * largest)


def test_labels_with_holes_are_told(folder: Path, tmp_path: Path) -> None:
    names = {0: "road", 1: "car", 7: "sky"}
    origin = opened(changed(folder, tmp_path / "a", "config.json", id2label=names))
    assert origin.card.classes == ("road", "car", "class 2")
    holes, *others = origin.notes
    assert holes == "id2label has holes: no channel belongs to 7 (sky)"
    assert ["by Pillow; what transformers takes by default" in note for note in others] == [True]
    origin = opened(folder, classes=("a", "b", "c"))
    assert origin.card.classes == ("a", "b", "c")
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    origin = opened(folder, classes=(str(tmp_path / "names.txt"),))
    assert origin.card.classes == ("a", "b", "c")


def test_reduced_labels_are_told(folder: Path, tmp_path: Path) -> None:
    copy = changed(folder, tmp_path / "a", "preprocessor_config.json", do_reduce_labels=True)
    assert "id 0 is the data set's 1" in opened(copy).notes[0]


def test_size_stands_in_for_sizes_that_depend_on_the_frame(folder: Path, tmp_path: Path) -> None:
    copy = changed(folder, tmp_path / "a", "preprocessor_config.json", size={"shortest_edge": 64})
    with pytest.raises(UsageError, match=r"resizes by shortest_edge.*Pass --size HxW"):
        opened(copy)
    origin = opened(copy, size=(32, 64))
    assert (origin.card.input.height, origin.card.input.width) == (32, 64)
    assert "frames are stretched to --size" in origin.notes[0]


CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "code": ({"auto_map": {"AutoModel": "own.Net"}}, "names code of its own, which is never run"),
    "type": ({"model_type": "mask2former"}, "is of model_type mask2former; expected one of beit"),
    "no type": ({"model_type": None}, "is of model_type None"),
    "quantized": ({"quantization_config": {"bits": 4}}, "is quantized"),
    "download": ({"backbone": "resnet50"}, "names a backbone to be downloaded"),
    "backbone": (
        {"model_type": "upernet", "backbone_config": {"model_type": "timm_backbone"}},
        "backbone_config of model_type timm_backbone; expected one of beit",
    ),
    "code below": (
        {
            "model_type": "upernet",
            "backbone_config": {"model_type": "swin", "auto_map": {"AutoConfig": "own.Net"}},
        },
        "names code of its own",
    ),
    "wider": ({"decoder_hidden_size": 24}, "it has other shapes in decode_head.batch_norm"),
    "deeper": ({"depths": [2, 1, 1, 1]}, "it lacks segformer"),
    "more classes": ({"id2label": {"0": "a"}}, "has other shapes in decode_head.classifier"),
    "activation": ({"hidden_act": "own.Act"}, "cannot build"),
    "labels": ({"id2label": {"x": "a"}}, "cannot build"),
    "grey": ({"num_channels": 1}, "has other shapes in"),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_configurations_are_refused(kind: str, folder: Path, tmp_path: Path) -> None:
    values, message = CONFIGS[kind]
    refused(changed(folder, tmp_path / "a", "config.json", **values), message)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_processor_type": "OwnProcessor"}, "names OwnProcessor; expected one of"),
        ({"size": {"height": 64}}, "preprocessor_config.json does not fit"),
        ({"size": {"height": -4, "width": 4}}, "preprocessor_config.json"),
    ],
)
def test_processors_are_refused(
    values: dict[str, Any], message: str, folder: Path, tmp_path: Path
) -> None:
    refused(changed(folder, tmp_path / "a", "preprocessor_config.json", **values), message)


def refused(folder: Path, message: str) -> None:
    with pytest.raises(EdgeUNetError) as caught:
        open_hf(str(folder), ExportOptions(f"hf:{folder}"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_attention_of_a_hub_is_left_out(folder: Path, tmp_path: Path) -> None:
    values = {"_attn_implementation": "someone/kernels", "attn_implementation": "someone/kernels"}
    origin = opened(changed(folder, tmp_path / "a", "config.json", **values))
    assert np.isfinite(origin.segment(frame_of())[0].logits).all()


def test_weights_in_other_files_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = changed(folder, tmp_path / "a", "config.json")
    (copy / "model.safetensors").unlink()
    refused(copy, "model.safetensors does not exist")
    torch.save({}, copy / "pytorch_model.bin")
    refused(copy, "has its weights in a pickle, which can hold code")
    (copy / "model.safetensors.index.json").write_text("{}")
    refused(copy, "is split into several files. Save it as one")
    (copy / "adapter_config.json").write_text("{}")
    refused(copy, "is an adapter of another model")


def test_weights_that_are_damaged_or_of_another_kind_are_refused(
    folder: Path, tmp_path: Path
) -> None:
    copy = changed(folder, tmp_path / "a", "config.json")
    path = copy / "model.safetensors"
    tensors = load_file(path)
    path.unlink()
    key = "decode_head.classifier.weight"
    for name, value, message in (
        (key, tensors[key].to(torch.int8), "as a int8 tensor"),
        ("own.weight", tensors[key].clone(), "it has unknown own.weight"),
        (key, tensors[key] * torch.nan, "logits that are not finite"),
    ):
        save_file(tensors | {name: value}, path)
        refused(copy, message)
    path.write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(CheckpointError):
        opened(copy)
    torch.save({"own": open_hf}, path)
    refused(copy, "holds code")


def test_options_that_the_folder_tells_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="got --weights for hf:"):
        opened(folder, weights="w.safetensors")
