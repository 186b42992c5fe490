"""Lets `auto` choose ten times while other processes make noise, and says how good that was.

Run on an otherwise idle machine: python benchmarks/choice.py BUNDLE. First the candidates are timed
without noise. No choice may be slower than the fastest by more than 5 %.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from edgeunet.latency import median_latencies
from edgeunet.runtime import open_bundle
from edgeunet.runtime.backends import create_backend
from edgeunet.runtime.backends.candidates import candidates
from edgeunet.runtime.backends.choice import choose
from edgeunet.runtime.frames import Batch
from edgeunet.runtime.options import LoadOptions

ALLOWED = 1.05


def disturb(seed: int) -> None:
    """Work and rest in turns, for 5 to 500 ms each, until ended."""
    draw = random.Random(seed)
    while True:
        end = time.perf_counter() + draw.uniform(0.005, 0.5)
        while time.perf_counter() < end:
            pass
        time.sleep(draw.uniform(0.005, 0.5))


def main() -> int:
    """Print each try; 1 if one was too slow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--tries", type=int, default=10)
    parser.add_argument("--noise", type=int, default=1, help="Processes that disturb.")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    bundle, options = open_bundle(given.bundle), LoadOptions(threads=given.threads)
    batch = Batch.of([bundle.golden().frames[0]])
    with ExitStack() as stack:
        calls = {}
        for each in candidates(bundle, options):
            at = bundle.at(each.precision)
            backend = create_backend(each.backend, at, each.options(options))
            calls[each.label] = stack.enter_context(backend).net_alone(batch)
        quiet = median_latencies(calls)
    for label, latency in sorted(quiet.items(), key=lambda each: each[1]):
        print(f"{label:<24}{latency:8.2f} ms without noise")
    noise = [multiprocessing.Process(target=disturb, args=(n,)) for n in range(given.noise)]
    for process in noise:
        process.start()
    worst = 1.0
    try:
        for number in range(given.tries):
            started = time.perf_counter()
            choice = choose(bundle, options, again=True, tell=lambda why: None)
            seconds = time.perf_counter() - started
            ratio = quiet[choice.use.label] / min(quiet.values())
            worst = max(worst, ratio)
            print(f"{number + 1:>2}: {choice.use.label} in {seconds:.1f} s, {ratio:.3f} x the best")
    finally:
        for process in noise:
            process.terminate()
    print(f"worst: {worst:.3f} x the best, at most {ALLOWED} allowed")
    return int(worst > ALLOWED)


if __name__ == "__main__":
    sys.exit(main())
