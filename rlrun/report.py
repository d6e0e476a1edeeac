"""What a run shows at its end: a table, a learning curve, and the walk-forward report.

Pictures need matplotlib, which is imported when one is drawn; without it a line on stderr says
how to get it, and everything else is written all the same.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun import stats

if TYPE_CHECKING:
    from rlrun.evals.walk_forward import WalkForwardConfig
    from rlrun.folds import Plan
    from rlrun.walk_forward import WalkForward

MANY = 20  # replicas beyond which single rows say less than quantiles
CURVES = ("val/score", "train/return", "train/optimal")  # what a curve shows: the first there is
BLUE, ORANGE, GREEN, GREY = "#2f6db5", "#e59c2c", "#3b9a62", "#8a8f98"
RED = "#b4655b"


# The table at a run's end


def results_table(summary: Mapping[str, Any], folder: Path | None = None) -> str:
    """The scores of a summary.json as text, with what to type next."""
    rows = summary["replicas"]
    scored = [row for row in rows if row.get("eval_return") is not None]
    lines = [*_replica_lines(rows, scored), _aggregate_line(summary["aggregate"]), *_bandit_lines(scored)]
    if summary.get("policy", "last") != "last":
        lines.append(f"scores are of each replica's policy with the {summary['policy']}, on fresh seeds")
    if "wall_seconds" in summary:
        done = (
            f"{summary['env_steps']:,} env steps"
            if summary["env_steps"]
            else f"{summary['updates']:,} updates"
        )
        lines.append(f"{done} in {summary['wall_seconds']:,.1f} s")
    if len({row["seed"] for row in rows}) == 1:
        lines.append("one seed is an anecdote: replicas=5 trains five at once")
    if folder is not None:
        lines += ["", f"run   {folder}", f"next  {_next_command(folder)}"]
    return "\n".join(lines)


def _next_command(folder: Path) -> str:
    """What one would look at now: the report of a walk-forward run, else the agent at work."""
    if (folder / "report.md").exists():
        return f"less {folder / 'report.md'}"
    return f"rlrun play {folder}"


def _replica_lines(rows: Sequence[Mapping[str, Any]], scored: Sequence[Mapping[str, Any]]) -> list[str]:
    if len(rows) > MANY:
        marks = [0, 5, 25, 50, 75, 95, 100]
        returns = [row["eval_return"] for row in scored]
        cells = [["replicas", *(f"{mark} %" for mark in marks)], [f"{len(scored)} of {len(rows)}"]]
        cells[1] += [number(x) for x in np.percentile(returns, marks)] if returns else ["-"] * len(marks)
        return _columns(cells)
    folds = any(row.get("fold") is not None for row in rows)
    figures = _figures(scored)
    cells = [["seed", *(["fold"] if folds else []), *figures]]
    for row in rows:
        start = [str(row["seed"]), *([str(row["fold"])] if folds else [])]
        if row.get("eval_return") is None:
            failed = ["failed", *[""] * (len(figures) - 2), row.get("failed", "")]
            cells.append([*start, *failed[: len(figures)]])
        else:
            cells.append([*start, *(show(row) for show in figures.values())])
    return _columns(cells)


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
    if total["median"] is None:
        return "no replica has a score"
    line = f"median {number(total['median'])}   mean {number(total['mean'])}   IQM {number(total['iqm'])}"
    if total["interval"]:
        low, high = total["interval"]
        line += f"   [{number(low)}, {number(high)}] ({total['interval_kind']})"
    return line


def _bandit_lines(scored: Sequence[Mapping[str, Any]]) -> list[str]:
    names = ("optimal", "regret", "total_regret")
    found = {name: [row[name] for row in scored if row.get(name) is not None] for name in names}
    if not all(found.values()):
        return []
    optimal, regret, total = (float(np.mean(values)) for values in found.values())
    return [f"optimal {optimal:.1%} of actions   regret {number(regret)} a step, {number(total)} in all"]


def _columns(cells: Sequence[Sequence[str]]) -> list[str]:
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


# The learning curve


def curve_png(metrics: Path, path: Path) -> bool:
    """Draw return against step from a metrics.jsonl; False if there is nothing to draw, or with.

    Each replica is smoothed (exponential average, 0.9); the line is their median, the bands
    the middle half and the whole range. Evaluations are dots.
    """
    series = _read_metrics(metrics, (*CURVES, "eval/return"))
    tag = next((tag for tag in (*CURVES, "eval/return") if _longest(series.get(tag, {})) > 1), None)
    if tag is None or (figure := new_figure(path, 8, 4.5)) is None:
        return False
    raw = series[tag]
    last = max(step[-1] for step, _ in raw.values())
    grid = np.linspace(min(step[0] for step, _ in raw.values()), last, 400)
    rough = _on_grid(raw, grid)
    smooth = _on_grid({r: (step, ema(value)) for r, (step, value) in raw.items()}, grid)

    axes = figure.subplots()
    if len(raw) == 1:
        axes.plot(grid, rough[0], color=BLUE, alpha=0.3, lw=1, label=f"{tag}, raw")
    else:
        axes.fill_between(
            grid, *_quantiles(smooth, (0, 1)), color=BLUE, alpha=0.12, lw=0, label="all replicas"
        )
        axes.fill_between(
            grid, *_quantiles(smooth, (0.25, 0.75)), color=BLUE, alpha=0.25, lw=0, label="middle half"
        )
        axes.plot(
            grid, _quantiles(rough, (0.5,))[0], color=BLUE, alpha=0.35, lw=0.8, label=f"{tag}, median, raw"
        )
    name = "smoothed" if len(raw) == 1 else f"median of {len(raw)}, smoothed"
    axes.plot(grid, _quantiles(smooth, (0.5,))[0], color=BLUE, lw=2.2, label=name)
    evaluated = series.get("eval/return", {})
    if tag != "eval/return" and evaluated:
        steps = np.unique(np.concatenate([step for step, _ in evaluated.values()]))
        medians = _quantiles(_on_grid(evaluated, steps), (0.5,))[0]
        axes.plot(
            steps, medians, "o", ms=4.5, color=ORANGE, label="evaluation" + " (median)" * (len(raw) > 1)
        )
    axes.set(xlabel="env steps per replica", ylabel=tag, xlim=(0, last))
    axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x >= 1000 else f"{x:g}")
    axes.legend(frameon=False, fontsize=9)
    _save(figure, path)
    return True


def ema(values: np.ndarray, weight: float = 0.9) -> np.ndarray:
    """Exponential moving average [n], unbiased: the start is not drawn towards zero."""
    out, total, mass = np.empty(len(values)), 0.0, 0.0
    for i, value in enumerate(values):
        total, mass = weight * total + (1 - weight) * value, weight * mass + 1 - weight
        out[i] = total / mass
    return out


Curves = dict[int, tuple[np.ndarray, np.ndarray]]  # replica -> steps, values


def _read_metrics(path: Path, tags: Sequence[str]) -> dict[str, Curves]:
    points: dict[str, dict[int, list[tuple[int, float]]]] = {tag: {} for tag in tags}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            for tag in tags:
                value = record.get(tag)
                if isinstance(value, (int, float)) and np.isfinite(value):
                    points[tag].setdefault(record["replica"], []).append((record["step"], value))
    return {
        tag: {r: (np.array([s for s, _ in xs]), np.array([v for _, v in xs])) for r, xs in by_replica.items()}
        for tag, by_replica in points.items()
        if by_replica
    }


def _longest(curves: Curves) -> int:
    return max((len(step) for step, _ in curves.values()), default=0)


def _on_grid(curves: Curves, grid: np.ndarray) -> np.ndarray:
    """[replicas, len(grid)], NaN before a replica's first and after its last record."""
    return np.stack([np.interp(grid, s, v, left=np.nan, right=np.nan) for s, v in curves.values()])


