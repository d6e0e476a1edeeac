"""The peers' side: Stable-Baselines3's defaults on every row, its scores into sb3.json.

    python benchmarks/held_out/sb3.py [WORDS]     # goes on where it stopped

Runs in the peers' own virtual environment (stable-baselines3, sb3-contrib, gymnasium's extras
box2d and mujoco, minigrid, minatar). `Algorithm("MlpPolicy", env)` and nothing more: one env, as
their quick start has it. Scores are means of 30 deterministic episodes of the final policy.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import sb3_contrib
import stable_baselines3 as sb3
import torch
from rows import ROWS, Row
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

SCORES = Path(__file__).with_name("sb3.json")
SEEDS, EPISODES = range(5), 30


class Recall(gym.Env):
    """A cue of +-1 in the first observation, and `delay` steps later the question what it was."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (3,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, delay: int) -> None:
        self.delay, self.t, self.cue = delay, 0, 1.0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.t, self.cue = 0, float(self.np_random.choice((-1.0, 1.0)))
        return self.look(), {}

    def look(self) -> np.ndarray:
        return np.array([self.cue * (self.t == 0), self.t == self.delay, 1.0], np.float32)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        ended = self.t == self.delay
        right = (action == 1) == (self.cue > 0)
        self.t += not ended
        return self.look(), (1.0 if right else -1.0) if ended else 0.0, ended, False, {}


def make(task: str) -> gym.Env:
    if task.startswith("T-maze"):
        return Recall(int(task.split()[1]))
    if task.endswith("masked"):
        env = gym.make(task.split()[0] + ("-v1"))
        keep = slice(0, None, 2) if task.startswith("CartPole") else slice(0, 2)
        space = gym.spaces.Box(env.observation_space.low[keep], env.observation_space.high[keep])
        return gym.wrappers.TransformObservation(env, lambda obs: obs[keep], space)
    if task.startswith("MiniGrid"):
        import minigrid  # noqa: F401

        env = gym.wrappers.FilterObservation(gym.make(task), ["image", "direction"])
        return gym.wrappers.FlattenObservation(env)
    if task.startswith("MinAtar"):
        from minatar.gym import register_envs

        register_envs()
        env = gym.make(task, max_episode_steps=1000)
        flat = gym.spaces.Box(0.0, 1.0, (int(np.prod(env.observation_space.shape)),))
        return gym.wrappers.TransformObservation(env, lambda obs: obs.reshape(-1).astype(np.float32), flat)
    if task.startswith("LunarLanderContinuous"):
        return gym.make("LunarLander-v3", continuous=True)
    return gym.make(task, **({"max_episode_steps": 200} if task.startswith("Cliff") else {}))


def score(row: Row, seed: int) -> float:
    kind = getattr(sb3, row.peer, None) or getattr(sb3_contrib, row.peer)
    policy = "MlpLstmPolicy" if row.peer == "RecurrentPPO" else "MlpPolicy"
    model = kind(policy, Monitor(make(row.task)), seed=seed, device="cpu")
    model.learn(row.steps)
    env = Monitor(make(row.task))
    env.reset(seed=10_000 + seed)
    return float(evaluate_policy(model, env, n_eval_episodes=EPISODES, deterministic=True)[0])


def main(words: list[str]) -> None:
    torch.set_num_threads(1)
    packages = ("stable-baselines3", "sb3-contrib", "gymnasium", "torch", "mujoco", "minigrid", "minatar")
    for seed in SEEDS:
        for row in ROWS:
            if not row.peer or not all(word in row.name for word in words):
                continue
            found = json.loads(SCORES.read_text()) if SCORES.exists() else {"versions": {}, "scores": {}}
            key = f"{row.name} {row.steps}"
            if str(seed) in found["scores"].get(key, {}):
                continue
            result = score(row, seed)
            found = json.loads(SCORES.read_text()) if SCORES.exists() else found
            found["versions"] = {name: version(name) for name in packages}
            found["scores"].setdefault(key, {})[str(seed)] = round(result, 4)
            SCORES.write_text(json.dumps(found, indent=1) + "\n")
            print(key, seed, result, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
