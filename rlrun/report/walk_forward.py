"""The walk-forward report, from the files of a run: what the folds say, in numbers, words and pictures.

Everything is worked out anew from `test_steps.csv.gz`, which holds what every policy did in every
row of every test; `report.json` has all figures that the pages show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlrun.data.times import label
from rlrun.evals import stats
from rlrun.report import measures
from rlrun.report.walk_page import page
from rlrun.report.walk_plots import draw_equity, draw_folds
from rlrun.report.walk_steps import Played, played_in
from rlrun.runs.folder import RunFolder


def walk_forward_report(run: RunFolder) -> dict[str, Any]:
    """Write the report as a page, as Markdown and as JSON, with its pictures; returns what the JSON holds.

    Folds are compared over the same seeds: one that failed in a fold is left out of all.
    """
    config, plan, replicas = run.config(), run.read_plan(), run.summary()["replicas"]
    failed = sorted({row["seed"] for row in replicas if "failed" in row})
    played = [one for one in played_in(run, plan["baselines"]) if one.seed not in failed]
    agents = [one for one in played if one.policy == "agent"]
    data: dict[str, Any] = {
        "title": f"{config.choices.get('algo', 'agent')} on {config.choices.get('env', 'env')}",
        "conclusion": "Nothing can be said.",
        "notes": list(plan.get("notes", ())),
    }
    if agents:
        data |= _findings(config, plan, played, replicas)
    if failed:
        which = f"seed{'s' * (len(failed) > 1)} {', '.join(map(str, failed))}"
        data["conclusion"] += f" Left out, for failing in a fold: {which}."
    pictures = draw_folds(plan, run.folds) and bool(agents) and draw_equity(played, data, run.equity)
    document = page(run, plan, data, bool(pictures))
    run.write_report(document.markdown(), document.html(), data)
    return data


def _findings(
    config: Any, plan: Mapping[str, Any], played: Sequence[Played], replicas: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    agent = {(one.fold, one.seed): one for one in played if one.policy == "agent"}
    others = {(one.policy, one.fold): one for one in played if one.policy != "agent"}
    numbers = [fold["fold"] for fold in plan["folds"]]
    seeds = sorted({seed for _, seed in agent if seed is not None})
    scores = np.array([[agent[k, seed].score for seed in seeds] for k in numbers])  # [K, S]
    baselines = {name: np.array([others[name, k].score for k in numbers]) for name in plan["baselines"]}
    first, level = plan["baselines"][0], config.eval.stats.level
    compared = stats.paired(scores, baselines[first], level=level, n_boot=config.eval.stats.n_boot)
    folds = _folds(config, plan, agent, others, scores, compared.per_fold, replicas)
    oracle = float(baselines["oracle"].sum()) if "oracle" in baselines else 0.0
    known = {"share_of_oracle": float(scores.mean(1).sum()) / oracle} if oracle > 0 else {}
    ruins = [(fold["fold"], one["seed"], one["time"]) for fold in folds for one in fold["ruined"]]
    return {
        "baseline": first,
        "level": level,
        "seeds": seeds,
        "unit": _unit(config),
        "folds": folds,
        "total": {
            "agent": float(scores.mean(1).sum()),
            "baselines": {name: float(values.sum()) for name, values in baselines.items()},
        },
        "paired": compared.to_json(),
        "components": stats.components(scores),
        "years": _years(agent, others, seeds, numbers, plan["baselines"]),
        "measures": _measures(config, agent, others, seeds, numbers, plan["baselines"]),
        **known,
        **_costs(config, agent, seeds, numbers),
        "conclusion": _ruin_words(ruins, len(numbers) * len(seeds))
        + _conclusion(compared, first, level, len(seeds)),
    }


def _folds(
    config: Any,
    plan: Mapping[str, Any],
    agent: Mapping[tuple[int, Any], Played],
    others: Mapping[tuple[str, int], Played],
    scores: np.ndarray,
    differences: Sequence[float],
    replicas: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """A row for each fold; `scores` are [K, S]."""
    seeds = sorted({seed for _, seed in agent})
    validated = {(row["fold"], row["seed"]): row.get("val_score") for row in replicas}
    folds = []
    for i, k in enumerate(fold["fold"] for fold in plan["folds"]):
        val = [validated.get((k, seed)) for seed in seeds]
        fit = plan["folds"][i]["fit"]
        folds.append(
            {
                "fold": k,
                "dates": plan["folds"][i]["dates"],
                "steps": len(agent[k, seeds[0]].time),
                "passes": config.total_steps / (fit[1] - fit[0]),
                "validation": None if None in val else float(np.mean([v for v in val if v is not None])),
                "agent": float(scores[i].mean()),
                "agent_std": float(scores[i].std(ddof=1)) if len(seeds) > 1 else None,
                "baselines": {name: others[name, k].score for name in plan["baselines"]},
                "difference": differences[i],
                "ruined": [
                    {"seed": seed, "time": str(label(agent[k, seed].ruin))}
                    for seed in seeds
                    if agent[k, seed].ruin is not None
                ],
                "ruined_baselines": {
                    name: str(label(others[name, k].ruin))
                    for name in plan["baselines"]
                    if others[name, k].ruin is not None
                },
            }
        )
    return folds


def _unit(config: Any) -> str:
    """What scores are counted in."""
    account = getattr(config.env, "account", None)
    return {"share": "log growth", "fixed": "money per unit"}.get(str(account), "score")


def _strings(
    agent: Mapping[tuple[int, Any], Played], seeds: Sequence[int], numbers: Sequence[int], name: str
) -> list[np.ndarray]:
    """A column over all folds in order, of every seed."""
    return [np.concatenate([agent[k, seed].columns[name] for k in numbers]) for seed in seeds]


def _years(
    agent: Mapping[tuple[int, Any], Played],
    others: Mapping[tuple[str, int], Played],
    seeds: Sequence[int],
    numbers: Sequence[int],
    baselines: Sequence[str],
) -> dict[str, dict[str, float]]:
    time = np.concatenate([agent[k, seeds[0]].time for k in numbers])
    policies = {"agent": np.mean(_strings(agent, seeds, numbers, "score"), 0)}
    for name in baselines:
        policies[name] = np.concatenate([others[name, k].columns["score"] for k in numbers])
    found = {name: measures.by_year(score, time) for name, score in policies.items()}
    return {year: {name: found[name][year] for name in found} for year in found["agent"]}


def _measures(
    config: Any,
    agent: Mapping[tuple[int, Any], Played],
    others: Mapping[tuple[str, int], Played],
    seeds: Sequence[int],
    numbers: Sequence[int],
    baselines: Sequence[str],
) -> dict[str, dict[str, float | None]]:
    """Of the agent the mean over seeds, None where one has none."""
    periods = getattr(config.env, "periods_per_year", None)
    share = getattr(config.env, "account", None) == "share"

    def of(parts: Sequence[Played]) -> dict[str, Any]:
        columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
        score = columns["score"]
        found = {"sharpe": measures.sharpe(score), "drawdown": measures.drawdown(score, share)}
        if periods:
            found |= {"sharpe_year": measures.sharpe(score, periods)}
        return found | measures.activity(columns, periods)

    each = [of([agent[k, seed] for k in numbers]) for seed in seeds]
    mean = {
        name: None if any(one[name] is None for one in each) else float(np.mean([one[name] for one in each]))
        for name in each[0]
    }
    return {"agent": mean} | {name: of([others[name, k] for k in numbers]) for name in baselines}


def _costs(
    config: Any, agent: Mapping[tuple[int, Any], Played], seeds: Sequence[int], numbers: Sequence[int]
) -> dict[str, Any]:
    """What was paid, and the total score at other costs, of an account that tells; means over seeds."""
    example = agent[numbers[0], seeds[0]].columns
    if "cost" not in example:
        return {}
    paid = float(np.mean([cost.sum() for cost in _strings(agent, seeds, numbers, "cost")]))
    if not {"gross", "pnl", "equity"} <= example.keys() or not hasattr(config.env, "account"):
        return {"cost": paid}
    share, unit = config.env.account == "share", getattr(config.env, "unit", 1.0)
    names = ("gross", "cost", "pnl", "equity")
    strings = {name: _strings(agent, seeds, numbers, name) for name in names}
    each = [
        measures.at_costs({name: strings[name][s] for name in names}, share, unit) for s in range(len(seeds))
    ]
    return {
        "cost": paid,
        "at_costs": {times: float(np.mean([one[times] for one in each])) for times in each[0]},
    }


def _ruin_words(ruins: Sequence[tuple[int, int, str]], tests: int) -> str:
    if not ruins:
        return ""
    which = "; ".join(f"fold {fold}, seed {seed} on {time}" for fold, seed, time in ruins[:3])
    more = f" and {len(ruins) - 3} more" if len(ruins) > 3 else ""
    return f"The account was ruined in {len(ruins)} of {tests} tests ({which}{more}). "


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