def _quantiles(values: np.ndarray, at: Sequence[float]) -> np.ndarray:
    """Quantiles over replicas [len(at), n] of those that have a value; NaN where none has."""
    out = np.full((len(at), values.shape[1]), np.nan)
    some = np.isfinite(values).any(0)
    out[:, some] = np.nanquantile(values[:, some], at, axis=0)
    return out


# Walk-forward


@dataclass(frozen=True)
class _Run:
    """The scored steps of one policy on one fold's test window; `seed` is None for a baseline."""

    policy: str
    fold: int
    seed: int | None
    time: np.ndarray  # [steps], of the row at which pnl is booked
    pnl: np.ndarray  # [steps]
    cost: np.ndarray  # [steps]

    @property
    def score(self) -> float:
        return float(self.pnl.sum())


def walk_forward_report(
    folder: Path,
    evaluation: WalkForward,
    results: Sequence[Mapping[str, Any]],
    steps: Mapping[str, np.ndarray],
    curves: Mapping[str, Mapping[str, np.ndarray]],
) -> dict[str, Any]:
    """Write report.md, report.json, folds.png and equity.png; returns what report.json holds.

    `results` has one entry per replica; `steps` holds the info arrays [R, 1, T] of the
    agents' test, `curves` the same of each baseline.
    """
    config, choices = evaluation.config, evaluation.run.choices
    plan = evaluation.plan.to_json()
    runs = list(_runs(evaluation, steps, curves))
    data = {
        "title": f"{choices.get('algo', 'agent')} on {choices.get('env', 'env')}",
        **_findings(plan, runs, config),
        "replicas": [
            {"seed": replica.seed, "fold": replica.fold, **result}
            for replica, result in zip(evaluation.replicas, results, strict=True)
        ],
    }
    pictures = _draw_folds(evaluation.plan, folder / "folds.png") and _draw_equity(
        runs, data, folder / "equity.png"
    )
    (folder / "report.md").write_text(_markdown(plan, data, pictures), encoding="utf-8")
    (folder / "report.json").write_text(json.dumps(data, indent=1, allow_nan=False), encoding="utf-8")
    return data


