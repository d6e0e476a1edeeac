"""Dyna: learning, and planning with a learned model (Sutton, "Integrated architectures for
learning, planning, and reacting based on approximating dynamic programming", 1990; Sutton
and Barto, "Reinforcement Learning", 2018, sections 8.2 and 8.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rlrun.algos.td import TD, TDConfig
from rlrun.config import key
from rlrun.core import Rollout, Spec
from rlrun.lazy import torch
from rlrun.parts.numbers import column
from rlrun.registry import register
from rlrun.rng import Stream

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class DynaQConfig(TDConfig):
    planning_steps: int = key("remembered steps that are learned from again after each real one", min=0)
    kappa: float = key(
        "Dyna-Q+: bonus in planning, times the root of the steps since an action's last try",
        min=0,
        per_replica=True,
    )


@register("algo", "dyna_q", DynaQConfig)
class DynaQ(TD):
    """TD learning that also learns from remembered steps: the last from each state and action.

    A remembered step is of a state that was visited and, in it, an action that was tried, each
    equally likely. With a bonus (Dyna-Q+) it may be any action of such a state, one that was
    never tried being thought to stay there for nothing, and each earns
    kappa * sqrt(steps since it was last tried): what may have changed is worth a try.
    """

    saved: ClassVar = {
        **TD.saved,
        "model_next": "replay",
        "model_reward": "replay",
        "model_end": "replay",
        "tried": "replay",
        "legal": "replay",
        "plans": "random",
    }

    def __init__(self, spec: Spec, config: DynaQConfig, model: Any) -> None:
        super().__init__(spec, config, model)
        self.planning_steps, self.kappa = config.planning_steps, column(config.kappa, 3)
        self.gamma, self.explores = column(config.gamma, 2), bool(np.any(self.kappa))
        shape = (spec.replicas, self.states, self.actions)
        self.model_next = torch.arange(self.states)[:, None].expand(shape).contiguous()
        self.model_reward = torch.zeros(shape, dtype=self.table.dtype)
        self.model_end = torch.zeros(shape, dtype=torch.bool)
        self.tried = torch.full(shape, -1, dtype=torch.int64)  # the step of the last try; -1: never
        self.plans = Stream(spec.seeds, "planning")
        # The actions that each state was last seen to allow, where that is said.
        self.legal = torch.ones(shape, dtype=torch.bool)
        self._replica = np.arange(spec.replicas)[:, None]

    def update(self, rollout: Rollout, *, step: np.ndarray) -> dict[str, Tensor]:
        """`loss/td` is that of the real steps."""
        metrics = super().update(rollout, step=step)
        self.remember(rollout, step)
        self.plan(rollout.valid[:, 0].cpu().numpy(), step)
        return metrics

    def remember(self, rollout: Rollout, step: np.ndarray) -> None:
        """Replace what is known of the pairs that were just tried."""
        replica, _, env = np.nonzero(rollout.valid.cpu().numpy())

        def taken(name: str) -> np.ndarray:
            return getattr(rollout, name).cpu().numpy()[replica, 0, env]

        index = replica, taken("obs"), taken("action")
        self.model_next.numpy()[index] = taken("next_obs")
        self.model_reward.numpy()[index] = taken("reward")
        self.model_end.numpy()[index] = taken("terminated")
        self.tried.numpy()[index] = step[replica]
        if rollout.mask is not None:
            legal = self.legal.numpy()
            legal[replica, taken("obs")] = taken("mask")
            ends = taken("terminated")  # where nothing is to be chosen
            legal[replica[~ends], taken("next_obs")[~ends]] = taken("next_mask")[~ends]

    def plan(self, valid: np.ndarray, step: np.ndarray) -> None:
        """`planning_steps` updates from the model, one after the other, for every valid env."""
        state, action = self.imagine(valid.shape[1])  # [R, k, N]
        index = self._replica[..., None], state, action
        pair, end, after = state * self.actions + action, self.model_end.numpy(), self.model_next.numpy()
        reward = self.model_reward.numpy()[index]
        if self.explores:
            idle = step[:, None, None] - np.maximum(self.tried.numpy()[index], 0)
            reward = reward + self.kappa * np.sqrt(idle)
        end, after, learner = end[index], after[index], self.toss(*state.shape[1:])
        for i in range(self.planning_steps):
            may = self.legal.numpy()[self._replica, after[:, i]] if self.spec.masks else True  # [R, N, A]
            value = np.where(end[:, i], 0.0, self.value(after[:, i], learner[:, i], step, may))
            target = reward[:, i] + self.gamma * value
            self.correct(pair[:, i], target, learner[:, i], valid, step)

    def imagine(self, num_envs: int) -> tuple[np.ndarray, np.ndarray]:
        """States and actions [R, planning_steps, N] to learn from again."""
        u = self.plans.numbers(self.planning_steps, num_envs, 2)
        tried = self.tried.numpy() >= 0  # [R, S, A]
        state = _pick(np.expand_dims(tried.any(-1), (1, 2)), u[..., 0])
        candidates = tried[self._replica[..., None], state]  # [R, k, N, A]
        untried = np.greater(self.kappa, 0)[..., None] & self.legal.numpy()[self._replica[..., None], state]
        return state, _pick(candidates | untried, u[..., 1])


def _pick(mask: np.ndarray, u: np.ndarray) -> np.ndarray:
    """The index [...] of one of the true entries of mask [..., X], each equally likely, by u [...]."""
    rank = mask.cumsum(-1)
    return (rank > u[..., None] * rank[..., -1:]).argmax(-1)
