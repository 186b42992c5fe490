"""What a net returns, and the tensor in it that is the logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from edgeunet.errors import UsageError

_DICT_KEYS = ("out", "logits")


def chosen_output(answer: Any, output: str | int | None) -> Tensor:
    """The tensor in what a net returns that is the logits.

    Args:
        output: its name in a dict or an object, or its number in a tuple or list; None for what
            is called logits or out, or comes first.

    Raises:
        UsageError: no floats of four dimensions are there, or not under that name, or a dict has
            several and nothing tells which.
    """
    if output is None:
        found = answer
        while not isinstance(found, Tensor):
            found = _first(found)
    else:
        found = _named(answer, str(output))
    if found.ndim != 4:
        raise UsageError(
            f"the net returns a tensor {_shape(found)}; expected logits (N, classes, h, w). If "
            "another output is the logits, name it."
        )
    if not found.is_floating_point():
        raise UsageError(
            f"the net returns {str(found.dtype).removeprefix('torch.')} values, which are class "
            "ids; expected logits, floats (N, classes, h, w). Return what is in front of argmax or "
            "of the threshold."
        )
    return found


def _first(answer: Any) -> Any:
    """What comes first, or what is called logits, in something that is not a tensor."""
    logits = getattr(answer, "logits", None)
    if logits is not None:
        return logits
    if isinstance(answer, Mapping) and answer:
        return _of_dict(answer)
    if isinstance(answer, (tuple, list)) and answer:
        return answer[0]
    raise UsageError(
        f"the net returns {_described(answer)}; expected logits (N, classes, h, w) in a tensor, "
        "tuple, list or dict, or as .logits."
    )


def _of_dict(answer: Mapping[Any, Any]) -> Any:
    """What has a usual name; otherwise the only map, as the order of a dict tells nothing."""
    for key in _DICT_KEYS:
        if key in answer:
            return answer[key]
    maps = [value for value in answer.values() if isinstance(value, Tensor) and value.ndim == 4]
    if len(maps) > 1:
        raise UsageError(
            f"the net returns {_described(answer)}; expected one map, or one named 'out' or "
            f"'logits'. Name the logits: output={str(next(iter(answer)))!r}, or --head."
        )
    return maps[0] if maps else next(iter(answer.values()))


def _named(answer: Any, output: str) -> Tensor:
    found = None
    if isinstance(answer, Mapping):
        found = answer.get(output)
    elif output.isdecimal() and isinstance(answer, (tuple, list)) and int(output) < len(answer):
        found = answer[int(output)]
    elif isinstance(getattr(answer, output, None), Tensor):
        found = getattr(answer, output)
    if not isinstance(found, Tensor):
        raise UsageError(f"the net has no output {output!r}; it returns {_described(answer)}.")
    return found


def _described(answer: Any) -> str:
    """What a net returned, in words."""
    if isinstance(answer, Mapping):
        return f"a dict of {', '.join(map(repr, answer)) or 'nothing'}"
    if isinstance(answer, (tuple, list)):
        return f"a {type(answer).__name__} of {len(answer)}"
    return type(answer).__name__


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"
