"""Try what must not go wrong, and tell what did.

    python -m faults                     # everything: half an hour on two cores
    python -m faults configs envs        # some kinds
    python -m faults --sample 20         # 20 cases of each kind, fewer of slow ones; nothing is written

Cases and random numbers are a function of the seed. Exit code 1 where anything was wrong.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

from faults import table
from faults.campaign import sampled, tried
from faults.table import KINDS, Found


def campaign(kind: str, seed: int, sample: int | None, jobs: int) -> Found:
    """Try one kind of fault, telling at once what is wrong."""
    module = importlib.import_module(f"faults.{kind}")
    module.imports()
    begin, verdicts = time.monotonic(), []
    share = sample and max(sample // getattr(module, "COST", 1), 1)
    cases = sampled(module.cases(seed), share, seed)
    for verdict in tried(cases, jobs):
        verdicts.append(verdict)
        if verdict.wrong:
            print("wrong", Found(kind, [verdict]).lines[0], flush=True)
    note = module.note(cases, seed) if hasattr(module, "note") and not sample else ""
    found = Found(kind, verdicts, note)
    print(f"{found.row}  {time.monotonic() - begin:.0f} s", flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="faults", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sample", type=int, help="how many cases of each kind; default: all, into the page")
    parser.add_argument("--jobs", type=int, default=2, help="processes; default: 2")
    parser.add_argument("--page", type=Path, default=Path(__file__).parents[2] / "docs" / "reliability.md")
    args = parser.parse_args()
    if unknown := set(args.kinds) - set(KINDS):
        parser.error(f"no such kind: {', '.join(unknown)}; there are {', '.join(KINDS)}")
    # Those that do without torch come first: it is imported for the others.
    found = [
        campaign(kind, args.seed, args.sample, args.jobs) for kind in KINDS if kind in (args.kinds or KINDS)
    ]
    wrong = [verdict for each in found for verdict in each.wrong]
    print("\n".join(["", *table.HEAD, *(each.row for each in found), "", *table.causes(wrong)]))
    if not args.sample:
        table.write(args.page, found)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
