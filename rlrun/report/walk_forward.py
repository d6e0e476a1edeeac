"""The walk-forward report, from the files of a run: what the folds say, in words and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlrun.config.keys import legible
from rlrun.evals import stats
from rlrun.report.plots import BLUE, GREEN, GREY, ORANGE, RED, new_figure, save_figure
from rlrun.report.table import number
from rlrun.runs.folder import RunFolder


@dataclass(frozen=True)
class _Run:
    """The scored steps of one policy on one fold's test window; `seed` is None for a baseline."""

    policy: str
    fold: int
    seed: int | None
    time: np.ndarray  # [steps], of the row at which scores are booked
    scores: np.ndarray  # [steps]
    cost: np.ndarray  # [steps]

    @property
    def score(self) -> float:
        return float(self.scores.sum())


def walk_forward_report(run: RunFolder) -> dict[str, Any]:
    """Write report.md, report.json, folds.png and equity.png; returns what report.json holds.

    Folds are compared over the same seeds: one that failed in a fold is left out of all.
    """
    config: Any = run.config()
    plan, replicas = run.read_plan(), run.summary()["replicas"]
    failed = sorted({row["seed"] for row in replicas if "failed" in row})
    played = list(_runs([r for r in run.read_steps() if int(r["seed"]) not in failed], plan["baselines"]))
    results = [
        {"seed": row["seed"], "fold": row["fold"]} | {k: v for k, v in row.items() if k not in _NOT_RESULTS}
        for row in replicas
    ]
    data = {
        "title": f"{config.choices.get('algo', 'agent')} on {config.choices.get('env', 'env')}",
        **(_findings(plan, played, config.eval) if played else {"conclusion": "Nothing can be said."}),
        "replicas": results,
    }
    if failed:
        which = f"seed{'s' * (len(failed) > 1)} {', '.join(map(str, failed))}"
        data["conclusion"] += f" Left out, for failing in a fold: {which}."
    pictures = _draw_folds(plan, run.folds) and bool(played) and _draw_equity(played, data, run.equity)
    text = _markdown(plan, data, run if pictures else None) if played else _headline(data)
    run.write_report(legible(text), data)
    return data


_NOT_RESULTS = ("replica", "seed", "fold", "variant", "steps", "failed", "learned")


def _runs(steps: Sequence[Mapping[str, str]], baselines: Sequence[str]) -> Iterator[_Run]:
    """The agent's runs, and each baseline's once a fold, from the rows of the scored steps."""
    by_replica: dict[int, list[Mapping[str, str]]] = {}
    for row in steps:
        by_replica.setdefault(int(row["replica"]), []).append(row)
    seen: set[int] = set()
    for _, rows in sorted(by_replica.items()):
        fold, seed = int(rows[0]["fold"]), int(rows[0]["seed"])
        columns = {"agent": ""} | ({} if fold in seen else {name: f"_{name}" for name in baselines})
        seen.add(fold)
        time = _times([row["time"] for row in rows])
        for policy, suffix in columns.items():
            scores = np.array([float(row["score" + suffix]) for row in rows])
            cost = np.array([float(row.get("cost" + suffix, 0.0)) for row in rows])
            yield _Run(policy, fold, seed if policy == "agent" else None, time, scores, cost)


def _times(labels: Sequence[Any]) -> np.ndarray:
    """int64, or datetime64[ns], from what `rlrun.evals.folds.label` made of it."""
    if all(str(label).lstrip("-").isdigit() for label in labels):
        return np.array([int(label) for label in labels], np.int64)
    return np.array(labels, "datetime64[ns]")


def _findings(plan: Mapping[str, Any], runs: Sequence[_Run], config: Any) -> dict[str, Any]:
    agent = sorted((run for run in runs if run.policy == "agent"), key=lambda run: (run.fold, run.seed or 0))
    numbers = [fold["fold"] for fold in plan["folds"]]
    seeds = sorted({run.seed for run in agent if run.seed is not None})
    scores = np.array([[run.score for run in agent if run.fold == k] for k in numbers])  # [K, S]
    baselines = {
        name: np.array([_of(runs, name, k).score for k in numbers])
        for name in dict.fromkeys(run.policy for run in runs if run.policy != "agent")
    }
    compared = stats.paired(
        scores, baselines[plan["baselines"][0]], level=config.stats.level, n_boot=config.stats.n_boot
    )
    folds = [
        {
            "fold": k,
            "dates": plan["folds"][i]["dates"],
            "steps": max(len(run.time) for run in runs if run.fold == k),
            "agent": float(scores[i].mean()),
            "agent_std": float(scores[i].std()),
            "baselines": {name: float(values[i]) for name, values in baselines.items()},
            "difference": compared.per_fold[i],
        }
        for i, k in enumerate(numbers)
    ]
    return {
        "baseline": plan["baselines"][0],
        "level": config.stats.level,
        "seeds": seeds,
        "folds": folds,
        "total": {
            "agent": float(scores.mean(1).sum()),
            "baselines": {name: float(values.sum()) for name, values in baselines.items()},
        },
        "cost": float(np.sum([run.cost.sum() for run in agent]) / max(len(seeds), 1)),
        "paired": compared.to_json(),
        "conclusion": _conclusion(compared, plan["baselines"][0], config.stats.level, len(seeds)),
    }


