"""A comparison in words and tables, at the width of a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from rlrun.evals.contrast import LEVEL, MANY_SEEDS
from rlrun.report.table import columns, number

Row = Mapping[str, Any]
_WIDTH = 80  # of a terminal
_NAME = 22  # characters of a name in a table of figures
_FEW = 4  # names in a sentence


def lines(rows: Sequence[Row], ranked_by: str) -> list[str]:
    """A paragraph for each task: who is ahead and how surely, scores, tests, and where the runs are."""
    out: list[str] = []
    tasks = _by_task(rows)
    for task, group in tasks:
        count = f"{len(group)} configuration{'s' * (len(group) > 1)}"
        out += [f"{task}: {count}" + (f", ranked by {ranked_by}" if len(group) > 1 else "")]
        out += [*textwrap.wrap(_conclusion(group), _WIDTH), ""]
        out += [*columns(_scores(group)), ""]
        against = [row for row in group if row["difference"] is not None]
        if against:
            out += [*columns(_tests(against)), ""]
        out += [*_runs(group), ""]
        for note in _notes(group, against):
            out += textwrap.wrap(note, _WIDTH, subsequent_indent="  ")
        out.append("")
    if len(tasks) > 1:
        out += [
            f"{len(tasks)} tasks: scores are ranked within each, for across them they mean different things"
        ]
    return out[:-1] if not out[-1] else out


def tables(rows: Sequence[Row]) -> list[tuple[str, list[list[str]]]]:
    """For each task its name and a table: a heading, then a row for each configuration."""
    return [(task, _whole(group)) for task, group in _by_task(rows)]


def _by_task(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    return [(task, list(group)) for task, group in groupby(rows, lambda row: row["task"])]


def _conclusion(group: Sequence[Row]) -> str:
    """Whether the evidence separates the rows, in a sentence."""
    tested = [row for row in group if row["separated"] is not None]
    if not tested and any(row["replicas"] for row in group):
        one = max(row["replicas"] for row in group) == 1
        anecdote = "one seed is an anecdote, and no evidence: replicas=5 trains five at once"
        return anecdote if one else "there is nothing to compare it with" * (len(group) > 1)
    base, open_ = tested[0]["baseline"], [row for row in tested if not row["separated"]]
    better, worse = ([r for r in tested if r["verdict"] == word] for word in ("better", "worse"))
    parts = [f"{base} is worse than {_listed(better)}"] * bool(better)
    parts += [f"{base} is better than {_listed(worse)}"] * bool(worse)
    if open_:
        wanted = [row["more_seeds"] for row in open_]
        least = min((more for more in wanted if more is not None), default=None)
        more = f"more than {MANY_SEEDS}" if least is None else f"about {least}"
        parts.append(
            f"the evidence does not separate {base} and {_listed(open_, 'or')}: by what is seen,"
            f" it takes {more} more seed{'s' * (least != 1)} of each{' at the least' * (len(open_) > 1)}"
        )
    return "; ".join(parts)


def _listed(rows: Sequence[Row], word: str = "and") -> str:
    names = [row["name"] for row in rows[:_FEW]] + [f"{len(rows) - _FEW} more"] * (len(rows) > _FEW)
    return f" {word} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _scores(group: Sequence[Row]) -> list[list[str]]:
    heading = ["", "seeds", "IQM", "95 % interval", "median", "mean", "worst"]
    cells = [
        [_cut(row["name"]), _count(row), number(row["iqm"]), _interval(row["iqm_interval"])]
        + [number(row[name]) for name in ("median", "mean", "worst")]
        for row in group
    ]
    return _left([heading, *cells])


def _tests(against: Sequence[Row]) -> list[list[str]]:
    heading = [f"against {_cut(against[0]['baseline'])}", "difference", "95 % interval", "P(better)", "p"]
    cells = [
        [
            _cut(row["name"]),
            _signed(row["difference"]),
            _interval(row["difference_interval"]),
            f"{row['improvement']:.2f}",
            _p(row["p_holm"]),
            row["verdict"],
            _more(row),
        ]
        for row in against
    ]
    if not any(row[-1] for row in cells):
        cells = [row[:-1] for row in cells]
        return _left(_left([[*heading, "verdict"], *cells]), -1)
    return _left(_left([[*heading, "verdict", "seeds"], *cells]), -2)


def _runs(group: Sequence[Row]) -> list[str]:
    """Cost and place of each row; a run is named, and how many more there are."""
    heading = ["", "steps", "seconds", "steps/s"]
    cells = [
        [_cut(row["name"]), f"{row['steps']:,}", f"{row['seconds']:,.0f}", _rate(row["steps_per_second"])]
        for row in group
    ]
    return [
        f"{line}  {run}"
        for line, run in zip(
            columns(_left([heading, *cells])), ["run", "---", *map(_run, group)], strict=True
        )
    ]


def _run(row: Row) -> str:
    more = [f"+{len(row['runs']) - 1}"] if len(row["runs"]) > 1 else []
    notes = ", ".join([*more, *row["unfinished"]])
    return row["runs"][-1] + (f" ({notes})" if notes else "")


def _whole(group: Sequence[Row]) -> list[list[str]]:
    """One table with all that a paper shows."""
    heading = ["configuration", "seeds", "steps", "IQM", "95 % interval", "median", "mean", "worst"]
    heading += ["difference", "95 % interval", "P(better)", "p", "verdict", "seconds"]
    return [heading] + [
        [row["name"], _count(row), f"{row['steps']:,}", number(row["iqm"]), _interval(row["iqm_interval"])]
        + [number(row[name]) for name in ("median", "mean", "worst")]
        + [_signed(row["difference"]), _interval(row["difference_interval"])]
        + ["-" if row["improvement"] is None else f"{row['improvement']:.2f}", _p(row["p_holm"])]
        + [row["verdict"] or "", f"{row['seconds']:,.0f}"]
        for row in group
    ]


def _notes(group: Sequence[Row], against: Sequence[Row]) -> Iterator[str]:
    """What the figures are, and what they rest on."""
    if any(row["iqm_interval"] for row in group):
        folds = any(row["over"] == "folds" for row in group)
        few = any(0 < row["n"] < 10 for row in group) and not folds
        yield (
            "IQM: mean of the middle half; its interval: bootstrap over seeds"
            + (", for these folds: a new period's is wider" if folds else "")
            + (", which is too narrow below 10 seeds" if few else "")
        )
    if any(row["unscored"] and row["replicas"] for row in group):
        yield "4 of 5: a seed that failed has no score, and counts in no figure"
    if not against:
        return
    base = against[0]["baseline"]
    yield (
        f"difference: of means, to {base}, with all that the test would not reject;"
        " P(better): the chance that a seed of the row scores above one of those"
    )
    tested = [row for row in against if row["p"] is not None]
    if not tested:
        return
    kinds = {True: "signs of differences by seed are flipped", False: "scores are shuffled between the two"}
    tests = " or ".join(kinds[kind] for kind in sorted({row["paired"] for row in tested}))
    yield f"p: two-sided permutation test of the means ({tests}){_corrected(group, tested)}"
    if not all(row["separated"] for row in tested):
        yield "seeds: how many more of each would separate such a difference four times in five"


def _corrected(group: Sequence[Row], tested: Sequence[Row]) -> str:
    """Which questions Holm's correction counts; none where there is one."""
    family = tested[0]["family"]
    if family < 2:
        return f"; {LEVEL} separates"
    pairs = family > len(group) - 1
    why = f"all {family} pairs, for the first is so by its scores" if pairs else f"{family} rows"
    return f", corrected by Holm over {why}; {LEVEL} separates"


def _count(row: Row) -> str:
    whole = row["replicas"] + row["unscored"]
    return f"{row['replicas']} of {whole}" if row["unscored"] else str(whole)


def _more(row: Row) -> str:
    """How many more seeds it takes, where they do not separate the row."""
    if row["separated"] is not False or row["verdict"] != "not separated":
        return ""
    return f">{MANY_SEEDS}" if row["more_seeds"] is None else f"+{row['more_seeds']}"


def _interval(ends: Sequence[float] | None) -> str:
    return " .. ".join(map(number, ends)) if ends else "-"


def _signed(value: float | None) -> str:
    return "+" * ((value or 0.0) > 0) + number(value)


def _p(value: float | None) -> str:
    return "-" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _cut(name: str) -> str:
    """A name that fits, by its beginning and its end: what differs is often there."""
    keep = _NAME - 2
    return name if len(name) <= _NAME else f"{name[: keep // 2]}..{name[-(keep - keep // 2) :]}"


def _left(cells: list[list[str]], column: int = 0) -> list[list[str]]:
    """Cells of which one column is filled up to the right."""
    width = max(len(row[column]) for row in cells)
    for row in cells:
        row[column] = row[column].ljust(width)
    return cells
