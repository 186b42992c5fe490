"""One page for each lint rule: what breaks it, what happens then, and what lint says."""

from __future__ import annotations

import inspect
import tempfile
import textwrap
from pathlib import Path

import onnx

from edgeunet.exporting.lint import LintReport, lint
from edgeunet.exporting.lint.linter import RULES
from edgeunet.exporting.lint.rule import Rule, Target
from reference.markdown import prose
from support.lint_graphs import CASES

FOLDER = "reference/lint"

_INTRODUCTION = """# Lint rules

`edgeunet lint FILE --target TARGET` checks an ONNX file against what a target demands, without that
target: nothing in the file is run. An **error** says that the target refuses the file or computes
something else, a **warning** that it is slow or inexact. [The command](../cli/lint.md) exits with
1 if there is an error. `edgeunet export` checks its own graphs so, and writes no bundle with one.

| target | reads the file |
|---|---|
| `trt8.6`, `trt10`, `trt11` | TensorRT of that version |
| `rtx` | TensorRT-RTX |
| `nvinfer` | DeepStream's plug-in, on TensorRT 10: the rules of `trt10` hold too |
| `ort-cpu` | ONNX Runtime on a CPU |
| `qnn`, `rknn` | the compilers for NPUs, which [are asked themselves](compilers.md) |
"""

# Module -> how its rules are headed.
_TITLES = {
    "operators": "Operators",
    "quantizers": "Quantizers",
    "placement": "Where Q/DQ pairs stand",
    "resize": "Resize",
    "precision": "Types and sizes",
    "nvinfer": "DeepStream",
    "onnx_runtime": "ONNX Runtime in INT8",
}


def sections() -> dict[str, dict[str, list[Rule]]]:
    """Title -> name of a rule -> its forms, each for other targets."""
    found: dict[str, dict[str, list[Rule]]] = {title: {} for title in _TITLES.values()}
    for rule in RULES:
        module = rule.check.__module__.rpartition(".")[2]
        found[_TITLES[module]].setdefault(rule.name, []).append(rule)
    return found


def pages() -> dict[str, str]:
    """Path inside docs/ -> page."""
    index, found = [_INTRODUCTION.rstrip()], {}
    for title, rules in sections().items():
        rows = ["| rule | | targets | |", "|---|---|---|---|"]
        for name, forms in rules.items():
            severities = ", ".join(dict.fromkeys(form.severity for form in forms))
            targets = _codes([target for form in forms for target in form.targets])
            summary = prose(_docs(forms)[0].partition("\n")[0])
            rows.append(f"| [`{name}`]({name}.md) | {severities} | {targets} | {summary} |")
            found[f"{FOLDER}/{name}.md"] = _page(name, forms)
        index += [f"## {title}", "\n".join(rows)]
    return {f"{FOLDER}/index.md": "\n\n".join(index) + "\n", **found}


def _page(name: str, forms: list[Rule]) -> str:
    severe: dict[str, list[Target]] = {form.severity: [] for form in forms}
    for form in forms:
        severe[form.severity] += form.targets
    weights = [f"**{word.capitalize()}** for {_codes(found)}." for word, found in severe.items()]
    parts = [f"# {name}", " ".join(weights), *_happens(forms), "## What lint says"]
    examples = [_wrapped(_example(form).table()) for form in forms]
    parts += [f"```\n{text}\n```" for text in dict.fromkeys(examples)]
    return "\n\n".join(parts) + "\n"


def _happens(forms: list[Rule]) -> list[str]:
    """What happens if the rule is broken; by target, if that differs."""
    if len(docs := _docs(forms)) == 1:
        return [_paragraphs(docs[0])]
    return [f"**{_codes(form.targets)}:** {_paragraphs(_docs([form])[0])}" for form in forms]


def _docs(forms: list[Rule]) -> list[str]:
    docs = dict.fromkeys(inspect.getdoc(form.check) or "" for form in forms)
    assert all(docs), forms[0].name
    return list(docs)


def _paragraphs(text: str) -> str:
    return "\n\n".join(prose(" ".join(each.split())) for each in text.split("\n\n"))


def _wrapped(text: str) -> str:
    """As a terminal of 88 columns shows it, so that no line is cut."""
    return "\n".join(textwrap.fill(line, 88, subsequent_indent="    ") for line in text.split("\n"))


def _codes(targets: list[Target] | tuple[Target, ...]) -> str:
    return ", ".join(f"`{target}`" for target in dict.fromkeys(targets))


def _example(rule: Rule) -> LintReport:
    """What the first target says of the tests' graph that breaks the rule, of this rule alone."""
    target = rule.targets[0]
    (draw, *_) = (draw for name, targets, draw in CASES if name == rule.name and target in targets)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.onnx")
        onnx.save(draw(True).model(), path)
        report = lint(path, target)
    findings = tuple(found for found in report.findings if found.rule == rule.name)
    assert findings, rule.name
    return LintReport(report.file, target, findings)