def _of(runs: Sequence[_Run], policy: str, fold: int) -> _Run:
    return next(run for run in runs if run.policy == policy and run.fold == fold)


def _conclusion(found: stats.Paired, baseline: str, level: float, seeds: int) -> str:
    """What the folds allow to say, in one or two sentences."""
    mean = f"{found.mean:+.4g} per fold"
    if found.new_period is None:
        return (
            f"The agent differs from {baseline} by {mean}; fewer than 3 folds allow no interval, "
            "so that nothing follows for a new period."
        )
    low, high = found.new_period.low, found.new_period.high
    span = f"{mean}, {level:.0%} interval for a new period {low:+.4g} to {high:+.4g}"
    single = " It rests on one seed." if seeds == 1 else ""
    if low > 0:
        return f"The agent is better than {baseline}: {span}.{single}"
    if high < 0:
        return f"The agent is worse than {baseline}: {span}.{single}"
    return (
        f"The agent cannot be told from {baseline}: {span}. An effect of {found.detectable:.4g} per fold "
        f"would have shown four times in five.{single}"
    )


def _headline(data: Mapping[str, Any]) -> str:
    return f"# {data['title']}\n\n**{data['conclusion']}**\n"


def _markdown(plan: Mapping[str, Any], data: Mapping[str, Any], pictures: RunFolder | None) -> str:
    names, base, found = list(data["total"]["baselines"]), data["baseline"], data["paired"]
    out = [_headline(data)]
    if pictures:
        out += [f"![Out-of-sample result]({pictures.equity.name})", ""]
    out += [
        f"Score: the sum over a test window, the agent's as mean ± standard deviation over "
        f"{len(data['seeds'])} seed{'s' * (len(data['seeds']) != 1)}. The headline compares with `{base}`, "
        "which was declared beforehand.",
        "",
    ]
    header = ["fold", "test", "steps", "agent", *names, f"agent - {base}"]
    rows = [
        [
            str(fold["fold"]),
            span(fold["dates"]["test"]),
            str(fold["steps"]),
            f"{number(fold['agent'])} ± {number(fold['agent_std'])}",
            *(number(fold["baselines"][name]) for name in names),
            f"{fold['difference']:+.4f}",
        ]
        for fold in data["folds"]
    ]
    total = data["total"]
    sums = [number(total["agent"]), *(number(total["baselines"][name]) for name in names)]
    rows.append(
        ["all", "", str(sum(f["steps"] for f in data["folds"])), *sums, f"{sum(found['per_fold']):+.4f}"]
    )
    out += [*_md_table(header, rows), ""]
    worst = min(data["folds"], key=lambda fold: fold["difference"])
    out += [
        f"- Folds in which the agent was ahead: {found['wins']} of {len(data['folds'])}; the worst is fold "
        f"{worst['fold']} ({worst['difference']:+.4f}).",
        f"- Costs paid by the agent, all folds together: {number(data['cost'])}.",
        *_interval_lines(found),
        "",
        "## Folds",
        "",
    ]
    return "\n".join([*out, *_fold_lines(plan, pictures)])


def _fold_lines(plan: Mapping[str, Any], pictures: RunFolder | None) -> list[str]:
    """The windows of every fold, and what was left out."""
    out = []
    if pictures:
        out += [f"![Fit, validation and test windows]({pictures.folds.name})", ""]
    header = ["fold", "fit", "validation", "test", "fit rows", "validation rows", "test rows"]
    rows = []
    for fold in plan["folds"]:
        windows = [fold.get(name) for name in ("fit", "val", "test")]
        spans = [
            span(fold["dates"][name]) if name in fold["dates"] else "-" for name in ("fit", "val", "test")
        ]
        rows.append([str(fold["fold"]), *spans, *(f"[{w[0]}, {w[1]})" if w else "-" for w in windows)])
    unused = ", ".join(f"[{a}, {b})" for a, b in plan["unused"]) or "none"
    out += [
        *_md_table(header, rows),
        "",
        f"Windows are half-open and count usable rows: data row = row + {plan['lookback']}. "
        f"Rows between train and test: {plan['gap']}. Unused rows: {unused}.",
    ]
    if "holdout" in plan:
        out.append(
            f"Rows [{plan['holdout'][0]}, {plan['holdout'][1]}) are held out: no fold has touched them."
        )
    if plan["scheme"] == "expanding" and len(plan["folds"]) > 1:
        out.append("Train windows of expanding folds overlap, so that folds are not quite independent.")
    out += [
        "",
        "Not checked: survivorship and revisions of the data, market impact, and how often this data has "
        "been used to choose settings before.",
        "",
    ]
    return out


