"""Behaviour cloning: Pomerleau, "ALVINN: an autonomous land vehicle in a neural network" (1989).

Supervised learning of the logged actions: the network maximises their likelihood, under a
categorical distribution where actions are discrete (cross entropy), under a Gaussian with
a learned deviation where they are continuous. With a recurrent model it learns from
sequences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rlrun import nn
from rlrun.config import ConfigError, key
from rlrun.core import Act, Algorithm, Dataset, Memory, Mode, Rollout, Spec
from rlrun.lazy import torch
from rlrun.parts.distributions import Bounds, action_head
from rlrun.parts.gradient import GradientConfig
from rlrun.parts.sequences import masked_mean
from rlrun.registry import register
from rlrun.rng import Stream
from rlrun.spaces import Box

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class BCConfig(GradientConfig):
    batch_size: int = key("sequences in a minibatch", min=1)
    sequence_length: int = key("with memory: steps of a sequence that are learned from", min=1)
    burn_in: int = key("with memory: steps before them that only fill it", min=0)


@register("algo", "bc", BCConfig)
class BC(Algorithm):
    """Imitate logged actions (Pomerleau 1989); one minibatch of the data set an update."""

    rollout_steps = 0
    action_kinds = ("discrete", "multi_discrete", "box")
    needs = ("dataset",)
    family = "imitation"
    stochastic = True
    takes_memory = True
    takes_masks = True
    recordable = True
    saved: ClassVar = {"net": "weights", "head": "weights", "optim": "optimizer", "rng": "random"}

    def __init__(self, spec: Spec, config: BCConfig, model: Any) -> None:
        self.spec, self.config = spec, config
        self.actions = action_head(spec)
        self.head = self.actions.parameters
        self.bounds = Bounds(spec.action, spec.dtype, spec.device) if isinstance(spec.action, Box) else None
        heads = [nn.Head(self.actions.size, 0.01)]
        self.net = nn.build_network(model, spec.obs, heads, Stream(spec.seeds, "init"), spec)
        self.optim = config.adam([self.net, self.head])
        self.rng = Stream(spec.seeds, "sample", spec.device)
        self.learning_rate = config.rate(config.learning_rate, spec.total_steps)
        self.burn_in: int = config.burn_in if self.net.recurrent else 0
        self.length = self.burn_in + (config.sequence_length if self.net.recurrent else 1)
        self.train_step = nn.Recorded(self.gradient_step, when=nn.recordable(self, self.net))
        if spec.dataset is not None:
            self.read(spec.dataset)

    def read(self, data: Dataset) -> None:
        """Take the steps to learn from, [steps, ...]: one copy serves all replicas."""
        self.obs, self.taken, self.first = (
            torch.from_numpy(array).to(self.spec.device) for array in (data.obs, data.action, data.first)
        )
        self.mask = None  # of the logged steps; without it the policy may also want what is not allowed
        if data.mask is not None and self.spec.masks:
            self.mask = torch.from_numpy(data.mask).to(self.spec.device)
        if self.length > len(self.first):
            raise ConfigError(
                f"algo.burn_in + sequence_length is {self.length}: the data have {len(self.first)} steps",
                "lower them, or choose longer data",
            )

    def initial_memory(self, num_envs: int) -> Memory:
        return self.net.initial_memory(num_envs)

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
        out, memory = self.net.step(obs, memory, first)
        policy = self.actions.distribution(out, mask)
        action = self.actions.action(policy.mode() if mode == "greedy" else policy.sample(rng))
        return Act(action, self.net.remember(memory, action))

    def update(self, rollout: Rollout, *, step: np.ndarray) -> dict[str, Tensor]:
        """One gradient step on sequences drawn uniformly, [R, L, B, ...]."""
        start = self.rng.integers(len(self.first) - self.length + 1, 1, self.config.batch_size)
        loss, grad_norm = self.train_step(start, self.learning_rate(step))
        return {"loss/bc": loss, "train/grad_norm": grad_norm}

    def gradient_step(self, start: Tensor, learning_rate: Tensor) -> tuple[Tensor, Tensor]:
        """The loss and the norm of its gradient, [R], on sequences that start at [R, 1, B]."""
        time = torch.arange(self.length, device=start.device)
        index = start + time.view(1, -1, 1)
        obs, action, first = self.obs[index], self.taken[index], self.first[index]
        # Memory is as it was when acting only after a beginning, or roughly so after the burn-in.
        learned = (time.view(1, -1, 1) >= self.burn_in) | (first.cumsum(1) > 0)
        memory = self.net.initial_memory(start.shape[-1])
        memory = self.net.remember(memory, self.taken[(start[:, 0] - 1).clamp(min=0)])
        self.net.update_normalizer(obs, learned)
        out, _ = self.net(obs, memory, first, action)
        policy = self.actions.distribution(out, None if self.mask is None else self.mask[index])
        loss = -masked_mean(policy.log_prob(self.raw(action)), learned)
        return loss, self.optim.step(loss, learning_rate)

    def raw(self, action: Tensor) -> Tensor:
        """Logged actions [R, L, B, *shape] as the distribution has them."""
        return action if self.bounds is None else self.bounds.invert(action.reshape(*action.shape[:3], -1))
