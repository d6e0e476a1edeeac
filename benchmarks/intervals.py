"""Do the intervals of a walk-forward report keep their word?

    python benchmarks/intervals.py [experiments]

Simulated scores of K folds and S seeds, whose spread over folds is so many times that over seeds:
how often the interval for a new period holds the truth, and how often an agent as good as the
detectable effect is said to be better. Then agents that trade at random on noise, at no cost, by log
growth, against buying and holding: how often one of K x S is said to be better (nominal 2.5 %).
Last, folds that depend on the one before: coverage falls, which is why reports show it.
"""

from __future__ import annotations

import sys

import numpy as np

from rlrun.evals import stats

FOLDS, SEEDS, RATIOS = (3, 5, 10), (1, 5), (0.3, 1.0, 3.0)


def judged(agent: np.ndarray, baseline: np.ndarray | None = None) -> stats.Paired:
    return stats.paired(agent, np.zeros(len(agent)) if baseline is None else baseline, n_boot=200)


def said_better(found: stats.Paired) -> bool:
    return found.new_period is not None and found.new_period.low > 0


def scores(rng: np.random.Generator, k: int, s: int, ratio: float, effect: float = 0.0) -> np.ndarray:
    """Scores [K, S] with independent folds."""
    return effect + ratio * rng.normal(size=(k, 1)) + rng.normal(size=(k, s))


def coverage_and_power(k: int, s: int, ratio: float, experiments: int, seed: int = 0) -> tuple[float, float]:
    """How often 0 is inside where it is true, and how often the mean detectable effect is found."""
    rng = np.random.default_rng(seed)
    null = [judged(scores(rng, k, s, ratio)) for _ in range(experiments)]
    inside = [p.new_period is not None and p.new_period.low <= 0 <= p.new_period.high for p in null]
    effect = float(np.mean([p.detectable for p in null if p.detectable is not None]))
    found = [said_better(judged(scores(rng, k, s, ratio, effect))) for _ in range(experiments)]
    return float(np.mean(inside)), float(np.mean(found))


def noise_traders(k: int, s: int, experiments: int, rows: int = 250, seed: int = 0) -> float:
    """How often agents that are short, flat or long at random are better than holding, by log growth."""
    rng = np.random.default_rng(seed)
    better = 0
    for _ in range(experiments):
        returns = np.expm1(0.01 * rng.normal(size=(k, 1, rows)) - 0.00005)  # a price that goes nowhere
        positions = rng.integers(-1, 2, (k, s, rows))
        agent = np.log1p(positions * returns).sum(-1)
        better += said_better(judged(agent, np.log1p(returns[:, 0]).sum(-1)))
    return better / experiments


def dependent(correlation: float, k: int = 5, s: int = 5, experiments: int = 1000, seed: int = 0) -> float:
    """Coverage where each fold's effect is a share of the one before, and something new."""
    rng = np.random.default_rng(seed)
    inside = 0
    for _ in range(experiments):
        effects = [rng.normal()]
        for _ in range(k - 1):
            effects.append(correlation * effects[-1] + np.sqrt(1 - correlation**2) * rng.normal())
        found = judged(np.array(effects)[:, None] + 0.3 * rng.normal(size=(k, s))).new_period
        inside += found is not None and found.low <= 0 <= found.high
    return inside / experiments


def main(experiments: int) -> None:
    for k in FOLDS:
        for s in SEEDS:
            for ratio in RATIOS:
                inside, power = coverage_and_power(k, s, ratio, experiments)
                print(
                    f"{k} folds, {s} seeds, ratio {ratio}: coverage {inside:.3f}, power {power:.3f}",
                    flush=True,
                )
    for k in FOLDS:
        print(f"{k} folds x 5 noise traders: better in {noise_traders(k, 5, 400):.3f} of 400", flush=True)
    for correlation in (0.2, 0.4, 0.6):
        print(f"folds correlated by {correlation}: coverage {dependent(correlation):.3f}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
