"""Cross-validate an env of your own in time: an ordinary Gymnasium env over a table, through the adapter.

    python examples/windowed_inventory.py

In a file of its own, shop.py, the command line does it too:
rlrun algo=dqn env=gym env.id=shop:Shop-v0 env.allow_import=true eval=walk_forward
"""

import gymnasium
import numpy as np

import rlrun
from rlrun.envs.windowed import sliced
from rlrun.testing import check_env

WEEK = 7


class Inventory(gymnasium.Env):
    """Each evening one orders up to 9 units for tomorrow; they cost, and so does what is not sold."""

    observation_space = gymnasium.spaces.Box(0, np.inf, (WEEK + 1,), np.float32)
    action_space = gymnasium.spaces.Discrete(10)

    def __init__(self, demand):  # of the days that this env plays, and of the week before
        self.demand = demand

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.day, self.stock = WEEK - 1, 0.0  # the first evening at which a week is known
        return self.seen(), {}

    def seen(self):
        last_week = self.demand[self.day - WEEK + 1 : self.day + 1]
        return np.array([*last_week, self.stock], np.float32)

    def step(self, action):
        self.day += 1
        there, wanted = self.stock + action, self.demand[self.day]
        sold = min(there, wanted)
        self.stock = there - sold
        profit = 3.0 * sold - 1.0 * action - 0.2 * self.stock
        data_end = self.day == len(self.demand) - 1  # as such envs do: the end of the data ends the episode
        return self.seen(), profit, data_end, False, {"stock": self.stock}


def order_last_week(env, obs):
    """What was sold on the same day of last week."""
    return int(np.clip(obs[0] - obs[-1], 0, 9))


def make(demand):
    """A windowed env over a table of demand [days]."""
    return sliced(
        demand,
        Inventory,
        index=np.datetime64("2022-01-03") + np.arange(len(demand)),
        lookback=WEEK - 1,
        noop=0,
        baselines={"order_last_week": order_last_week},
        recorded=["stock"],
    )


def demand(days=700, seed=0):
    """A week's rhythm and chance."""
    rhythm = np.array([2, 2, 3, 4, 6, 8, 1])[np.arange(days) % WEEK]
    return np.random.default_rng(seed).poisson(rhythm).astype(float)


gymnasium.register("Shop-v0", lambda: make(demand()))

if __name__ == "__main__":
    check_env(make, windowed=True, table=demand())  # bounds, ends, accounts, and nothing read ahead
    words = ["algo=dqn", "env=gym", "env.id=Shop-v0", "eval=walk_forward", "replicas=3", "total_steps=4000"]
    rlrun.run([*words, "eval.n_folds=3", "env.reward.scale=0.1"])
