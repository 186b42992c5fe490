"""What training code puts around a state dict: dicts, prefixes of keys, averaged weights.

Training loops save `{"model": ..., "optimizer": ..., "epoch": ...}` and the like. DataParallel,
`torch.compile` and Lightning put a prefix in front of every key, and these stack. To a reader all
are the same: parts of a path in front of the keys of the net. They come off until the keys fit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import CheckpointError, UsageError, printable

Judge = Callable[[Mapping[str, Tensor]], float]
"""Share of a state dict's keys that fit a net, 0 to 1; 1 only if all of them do."""

# Around single layers, not in front of all keys.
_WITHIN = re.compile(r"(^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.)")
# Not "avg": Adam's first moments, `exp_avg`, have the shapes of weights too.
_AVERAGED = frozenset({"ema", "swa", "averaged", "shadow"})
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_FEWEST = 4  # tensors that a net has at least; an optimizer's state of a parameter has 3
_DEEPEST = 16
_MOST = 1000  # places that are judged
_MOST_ENTRIES = 100_000  # a dict that holds itself many times is small in a file, and huge to read
_SHOWN = 4


@dataclass(frozen=True)
class Unwrapped:
    """A state dict, and the keys and prefixes around it.

    fits: whether all its keys fit. notices: what the user must know about the choice.
    """

    tensors: dict[str, Tensor]
    place: str
    fits: bool
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Place:
    """Tensors under a path, by the rest of their keys. fit: see `Judge`."""

    path: tuple[str, ...]
    tensors: dict[str, Tensor]
    fit: float

    @property
    def name(self) -> str:
        return printable(".".join(self.path))

    @property
    def averaged(self) -> bool:
        words = {word.lower() for part in self.path for word in _WORD.findall(part)}
        return bool(words & _AVERAGED)


def unwrap(
    content: Mapping[object, object], judge: Judge, *, source: str, raw: bool = False
) -> Unwrapped:
    """Find the state dict that fits a net, within whatever is around it.

    Averaged weights are preferred to those that they average, since whoever keeps both validates
    and publishes the average. An average without the statistics of batch normalisation, which are
    no parameters, is completed by those of the raw weights. If nothing fits, the tensors that fit
    best are returned, for an error that names what is wrong with them.

    Args:
        judge: says how well tensors fit.
        source: the file, for the errors.
        raw: take the weights that are not averaged.

    Raises:
        CheckpointError: no tensors; or several state dicts fit. UsageError: `raw` without averaged
            weights in the file.

    Example:
        >>> import torch
        >>> from edgeunet.models.wrappers import unwrap
        >>> content = {"epoch": 3, "net": {"module.head.weight": torch.zeros(2)}}
        >>> found = unwrap(content, lambda keys: float("head.weight" in keys), source="net.pth")
        >>> found.place, list(found.tensors)
        ('net.module', ['head.weight'])
    """
    tensors: dict[str, Tensor] = {}
    homes: dict[str, tuple[str, ...]] = {}
    for count, (home, key, tensor) in enumerate(_leaves(content)):
        if count == _MOST_ENTRIES:
            raise CheckpointError(f"{source} holds more than {_MOST_ENTRIES} tensors and dicts.")
        if tensor is not None:
            name = _WITHIN.sub("", ".".join((*home, key))).lstrip(".")
            tensors[name], homes[name] = tensor, home
    if not tensors:
        raise CheckpointError(f"{source} holds no tensors; expected a state dict.")
    places = list(_places(tensors, judge))
    fitting = [place for place in places if place.fit >= 1]
    averaged = [place for place in fitting if place.averaged]
    plain = [place for place in fitting if not place.averaged]
    others = [place for place in places if place.averaged and place.fit < 1]
    if plain and not averaged:
        averaged = _completed(others, plain[0])
    if raw and not averaged:
        raise UsageError(f"{source} holds no averaged weights that fit. Leave out --raw.")
    if raw and not plain:
        raise UsageError(f"{source} holds averaged weights only. Leave out --raw.")
    found = plain if raw else averaged or plain
    if not found:
        best = max(places, key=lambda place: place.fit)  # the outermost one, if several are
        return Unwrapped(best.tensors, best.name, False)
    if len(found) > 1:
        names = " and ".join(place.name or "the keys without a prefix" for place in found[:3])
        raise CheckpointError(
            f"{source} holds {len(found)} state dicts that fit: {names}. Save the one that you "
            "mean alone, with torch.save."
        )
    (taken,) = found
    notices = []
    if taken.averaged:
        notices.append(f"takes the averaged weights, {taken.name}. Pass --raw for the others.")
    elif others and not raw:
        notices.append(
            f"takes the raw weights: the averaged ones, {others[0].name}, do not fit the net."
        )
    if beside := _beside(tensors, homes, taken, [*fitting, *others]):
        notices.append(f"does not use what is beside {taken.name}: {_listed(beside)}.")
    return Unwrapped(taken.tensors, taken.name, True, tuple(notices))


def _leaves(content: Mapping[object, object]) -> Iterator[tuple[tuple[str, ...], str, Any]]:
    """The keys that lead to each dict, a key in it, and its tensor; None for a dict inside."""
    waiting: list[tuple[tuple[str, ...], Mapping[object, object]]] = [((), content)]
    while waiting:
        home, entries = waiting.pop(0)
        for key, value in entries.items():
            if isinstance(value, Tensor):
                yield home, str(key), value
            elif isinstance(value, Mapping) and len(home) < _DEEPEST:
                waiting.append(((*home, str(key)), value))
                yield home, str(key), None


def _places(tensors: Mapping[str, Tensor], judge: Judge) -> Iterator[_Place]:
    """The paths under which there may be a net, the outermost first; none within one that fits."""
    waiting: list[tuple[tuple[str, ...], dict[str, Tensor]]] = [((), dict(tensors))]
    judged = 0
    while waiting and judged < _MOST:
        path, under = waiting.pop(0)
        place = _Place(path, under, judge(under))
        judged += 1
        yield place
        if place.fit >= 1 or len(path) == _DEEPEST:
            continue
        groups: dict[str, dict[str, Tensor]] = {}
        for name, tensor in under.items():
            first, dot, rest = name.partition(".")
            if dot:
                groups.setdefault(first, {})[rest] = tensor
        waiting += [
            ((*path, first), group)
            for first, group in groups.items()
            if len(group) >= min(_FEWEST, len(under))
        ]


def _completed(places: list[_Place], plain: _Place) -> list[_Place]:
    """The first averaged place that fits once the raw weights supply what it lacks."""
    for place in places:
        known = {name: plain.tensors.get(name) for name in place.tensors}
        if all(
            raw is not None and raw.shape == place.tensors[name].shape
            for name, raw in known.items()
        ):
            return [_Place(place.path, {**plain.tensors, **place.tensors}, 1.0)]
    return []


def _beside(
    tensors: Mapping[str, Tensor],
    homes: Mapping[str, tuple[str, ...]],
    taken: _Place,
    used: list[_Place],
) -> list[str]:
    """Tensors in the same dict as those that are taken: another part of the model, or a loss."""
    paths = [place.path for place in used]
    inside = {name: tuple(name.split(".")) for name, tensor in tensors.items() if tensor.ndim}
    home = {homes[name] for name, parts in inside.items() if _under(parts, taken.path)}
    return [
        name
        for name, parts in inside.items()
        if homes[name] in home and not any(_under(parts, path) for path in paths)
    ]


def _under(parts: tuple[str, ...], path: tuple[str, ...]) -> bool:
    return parts[: len(path)] == path


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(printable(name) for name in names[:_SHOWN]) + more
