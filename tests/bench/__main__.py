"""`make bench`: every benchmark, or those named; figures as a table or as JSON lines."""

import argparse
import importlib
import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))


def main() -> None:
    known = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py") if path.stem != "bench_stack")
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; all by default")
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the records of stage and peers: a trial whether it runs at all"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per figure")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(known):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    os.environ["TELLTALE_BENCH_SHARE"] = str(asked.share)
    if not asked.json:
        print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
        print("Compare figures within one run only: on a shared machine they swing by a third from run to run.")
    for name in asked.names or known:
        for each in importlib.import_module(f"bench_{name}").run():
            if asked.json:
                print(json.dumps(asdict(each)), flush=True)
            else:
                share = f"{each.of_limit:>8.0%} of the limit" if each.of_limit is not None else ""
                print(f"{each.what:<56}{each.value:>14,} {each.unit:<11}{share}", flush=True)


if __name__ == "__main__":
    main()
