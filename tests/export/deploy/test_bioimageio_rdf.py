"""What is refused by name, who made a net, and YAML that means what was written."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.bundle.manifest import InputSpec
from edgeunet.bundle.schema import load_yaml
from edgeunet.bundle.steps import ImageStatistics, Window
from edgeunet.errors import UsageError
from edgeunet.exporting.deploy.bioimageio_rdf import (
    Credits,
    check_input,
    credit_entries,
    halo_of,
    to_yaml,
)

MEASURED = ImageStatistics(adds_epsilon=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": Window()}, "runs on windows every 0.5 of their side, Gaussian weights"),
        ({"window": Window(blend="none", crop=True)}, "within the box that is not 0"),
        ({"height": 58, "resize": "pad"}, "--size of multiples of 8"),
        ({"statistics": ImageStatistics(pixels="nonzero")}, "the format measures all pixels"),
        (
            {"statistics": ImageStatistics(), "depth": "float32", "levels": (0.0, 1.0)},
            "a divisor of at least 1e-08",
        ),
        ({"statistics": ImageStatistics(epsilon=0.01)}, "a divisor of at least 0.01"),
        ({"statistics": ImageStatistics(epsilon=0.5, adds_epsilon=True)}, "adds up to 0.1"),
        (
            {"statistics": ImageStatistics(measure="range", percentiles=(0, 1), adds_epsilon=True)},
            "the format's upper percentile is more than 1",
        ),
    ],
)
def test_input_that_the_format_cannot_describe(changes: dict[str, object], message: str) -> None:
    known: dict[str, object] = {"height": 64, "width": 96, **changes}
    with pytest.raises(UsageError, match=r"`edgeunet run` and .* --to triton") as refusal:
        check_input(InputSpec(**known))  # type: ignore[arg-type]
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"resize": "pad"},
        {"window": Window(step=0.75, blend="none"), "statistics": MEASURED},
        {"statistics": ImageStatistics()},  # of bytes: see `_TINY`
    ],
)
def test_input_that_it_can(changes: dict[str, object]) -> None:
    check_input(InputSpec(64, 96, **changes))  # type: ignore[arg-type]


def test_halo_is_what_windows_share() -> None:
    assert halo_of(InputSpec(64, 96, window=Window(step=0.75, blend="none"))) == (8, 12)
    assert halo_of(InputSpec(64, 96)) == (0, 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"authors": ("a/b",)}, "expected a name without slashes"),
        ({"cite": "Doe et al., 2026"}, "a DOI or an address behind it"),
        ({"license": "all rights reserved"}, "expected an SPDX identifier"),
    ],
)
def test_credit_that_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Credits(**given)  # type: ignore[arg-type]


def test_credit_is_named_or_said_to_be_missing() -> None:
    entries = credit_entries(Credits(("Jane Doe", "J. Roe"), "Doe, 2026, https://a.org", "MIT"))
    assert entries == {
        "authors": [{"name": "Jane Doe"}, {"name": "J. Roe"}],
        "cite": [{"text": "Doe, 2026", "url": "https://a.org"}],
        "license": "MIT",
    }
    unknown = credit_entries(Credits(license="MIT"))
    assert unknown["authors"] == [{"name": "unknown"}]
    assert unknown["cite"][0]["text"].startswith("No publication of this net was named.")
    with pytest.raises(UsageError, match="Pass --license with an SPDX identifier"):
        credit_entries(Credits())


@given(texts=st.lists(st.one_of(st.text(), st.sampled_from(["no", "0o17", "1e3", "*a", "a: b"]))))
def test_texts_of_unknown_origin_stay_texts(
    texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "texts.yaml"
    path.write_text(to_yaml({"names": [*texts, *texts]}), encoding="utf-8")
    assert load_yaml(path) == {"names": [*texts, *texts]}
