"""The peers' side of compare.py: trains and prints env steps per CPU second as JSON.

Runs in the peers' own virtual environment: `peer_sb3.py WORK STEPS WARM`. Settings are those
of compare.py. Differences that remain are the peers' own: RecurrentPPO pads sequences that
an episode's end cuts, and samples minibatches of steps, not of whole sequences.
"""

from __future__ import annotations

import json
import sys
import time

import gymnasium as gym
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env


class Clock(BaseCallback):
    """CPU time when `warm` steps are done, and at the last step."""

    def __init__(self, warm: int) -> None:
        super().__init__()
        self.warm, self.first, self.last = warm, None, None

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.warm:
            self.last = (self.num_timesteps, time.process_time())
            self.first = self.first or self.last
        return True


def masked() -> gym.Env:
    """CartPole without its velocities."""
    env = gym.make("CartPole-v1")
    space = gym.spaces.Box(env.observation_space.low[::2], env.observation_space.high[::2])
    return gym.wrappers.TransformObservation(env, lambda obs: obs[::2], space)


def model(work: str) -> object:
    on_policy = {
        "n_steps": 128, "batch_size": 256, "n_epochs": 4, "learning_rate": 1e-3, "ent_coef": 0.0,
        "vf_coef": 0.5, "max_grad_norm": 0.5, "clip_range": 0.2, "seed": 1, "device": "cpu",
    }  # fmt: skip
    if work == "ppo":
        envs = make_vec_env("CartPole-v1", 8, seed=1)
        return PPO(
            "MlpPolicy", envs, gamma=0.98, gae_lambda=0.9, **on_policy
        )  # its default: tanh, 64-64, separate
    if work == "lstm_ppo":
        one_lstm = {
            "lstm_hidden_size": 64, "shared_lstm": True, "enable_critic_lstm": False, "net_arch": [],
        }  # fmt: skip
        envs = make_vec_env(masked, 8, seed=1)
        return RecurrentPPO(
            "MlpLstmPolicy", envs, gamma=0.99, gae_lambda=0.95, policy_kwargs=one_lstm, **on_policy
        )
    return DQN(
        "MlpPolicy", "CartPole-v1", learning_rate=1e-3, buffer_size=50_000, learning_starts=1000,
        batch_size=128, gamma=0.99, train_freq=4, gradient_steps=1, target_update_interval=500,
        exploration_fraction=0.2, exploration_final_eps=0.01, max_grad_norm=10,
        policy_kwargs={"net_arch": [64, 64]}, seed=1, device="cpu",
    )  # fmt: skip


def main() -> None:
    work, steps, warm = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    clock = Clock(warm)
    model(work).learn(steps, callback=clock)
    (first, begin), (last, end) = clock.first, clock.last
    print(json.dumps({"steps_per_second": (last - first) / (end - begin)}))


if __name__ == "__main__":
    main()