def _runs(
    evaluation: WalkForward,
    steps: Mapping[str, np.ndarray],
    curves: Mapping[str, Mapping[str, np.ndarray]],
) -> Iterator[_Run]:
    """The agent's runs, and each baseline's once a fold."""
    index, seen = evaluation.data.index, set()
    for replica in evaluation.replicas:
        policies = {"agent": steps, **({} if replica.fold in seen else curves)}
        seen.add(replica.fold)
        for policy, arrays in policies.items():
            scored = arrays["scored"][replica.index, 0] == 1.0
            t, pnl, cost = (arrays[name][replica.index, 0][scored] for name in ("t", "pnl", "cost"))
            seed = replica.seed if policy == "agent" else None
            yield _Run(policy, int(replica.fold or 0), seed, index[t.astype(np.int64)], pnl, cost)


def _findings(plan: Mapping[str, Any], runs: Sequence[_Run], config: WalkForwardConfig) -> dict[str, Any]:
    agent = sorted((run for run in runs if run.policy == "agent"), key=lambda run: (run.fold, run.seed or 0))
    numbers = [fold["fold"] for fold in plan["folds"]]
    seeds = sorted({run.seed for run in agent if run.seed is not None})
    scores = np.array([[run.score for run in agent if run.fold == k] for k in numbers])  # [K, S]
    baselines = {
        name: np.array([_of(runs, name, k).score for k in numbers])
        for name in dict.fromkeys(run.policy for run in runs if run.policy != "agent")
    }
    compared = stats.paired(
        scores, baselines[config.baseline], level=config.stats.level, n_boot=config.stats.n_boot
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
        "baseline": config.baseline,
        "level": config.stats.level,
        "seeds": seeds,
        "folds": folds,
        "total": {
            "agent": float(scores.mean(1).sum()),
            "baselines": {name: float(values.sum()) for name, values in baselines.items()},
        },
        "cost": float(np.sum([run.cost.sum() for run in agent]) / max(len(seeds), 1)),
        "paired": compared.to_json(),
        "conclusion": _conclusion(compared, config.baseline, config.stats.level, len(seeds)),
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


def _markdown(plan: Mapping[str, Any], data: Mapping[str, Any], pictures: bool) -> str:
    names, base, found = list(data["total"]["baselines"]), data["baseline"], data["paired"]
    out = [f"# {data['title']}", "", f"**{data['conclusion']}**", ""]
    if pictures:
        out += ["![Out-of-sample result](equity.png)", ""]
    out += [
        f"Score: the sum of pnl over a test window, the agent's as mean ± standard deviation over "
        f"{len(data['seeds'])} seed{'s' * (len(data['seeds']) != 1)}. The headline compares with `{base}`, "
        "which was declared beforehand.",
        "",
    ]
    header = ["fold", "test", "steps", "agent", *names, f"agent - {base}"]
    rows = [
        [
            str(fold["fold"]),
            _span(fold["dates"]["test"]),
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
    if pictures:
        out += ["![Fit, validation and test windows](folds.png)", ""]
    header = ["fold", "fit", "validation", "test", "fit rows", "validation rows", "test rows"]
    rows = []
    for fold in plan["folds"]:
        windows = [fold.get(name) for name in ("fit", "val", "test")]
        spans = [
            _span(fold["dates"][name]) if name in fold["dates"] else "-" for name in ("fit", "val", "test")
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
    return "\n".join(out)


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


def _span(dates: Sequence[Any]) -> str:
    return f"{dates[0]} to {dates[1]}"


def _md_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]


def _draw_folds(plan: Plan, path: Path) -> bool:
    if (figure := new_figure(path, 8, 0.8 + 0.42 * (len(plan.folds) + 1))) is None:
        return False
    axes = figure.subplots()
    index = np.arange(plan.n_rows) if plan.dates is None else plan.dates
    axes.xaxis.update_units(index)  # dates, if they are dates
    position = np.asarray(axes.convert_xunits(index), float)
    for name, words, color in (("fit", "fit", BLUE), ("val", "validation", ORANGE), ("test", "test", GREEN)):
        windows = [(fold.number, *fold.windows[name]) for fold in plan.folds if name in fold.windows]
        if windows:
            rows, first, after = np.array(windows).T
            left, right = position[first], position[after - 1]
            axes.barh(rows, right - left, left=left, height=0.62, color=color, label=words)
    axes.set(yticks=[fold.number for fold in plan.folds], ylabel="fold")
    axes.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    _save(figure, path, lines="x")
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
    top.set(ylabel="pnl since the first test")
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
    _save(figure, path)
    return True


def _stitched(
    runs: Sequence[_Run], policy: str, seeds: Sequence[int | None]
) -> tuple[np.ndarray, np.ndarray]:
    """Times [T] and summed pnl [seeds, T] over all folds in order; after ruin it stays where it is."""
    longest: dict[int, np.ndarray] = {}
    for run in runs:
        if len(run.time) > len(longest.get(run.fold, ())):
            longest[run.fold] = run.time
    own = {(run.fold, run.seed): run.pnl for run in runs if run.policy == policy}
    curves = [
        np.concatenate(
            [np.pad(own[k, seed], (0, len(longest[k]) - len(own[k, seed]))) for k in sorted(longest)]
        )
        for seed in seeds
    ]
    return np.concatenate([longest[k] for k in sorted(longest)]), np.cumsum(curves, axis=1)


def new_figure(path: Path, width: float, height: float) -> Any:
    """An empty figure that needs no screen, or None and a line that says what to install."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print(f"rlrun: {path.name} needs matplotlib: pip install 'rlrun[plots]'", file=sys.stderr)
        return None
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Any, path: Path, lines: str = "y") -> None:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
        axes.grid(visible=True, color="#e6e8ec", lw=0.8, axis=lines)
    figure.savefig(path, dpi=150)
