"""Proximal policy optimisation: Schulman et al. (2017), with generalised advantage estimation
(Schulman et al. 2016) and the details that matter by Huang et al., "The 37 implementation
details of proximal policy optimization" (2022).

With a recurrent model, minibatches are made of chunks of the rollout, each replayed from
the memory that acting had at its start. One epoch of one minibatch is advantage actor-critic
(A2C, Mnih et al. 2016): the ratio is 1, clipping does nothing, and the gradient is that of
the log-probability times the advantage (Huang et al., "A2C is a special case of PPO", 2022).
With rollouts of one step and lambda 0 it is the one-step actor-critic of Sutton and Barto
(2018, 13.5), a batch of environments at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
from rlrun.parts.returns import gae
from rlrun.parts.sequences import explained_variance, successor
from rlrun.registry import register
from rlrun.rng import Stream

if TYPE_CHECKING:
    from torch import Tensor

    from rlrun.config.run import RunConfig


@dataclass
class PPOConfig(GradientConfig):
    gamma: float = key("discount factor", min=0, max=1, per_replica=True)
    gae_lambda: float = key(
        "weight of longer returns in an advantage; 1 is Monte Carlo", min=0, max=1, per_replica=True
    )
    rollout_steps: int = key("steps of every env between updates", min=1)
    epochs: int = key("passes over a rollout", min=1)
    n_minibatches: int = key("gradient steps in a pass", min=1)
    chunk_length: int | None = key(
        "steps of a sequence that memory is trained through; null: the whole rollout", min=1
    )
    clip_range: float = key("how far the ratio of probabilities may move", above=0, per_replica=True)
    vf_coef: float = key("weight of the value's squared error", min=0, per_replica=True)
    ent_coef: float = key("weight of the entropy bonus", min=0, per_replica=True)
    normalize_advantage: bool = key("mean 0 and deviation 1 in every minibatch")
    normalize_returns: bool = key("divide rewards by the running deviation of the discounted return")
    shared: bool = key("one network with two heads; false: a network each for policy and value")
    log_std: float = key(
        "where a Gaussian policy's log deviation begins, in half widths of the bounds", per_replica=True
    )

    def problems(self) -> list[str]:
        chunk = self.chunk_length
        if chunk is not None and self.rollout_steps % chunk:
            return [f"chunk_length is {chunk}: it must divide rollout_steps ({self.rollout_steps})"]
        return []

    def conflicts(self, run: RunConfig) -> list[str]:
        recurrent = run.recurrent
        if self.chunk_length is not None and not recurrent:
            return [
                "algo.chunk_length needs a model with memory: set it to null, or use model=lstm or model=gru"
            ]
        length = (self.chunk_length or self.rollout_steps) if recurrent else 1
        count = self.rollout_steps // length * run.num_envs
        if self.n_minibatches <= count:
            return []
        what = f"sequences of {length} steps" if recurrent else "steps"
        return [f"algo.n_minibatches is {self.n_minibatches}: a rollout has only {count} {what}"]


Batch = Mapping[str, "Tensor"]  # fields [R, L, B, ...]; memory.0, ... [R, B, ...]


@register("algo", "ppo", PPOConfig)
class PPO(Algorithm):
    """Improve a stochastic policy with its own rollouts, a few clipped epochs on each."""

    family = "policy gradient"
    stochastic = True
    takes_memory = True
    takes_masks = True
    recordable = True
    saved: ClassVar = {"nets": "weights", "optim": "optimizer", "return_scale": "own", "rng": "random"}
    obs_kinds = ("box", "discrete", "multi_discrete")
    action_kinds = ("discrete", "multi_discrete", "box")

    def __init__(self, spec: Spec, config: PPOConfig, model: Any) -> None:
        self.spec, self.config = spec, config
        self.rollout_steps = config.rollout_steps
        self.head = action_head(spec, config.log_std)
        self.gamma = number(config.gamma, spec, dtype="float64")
        self.gae_lambda = number(config.gae_lambda, spec, dtype="float64")
        self.clip_range, self.vf_coef, self.ent_coef = (
            number(value, spec, 3) for value in (config.clip_range, config.vf_coef, config.ent_coef)
        )
        init = Stream(spec.seeds, "init")
        policy, value = nn.Head(self.head.size, 0.01), nn.Head(1, 1.0)
        heads = [policy, value] if config.shared else [policy]
        self.actor = nn.build_network(model, spec.obs, heads, init, spec)
        self.critic: nn.Network | None = None
        if not config.shared:
            self.critic = nn.build_network(model, spec.obs, [value], init, spec, norm=self.actor.norm)
        self.networks = {"actor": self.actor} | ({"critic": self.critic} if self.critic else {})
        self.nets = torch.nn.ModuleDict({**self.networks, "head": self.head.parameters})
        self.optim = config.adam(self.nets)
        self.return_scale = ReturnScale(spec, config.gamma, AUTO if config.normalize_returns else 1.0)
        self.rng = Stream(spec.seeds, "minibatches", spec.device)
        self.learning_rate = config.rate(config.learning_rate, spec.total_steps)
        self.recurrent = self.actor.recurrent
        self.leaves = len(self.actor.initial_memory(1))  # of memory, the actor's; the critic's follow
        self.length = (config.chunk_length or config.rollout_steps) if self.recurrent else 1
        self.stores_memory = self.recurrent and self.length < config.rollout_steps
        recordable = nn.recordable(self, *self.networks.values())
        self.train_step = nn.Recorded(self.gradient_step, when=recordable)

    def schedules(self, step: np.ndarray) -> dict[str, np.ndarray]:
        return self.config.planned(self.learning_rate, step)

    def initial_memory(self, num_envs: int) -> Memory:
        memory = self.actor.initial_memory(num_envs)
        return memory if self.critic is None else memory + self.critic.initial_memory(num_envs)

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
        out, after = self.actor.step(obs, memory[: self.leaves], first)
        distribution = self.head.distribution(out[..., : self.head.size], mask)
        raw = distribution.mode() if mode == "greedy" else distribution.sample(rng)
        action = self.head.action(raw)
        if self.recurrent:
            after = self.actor.remember(after, action)
            if self.critic is not None:  # its memory moves on too; without memory it waits for `update`
                seen = self.critic.step(obs, memory[self.leaves :], first)[1]
                after = after + self.critic.remember(seen, action)
        if mode != "explore":
            return Act(action, after)
        extras = {"log_prob": distribution.log_prob(raw)}
        if self.head.raw:
            extras["raw"] = raw
        if self.stores_memory:
            extras |= {f"memory.{i}": leaf for i, leaf in enumerate(memory)}
        return Act(action, after, extras)

    def value(self, obs: Tensor, memory: Memory, first: Tensor) -> Tensor:
        """State values [R, N], in units of the task's own rewards."""
        if self.critic is None:
            out, _ = self.actor.step(obs, memory, first)
        else:
            out, _ = self.critic.step(obs, memory[self.leaves :], first)
        return out[..., -1] / self.return_scale.scale.squeeze(-1)

    def update(self, rollout: Rollout, *, step: np.ndarray) -> dict[str, Tensor]:
        data = self.prepare(rollout)
        learning_rate = self.learning_rate(step)
        steps = [
            self.train_step(batch, learning_rate)
            for _ in range(self.config.epochs)
            for batch in self.minibatches(data)
        ]
        # Only now, so that the first minibatch sees the policy that acted.
        self.actor.update_normalizer(rollout.obs, rollout.valid, nn.ENOUGH)  # the critic's as well
        metrics = {tag: torch.stack([each[tag] for each in steps]).mean(0) for tag in steps[0]}
        explained = explained_variance(data["advantage"], data["target"], data["valid"])
        return metrics | {"train/explained_variance": explained}

    def gradient_step(self, batch: Batch, learning_rate: Tensor) -> dict[str, Tensor]:
        """One step on a minibatch; its metrics, [R] each."""
        loss, metrics = self.loss(batch)
        return metrics | {"train/grad_norm": self.optim.step(loss, learning_rate)}

    def prepare(self, rollout: Rollout) -> Batch:
        """What is learned from, in chunks: fields [R, C, L, ...] and memories [R, C, ...]."""
        # Advantages, and the targets of the value: what gae says on top of what was thought.
        self.return_scale.take_in(rollout)
        reward = rollout.reward * self.return_scale.scale
        with torch.no_grad():
            value, next_value = self.values(rollout)
        advantage = gae(
            reward, value, next_value, rollout.terminated, rollout.ended, self.gamma, self.gae_lambda
        )
        fields = {
            "obs": rollout.obs,
            "action": rollout.action,
            "first": rollout.first,
            "valid": rollout.valid.to(value.dtype),
            "log_prob": rollout.extras["log_prob"],
            "advantage": advantage,
            "target": advantage + value,
        }
        if self.head.raw:
            fields["raw"] = rollout.extras["raw"]
        if rollout.mask is not None:
            fields["mask"] = rollout.mask
        # Cut into chunks: [R, T, N, ...] -> [R, T / L, N, L, ...] -> [R, C, L, ...]
        chunks = {
            name: leaf.unflatten(1, (-1, self.length)).transpose(2, 3).flatten(1, 2)
            for name, leaf in fields.items()
        }
        # Each chunk begins with the memory that acting had there.
        for i, leaf in enumerate(rollout.memory):
            if self.stores_memory:
                leaf = rollout.extras[f"memory.{i}"][:, :: self.length].flatten(1, 2)
            chunks[f"memory.{i}"] = leaf
        return chunks

    def values(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Values of obs and of next_obs, [R, T, N] each, with the memory that belongs to them."""
        net = self.critic if self.critic is not None else self.actor
        if not self.recurrent:
            obs = torch.cat((rollout.obs, rollout.next_obs), 1)
            both = net(obs, (), torch.cat((rollout.first, torch.zeros_like(rollout.first)), 1))[0][..., -1]
            value, next_value = both.chunk(2, 1)
            return value, next_value
        memory = rollout.memory if self.critic is None else rollout.memory[self.leaves :]
        out, memories = net.unroll(rollout.obs, memory, rollout.first, rollout.action)
        return out[..., -1], successor(net, rollout, memories)[..., -1]

    def minibatches(self, data: Batch) -> Iterator[Batch]:
        """The chunks in a random order, a replica's own, [R, L, B, ...]; gathered once, then cut."""
        replicas, chunks = data["valid"].shape[:2]
        order = self.rng.permutation(chunks)
        flat = (order + torch.arange(replicas, device=order.device)[:, None] * chunks).view(-1)
        parts = {}
        for name, leaf in data.items():
            shuffled = leaf.flatten(0, 1).index_select(0, flat).unflatten(0, (replicas, chunks))
            time_first = shuffled if name.startswith("memory.") else shuffled.transpose(1, 2)
            parts[name] = time_first.tensor_split(
                self.config.n_minibatches, 1 if name.startswith("memory.") else 2
            )
        for k in range(self.config.n_minibatches):
            yield {name: pieces[k] for name, pieces in parts.items()}

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The clipped objective of each replica [R], and its metrics, [R] each."""
        config, size = self.config, self.head.size
        out, value = self.evaluate(batch)
        valid, advantage = batch["valid"], batch["advantage"]
        weight = valid / valid.sum((1, 2), keepdim=True).clamp(min=1.0)

        if config.normalize_advantage:  # of one sample: 0
            advantage = advantage - (advantage * weight).sum((1, 2), keepdim=True)
            deviation = (advantage.square() * weight).sum((1, 2), keepdim=True).sqrt()
            advantage = advantage / (deviation + 1e-8)

        # policy = -min(ratio A, clip(ratio, 1 - c, 1 + c) A), ratio = new probability / old one
        distribution = self.head.distribution(out[..., :size], batch.get("mask"))
        log_ratio = distribution.log_prob(batch["raw" if self.head.raw else "action"]) - batch["log_prob"]
        ratio = log_ratio.exp()
        clipped = ratio.clamp(1.0 - self.clip_range, 1.0 + self.clip_range)
        policy = -torch.minimum(ratio * advantage, clipped * advantage)
        error = (value - batch["target"]).square()
        entropy = distribution.entropy()
        each = policy + self.vf_coef * error - self.ent_coef * entropy

        with torch.no_grad():
            metrics = {
                "loss/policy": policy,
                "loss/value": error / self.return_scale.scale.square(),  # in the task's own unit
                "loss/entropy": entropy,
                "train/approx_kl": ratio - 1.0 - log_ratio,  # unbiased and positive (Schulman 2020)
                "train/clip_fraction": ((ratio - 1.0).abs() > self.clip_range).to(ratio.dtype),
            }
            means = (torch.stack(tuple(metrics.values())) * weight).sum((2, 3))
        return (each * weight).sum((1, 2)), dict(zip(metrics, means, strict=True))

    def evaluate(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The policy's outputs [R, L, B, size] and the values [R, L, B]."""
        memory = tuple(batch[f"memory.{i}"] for i in range(len(batch)) if f"memory.{i}" in batch)
        inputs = batch["first"], batch["action"]
        out, _ = self.actor(batch["obs"], memory[: self.leaves], *inputs)
        if self.critic is None:
            return out, out[..., -1]
        return out, self.critic(batch["obs"], memory[self.leaves :], *inputs)[0][..., -1]
