"""Soft actor-critic: Haarnoja et al., "Soft actor-critic algorithms and applications" (2018).

A squashed Gaussian policy whose deviation depends on the state, two critics of which the
more pessimistic one counts, and a temperature that is learned, so that the policy keeps a
given entropy. Targets may be n-step returns; the entropy of the steps in between is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rlrun import nn
from rlrun.algos.actor_critic import ActorCritic, ActorCriticConfig, Trace, min_q
from rlrun.config import key
from rlrun.core import Mode, Rollout, Spec
from rlrun.lazy import torch
from rlrun.parts.distributions import Bounds, SquashedGaussian
from rlrun.parts.numbers import number
from rlrun.parts.replay import Draw
from rlrun.parts.sequences import masked_mean
from rlrun.registry import register
from rlrun.rng import Stream
from rlrun.spaces import Box

if TYPE_CHECKING:
    from torch import Tensor

LOG_STD = (-5.0, 2.0)  # the network's output is squashed into this range


@dataclass
class SACConfig(ActorCriticConfig):
    alpha: float = key(
        "temperature at the start: what a nat of entropy is worth in reward", above=0, per_replica=True
    )
    alpha_learning_rate: float = key(
        "Adam's step size for log alpha at the start; 0 keeps alpha", min=0, per_replica=True
    )
    target_entropy: float | None = key(
        "entropy to keep, in nats; null: minus the action dimensions", per_replica=True
    )


@register("algo", "sac", SACConfig)
class SAC(ActorCritic):
    """Learn a stochastic policy off-policy, for reward and entropy (Haarnoja et al. 2018)."""

    stochastic = True
    recordable = True
    saved: ClassVar = ActorCritic.saved | {"temperature": "weights", "alpha_optim": "optimizer"}

    def __init__(self, spec: Spec, config: SACConfig, model: Any) -> None:
        super().__init__(spec, config, model, outputs=2, critics=2)
        size = self.action.size
        self.square = Bounds(Box((size,), (-1.0,) * size, (1.0,) * size), spec.dtype, spec.device)
        kinds: dict[str, Any] = {"device": spec.device, "dtype": getattr(torch, spec.dtype)}
        log_alpha = torch.zeros(spec.replicas, 1, **kinds) + number(np.log(config.alpha), spec, 2)
        self.temperature = torch.nn.ParameterDict({"log_alpha": log_alpha})
        self.alpha_optim = nn.Adam(self.temperature, eps=config.adam_eps)
        self.alpha_rate = config.rate(config.alpha_learning_rate, spec.total_steps)
        entropy = config.target_entropy
        self.target_entropy = -float(size) if entropy is None else number(entropy, spec)

    def choose(self, out: Tensor, mode: Mode, rng: Stream) -> Tensor:
        policy = self.policy(out)
        return policy.mode() if mode == "greedy" else policy.sample(rng)

    def policy(self, out: Tensor) -> SquashedGaussian:
        """The policy of the actor's outputs [..., 2 A], over actions in [-1, 1]."""
        mean, width = out.chunk(2, -1)
        low, high = LOG_STD
        return SquashedGaussian(mean, low + 0.5 * (high - low) * (width.tanh() + 1.0), self.square)

    def learn(self, batch: Draw | Rollout, step: np.ndarray) -> dict[str, Tensor]:
        rates = self.actor_rate(step), self.critic_rate(step), self.alpha_rate(step)
        metrics = self.train_step(batch, *rates)
        self.sync.updated()
        return metrics

    def gradient_step(
        self, batch: Draw | Rollout, actor_rate: Tensor, critic_rate: Tensor, alpha_rate: Tensor
    ) -> dict[str, Tensor]:
        """All losses are taken at the same weights, so that each network reads the sequences once."""
        batch = self.replay.at(batch)
        learned = self.learned(batch)
        actor, critics = self.trace(self.actor, batch, learned), self.judge(batch, learned)
        critic_loss, q = self.critic_loss(critics, self.target(batch, learned, actor), learned)
        critic_loss = critic_loss + self.penalty(actor, critics, learned)
        actor_loss, entropy = self.actor_loss(actor, critics, learned)
        self.actor_optim.step(actor_loss, actor_rate)
        grad_norm = self.critic_optim.step(critic_loss, critic_rate)
        self.alpha_optim.step(self.alpha_loss(entropy), alpha_rate)
        return {
            "loss/critic": critic_loss.detach(),
            "loss/actor": actor_loss.detach(),
            "train/q": q,
            "train/entropy": entropy,
            "train/alpha": self.alpha.detach(),
            "train/grad_norm": grad_norm,
        }

    @property
    def alpha(self) -> Tensor:
        """The temperature, [R]."""
        return self.temperature["log_alpha"].squeeze(1).exp()

    def target(self, batch: Rollout, learned: Rollout, actor: Trace) -> Tensor:
        """Soft n-step targets [R, S, B]: beyond the window, the value of acting by today's policy."""
        total, discount, next_obs, last = self.returns(batch)
        with torch.no_grad():
            action, log_prob = self.policy(actor.beyond(next_obs, last)).rsample(self.noise)
            q = self.judge_ahead(batch, learned, next_obs, last, action)
            return total + discount * (q - self.alpha.view(-1, 1, 1) * log_prob)

    def penalty(self, actor: Trace, critics: list[Trace], learned: Rollout) -> Tensor | float:
        """What a variant adds to the critics' loss, [R]."""
        return 0.0

    def actor_loss(self, actor: Trace, critics: list[Trace], learned: Rollout) -> tuple[Tensor, Tensor]:
        """What the policy minimises, alpha log_prob - q, [R]; and its entropy, [R], detached."""
        action, log_prob = self.policy(actor.out).rsample(self.noise)
        q = min_q([critic.instead(learned, action) for critic in critics])
        loss = self.alpha.detach().view(-1, 1, 1) * log_prob - q
        return masked_mean(loss, learned.valid), -masked_mean(log_prob.detach(), learned.valid)

    def alpha_loss(self, entropy: Tensor) -> Tensor:
        """Its slope raises alpha where the entropy [R] is below its target, and lowers it above."""
        return self.temperature["log_alpha"].squeeze(1) * (entropy - self.target_entropy)
