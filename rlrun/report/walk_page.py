"""The walk-forward report as a page that a stranger understands."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from rlrun.files import read_regular
from rlrun.report.document import Document
from rlrun.report.table import number
from rlrun.runs.folder import RunFolder

_MEASURES = {
    "sharpe": "Sharpe ratio, a step",
    "sharpe_year": "Sharpe ratio, a year",
    "drawdown": "deepest drawdown",
    "turnover": "turnover, positions a step",
    "turnover_year": "turnover, positions a year",
    "in_market": "time in the market",
    "short": "time short",
    "hit_rate": "steps in the market that earned",
}
_SETTINGS = (
    *("account", "unit", "capital", "price", "features", "lag", "scale", "lookback"),
    *("delay", "fill", "cost", "fee", "step", "on_gap"),
)
_SHARES = ("in_market", "short", "hit_rate")
_UNITS = {
    "log growth": "the log growth of an account: +0.10 is about +10 %, and growth adds up over time",
    "money per unit": "money per unit of what is traded, after costs",
    "score": "what the env reports as `info['score']`",
}


def page(run: RunFolder, plan: Mapping[str, Any], data: Mapping[str, Any], pictures: bool) -> Document:
    """All that the data of report.json say; the run folder has the pictures, if there are any."""
    out = Document(data["title"], data["conclusion"])
    if "folds" in data:
        names = list(data["total"]["baselines"])
        if pictures:
            out.picture(run.equity, "Out-of-sample result")
        seeds = len(data["seeds"])
        spread = (
            f"the agent's is the mean ± standard deviation of {seeds} seeds" if seeds > 1 else "of one seed"
        )
        out.text(
            "Each fold trains on the past and is tested on what comes next. The score is "
            f"{_UNITS[data['unit']]}; {spread}. The headline, and the difference, compare with "
            f"`{data['baseline']}`, which was declared beforehand."
        )
        _scores(out, data, names)
        _certainty(out, data)
        _years(out, data, names)
        _conduct(out, run, data, names)
    _windows(out, run, plan, pictures)
    _made(out, run, data)
    return out


def signed(value: float) -> str:
    return "+" * (value > 0) + number(value)


def _scores(out: Document, data: Mapping[str, Any], names: Sequence[str]) -> None:
    header = ["fold", "test", "steps", "validation", "agent", *names, "difference"]
    rows = []
    for fold in data["folds"]:
        spread = "" if fold["agent_std"] is None else f" ± {number(fold['agent_std'])}"
        ruin = f" (ruined: {len(fold['ruined'])})" if fold["ruined"] else ""
        validated = "-" if fold["validation"] is None else number(fold["validation"])
        rows.append(
            [str(fold["fold"]), span(fold["dates"]["test"]), f"{fold['steps']:,}", validated]
            + [f"{number(fold['agent'])}{spread}{ruin}"]
            + [number(fold["baselines"][name]) for name in names]
            + [signed(fold["difference"])]
        )
    total, steps = data["total"], sum(fold["steps"] for fold in data["folds"])
    sums = [number(total["agent"]), *(number(total["baselines"][name]) for name in names)]
    rows.append(["all", "", f"{steps:,}", "", *sums, signed(sum(data["paired"]["per_fold"]))])
    out.table(header, rows)
    ruined = [
        f"Fold {fold['fold']}: the account was ruined and closed, and earned nothing from then on, of "
        + "; ".join(f"seed {one['seed']} on {one['time']}" for one in fold["ruined"])
        + "."
        for fold in data["folds"]
        if fold["ruined"]
    ]
    ruined += [
        f"Fold {fold['fold']}: {name} was ruined on {time}."
        for fold in data["folds"]
        for name, time in fold["ruined_baselines"].items()
    ]
    worst = min(data["folds"], key=lambda fold: fold["difference"])
    ahead = f"{data['paired']['wins']} of {len(data['folds'])}"
    out.bullets(
        [
            *ruined,
            *_known(data),
            f"Folds in which the agent was ahead: {ahead}; the worst is fold {worst['fold']} "
            f"({signed(worst['difference'])}).",
        ]
    )


def _known(data: Mapping[str, Any]) -> list[str]:
    """How much was found of what could be known, where an oracle tells."""
    share = data.get("share_of_oracle")
    return [] if share is None else [f"Found of what could be known: {share:.0%} of the oracle's score."]


def _certainty(out: Document, data: Mapping[str, Any]) -> None:
    out.heading("How sure is that?")
    found, lines = data["paired"], []
    for key, words in (("new_period", "a new period"), ("these_periods", "these periods, with other seeds")):
        interval = found[key]
        if interval:
            ends = f"{signed(interval['low'])} to {signed(interval['high'])}"
            lines.append(
                f"Difference per fold, {interval['level']:.0%} interval for {words}: {ends} "
                f"({interval['kind']})."
            )
    if found["detectable"] is not None:
        effect = number(found["detectable"])
        lines.append(f"An effect of {effect} per fold would be found four times in five, by as many folds.")
    if found["autocorrelation"] is not None:
        lines.append(
            f"Autocorrelation of the folds' differences: {found['autocorrelation']:+.2f}; the interval for a "
            "new period assumes none, and is too narrow where it is well above 0."
        )
    parts = data["components"]
    if parts["fold"] is not None:
        lines.append(
            f"Variance of the agent's scores: {parts['fold']:.3g} between folds, {parts['seed']:.3g} between "
            f"seeds, {parts['residual']:.3g} of neither alone. More seeds make only the last two smaller."
        )
    out.bullets(lines)


def _years(out: Document, data: Mapping[str, Any], names: Sequence[str]) -> None:
    if len(data["years"]) > 1:
        out.heading("Year by year")
        rows = [
            [year, *(number(scores[name]) for name in ("agent", *names))]
            for year, scores in data["years"].items()
        ]
        out.table(["year", "agent", *names], rows)


def _conduct(out: Document, run: RunFolder, data: Mapping[str, Any], names: Sequence[str]) -> None:
    out.heading("Risk and conduct")
    share = data["unit"] == "log growth"
    rows = []
    for key, words in _MEASURES.items():
        values = [data["measures"][policy].get(key) for policy in ("agent", *names)]
        if any(value is not None for value in values):
            percent = key in _SHARES or (key == "drawdown" and share)
            rows.append(
                [words] + ["-" if v is None else f"{v:.1%}" if percent else number(v) for v in values]
            )
    out.table(["", "agent", *names], rows)
    lines = []
    if "at_costs" in data:
        at = data["at_costs"]
        free, doubled = number(at["0"]), number(at["2"])
        lines.append(f"Total score of the same positions at no costs {free}, at twice the costs {doubled}.")
    if "cost" in data:
        account = ", where each fold's account begins with 1" if share else ""
        lines.append(f"Costs paid by the agent, all folds together: {number(data['cost'])}{account}.")
    delay = getattr(run.config().env, "delay", 0)
    if delay and "in_market" in data["measures"]["agent"]:  # what is known where positions are
        steps = sum(fold["steps"] for fold in data["folds"])
        lines.append(
            f"The agent begins every test without a position, and its first decision is filled {delay} "
            f"row{'s' * (delay > 1)} later (`env.delay`): {delay * len(data['folds'])} of {steps:,} rows "
            "could earn nothing."
        )
    out.bullets(lines)


def _windows(out: Document, run: RunFolder, plan: Mapping[str, Any], pictures: bool) -> None:
    """The windows of every fold, and what was left out."""
    out.heading("Folds")
    if pictures:
        out.picture(run.folds, "Fit, validation and test windows")
    header = ["fold", "fit", "validation", "test", "fit rows", "validation rows", "test rows"]
    rows = []
    for fold in plan["folds"]:
        windows = [fold.get(name) for name in ("fit", "val", "test")]
        spans = [span(fold["dates"][n]) if n in fold["dates"] else "-" for n in ("fit", "val", "test")]
        rows.append([str(fold["fold"]), *spans, *(f"[{w[0]}, {w[1]})" if w else "-" for w in windows)])
    out.table(header, rows)
    unused = ", ".join(f"[{a}, {b})" for a, b in plan["unused"]) or "none"
    lines = [
        f"Windows are half-open and count usable rows: data row = row + {plan['lookback']}, where no gap is. "
        f"Rows between train and test: {plan['gap']}. Unused rows: {unused}."
    ]
    if "holdout" in plan:
        held = plan["holdout"]
        lines.append(f"Rows [{held[0]}, {held[1]}) are held out: no fold has touched them.")
    if plan["scheme"] == "expanding" and len(plan["folds"]) > 1:
        lines.append("Train windows of expanding folds overlap, so that folds are not quite independent.")
    out.bullets(lines)


def _made(out: Document, run: RunFolder, data: Mapping[str, Any]) -> None:
    """What went in, what was done to it, and what nobody looked at."""
    out.heading("What it was made of")
    config, record = run.config(), run.read()
    lines = [f"Data: {note}." for note in data["notes"]]
    source = getattr(config.env, "path", None)
    sha = record.get("data_sha256")
    if source or sha:
        lines.append(f"Data: `{source or 'of the env'}`, SHA-256 {str(sha)[:16]}.")
    env = {name: getattr(config.env, name, None) for name in _SETTINGS}
    told = [f"{n} {', '.join(v) if isinstance(v, list) else v}" for n, v in env.items() if v is not None]
    if told:
        lines.append(f"Env: {'; '.join(told)}.")
    if "folds" in data:
        passes = [
            fold["passes"] for fold in data["folds"] if fold["passes"] is not None
        ]  # rows may be episodes
        often = f", {min(passes):.1f} to {max(passes):.1f} passes over the fit rows" if passes else ""
        seeds = ", ".join(map(str, data["seeds"]))
        lines.append(f"Training: {config.total_steps:,} steps of each replica{often}; seeds {seeds}.")
    versions = record.get("versions")
    if isinstance(versions, Mapping) and "rlrun" in versions:
        lines.append(f"rlrun {versions['rlrun']}.")
    words = _asked(run)
    if words:
        lines.append(f"Again: `rlrun {words}`.")
    lines.append(
        "Not checked: columns that were computed over the whole file before it came here, survivorship and "
        "revisions of the data, market impact, and how often this data has been used to choose settings."
    )
    out.bullets(lines)


def _asked(run: RunFolder) -> str:
    """The words that the run was asked for with, as a shell takes them; nothing where they are lost."""
    import yaml

    try:
        words = yaml.safe_load(read_regular(run.overrides_yaml, 1 << 20))
    except (OSError, ValueError, yaml.YAMLError):
        return ""
    return shlex.join(map(str, words)) if isinstance(words, list) else ""


def span(dates: Sequence[Any]) -> str:
    """Two days, or numbers of rows."""
    first, last = (str(date).partition("T")[0] for date in dates)
    return f"{first} to {last}"
