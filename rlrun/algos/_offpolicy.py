"""What algorithms that learn from a replay buffer share."""

from __future__ import annotations

from dataclasses import dataclass

from rlrun.config import key


@dataclass
class TargetConfig:
    tau: float = key("weight of the new parameters at each sync; 1 copies them", above=0, max=1)
    every: int = key("updates between syncs", min=1)


def cadence(train_every: int, num_envs: int) -> tuple[int, int]:
    """Rows of `num_envs` env steps to collect, and how often to update after them.

    One update per `train_every` env steps: several a row where a row is more than that.
    """
    return max(train_every // num_envs, 1), max(num_envs // train_every, 1)


def cadence_conflicts(train_every: int, num_envs: int) -> list[str]:
    """Why `train_every` and `num_envs` do not fit each other, if they do not."""
    if train_every % num_envs == 0 or num_envs % train_every == 0:
        return []
    return [f"algo.train_every is {train_every}: num_envs ({num_envs}) must divide it, or be a multiple"]


def buffer_problems(buffer_size: int, learning_starts: int, batch_size: int) -> list[str]:
    """Sizes that do not fit into the replay buffer."""
    return [
        f"{name} is {value}: it must be at most buffer_size ({buffer_size})"
        for name, value in (("learning_starts", learning_starts), ("batch_size", batch_size))
        if value > buffer_size
    ]
