"""Deterministic policy gradients off-policy: DDPG and TD3, one algorithm with flags.

Lillicrap et al., "Continuous control with deep reinforcement learning" (DDPG, 2016), and
Fujimoto, van Hoof and Meger, "Addressing function approximation error in actor-critic
methods" (TD3, 2018), whose three additions can be had one by one: the lesser of two critics
(`twin`), noise on the target's action (`target_noise`), and a policy that moves less often
than its critics (`policy_delay`). Exploration is Gaussian noise, as in the latter, which
found correlated (Ornstein-Uhlenbeck) noise to be of no use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rlrun import nn
from rlrun.algos.actor_critic import ActorCritic, ActorCriticConfig, Trace
from rlrun.config import key
from rlrun.core import Mode, Rollout, Spec
from rlrun.lazy import torch
from rlrun.parts.numbers import number
from rlrun.parts.offpolicy import TargetSync
from rlrun.parts.replay import Draw
from rlrun.parts.sequences import masked_mean
from rlrun.registry import register
from rlrun.rng import Stream

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class TD3Config(ActorCriticConfig):
    exploration_noise: float = key(
        "deviation of the noise on actions, whose bounds are 2 apart", min=0, per_replica=True
    )
    twin: bool = key("two critics, the lesser of which makes targets; false: one")
    target_noise: float = key(
        "deviation of the noise on the target's action, in the same unit", min=0, per_replica=True
    )
    target_noise_clip: float = key("the most that noise may be", min=0, per_replica=True)
    policy_delay: int = key("critic updates between updates of the policy", min=1)


@register("algo", "td3", TD3Config)
class TD3(ActorCritic):
    """Learn a deterministic policy off-policy (Lillicrap et al. 2016; Fujimoto et al. 2018)."""

    recordable = True
    saved: ClassVar = ActorCritic.saved | {
        "target_actor": "weights",
        "actor_sync": "optimizer",
        "updates": "optimizer",
    }

    def __init__(self, spec: Spec, config: TD3Config, model: Any) -> None:
        super().__init__(spec, config, model, outputs=1, critics=2 if config.twin else 1)
        self.exploration_noise = number(config.exploration_noise, spec, 3)
        self.target_noise, self.noise_limit = (
            number(value, spec, 4) for value in (config.target_noise, config.target_noise_clip)
        )
        self.target_actor = self.actor.target()
        self.actor_sync = TargetSync(config.target, self.actor_optim.flat, nn.flatten(self.target_actor))
        self.updates = torch.zeros(spec.replicas, dtype=torch.int64)  # the same number in every replica

    def choose(self, out: Tensor, mode: Mode, rng: Stream) -> Tensor:
        action = out.tanh()
        if mode == "explore":
            action = action + self.exploration_noise * rng.normal(*action.shape[1:]).to(action.dtype)
        return action

    def update(self, rollout: Rollout, *, step: np.ndarray) -> dict[str, Tensor]:
        self.actor_sync.collected(rollout)
        return super().update(rollout, step=step)

    def learn(self, batch: Draw | Rollout, step: np.ndarray) -> dict[str, Tensor]:
        self.updates += 1
        both = int(self.updates[-1]) % self.config.policy_delay == 0
        metrics = self.train_step(batch, self.critic_rate(step), self.actor_rate(step) if both else None)
        self.sync.updated()
        self.actor_sync.updated()
        return metrics

    def gradient_step(
        self, batch: Draw | Rollout, critic_rate: Tensor, actor_rate: Tensor | None
    ) -> dict[str, Tensor]:
        """Of the critics, and where it is the policy's turn of both, at the same weights."""
        batch = self.replay.at(batch)
        learned = self.learned(batch)
        critics = self.judge(batch, learned)
        critic_loss, q = self.critic_loss(critics, self.target(batch, learned), learned)
        metrics = {"loss/critic": critic_loss.detach(), "train/q": q}
        if actor_rate is not None:
            actor_loss = self.actor_loss(self.trace(self.actor, batch, learned), critics[0], learned)
            self.actor_optim.step(actor_loss, actor_rate)
            metrics["loss/actor"] = actor_loss.detach()
        metrics["train/grad_norm"] = self.critic_optim.step(critic_loss, critic_rate)
        return metrics

    def target(self, batch: Rollout, learned: Rollout) -> Tensor:
        """n-step targets [R, S, B]: beyond the window, the value of about the target policy's action."""
        total, discount, next_obs, last = self.returns(batch)
        with torch.no_grad():
            actor = self.trace(self.target_actor, batch, learned, ahead=True)
            action = actor.beyond(next_obs, last).tanh()
            noise = self.target_noise * self.noise.normal(*action.shape[1:]).to(action.dtype)
            action = (action + noise.clamp(-self.noise_limit, self.noise_limit)).clamp(-1.0, 1.0)
            return total + discount * self.judge_ahead(batch, learned, next_obs, last, action)

    def actor_loss(self, actor: Trace, critic: Trace, learned: Rollout) -> Tensor:
        """What the policy minimises: minus the first critic's value of its actions, [R]."""
        return -masked_mean(critic.instead(learned, actor.out.tanh()).squeeze(-1), learned.valid)
