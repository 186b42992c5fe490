"""Graphs that reach out of their bundle or never end are refused, however they are written."""

from __future__ import annotations

import os
import time
from pathlib import Path

import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgeunet.bundle import graphs
from edgeunet.bundle.graphs import check_graph, read_graph
from edgeunet.errors import GraphError
from support.hostile_graphs import PLACES, external, inside, model_of, tensors_of


def refusal(content: bytes) -> str:
    with pytest.raises(GraphError) as error:
        check_graph(content, name="net.onnx")
    message = str(error.value)
    assert message.startswith("net.onnx ") and message.endswith(". Refused.")
    return message


def number(value: int) -> bytes:
    """A varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(index: int, content: bytes) -> bytes:
    return number(index << 3 | 2) + number(len(content)) + content


def in_model(tensor: bytes) -> bytes:
    """A model with this serialized tensor as an initializer."""
    return model_of().SerializeToString() + field(7, field(5, tensor))


# What is fine


def test_graphs_of_an_export_are_fine(int8_bundle: Path) -> None:
    paths = sorted(int8_bundle.glob("*.onnx"))
    assert len(paths) == 7
    for path in paths:
        assert read_graph(path) == path.read_bytes()


def test_unknown_fields_of_all_forms_are_skipped() -> None:
    content = model_of().SerializeToString()
    for unknown in (
        number(1000 << 3) + number(1 << 63),
        number(1000 << 3 | 1) + bytes(8),
        field(1000, b"\xff" * 300),
        number(1000 << 3 | 5) + bytes(4),
    ):
        check_graph(content + unknown, name="net")
    check_graph(b"", name="nothing")


def test_location_zero_is_inside() -> None:
    tensor = inside()
    tensor.data_location = TensorProto.DEFAULT
    content = model_of(initializers=(tensor,)).SerializeToString()
    assert number(14 << 3) + b"\0" in content
    check_graph(content, name="net")


# External tensors


@pytest.mark.parametrize("place", PLACES)
def test_external_tensor_is_found_wherever_it_is(place: str) -> None:
    content = PLACES[place]().SerializeToString()
    assert "keeps the values of tensor 'weights' in another file" in refusal(content)
    plain = content.replace(b"location", b"nowhere_")  # the parser sees the tensor there too
    assert any(t.name == "weights" for t in tensors_of(onnx.load_from_string(plain)))


@pytest.mark.parametrize(
    "tensor",
    [
        number(14 << 3) + number(1 << 32 | 1),  # parsers drop the upper bits of an enumeration
        number(14 << 3) + number(1) + number(14 << 3) + number(0),
        number(14 << 3) + number(0) + number(14 << 3) + number(1),
        number(14 << 3) + b"\x81\x80\x00",  # not the shortest form
        b"\xf0\x80\x00" + number(1),  # so is this tag
        field(14, number(1)),  # packed
        field(13, b""),
    ],
)
def test_unusual_encodings_are_found(tensor: bytes) -> None:
    assert "of tensor '' in another file" in refusal(in_model(tensor))


def test_attribute_with_two_tensors_is_found() -> None:
    """Protocol buffers merge a message that is there twice; the second makes it external."""
    tensors = field(5, inside().SerializeToString()) + field(5, external().SerializeToString())
    node = field(1, field(4, b"Constant") + field(5, field(1, b"value") + tensors))
    assert "in another file" in refusal(model_of().SerializeToString() + field(7, node))


def test_name_of_the_tensor_is_escaped_and_cut() -> None:
    tensor = field(8, b"\x1b[2J\xff" + b"x" * 5000) + field(13, b"")
    message = refusal(in_model(tensor))
    assert "\\x1b[2J\\\\xff" in message and "\x1b" not in message
    assert len(message) < 400


# What never ends


@pytest.mark.parametrize("operator", ["Loop", "Scan"])
def test_loops_are_refused(operator: str) -> None:
    node = helper.make_node(operator, ["count"], ["out"], body=onnx.GraphProto(name="body"))
    assert f"has a {operator}, which could run without end" in refusal(
        model_of(node).SerializeToString()
    )
    inner = helper.make_graph([node], "branch", [], [])
    branch = helper.make_node("If", ["condition"], ["out"], then_branch=inner)
    assert f"has a {operator}" in refusal(model_of(branch).SerializeToString())


def test_functions_are_refused() -> None:
    model = model_of()
    model.functions.append(
        helper.make_function("own", "twice", ["x"], ["y"], [], [helper.make_opsetid("", 17)])
    )
    assert "has local functions, which could expand without end" in refusal(
        model.SerializeToString()
    )


def test_nesting_is_bounded() -> None:
    content = b""
    for _ in range(graphs.MAX_DEPTH):
        content = field(1, field(5, field(6, content)))
    assert "nested more than 100 deep" in refusal(field(7, content))


def test_number_of_fields_is_bounded() -> None:
    started = time.perf_counter()
    content = field(7, field(1, b"") * (graphs.MAX_FIELDS + 1))
    assert "has more than 300000 fields" in refusal(content)
    assert time.perf_counter() - started < 20


# Not ONNX


@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04",
        b"version https://git-lfs.github.com/spec/v1\n",
        b"\x0b\x0c",  # a group
        b"\x00",  # field 0
        b"\x3a\x05abc",  # longer than the file
        b"\x3a",
        b"\xff" * 11,
        number(1 << 32 | 1 << 3) + b"\0",  # a tag of more than 32 bits
    ],
)
def test_content_that_is_no_onnx_is_refused(content: bytes) -> None:
    assert "is not an ONNX model, or was cut off (byte " in refusal(content)


def test_onnx_runtimes_own_format_is_refused() -> None:
    """The same bytes are a model in both formats; ONNX Runtime prefers its own."""
    polyglot = b"\x12\x06  ORTM" + model_of().SerializeToString()
    assert onnx.load_from_string(polyglot).graph.node
    assert "is in ONNX Runtime's own format" in refusal(polyglot)


def test_only_regular_files_of_bounded_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name, kind in (("pipe", "a pipe"), ("zero", "a device"), ("", "a directory")):
        with pytest.raises(GraphError, match=f"cannot be read: it is {kind}"):
            read_graph(tmp_path / name)
    with pytest.raises(GraphError, match=r"cannot be read: .*No such file"):
        read_graph(tmp_path / "missing")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(graphs.MAX_BYTES + 1)  # takes no space on the disk
    with pytest.raises(GraphError, match="it has 1073741825 bytes; expected at most 1073741824"):
        read_graph(tmp_path / "huge")


# Any bytes


def has_external(content: bytes) -> bool:
    """What protocol buffers' own parser finds; False if it finds no model."""
    try:
        model = onnx.load_from_string(content)
    except (DecodeError, ValueError):
        return False
    tensors = tensors_of(model)
    return any(tensor.data_location == TensorProto.EXTERNAL for tensor in tensors)


