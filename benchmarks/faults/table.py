"""What was tried and what was wrong, as a table, as lines, and in docs/reliability.md."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from faults.campaign import Verdict

KINDS = {
    "configs": "bad configs, sweeps, flags and YAML files",
    "folders": "hostile run folders, a verb each",
    "envs": "odd environments",
    "kills": "kill -9 at random instants, resumed",
    "signals": "SIGTERM, SIGINT, SIGHUP, once and twice",
}
BEGIN, END = "<!-- what `make faults` found -->", "<!-- end -->"
HEAD = ["| kind | what | tried | right | wrong |", "|---|---|---|---|---|"]


@dataclass(frozen=True)
class Found:
    """The verdicts on one kind of fault."""

    kind: str
    verdicts: Sequence[Verdict]
    note: str = ""

    @property
    def wrong(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.wrong]

    @property
    def row(self) -> str:
        tried = sum(verdict.case.counts for verdict in self.verdicts)
        wrong = sum(verdict.case.counts for verdict in self.wrong)
        note = f"; {self.note}" if self.note else ""
        return f"| {self.kind} | {KINDS[self.kind]}{note} | {tried:,} | {tried - wrong:,} | {wrong:,} |"

    @property
    def lines(self) -> list[str]:
        """Each wrong case, with its command and what was seen."""
        return [
            f"- {self.kind}: {one_line(v.case.name)}: `{one_line(v.case.command)}`: {one_line(v.wrong)}"
            for v in self.wrong
        ]


def one_line(text: str, most: int = 240) -> str:
    clean = "".join(c if c.isprintable() and c != "`" else ascii(c)[1:-1] for c in text)
    return clean if len(clean) <= most else clean[:most] + "..."


def causes(verdicts: Iterable[Verdict]) -> list[str]:
    """Wrong cases by what was seen, whatever the numbers and names in it; the commonest first."""
    groups: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        groups[re.sub(r"'[^']*'|[\w./-]*/[\w./-]*|\d[\d.,e+]*", "..", verdict.wrong)[:110]].append(verdict)
    lines = []
    for cause, group in sorted(groups.items(), key=lambda item: -len(item[1])):
        lines.append(f"{len(group)} x {one_line(cause)}")
        lines += [
            f"    {one_line(v.case.name, 80)}: {one_line(v.case.command, 200)}: {one_line(v.wrong, 200)}"
            for v in group[:4]
        ]
    return lines


def page_with(page: str, found: Sequence[Found]) -> str:
    """The page, with what was found in the place of what it says about these kinds."""
    before, _, rest = page.partition(BEGIN)
    old, _, after = rest.partition(END)
    rows = {line.split("|")[1].strip(): line for line in old.splitlines() if line.startswith("| ")}
    rows |= {each.kind: each.row for each in found}
    told = tuple(f"- {each.kind}: " for each in found)
    wrong = [line for line in old.splitlines() if line.startswith("- ") and not line.startswith(told)]
    wrong += [line for each in found for line in each.lines]
    table = [*HEAD, *(rows[kind] for kind in KINDS if kind in rows)]
    return "\n".join([before + BEGIN, *table, *([""] if wrong else []), *sorted(wrong), END]) + after


def write(path: Path, found: Sequence[Found]) -> None:
    path.write_text(page_with(path.read_text(encoding="utf-8"), found), encoding="utf-8")
