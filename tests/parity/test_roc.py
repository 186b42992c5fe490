"""The ROC plot: lines and markers are at the positions of the rates, in visible colours."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from edgeunet.pages import render
from edgeunet.parity.roc import Roc
from support.commands import ROOT

CURVE = ((0.0, 0.0), (0.0, 0.5), (0.25, 1.0), (1.0, 1.0))


def roc(name: str = "cell", colour: tuple[int, int, int] = (32, 178, 170)) -> Roc:
    return Roc(name, colour, CURVE, chosen=(0.25, 1.0), auc=0.9375)


def picture(*rocs: Roc) -> str:
    return render(ROOT / "edgeunet" / "parity" / "templates" / "roc.svg", rocs=rocs)


def elements(svg: str, tag: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg).iter(tag))


def test_line_and_marker_are_at_the_positions_of_the_rates() -> None:
    svg = picture(roc())
    left, low, high = (
        {text.text: float(text.attrib[axis]) for text in elements(svg, "text")
         if text.attrib.get("text-anchor") == anchor}
        for axis, anchor in (("x", "middle"), ("y", "end"), ("y", "end"))
    )  # fmt: skip
    (line,) = elements(svg, "polyline")
    points = [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
    assert points[0] == (left["0%"], low["0%"] - 4)
    assert points[1] == (left["0%"], low["50%"] - 4)
    assert points[2] == (left["25%"], high["100%"] - 4)
    assert points[3] == (left["100%"], high["100%"] - 4)
    marker = elements(svg, "circle")[0]
    assert (float(marker.attrib["cx"]), float(marker.attrib["cy"])) == points[2]
    assert marker.attrib["fill"] == line.attrib["stroke"] == "rgb(32, 178, 170)"


def test_axes_and_legend_are_labelled() -> None:
    texts = [text.text for text in elements(picture(roc(), roc("<b>")), "text")]
    for words in (
        "open on images without the class",
        "open on images with it",
        "cell, AUC 0.938",
        "<b>, AUC 0.938",
        "at the threshold",
    ):
        assert words in texts


@pytest.mark.parametrize(
    ("colour", "seen"),
    [
        ((32, 178, 170), True),
        ((255, 60, 60), True),
        ((0, 0, 0), False),
        ((255, 255, 255), False),
        ((255, 255, 0), False),
        ((0, 0, 60), False),
    ],
)
def test_colour_that_a_light_or_dark_page_hides_gets_a_rim(
    colour: tuple[int, int, int], seen: bool
) -> None:
    assert roc(colour=colour).visible is seen
    lines = elements(picture(roc(colour=colour)), "polyline")
    strokes = [line.attrib["stroke"] for line in lines]
    assert strokes == ([] if seen else ["currentColor"]) + [f"rgb{colour}"]


def test_many_classes_fit_the_picture() -> None:
    svg = picture(*(roc(str(index)) for index in range(30)))
    _, top, _, height = map(float, elements(svg, "svg")[0].attrib["viewBox"].split())
    assert all(top < float(text.attrib["y"]) < top + height for text in elements(svg, "text"))
    assert len(re.findall("AUC", svg)) == 30
