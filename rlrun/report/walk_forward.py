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
from rlrun.report.walk_steps import Tests, played_in
from rlrun.runs.folder import RunFolder


def walk_forward_report(run: RunFolder) -> dict[str, Any]:
    """Write the report as a page, as Markdown and as JSON, with its pictures; returns what the JSON holds.

    Folds are compared over the same seeds: one that failed in a fold is left out of all.
    """
    config, plan, replicas = run.config(), run.read_plan(), run.summary()["replicas"]
    failed = sorted({row["seed"] for row in replicas if "failed" in row})
    tests = Tests.of((one for one in played_in(run, plan["baselines"]) if one.seed not in failed), plan)
    data: dict[str, Any] = {
        "title": f"{config.choices.get('algo', 'agent')} on {config.choices.get('env', 'env')}",
        "conclusion": "Nothing can be said.",
        "notes": list(plan.get("notes", ())),
    }
    if tests.seeds:
        data |= _findings(config, plan, tests, replicas)
    if failed:
        which = f"seed{'s' * (len(failed) > 1)} {', '.join(map(str, failed))}"
        data["conclusion"] += f" Left out, for failing in a fold: {which}."
    pictures = draw_folds(plan, run.folds) and bool(tests.seeds) and draw_equity(tests, data, run.equity)
    document = page(run, plan, data, bool(pictures))
    run.write_report(document.markdown(), document.html(), data)
    return data


def _findings(
    config: Any, plan: Mapping[str, Any], tests: Tests, replicas: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    scores, first, level = tests.scores, tests.baselines[0], config.eval.stats.level
    baselines = {
        name: np.array([tests.baseline(name, k).score for k in tests.folds]) for name in tests.baselines
    }
    compared = stats.paired(scores, baselines[first], level=level, n_boot=config.eval.stats.n_boot)
    folds = _folds(config, plan, tests, compared.per_fold, replicas)
    total: dict[str, Any] = {
        "agent": float(scores.mean(1).sum()),
        "baselines": {name: float(values.sum()) for name, values in baselines.items()},
    }
    oracle = total["baselines"].get("oracle", 0.0)
    ruins = [(fold["fold"], one["seed"], one["time"]) for fold in folds for one in fold["ruined"]]
    return {
        "baseline": first,
        "level": level,
        "seeds": tests.seeds,
        "unit": _unit(config),
        "folds": folds,
        "total": total,
        "paired": compared.to_json(),
        "components": stats.components(scores),
        "years": _years(tests),
        "measures": _measures(config, tests),
        **({"share_of_oracle": total["agent"] / oracle} if oracle > 0 else {}),
        **_costs(config, tests),
        "conclusion": _ruin_words(ruins, scores.size) + _conclusion(compared, first, level, len(tests.seeds)),
    }


def _folds(
    config: Any,
    plan: Mapping[str, Any],
    tests: Tests,
    differences: Sequence[float],
    replicas: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """A row for each fold."""
    validated = {(row["fold"], row["seed"]): row.get("val_score") for row in replicas}
    folds = []
    for k, laid, scores, difference in zip(
        tests.folds, plan["folds"], tests.scores, differences, strict=True
    ):
        val = [validated.get((k, seed)) for seed in tests.seeds]
        agents = {seed: tests.agent(k, seed) for seed in tests.seeds}
        others = {name: tests.baseline(name, k) for name in tests.baselines}
        folds.append(
            {
                "fold": k,
                "dates": laid["dates"],
                "steps": len(agents[tests.seeds[0]].time),
                "passes": None if plan.get("episodes") else _passes(config, laid["fit"]),
                "validation": None if None in val else float(np.mean([v for v in val if v is not None])),
                "agent": float(scores.mean()),
                "agent_std": float(scores.std(ddof=1)) if len(scores) > 1 else None,
                "baselines": {name: one.score for name, one in others.items()},
                "difference": difference,
                "ruined": [
                    {"seed": seed, "time": str(label(one.ruin))}
                    for seed, one in agents.items()
                    if one.ruin is not None
                ],
                "ruined_baselines": {
                    name: str(label(one.ruin)) for name, one in others.items() if one.ruin is not None
                },
            }
        )
    return folds


def _passes(config: Any, fit: Sequence[int]) -> float:
    """How often a replica goes through its fit rows."""
    return float(config.total_steps / (fit[1] - fit[0]))


def _unit(config: Any) -> str:
    """What scores are counted in."""
    account = getattr(config.env, "account", None)
    return {"share": "log growth", "fixed": "money per unit"}.get(str(account), "score")


def _years(tests: Tests) -> dict[str, dict[str, float]]:
    policies = {"agent": np.mean([whole["score"] for whole in tests.each_seed()], 0)}
    policies |= {name: tests.whole(name)["score"] for name in tests.baselines}
    found = {name: measures.by_year(score, tests.time) for name, score in policies.items()}
    return {year: {name: found[name][year] for name in found} for year in found["agent"]}


def _measures(config: Any, tests: Tests) -> dict[str, dict[str, float | None]]:
    """Of the agent the mean over seeds, None where one has none."""
    periods = getattr(config.env, "periods_per_year", None)
    share = getattr(config.env, "account", None) == "share"

    def of(whole: Mapping[str, np.ndarray]) -> dict[str, Any]:
        score = whole["score"]
        found = {"sharpe": measures.sharpe(score), "drawdown": measures.drawdown(score, share)}
        if periods:
            found |= {"sharpe_year": measures.sharpe(score, periods)}
        return found | measures.activity(whole, periods)

    each = [of(whole) for whole in tests.each_seed()]
    mean = {
        name: None if any(one[name] is None for one in each) else float(np.mean([one[name] for one in each]))
        for name in each[0]
    }
    return {"agent": mean} | {name: of(tests.whole(name)) for name in tests.baselines}


def _costs(config: Any, tests: Tests) -> dict[str, Any]:
    """What was paid, and the total score at other costs, of an account that tells; means over seeds."""
    wholes = tests.each_seed()
    if "cost" not in wholes[0]:
        return {}
    paid = float(np.mean([whole["cost"].sum() for whole in wholes]))
    if not {"gross", "pnl", "equity"} <= wholes[0].keys() or not hasattr(config.env, "account"):
        return {"cost": paid}
    share, unit = config.env.account == "share", getattr(config.env, "unit", 1.0)
    each = [measures.at_costs(whole, share, unit) for whole in wholes]
    mean = {times: float(np.mean([one[times] for one in each])) for times in each[0]}
    return {"cost": paid, "at_costs": mean}


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
