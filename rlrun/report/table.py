"""The table at a run's end: who scored what, with what to type next."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from rlrun.runs.folder import RunFolder, quoted

MANY = 20  # replicas beyond which single rows say less than quantiles
_WIDTH = 80  # columns of a terminal


def results_table(summary: Mapping[str, Any], folder: RunFolder | None = None) -> str:
    """The scores of a summary.json as text, with what to type next."""
    rows = summary["replicas"]
    scored = [row for row in rows if row.get("eval_return") is not None]
    over = f"over {len(scored)} of {len(rows)} replicas:   " if 0 < len(scored) < len(rows) else ""
    report = folder.read_report() if folder is not None else None
    if report:
        lines = [*_fold_lines(report), *_failure_lines(rows), over + _centre(summary["aggregate"])]
    else:
        lines = [*_replica_lines(rows, scored), *_failure_lines(rows)]
        lines += [over + _aggregate_line(summary["aggregate"]), *_bandit_lines(scored), *_mode_lines(scored)]
    if summary.get("policy", "last") != "last":
        where = "its test window" if report else "fresh seeds"
        lines.append(f"scores are of each replica's policy with the {summary['policy']}, on {where}")
    if summary.get("recorded"):
        lines.append("the recorded test: a walk-forward run is scored once, and not again")
    if "wall_seconds" in summary:
        done = (
            f"{summary['env_steps']:,} env steps"
            if summary["env_steps"]
            else f"{summary['updates']:,} updates"
        )
        lines.append(f"{done} in {summary['wall_seconds']:,.1f} s")
    lines += [*_stop_lines(rows), *_lineage_lines(folder), *summary.get("notes", [])]
    if len({row["seed"] for row in rows}) == 1:
        lines.append("one seed is an anecdote: replicas=5 trains five at once")
    if folder is not None:
        lines += ["", f"run   {folder.quoted}", f"next  {_next_command(folder)}"]
    return "\n".join(lines)


def _next_command(folder: RunFolder) -> str:
    """What one would look at now: the report of a walk-forward run, else the agent at work."""
    if folder.report.exists():  # which a terminal shows anywhere, also far from any browser
        return f"less {quoted(folder.report)}  # with pictures: {folder.report_html.name}"
    allowed = " --allow-import" if folder.exists and folder.imports(anew=True)[1] else ""
    return f"rlrun play {folder.quoted}{allowed}"


def _replica_lines(rows: Sequence[Mapping[str, Any]], scored: Sequence[Mapping[str, Any]]) -> list[str]:
    if len(rows) > MANY:
        marks = [0, 5, 25, 50, 75, 95, 100]
        returns = [row["eval_return"] for row in scored]
        cells = [["replicas", *(f"{mark} %" for mark in marks)], [f"{len(scored)} of {len(rows)}"]]
        cells[1] += [number(x) for x in np.percentile(returns, marks)] if returns else ["-"] * len(marks)
        return columns(cells)
    folds = any(row.get("fold") is not None for row in rows)
    figures = _figures(scored)
    cells = [["seed", *(["fold"] if folds else []), *figures]]
    for row in rows:
        start = [str(row["seed"]), *([str(row["fold"])] if folds else [])]
        if row.get("eval_return") is None:
            cells.append([*start, "failed" if "failed" in row else "-", *[""] * (len(figures) - 1)])
        else:
            cells.append([*start, *(show(row) for show in figures.values())])
    return columns(cells)


def _fold_lines(report: Mapping[str, Any]) -> list[str]:
    """A walk-forward report: its conclusion, and each fold's score beside its baselines'."""
    lines = [*textwrap.wrap(report["conclusion"], _WIDTH), ""]
    if "folds" not in report:  # no seed came to the end of every fold
        return lines
    declared, names = report["baseline"], list(report["total"]["baselines"])
    cells = [["fold", "score", _cut(declared), "difference", "best baseline"]]
    folds, several = report["folds"], len(report["seeds"]) > 1
    mean = {
        "fold": "mean",
        "agent": report["total"]["agent"] / len(folds),
        "baselines": {name: value / len(folds) for name, value in report["total"]["baselines"].items()},
        "difference": report["paired"]["mean"],
    }
    for fold in (*folds, mean):
        baselines = fold["baselines"]
        best = max(names, key=lambda name: baselines[name])
        spread = f" ± {number(fold['agent_std'])}" if several and fold.get("agent_std") is not None else ""
        spread += " ruined" if fold.get("ruined") else ""
        difference = "+" * (fold["difference"] > 0) + number(fold["difference"])
        beside = [number(baselines[declared]), difference, f"{_cut(best)} {number(baselines[best])}"]
        cells.append([str(fold["fold"]), number(fold["agent"]) + spread, *beside])
    shown = columns(cells)
    if len(names) == 1 or len(shown[0]) > _WIDTH:
        shown = columns([row[:-1] for row in cells])
    scores = f"mean ± std of {len(report['seeds'])} seeds" if several else "of one seed"
    return [*lines, *shown, f"score: {scores}; difference to {_cut(declared)}, declared beforehand"]


def _cut(name: str, width: int = 14) -> str:
    return name if len(name) <= width else name[: width - 2] + ".."


def _failure_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which replicas failed, at which step and why; the first ones, where there are many."""
    failed = [row for row in rows if "failed" in row]
    lines = [f"replica {row['replica']} failed: {row['failed']}" for row in failed[:MANY]]
    return lines + [f"and {len(failed) - MANY} more"] * (len(failed) > MANY)


