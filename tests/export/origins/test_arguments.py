"""`--arch` becomes plain Python values; nothing in it is evaluated."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.errors import UnknownNameError, UsageError
from edgeunet.exporting.origins.arguments import arguments_of, check_arguments, is_plain

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text("ab,=", max_size=3), inner, max_size=2)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.from_regex(r"[a-z]\w{0,5}", fullmatch=True), PLAIN, max_size=4))
def test_values_come_back_as_they_were(values: dict[str, Any]) -> None:
    text = ",".join(f"{key}={value!r}" for key, value in values.items())
    parts = text.split(",") if text else []  # as the command line splits them
    assert arguments_of(parts) == values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("resnet18", "resnet18"),
        ("1e-3", 1e-3),
        ("None", None),
        ("(16,32)", (16, 32)),
        ("16,32", (16, 32)),
        ("('group', {'num_groups': 4})", ("group", {"num_groups": 4})),
        ("__import__('os')", "__import__('os')"),
        ("1+1", "1+1"),
        ("b'bytes'", "b'bytes'"),
        ("(" * 300, "(" * 300),
        ("", ""),
    ],
)
def test_other_values_are_text(text: str, value: Any) -> None:
    assert arguments_of([f"key={text}"]) == {"key": value}


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        (["resnet18"], "'resnet18'; expected KEY=VALUE"),
        (["a=1", "a=2"], "--arch has a twice"),
        ([f"a={'1' * 1001}"], "a of 1001 characters"),
    ],
)
def test_what_is_no_argument_is_refused(arch: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        arguments_of(arch)


def test_unknown_argument_names_the_closest() -> None:
    with pytest.raises(UnknownNameError, match=r"'encoder'. Did you mean 'encoder_name'"):
        check_arguments("smp:Unet", {"encoder": "resnet18"}, ["encoder_name", "classes"])


def test_objects_are_not_plain() -> None:
    assert not is_plain([{"key": object()}])
    assert not is_plain({1: "key"})
