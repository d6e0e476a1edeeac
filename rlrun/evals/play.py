"""Playing whole episodes with an agent, of which nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun import envs
from rlrun.collector import mode_of, reset
from rlrun.core import Algorithm, Mode
from rlrun.lazy import torch
from rlrun.rng import Stream, child, keys

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv


@dataclass(frozen=True)
class Scores:
    """What was played; every array is [R, episodes]."""

    returns: np.ndarray
    lengths: np.ndarray
    info: dict[str, np.ndarray]  # sums over the episode of the env's metrics

    def means(self, prefix: str) -> dict[str, np.ndarray]:
        """Mean return and length of each replica, [R], by tag."""
        return {f"{prefix}/return": self.returns.mean(1), f"{prefix}/length": self.lengths.mean(1)}


def run_episodes(
    algo: Algorithm,
    env: VectorEnv,
    seeds: tuple[int, ...],
    episodes: int,
    *,
    purpose: str,
    mode: Mode,
    step: np.ndarray,
    device: str = "cpu",
    dtype: str = "float32",
    options: Mapping[str, Any] | None = None,
    record: tuple[str, ...] = (),
) -> tuple[Scores, dict[str, np.ndarray]]:
    """Play `episodes` whole episodes for each replica; episode i of a seed is always the same.

    `purpose` names the seeds' family ("eval", "test"); the env has R * P sub-envs, and
    episodes are played P at a time. Returns the scores, and the info arrays named in
    `record` as [R, P, steps] of the last round.
    """
    replicas = len(seeds)
    parallel = env.num_envs // replicas
    lead = (replicas, parallel)
    obs_space, _ = envs.spaces(env)
    obs_type = getattr(torch, dtype if obs_space.dtype.startswith("float") else obs_space.dtype)
    names = tuple(getattr(env, "metrics", ()))
    base = keys(seeds, purpose)[:, None]
    returns, lengths = (np.zeros((replicas, episodes)) for _ in range(2))
    sums = {name: np.zeros((replicas, episodes)) for name in names}
    trace: dict[str, list[np.ndarray]] = {name: [] for name in record}
    everyone = np.ones(lead, bool)

    for begin in range(0, episodes, parallel):
        count = min(parallel, episodes - begin)
        # A stream per round: the length of one replica's episodes must not move another's draws.
        rng = Stream(seeds, f"{purpose}/act/{begin}", device)
        index = np.arange(begin, begin + parallel)[None]
        seed = child(base, index)
        obs = reset(env, seed, everyone, options or {})
        first, running = everyone, np.broadcast_to(np.arange(parallel) < count, lead)
        memory = algo.initial_memory(parallel)
        total, length = np.zeros(lead), np.zeros(lead, np.int64)
        info_total = {name: np.zeros(lead) for name in names}
        trace = {name: [] for name in record}
        with torch.no_grad():
            while running.any():
                act = algo.act(
                    torch.from_numpy(obs.reshape(*lead, *obs_space.shape)).to(device, obs_type),
                    memory,
                    torch.from_numpy(first).to(device),
                    step=step,
                    mode=mode,
                    rng=rng,
                )
                memory = act.memory
                action = act.action.cpu().numpy()
                obs, reward, terminated, truncated, info = env.step(action.reshape(-1, *action.shape[2:]))
                total += np.where(running, reward.reshape(lead), 0.0)
                length += running
                for name in names:
                    info_total[name] += np.where(running, np.asarray(info[name]).reshape(lead), 0.0)
                for name in record:
                    trace[name].append(np.where(running, np.asarray(info[name]).reshape(lead), np.nan))
                first = (terminated | truncated).reshape(lead)
                running = running & ~first
                if running.any() and first.any() and mode_of(env) == "Disabled":
                    obs = reset(env, seed, first, options or {})  # padding; not counted
        window = slice(begin, begin + count)
        returns[:, window], lengths[:, window] = total[:, :count], length[:, :count]
        for name in names:
            sums[name][:, window] = info_total[name][:, :count]
    return Scores(returns, lengths, sums), {name: np.stack(rows, -1) for name, rows in trace.items()}
