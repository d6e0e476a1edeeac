"""Soft actor-critic: Haarnoja et al., "Soft actor-critic algorithms and applications" (2018).

A squashed Gaussian policy whose deviation depends on the state, two critics of which the
more pessimistic one counts, and a temperature that is learned, so that the policy keeps a
given entropy. Targets may be n-step returns; the entropy of the steps in between is left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rlrun.algos._offpolicy import TargetConfig, buffer_problems, cadence, cadence_conflicts
from rlrun.config import ConfigError, key
from rlrun.core import Act, Algorithm, Box, Memory, Mode, Rollout, Spec
from rlrun.distributions import Bounds, SquashedGaussian
from rlrun.lazy import nn, torch
from rlrun.registry import register
from rlrun.returns import n_step
from rlrun.rng import Stream
from rlrun.schedules import schedule
from rlrun.sequences import masked_mean, take_steps
from rlrun.storage import Replay

if TYPE_CHECKING:
    from torch import Tensor

    from rlrun.config import RunConfig

LOG_STD = (-5.0, 2.0)  # the network's output is squashed into this range


@dataclass
class SACConfig:
    gamma: float = key("discount factor", min=0, max=1)
    actor_learning_rate: float = key("Adam's step size for the policy at the start", above=0)
    critic_learning_rate: float = key("Adam's step size for the critics at the start", above=0)
    alpha_learning_rate: float = key("Adam's step size for log alpha at the start; 0 keeps alpha", min=0)
    lr_schedule: str = key("how the learning rates fall to 0 over the run", choices=("linear", "constant"))
    adam_eps: float = key("Adam's epsilon", above=0)
    max_grad_norm: float | None = key("gradient clipping, per replica; null: none", above=0)
    clip: str = key("clip by the global norm, or each element by value", choices=("norm", "value"))
    alpha: float = key("temperature at the start: what a nat of entropy is worth in reward", above=0)
    target_entropy: float | None = key("entropy to keep, in nats; null: minus the action dimensions")
    n_step: int = key("steps of reward in a target", min=1)
    buffer_size: int = key("env steps kept for replay, per replica", min=1)
    batch_size: int = key("transitions in a minibatch", min=1)
    learning_starts: int = key("env steps before the first update, with actions drawn at random", min=0)
    train_every: int = key("env steps between updates", min=1)
    gradient_steps: int = key("gradient steps in an update", min=1)
    target: TargetConfig = key("the critics' target networks")

    def problems(self) -> list[str]:
        return buffer_problems(self.buffer_size, self.learning_starts, self.batch_size)

    def conflicts(self, run: RunConfig) -> list[str]:
        found = cadence_conflicts(self.train_every, run.num_envs)
        if hasattr(run.model, "hidden_size"):
            found.append(
                f"model={run.choices.get('model')} has memory, and algo=sac learns from single steps: "
                "use model=mlp"
            )
        return found


@register("algo", "sac", SACConfig)
class SAC(Algorithm):
    """Learn a stochastic policy off-policy, for reward and entropy (Haarnoja et al. 2018)."""

    action_kinds = ("box",)
    saved: ClassVar = {
        "actor": "weights",
        "critics": "weights",
        "targets": "weights",
        "temperature": "weights",
        "actor_optim": "optimizer",
        "critic_optim": "optimizer",
        "alpha_optim": "optimizer",
        "updates": "optimizer",
        "replay": "replay",
        "rng": "random",
        "noise": "random",
    }

    def __init__(self, spec: Spec, config: SACConfig, model: Any) -> None:
        assert isinstance(spec.action, Box)
        if not np.isfinite([*spec.action.low, *spec.action.high]).all():
            raise ConfigError(
                "algo=sac needs actions with finite bounds, and this env's have none",
                "env=gym can give it some: env.wrappers=[{RescaleAction: {min_action: -1, max_action: 1}}]",
            )
        self.spec, self.config, self.action = spec, config, spec.action
        self.rollout_steps, self.updates_per_rollout = cadence(config.train_every, spec.num_envs)
        size = spec.action.size
        # The policy and the critics live in [-1, 1], so that neither the entropy nor the
        # scale of inputs depends on the unit of the actions.
        self.bounds = Bounds(spec.action, spec.dtype, spec.device)
        self.unit = Bounds(Box((size,), (-1.0,) * size, (1.0,) * size), spec.dtype, spec.device)

        init = Stream(spec.seeds, "init")
        self.actor = nn.build_network(model, spec.obs, [nn.Head(size), nn.Head(size)], init, spec)
        self.critics, self.targets = torch.nn.ModuleList(), torch.nn.ModuleList()
        for _ in range(2):
            critic = nn.build_network(model, spec.obs, [nn.Head(1)], init, spec, extra_inputs=size)
            self.critics.append(critic)
            self.targets.append(critic.target())
        if self.actor.recurrent:
            raise ConfigError("algo=sac learns from single steps: the model must have no memory")
        kinds: dict[str, Any] = {"device": spec.device, "dtype": getattr(torch, spec.dtype)}
        log_alpha = torch.full((spec.replicas, 1), math.log(config.alpha), **kinds)
        self.temperature = torch.nn.ParameterDict({"log_alpha": log_alpha})
        self.target_entropy = -float(size) if config.target_entropy is None else config.target_entropy

        clipping: dict[str, Any] = {"max_grad_norm": config.max_grad_norm, "clip": config.clip}
        self.actor_optim = nn.Adam(self.actor, eps=config.adam_eps, **clipping)
        self.critic_optim = nn.Adam(self.critics, eps=config.adam_eps, **clipping)
        self.alpha_optim = nn.Adam(self.temperature, eps=config.adam_eps)
        self.target_flat = nn.flatten(self.targets)
        self.updates = torch.zeros(spec.replicas, dtype=torch.int64)  # the same number in every replica
        self.replay = Replay(config.buffer_size, spec.num_envs)
        self.rng = Stream(spec.seeds, "sample", spec.device)
        self.noise = Stream(spec.seeds, "noise", spec.device)
        self.actor_rate, self.critic_rate, self.alpha_rate = (
            schedule(config.lr_schedule, rate, 0.0, spec.total_steps)
            for rate in (config.actor_learning_rate, config.critic_learning_rate, config.alpha_learning_rate)
        )

    def act(
        self, obs: Tensor, memory: Memory, first: Tensor, *, step: np.ndarray, mode: Mode, rng: Stream
    ) -> Act:
        policy = self.policy(self.actor.step(obs, (), first)[0])
        action = policy.mode() if mode == "greedy" else policy.sample(rng)  # [R, N, A]
        if mode == "explore":
            uniform = 2.0 * rng.uniform(*action.shape[1:]).to(action.dtype) - 1.0
            early = torch.from_numpy(step < self.config.learning_starts).to(action.device)
            action = torch.where(early.view(-1, 1, 1), uniform, action)
        return Act(self.bounds.apply(action).view(*obs.shape[:2], *self.action.shape))

    def policy(self, out: Tensor) -> SquashedGaussian:
        """The policy of the actor's outputs [..., 2 A], over actions in [-1, 1]."""
        mean, width = out.chunk(2, -1)
        low, high = LOG_STD
        return SquashedGaussian(mean, low + 0.5 * (high - low) * (width.tanh() + 1.0), self.unit)

    def update(self, rollout: Rollout | None, *, step: np.ndarray) -> dict[str, Tensor]:
        assert rollout is not None
        for network in (self.actor, *self.critics):
            network.observe(rollout.obs, rollout.valid)
        self.replay.add(rollout)
        config = self.config
        if len(self.replay) < max(config.learning_starts, 1) or self.replay.size < config.n_step:
            return {}
        rates = self.actor_rate(step), self.critic_rate(step), self.alpha_rate(step)
        for _ in range(config.gradient_steps * self.updates_per_rollout):
            batch = self.replay.sample(config.batch_size, config.n_step, self.rng)
            metrics = self.learn(batch, *rates)
        return metrics

    def learn(
        self, batch: Rollout, actor_rate: np.ndarray, critic_rate: np.ndarray, alpha_rate: np.ndarray
    ) -> dict[str, Tensor]:
        """One gradient step of everything, on windows of n steps [R, n, B, ...]."""
        learned = batch.steps(0, 1)
        critic_loss, q = self.critic_loss(batch, learned)
        grad_norm = self.critic_optim.step(critic_loss, critic_rate)
        actor_loss, entropy = self.actor_loss(learned)
        self.actor_optim.step(actor_loss, actor_rate)
        self.alpha_optim.step(self.alpha_loss(entropy), alpha_rate)
        self.sync_targets()
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

    def critic_loss(self, batch: Rollout, learned: Rollout) -> tuple[Tensor, Tensor]:
        """Mean squared error of both critics, [R], and the mean action value, [R]."""
        target = self.target(batch)
        action = self.bounds.invert(learned.action.reshape(*learned.reward.shape, -1))
        q = torch.stack([critic(learned.obs, (), learned.first, extra=action)[0] for critic in self.critics])
        error = (q.squeeze(-1) - target).square().sum(0)  # [R, 1, B]
        return masked_mean(error, learned.valid), masked_mean(q.detach().mean(0).squeeze(-1), learned.valid)

    def target(self, batch: Rollout) -> Tensor:
        """Soft n-step targets [R, 1, B]: beyond the window, the value of acting by today's policy."""
        total, discount, last = n_step(
            batch.reward, batch.terminated, batch.truncated, self.config.gamma, self.config.n_step, starts=1
        )
        next_obs, first = take_steps(batch.next_obs, last), batch.first[:, :1]
        with torch.no_grad():
            action, log_prob = self.policy(self.actor(next_obs, (), first)[0]).rsample(self.noise)
            q = self.pessimistic(self.targets, next_obs, first, action)
            return total + discount * (q - self.alpha.view(-1, 1, 1) * log_prob)

    def actor_loss(self, learned: Rollout) -> tuple[Tensor, Tensor]:
        """What the policy minimises, alpha log_prob - q, [R]; and its entropy, [R], detached."""
        action, log_prob = self.policy(self.actor(learned.obs, (), learned.first)[0]).rsample(self.noise)
        q = self.pessimistic(self.critics, learned.obs, learned.first, action)
        loss = self.alpha.detach().view(-1, 1, 1) * log_prob - q
        return masked_mean(loss, learned.valid), -masked_mean(log_prob.detach(), learned.valid)

    def alpha_loss(self, entropy: Tensor) -> Tensor:
        """Its slope raises alpha where the entropy [R] is below its target, and lowers it above."""
        return self.temperature["log_alpha"].squeeze(1) * (entropy - self.target_entropy)

    def pessimistic(self, critics: Any, obs: Tensor, first: Tensor, action: Tensor) -> Tensor:
        """The lesser of two critics' values, for obs and unit actions [R, 1, B, ...]: [R, 1, B]."""
        one, two = (critic(obs, (), first, extra=action)[0].squeeze(-1) for critic in critics)
        return torch.minimum(one, two)

    def sync_targets(self) -> None:
        self.updates += 1
        if int(self.updates[-1]) % self.config.target.every == 0:
            self.target_flat.lerp_(self.critic_optim.flat, self.config.target.tau)