def _interval_lines(found: Mapping[str, Any]) -> Iterator[str]:
    for key, words in (("new_period", "a new period"), ("these_periods", "these periods, with other seeds")):
        interval = found[key]
        if interval:
            yield (
                f"- Difference per fold, {interval['level']:.0%} interval for {words}: "
                f"{interval['low']:+.4f} to {interval['high']:+.4f} ({interval['kind']})."
            )
    if found["autocorrelation"] is not None:
        yield (
            f"- Autocorrelation of the folds' differences: {found['autocorrelation']:+.2f}; the interval "
            "for a new period assumes none."
        )


def span(dates: Sequence[Any]) -> str:
    return f"{dates[0]} to {dates[1]}"


def _md_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]


def _draw_folds(plan: Mapping[str, Any], path: Path) -> bool:
    folds = plan["folds"]
    if (figure := new_figure(path, 8, 0.8 + 0.42 * (len(folds) + 1))) is None:
        return False
    axes = figure.subplots()
    axes.xaxis.update_units(_times(plan["index"]))  # dates, if they are dates
    for name, words, color in (("fit", "fit", BLUE), ("val", "validation", ORANGE), ("test", "test", GREEN)):
        windows = [(fold["fold"], *fold["dates"][name]) for fold in folds if name in fold]
        if windows:
            rows, first, last = zip(*windows, strict=True)
            left, right = (np.asarray(axes.convert_xunits(_times(ends)), float) for ends in (first, last))
            axes.barh(rows, right - left, left=left, height=0.62, color=color, label=words)
    axes.set(yticks=[fold["fold"] for fold in folds], ylabel="fold")
    axes.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    save_figure(figure, path, lines="x")
    return True


def _draw_equity(runs: Sequence[_Run], data: Mapping[str, Any], path: Path) -> bool:
    if (figure := new_figure(path, 8, 6)) is None:
        return False
    top, bottom = figure.subplots(2, 1, height_ratios=(3, 1.2))
    seeds = data["seeds"]
    time, curves = _stitched(runs, "agent", seeds)
    if len(seeds) > 1:
        words = f"agent, range of {len(seeds)} seeds"
        top.fill_between(time, curves.min(0), curves.max(0), color=BLUE, alpha=0.18, lw=0, label=words)
    for name in data["total"]["baselines"]:
        time, baseline = _stitched(runs, name, [None])
        first = name == data["baseline"]
        style = {"color": RED, "lw": 1.6} if first else {"color": GREY, "lw": 1.2, "ls": "--"}
        top.plot(time, baseline[0], label=name + " (headline)" * first, **style)
    top.plot(time, curves.mean(0), color=BLUE, lw=2, label="agent" + ", mean" * (len(seeds) > 1))
    for fold in data["folds"]:
        top.axvline(_of(runs, "agent", fold["fold"]).time[0], color=GREY, lw=0.8, ls=":")
    top.set(ylabel="score since the first test")
    top.set_title("Out of sample: test windows, one after the other", loc="left", fontsize=10)
    top.margins(x=0.01)
    top.legend(frameon=False, fontsize=9)
    differences = [fold["difference"] for fold in data["folds"]]
    bottom.bar(
        [str(fold["fold"]) for fold in data["folds"]],
        differences,
        color=[GREEN if d > 0 else RED for d in differences],
        width=0.55,
    )
    interval = data["paired"]["new_period"]
    if interval:
        words = f"{interval['level']:.0%} interval for a new period"
        bottom.axhspan(interval["low"], interval["high"], color=GREY, alpha=0.18, lw=0, label=words)
        bottom.axhline(data["paired"]["mean"], color=GREY, lw=1.2, label="mean")
        bottom.legend(frameon=False, fontsize=8)
    bottom.axhline(0, color="black", lw=0.8)
    bottom.set(xlabel="fold", ylabel=f"agent - {data['baseline']}")
    save_figure(figure, path)
    return True


def _stitched(
    runs: Sequence[_Run], policy: str, seeds: Sequence[int | None]
) -> tuple[np.ndarray, np.ndarray]:
    """Times [T] and summed scores [seeds, T] over all folds in order; after ruin it stays where it is."""
    longest: dict[int, np.ndarray] = {}
    for run in runs:
        if len(run.time) > len(longest.get(run.fold, ())):
            longest[run.fold] = run.time
    own = {(run.fold, run.seed): run.scores for run in runs if run.policy == policy}
    curves = [
        np.concatenate(
            [np.pad(own[k, seed], (0, len(longest[k]) - len(own[k, seed]))) for k in sorted(longest)]
        )
        for seed in seeds
    ]
    return np.concatenate([longest[k] for k in sorted(longest)]), np.cumsum(curves, axis=1)
