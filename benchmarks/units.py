"""The same predictive column in three units: do agents see, and score, the same?

    python benchmarks/units.py

A noise price whose next return a column predicts (R^2 about 9 %), written to files as N(0, 1), in
megawatts (40,000 + 5,000 x) and divided by a million. Prints the share of observations that
differ in float32, and for each algorithm the largest difference of an out-of-sample score, as a
share of the standard deviation over seeds.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

import rlrun
from rlrun import envs
from rlrun.config.compose import compose

ROWS, SEEDS, FOLDS = 2000, 3, 3
UNITS = {"N(0, 1)": (0.0, 1.0), "MW": (40_000.0, 5_000.0), "/ 1e6": (0.0, 1e-6)}
ALGORITHMS = {
    "dqn": ["algo.learning_starts=200"],
    "lstm_dqn": ["algo.learning_starts=200"],
    "ppo": [],
    "lstm_ppo": [],
    "a2c": [],
    "sac": ["env.actions=continuous", "algo.learning_starts=200"],
}


def files(folder: Path, rows: int = ROWS, seed: int = 0) -> dict[str, Path]:
    """One file for each unit."""
    rng = np.random.default_rng(seed)
    x, noise = rng.normal(size=(2, rows))
    returns = 0.01 * (0.3 * np.roll(x, 2) + np.sqrt(1 - 0.09) * noise)  # known when it can be traded
    price = 100.0 * np.exp(returns.cumsum())
    out = {}
    for number, (unit, (mean, deviation)) in enumerate(UNITS.items()):
        out[unit] = folder / f"{number}.csv"
        lines = zip(range(rows), price.tolist(), (mean + deviation * x).tolist(), strict=True)
        out[unit].write_text("time,price,x\n" + "".join(f"{t},{p!r},{v!r}\n" for t, p, v in lines))
    return out


def words(path: Path, algo: str, out: Path, steps: int) -> list[str]:
    """A run on a file."""
    common = ["env=series", f"env.path={path}", "env.lookback=4", "eval=walk_forward", "num_envs=1"]
    shown = ["log.tensorboard=false", "log.plot=false", f"out={out}"]
    return [
        f"algo={algo}", *common, *shown, *ALGORITHMS[algo],
        f"eval.n_folds={FOLDS}", f"replicas={SEEDS}", f"total_steps={steps}",
    ]  # fmt: skip


def observations(path: Path) -> np.ndarray:
    """What is seen in a pass over the first fold's test rows, standardised by its fit rows: [T, F]."""
    config = compose(words(path, "ppo", path.parent, 1000))
    env = envs.make(config.env, 1)
    scaling = envs.abilities(env).scaling(np.array([[0, ROWS // 2]]))
    obs, _ = env.reset(seed=0, options={"window": [ROWS // 2, ROWS - 10], "scaling": scaling})
    seen, over = [obs], False
    while not over:
        obs, _, _, truncated, _ = env.step(np.array([1]))
        seen.append(obs)
        over = bool(truncated[0])
    return np.concatenate(seen)


def scores(path: Path, algo: str, steps: int) -> np.ndarray:
    """Out-of-sample scores [folds, seeds]."""
    with tempfile.TemporaryDirectory() as out:
        rows = rlrun.run(words(path, algo, Path(out), steps), quiet=True).summary["replicas"]
    return np.reshape([row["eval_return"] for row in rows], (FOLDS, SEEDS))


def main(steps: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = files(Path(folder))
        seen = {unit: observations(path) for unit, path in made.items()}
        first = seen.pop("N(0, 1)")
        for unit, other in seen.items():
            print(f"{unit}: {np.mean(first != other):.1e} of {first.size} observed values differ", flush=True)
        for algo in ALGORITHMS:
            found = {unit: scores(path, algo, steps) for unit, path in made.items()}
            one = found.pop("N(0, 1)")
            spread = one.std(1, ddof=1).mean()
            worst = max(np.abs(one - other).max() for other in found.values())
            print(f"{algo}: largest difference {worst:.2e}, {worst / spread:.1e} of the spread", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3000)
