"""An environment of your own: write it for Gymnasium, register it, check it, train on it.

    python examples/own_env.py

In a file of its own, my_env.py, the command line trains on it too:
rlrun algo=dqn env=gym env.id=my_env:Thermostat-v0 env.allow_import=true
"""

import gymnasium
import numpy as np

import rlrun
from rlrun.testing import check_env


class Thermostat(gymnasium.Env):
    """Heat or not, so that the room stays near 20 degrees; the weather does what it likes."""

    observation_space = gymnasium.spaces.Box(-50, 100, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.degrees = self.np_random.uniform(10, 30)
        return np.array([self.degrees], np.float32), {}

    def step(self, action):
        self.degrees += (2.0 if action else -1.0) + self.np_random.normal(0, 0.2)
        reward = -abs(self.degrees - 20) / 10
        return np.array([self.degrees], np.float32), reward, False, False, {}


gymnasium.register("Thermostat-v0", Thermostat, max_episode_steps=50)
check_env("Thermostat-v0")  # says which rule of CONTRIBUTING.md it breaks, if any
result = rlrun.run(["algo=dqn", "env=gym", "env.id=Thermostat-v0", "total_steps=5000"])
print("mean return:", result.summary["aggregate"]["mean"])