def _stop_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which replicas a rule stopped, in a line: why, or when."""
    stopped = [row for row in rows if "stopped" in row]
    if len(stopped) < 2:
        return [f"replica {row['replica']} stopped: {row['stopped']}" for row in stopped]
    first, last = min(row["steps"] for row in stopped), max(row["steps"] for row in stopped)
    when = f"steps {first:,} to {last:,}" if first < last else f"step {last:,}"
    return [f"{len(stopped)} of {len(rows)} replicas stopped early, at {when}"]


def _lineage_lines(folder: RunFolder | None) -> list[str]:
    """Where a run comes from that did not begin with its config."""
    if folder is None or not folder.exists:
        return []
    record, lines = folder.read_record(), []
    if source := record.get("fork_of"):
        run = os.path.normpath(folder.path / source["run"])
        lines.append(f"a fork of {run} at step {source['step']:,}")
    if totals := record.get("extended"):
        lines.append(f"begun with total_steps={totals[0]}, and trained further")
    return lines


def _figures(scored: Sequence[Mapping[str, Any]]) -> dict[str, Callable[[Mapping[str, Any]], str]]:
    """The columns of a score, and what stands there: that depends on how it was found."""
    if not scored or scored[0]["eval_episodes"]:
        return {
            "return": lambda row: number(row["eval_return"]),
            "std": lambda row: "± " + number(row["eval_return_std"]),
            "episodes": lambda row: str(row["eval_episodes"]),
        }
    headings = {"return": "return", "reward": "reward a step", "length": "length", "optimal": "optimal"}
    headings |= {"regret": "regret a step", "total_regret": "regret in all"}
    known = [name for name in headings if scored[0].get(name) is not None]
    return {headings[name]: partial(_online, name) for name in known}


def _online(name: str, row: Mapping[str, Any]) -> str:
    return f"{row[name]:.1%}" if name == "optimal" else number(row[name])


def _aggregate_line(total: Mapping[str, Any]) -> str:
    line = _centre(total)
    if total["median"] is None:
        return line
    if total["interval"]:
        low, high = total["interval"]
        return f"{line}   [{number(low)}, {number(high)}] ({total['interval_kind']})"
    return f"{line}   no interval from {counted(total)}" if "n" in total else line


def _centre(total: Mapping[str, Any]) -> str:
    """Where the scores lie; of a walk-forward run the interval is in the conclusion."""
    if total["median"] is None:
        return "no replica has a score"
    return f"median {number(total['median'])}   mean {number(total['mean'])}   IQM {number(total['iqm'])}"


def counted(total: Mapping[str, Any]) -> str:
    """How many seeds or folds an aggregate stands on: n=5 seeds."""
    return f"n={total['n']} {total['over'].removesuffix('s') if total['n'] == 1 else total['over']}"


def _bandit_lines(scored: Sequence[Mapping[str, Any]]) -> list[str]:
    names = ("optimal", "regret", "total_regret")
    found = {name: [row[name] for row in scored if row.get(name) is not None] for name in names}
    if not all(found.values()):
        return []
    optimal, regret, total = (float(np.mean(values)) for values in found.values())
    return [f"optimal {optimal:.1%} of actions   regret {number(regret)} a step, {number(total)} in all"]


def _mode_lines(scored: Sequence[Mapping[str, Any]]) -> list[str]:
    """Says where the same policies score much else if their actions are chosen in the other way."""
    for other, words in (("sample", ("greedy", "sampled")), ("greedy", ("sampled", "greedy"))):
        both = [row for row in scored if row.get(f"{other}_return") is not None]
        if not both:
            continue
        means, errors = [], []
        for name in ("eval", other):
            returns, stds, counts = (
                np.array([row[f"{name}_{key}"] for row in both], float)
                for key in ("return", "return_std", "episodes")
            )
            means.append(float(returns.mean()))
            errors.append(float((stds**2 / counts).sum()) / len(both) ** 2)
        difference = abs(means[0] - means[1])
        if difference > max(3.0 * sum(errors) ** 0.5, 0.1 * max(map(abs, means))):
            shown = [f"{word} actions return {number(m)}" for word, m in zip(words, means, strict=True)]
            return [f"{shown[0]}, {shown[1]}: eval.mode={other} judges the latter"]
    return []


def columns(cells: Sequence[Sequence[str]]) -> list[str]:
    """Rows of equal length, aligned to the right; a rule under the first."""
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


def number(value: float | None) -> str:
    """A number for people: one decimal from 100 on, else three significant digits or more."""
    if value is None or not np.isfinite(value):
        return "-"
    if abs(value) >= 100:
        return f"{value:,.1f}"
    return f"{value:.2f}" if abs(value) >= 1 or value == 0 else f"{value:.4f}"
