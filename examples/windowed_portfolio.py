"""A portfolio of two assets, written to the contract of rlrun.envs.windowed, and judged walk-forward.

python examples/windowed_portfolio.py
"""

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

import rlrun
from rlrun.envs.windowed import DataSpec, Rows
from rlrun.testing import check_env

PAST, COST = 5, 0.001
CHOICES = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])  # cash, one, the other, both


class Portfolio(gymnasium.Env):
    """A decision after row t sets the weights at row t + 1, which earn from there on."""

    observation_space = Box(-np.inf, np.inf, (2 * PAST + 2,), np.float32)
    recorded = ("pnl", "equity")

    def __init__(self, prices, discrete=True):
        self.rows, self.discrete = Rows(prices), discrete  # [rows, 2]
        self.action_space = Discrete(len(CHOICES)) if discrete else Box(0.0, 1.0, (2,), np.float32)
        self.baselines = {"half_and_half": lambda env, obs: 3 if discrete else np.full(2, 0.5, np.float32)}
        self.noop = 0 if discrete else np.zeros(2, np.float32)
        days = np.datetime64("2015-01-01", "ns") + np.arange(len(prices)) * np.timedelta64(1, "D")
        self.data_spec = DataSpec(days, lookback=PAST, periods_per_year=365)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        options = options or {"window": (PAST, len(self.rows))}
        self.row = self.rows.open(**options, lookback=PAST)
        self.weights, self.equity = np.zeros(2), 1.0
        return self.seen(), {}

    def seen(self):
        returns = 100 * np.diff(np.log(self.rows.last(PAST + 1, self.row)), axis=0)
        return np.concatenate([returns.ravel(), self.weights]).astype(np.float32)

    def step(self, action):
        acts = self.row >= self.rows.start  # else it is only shown the rows before its window
        self.row += 1
        growth = self.rows[self.row] / self.rows[self.row - 1]
        before = self.equity
        self.equity *= 1 + self.weights @ (growth - 1)
        if acts:
            wanted = CHOICES[action] if self.discrete else np.asarray(action, float) / max(np.sum(action), 1)
            self.equity *= 1 - COST * np.abs(wanted - self.weights).sum()
            self.weights = wanted
        score = float(np.log(self.equity / before))
        info = {"score": score, "pnl": self.equity - before, "equity": self.equity}
        return self.seen(), score, False, self.row == self.rows.end - 1, info


def prices(days=900, seed=0):
    """One asset goes on as it did yesterday, the other does not."""
    rng = np.random.default_rng(seed)
    steps = 0.01 * rng.normal(size=(days, 2))
    for t in range(1, days):
        steps[t, 0] += 0.4 * steps[t - 1, 0]
    return 100 * np.exp(steps.cumsum(0))


gymnasium.register("Portfolio-v0", lambda: Portfolio(prices()))
gymnasium.register("PortfolioBox-v0", lambda: Portfolio(prices(), discrete=False))

if __name__ == "__main__":
    check_env(Portfolio, windowed=True, table=prices())
    words = ["env=gym", "eval=walk_forward", "eval.n_folds=3", "replicas=3", "total_steps=4000"]
    rlrun.run(["algo=dqn", "env.id=Portfolio-v0", "env.reward.scale=100", *words])
    rlrun.run(["algo=lstm_ppo", "env.id=PortfolioBox-v0", "env.reward.scale=100", *words])