def check_against_the_parser(content: bytes) -> None:
    try:
        check_graph(content, name="mutated")
    except GraphError:
        return
    assert not has_external(content)


@settings(max_examples=300)
@given(data=st.data(), place=st.sampled_from(sorted(PLACES)))
def test_no_mutation_is_missed(data: st.DataObject, place: str) -> None:
    """Bytes changed, taken out, put in or moved: refused, or without an external tensor."""
    content = bytearray(PLACES[place]().SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["change", "remove", "insert", "move"]))
        if kind == "change":
            content[at] = data.draw(st.integers(0, 255))
        elif kind == "remove":
            del content[at : at + data.draw(st.integers(1, 3))]
        elif kind == "insert":
            content[at:at] = data.draw(st.binary(min_size=1, max_size=4))
        else:
            piece = content[at : at + 20]
            del content[at : at + 20]
            target = data.draw(st.integers(0, len(content)))
            content[target:target] = piece
        if not content:
            return
    check_against_the_parser(bytes(content))


@settings(max_examples=200)
@given(content=st.binary(max_size=200))
def test_no_bytes_raise_anything_else(content: bytes) -> None:
    check_against_the_parser(content)


def _messages(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    index = st.sampled_from([1, 2, 5, 6, 7, 8, 10, 11, 13, 14, 15, 20, 22, 23])
    scalar = st.builds(lambda i, v: number(i << 3) + number(v), index, st.integers(0, 3))
    nested = st.builds(field, index, inner)
    return st.lists(scalar | nested, max_size=4).map(b"".join)


@settings(max_examples=300)
@given(content=st.recursive(st.just(b""), _messages, max_leaves=25))
def test_no_combination_of_fields_is_missed(content: bytes) -> None:
    check_against_the_parser(content)
