"""REINFORCE: Williams, "Simple statistical gradient-following algorithms for connectionist
reinforcement learning" (1992). Whole episodes, Monte Carlo returns and nothing else, except
a baseline: none, the mean of the update's returns, or a learned value of the observation
(Sutton and Barto 2018, 13.4). With memory it is the recurrent policy gradient of Wierstra
et al. (2007): backpropagation through whole episodes.

A step's gradient is weighted by its return to go, without the factor gamma^t that the
discounted objective would ask for: as nearly everywhere, gamma only reduces variance. An
episode that the clock cut short counts as if nothing came after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rlrun import nn
from rlrun.config import key
from rlrun.core import Act, Algorithm, Memory, Mode, Rollout, Spec
from rlrun.lazy import torch
from rlrun.parts.distributions import action_head
from rlrun.parts.gradient import GradientConfig
from rlrun.parts.numbers import number
from rlrun.parts.return_scale import AUTO, ReturnScale
from rlrun.parts.returns import discounted
from rlrun.parts.sequences import masked_mean
from rlrun.registry import register
from rlrun.rng import Stream

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class ReinforceConfig(GradientConfig):
    gamma: float = key("discount factor of the returns to go", min=0, max=1, per_replica=True)
    baseline: str = key(
        "what is subtracted from the returns: nothing, an update's mean, or a learned value",
        choices=("none", "mean", "value"),
    )
    normalize: bool = key("then divide them by the root of their mean square")
    normalize_returns: bool = key("divide rewards by the running deviation of the discounted return")
    ent_coef: float = key("weight of the entropy bonus", min=0, per_replica=True)
    log_std: float = key(
        "where a Gaussian policy's log deviation begins, in half widths of the bounds", per_replica=True
    )


@register("algo", "reinforce", ReinforceConfig)
class Reinforce(Algorithm):
    """Follow the gradient of the return; an update is one episode of each env."""

    whole_episodes = True
    family = "policy gradient"
    stochastic = True
    takes_memory = True
    takes_masks = True
    saved: ClassVar = {"nets": "weights", "optim": "optimizer", "return_scale": "own"}
    obs_kinds = ("box", "discrete", "multi_discrete")
    action_kinds = ("discrete", "multi_discrete", "box")

    def __init__(self, spec: Spec, config: ReinforceConfig, model: Any) -> None:
        self.config = config
        self.head = action_head(spec, config.log_std)
        self.gamma = number(config.gamma, spec, dtype="float64")
        self.ent_coef = number(config.ent_coef, spec)
        self.return_scale = ReturnScale(spec, config.gamma, AUTO if config.normalize_returns else 1.0)
        init = Stream(spec.seeds, "init")
        self.policy = nn.build_network(model, spec.obs, [nn.Head(self.head.size, 0.01)], init, spec)
        networks = {"policy": self.policy}
        if config.baseline == "value":
            norm = self.policy.norm
            networks["baseline"] = nn.build_network(model, spec.obs, [nn.Head(1, 1.0)], init, spec, norm=norm)
        self.nets = torch.nn.ModuleDict({**networks, "head": self.head.parameters})
        self.networks = tuple(networks.values())
        self.optim = config.adam(self.nets)
        self.learning_rate = config.rate(config.learning_rate, spec.total_steps)

    def schedules(self, step: np.ndarray) -> dict[str, np.ndarray]:
        return self.config.planned(self.learning_rate, step)

    def initial_memory(self, num_envs: int) -> Memory:
        return self.policy.initial_memory(num_envs)

    def act(
        self,
        obs: Tensor,
        memory: Memory,
        first: Tensor,
        *,
        step: np.ndarray,
        mode: Mode,
        rng: Stream,
        mask: Tensor | None = None,
    ) -> Act:
        out, after = self.policy.step(obs, memory, first)
        distribution = self.head.distribution(out, mask)
        raw = distribution.mode() if mode == "greedy" else distribution.sample(rng)
        action = self.head.action(raw)
        extras = {"raw": raw} if mode == "explore" and self.head.raw else {}
        return Act(action, self.policy.remember(after, action), extras)

    def update(self, rollout: Rollout, *, step: np.ndarray) -> dict[str, Tensor]:
        self.return_scale.take_in(rollout)
        loss, metrics = self.loss(rollout)
        grad_norm = self.optim.step(loss, self.learning_rate(step))
        self.policy.update_normalizer(rollout.obs, rollout.valid, nn.ENOUGH)  # the baseline's as well
        return metrics | {"train/grad_norm": grad_norm}

    def loss(self, rollout: Rollout) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of each replica [R], a mean over its valid steps, and detached metrics."""
        config, valid = self.config, rollout.valid
        scale = self.return_scale.scale
        returns = discounted(rollout.reward * scale, rollout.ended, self.gamma)  # [R, T, N]
        out, *values = (  # an episode's start clears the memory: it begins as zeros
            net(rollout.obs, net.initial_memory(valid.shape[2]), rollout.first, rollout.action)[0]
            for net in self.networks
        )
        distribution = self.head.distribution(out, rollout.mask)
        log_prob = distribution.log_prob(rollout.extras["raw"] if self.head.raw else rollout.action)
        entropy = masked_mean(distribution.entropy(), valid)
        weight, metrics, loss = returns, {}, -self.ent_coef * entropy
        for value in values:
            error = masked_mean((value[..., 0] - returns).square(), valid)
            weight = returns - value[..., 0].detach()
            loss = loss + error
            metrics["loss/value"] = error.detach() / scale.view(-1).square()  # in the task's own unit
        if config.baseline == "mean":
            weight = returns - masked_mean(returns, valid)[:, None, None]
        if config.normalize:  # returns that all equal their mean, or just one: 0
            weight = weight / (masked_mean(weight.square(), valid).sqrt() + 1e-8)[:, None, None]
        policy = masked_mean(-log_prob * weight, valid)
        metrics |= {"loss/policy": policy.detach(), "loss/entropy": entropy.detach()}
        return loss + policy, metrics
