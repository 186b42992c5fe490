"""Opens damaged files, in a process of its own: `python fuzzing.py KIND COUNT SEED FOLDER`.

FOLDER holds whole files of the kind. Each case is one of them with a few bytes changed, cut out or
repeated. It prints JSON: the slowest case, the growth of its memory, and how the cases ended.
"""

from __future__ import annotations

import json
import random
import re
import resource
import shutil
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from edgeunet.errors import EdgeUNetError

WARM_UP = 20  # cases before memory is measured: decoders and torch load parts of themselves
_NUMBERS = (b"-1", b"0", b"1e999", b"NaN", b"99999999999999999999", b"4294967296", b"1.5")
_OTHERS = (*_NUMBERS, b"null", b"true", b'""', b'"\\u0000"', b"[]", b"{}", b"[" * 2000, b'"../x"')


def damaged(content: bytes, chance: random.Random) -> bytes:
    """The content with one to four changes."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed) + 1)
        end = min(len(changed), at + chance.choice((1, 2, 4, 8, 64)))
        match chance.randrange(6):
            case 0:
                changed[at:end] = chance.randbytes(end - at)
            case 1:
                changed[at:end] = b""
            case 2:
                changed[at:at] = changed[at:end] * chance.choice((1, 100))
            case 3:
                changed[at:end] = b"\xff" * (end - at)
            case 4:
                changed[at:end] = bytes(end - at)
            case 5:
                del changed[at:]
                if not changed:
                    changed = bytearray(content[:8])
    return bytes(changed)


def damaged_json(content: bytes, chance: random.Random) -> bytes:
    """Half of the time a value is replaced by another one, so that the text stays JSON."""
    values = list(re.finditer(rb'(?<=[:\[,])\s*("[^"]*"|-?[\d.e+-]+|null|true|false)', content))
    if not values or chance.random() < 0.5:
        return damaged(content, chance)
    value = chance.choice(values)
    return content[: value.start()] + chance.choice(_OTHERS) + content[value.end() :]


def read_image(path: Path) -> None:
    from edgeunet.data.images import count_pages, decode, is_turned, probe

    content = path.read_bytes()
    is_turned(content)
    for page in range(min(3, count_pages(content))):
        decode(content, name=path.name, page=page)
    probe(content)


def read_video(path: Path) -> None:
    from edgeunet.runtime.sources import Frames

    with Frames.open(path).read() as source:
        for _ in islice(source, 200):
            pass


def read_json(path: Path) -> None:
    from edgeunet.bundle.bundle import read_manifest
    from edgeunet.data.datasets import open_dataset
    from edgeunet.models.checkpoints import read_card

    match path.name:
        case "manifest.json":
            read_manifest(path)
        case "dataset.json":
            open_dataset(path.parent)
        case _:
            read_card(path)


def read_checkpoint(path: Path) -> None:
    from edgeunet.models import Checkpoint

    Checkpoint.open(path)


READERS: dict[str, Callable[[Path], None]] = {
    "images": read_image,
    "videos": read_video,
    "jsons": read_json,
    "checkpoints": read_checkpoint,
}


def main(kind: str, count: int, seed: int, folder: Path) -> None:
    """Run the cases. A case that ends in anything but a result or an `EdgeUNetError` ends all."""
    whole = sorted(path for path in folder.iterdir() if path.is_file())
    place = folder / "damaged"
    ends: Counter[str] = Counter()
    slowest, before = 0.0, 0
    for number in range(count):
        if number == WARM_UP:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        chance = random.Random(seed + number)
        source = whole[number % len(whole)]
        content = source.read_bytes()
        change = damaged_json if source.suffix == ".json" else damaged
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        if kind == "checkpoints":  # a card beside it stays whole
            for other in whole:
                (place / other.name).write_bytes(other.read_bytes())
        (place / source.name).write_bytes(change(content, chance))
        started = time.monotonic()
        try:
            READERS[kind](place / source.name)
            ends["read"] += 1
        except EdgeUNetError:
            ends["refused"] += 1
        except BaseException:
            traceback.print_exc()
            kept = shutil.copy(place / source.name, folder.parent / f"{kind}-{seed + number}")
            sys.exit(f"case {seed + number} of {kind}, a damaged {source.name}, kept as {kept}")
        slowest = max(slowest, time.monotonic() - started)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({"slowest": slowest, "grown": grown * 1024, "ends": ends}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
