"""Several cameras or films through one net: what is seen where, and how each source fared.

    python examples/cameras/watch.py BUNDLE door=rtsp://10.0.0.5/main yard=yard.mp4

The frames of all are batched together. A source that hangs or fails holds up none of the others.
`edgeunet run BUNDLE door=rtsp://10.0.0.5/main yard=yard.mp4 -o masks/` is the same, to files.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import edgeunet


def main(bundle: str | Path, *named: str) -> dict[str, int]:
    """Segment sources given as NAME=SOURCE; the number of frames of each."""
    if not named or not all("=" in each for each in named):
        sys.exit(f"expected NAME=SOURCE, one or several, got {' '.join(named) or 'none'}")
    sources = dict(each.split("=", 1) for each in named)
    frames: Counter[str] = Counter()
    with edgeunet.load(bundle) as segmenter, segmenter.stream(sources) as stream:
        try:
            for result in stream.results():  # in the order of each source
                frames[result.source] += 1
                seen = Counter(region.label for region in result.regions())
                told = ", ".join(f"{count} x {label}" for label, count in seen.items())
                print(f"{result.source} {result.frame.index}: {told or 'nothing'}")
        except edgeunet.EdgeUNetError as error:  # behind the frames of all
            print(error, file=sys.stderr)
        report = stream.report()
    for name, source in report.sources.items():
        print(
            f"{name}: {source.segmented} frames, {source.dropped} dropped, half of them within "
            f"{source.latency_p50:.0f} ms{'' if source.error is None else ', failed'}"
        )
    return dict(frames)


if __name__ == "__main__":
    main(*sys.argv[1:])
