"""`make bench`: every benchmark, or those named; figures as a table or as JSON lines, and in BENCHMARKS.md."""

import argparse
import importlib
import json
import os
import platform
import signal
import statistics
import sys
from dataclasses import asdict, replace
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # as Ctrl-C: no server is left behind
    known = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py") if path.stem != "bench_stack")
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; all by default")
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the records, where there are many: a trial whether it runs at all"
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="of each benchmark; the figures are their medians. 3 by default"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per figure")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(known):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    os.environ["TELLTALE_BENCH_SHARE"] = str(asked.share)
    if not asked.json:
        print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
        print("Compare figures within one run only: on a shared machine they swing by a third from run to run.")
    import benchbook

    for name in asked.names or known:
        load = os.getloadavg()[0]
        figures = medians([round_of(name, number, asked.rounds) for number in range(1, asked.rounds + 1)])
        for each in figures:
            if asked.json:
                print(json.dumps(asdict(each)), flush=True)
            else:
                share = f"{each.of_limit:>8.0%} of the limit" if each.of_limit is not None else ""
                print(f"{each.what:<56}{each.value:>14,} {each.unit:<11}{share}", flush=True)
        if asked.share == 1.0:
            benchbook.write(name, figures, rounds=asked.rounds, load=load)


def round_of(name, number, rounds):
    """The figures of one run of a benchmark."""
    print(f"{name}: round {number} of {rounds}", file=sys.stderr, flush=True)
    return list(importlib.import_module(f"bench_{name}").run())


def medians(rounds):
    """Of each figure that all rounds have."""
    found = []
    for first in rounds[0]:
        same = [each for figures in rounds for each in figures if each.what == first.what]
        shares = [each.of_limit for each in same if each.of_limit is not None]
        share = statistics.median(shares) if shares else None
        found.append(replace(first, value=statistics.median(each.value for each in same), of_limit=share))
    return found


if __name__ == "__main__":
    main()
