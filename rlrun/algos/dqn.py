"""Deep Q-networks: Mnih et al., "Human-level control through deep reinforcement learning"
(2015), with double Q-learning (van Hasselt et al. 2016), dueling heads (Wang et al. 2016)
and n-step targets. With a recurrent model it learns from sequences with stored memory and
burn-in (Hausknecht and Stone 2015; Kapturowski et al., "R2D2", 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun.config import key
from rlrun.core import Act, Algorithm, Discrete, Memory, Mode, Rollout, Spec
from rlrun.explore import epsilon_greedy
from rlrun.lazy import nn, torch
from rlrun.registry import register
from rlrun.returns import n_step
from rlrun.rng import Stream
from rlrun.schedules import schedule
from rlrun.storage import Replay

if TYPE_CHECKING:
    from torch import Tensor

    from rlrun.config import RunConfig


@dataclass
class EpsilonConfig:
    kind: str = key("how epsilon falls", choices=("linear", "exponential", "constant"))
    start: float = key("probability of a random action at step 0", above=0, max=1)
    end: float = key("probability at the end of the fall and after", min=0, max=1)
    fraction: float = key("share of the run over which it falls", min=0, max=1)


@dataclass
class TargetConfig:
    tau: float = key("weight of the new parameters at each sync; 1 copies them", above=0, max=1)
    every: int = key("updates between syncs", min=1)


@dataclass
class DQNConfig:
    gamma: float = key("discount factor", min=0, max=1)
    learning_rate: float = key("Adam's step size at the start", above=0)
    lr_schedule: str = key("how the learning rate falls to 0 over the run", choices=("linear", "constant"))
    adam_eps: float = key("Adam's epsilon", above=0)
    max_grad_norm: float | None = key("gradient clipping, per replica; null: none", above=0)
    clip: str = key("clip by the global norm, or each element by value", choices=("norm", "value"))
    n_step: int = key("steps of reward in a target", min=1)
    double: bool = key("choose the next action with the online network")
    dueling: bool = key("split the head into a value and advantages")
    loss: str = key("the error's loss", choices=("huber", "mse"))
    reward_scale: float = key("rewards are multiplied by this before learning", above=0)
    buffer_size: int = key("env steps kept for replay, per replica", min=1)
    batch_size: int = key("sequences in a minibatch", min=1)
    learning_starts: int = key("env steps before the first update", min=0)
    train_every: int = key("env steps between updates", min=1)
    gradient_steps: int = key("gradient steps in an update", min=1)
    sequence_length: int = key("steps of a sequence that are learned from; above 1 needs memory", min=1)
    burn_in: int = key("steps that only refresh memory before them", min=0)
    target: TargetConfig = key("the target network")
    epsilon: EpsilonConfig = key("random actions while training")

    def problems(self) -> list[str]:
        found = []
        if self.buffer_size < self.learning_starts:
            found.append(
                f"learning_starts is {self.learning_starts}: it must be at most buffer_size ({self.buffer_size})"
            )
        if self.batch_size > self.buffer_size:
            found.append(
                f"batch_size is {self.batch_size}: it must be at most buffer_size ({self.buffer_size})"
            )
        return found

    def conflicts(self, run: RunConfig) -> list[str]:
        found = []
        if self.train_every % run.num_envs and run.num_envs % self.train_every:
            found.append(
                f"algo.train_every is {self.train_every}: num_envs ({run.num_envs}) must divide it, or be a multiple"
            )
        if not hasattr(run.model, "hidden_size") and (self.sequence_length > 1 or self.burn_in):
            found.append(
                "algo.sequence_length and algo.burn_in need a model with memory: "
                "set them to 1 and 0, or use model=lstm or model=gru"
            )
        return found


@register("algo", "dqn", DQNConfig)
class DQN(Algorithm):
    """Learn action values off-policy from replay; recurrent with any memory model."""

    saved = {
        "net": "weights",
        "target": "weights",
        "optim": "optimizer",
        "replay": "replay",
        "rng": "random",
        "updates": "optimizer",
    }

    def __init__(self, spec: Spec, config: DQNConfig, model: Any) -> None:
        assert isinstance(spec.action, Discrete)
        self.spec, self.config, self.actions = spec, config, spec.action.n
        # One update a collect; several where an env step of all envs is worth more than one.
        self.rollout_steps = max(config.train_every // spec.num_envs, 1)
        self.updates_per_rollout = max(spec.num_envs // config.train_every, 1)

        heads = [nn.Head(self.actions, 1.0)]
        init = Stream(spec.seeds, "init")
        self.net = nn.build_network(model, spec.obs, heads, init, spec, dueling=config.dueling)
        self.target = self.net.target()
        self.optim = nn.Adam(
            self.net, eps=config.adam_eps, max_grad_norm=config.max_grad_norm, clip=config.clip
        )
        self.target_flat = nn.flatten(self.target)
        self.replay = Replay(config.buffer_size, spec.num_envs)
        self.rng = Stream(spec.seeds, "sample", spec.device)
        self.updates = torch.zeros(spec.replicas, dtype=torch.int64)  # the same number in every replica
        # A transition needs n rows; a sequence runs through its burn-in and learned steps.
        self.length = config.burn_in + config.sequence_length if self.net.recurrent else config.n_step
        kinds = {"device": spec.device, "dtype": spec.dtype}
        epsilon = config.epsilon
        self.epsilon = schedule(
            epsilon.kind, epsilon.start, epsilon.end, epsilon.fraction * spec.total_steps, **kinds
        )
        self.learning_rate = schedule(
            config.lr_schedule, config.learning_rate, 0.0, spec.total_steps, **kinds
        )

    def initial_memory(self, num_envs: int) -> Memory:
        return self.net.initial_memory(num_envs)

    def act(
        self, obs: Tensor, memory: Memory, first: Tensor, *, step: np.ndarray, mode: Mode, rng: Stream
    ) -> Act:
        q, after = self.net.step(obs, memory, first)  # [R, N, A]
        action = q.argmax(-1)
        if mode == "explore":
            action = epsilon_greedy(action, self.actions, self.epsilon(step), rng)
        stored = {f"memory.{i}": leaf for i, leaf in enumerate(memory)} if mode == "explore" else {}
        return Act(action, self.net.remember(after, action), stored)

    def q(self, obs: Tensor, memory: Memory, first: Tensor) -> Tensor:
        """Action values [R, N, A]."""
        return self.net.step(obs, memory, first)[0]

    def update(self, rollout: Rollout | None, *, step: np.ndarray) -> dict[str, Tensor]:
        assert rollout is not None
        self.net.observe(rollout.obs, rollout.valid)
        self.replay.add(rollout)
        if len(self.replay) < max(self.config.learning_starts, 1) or self.replay.size < self.length:
            return {}
        learning_rate = self.learning_rate(step)
        for _ in range(self.config.gradient_steps * self.updates_per_rollout):
            batch = self.replay.sample(self.config.batch_size, self.length, self.rng)
            loss, q = self.loss(batch)
            grad_norm = self.optim.step(loss, learning_rate)
            self.sync_target()
        return {"loss/q": loss.detach(), "train/q": q, "train/grad_norm": grad_norm}

    def loss(self, batch: Rollout) -> tuple[Tensor, Tensor]:
        """Mean error of each replica [R], and its mean action value [R], over a batch [R, L, B, ...]."""
        config = self.config
        values = self.recurrent_values if self.net.recurrent else self.values
        learned, out, total, discount, target_next, online_next = values(batch)
        chooser = online_next if config.double else target_next
        next_value = target_next.gather(-1, chooser.argmax(-1, keepdim=True)).squeeze(-1)
        target = total * config.reward_scale + discount * next_value  # [R, L, B]
        q = out.gather(-1, learned.action.unsqueeze(-1)).squeeze(-1)
        error = _huber(q - target) if config.loss == "huber" else (q - target).square()
        return masked_mean(error, learned.valid), masked_mean(q.detach(), learned.valid)

    def values(self, batch: Rollout) -> tuple[Rollout, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Without memory: only the first of each window's n steps is learned from."""
        learned = batch.steps(0, 1)
        ended = batch.terminated | batch.truncated
        total, discount, last = n_step(
            batch.reward, batch.terminated, ended, self.config.gamma, self.config.n_step, starts=1
        )
        out, _ = self.net(learned.obs, (), learned.first)
        with torch.no_grad():
            next_obs = take_steps(batch.next_obs, last)
            target_next, _ = self.target(next_obs, (), learned.first)
            online_next = self.net(next_obs, (), learned.first)[0] if self.config.double else target_next
        return learned, out, total, discount, target_next, online_next

    def recurrent_values(self, batch: Rollout) -> tuple[Rollout, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """With memory: every step after the burn-in, each with up to n rewards of its sequence."""
        begin = self.config.burn_in
        learned, memory = batch.steps(begin), batch.memory
        with torch.no_grad():
            if begin:
                past = batch.steps(0, begin)
                _, memory = self.net(past.obs, memory, past.first, past.action)
            _, targets = self.target.unroll(batch.obs, batch.memory, batch.first, batch.action)
        out, onlines = self.net.unroll(learned.obs, memory, learned.first, learned.action)
        ended = learned.terminated | learned.truncated
        total, discount, last = n_step(
            learned.reward, learned.terminated, ended, self.config.gamma, self.config.n_step
        )
        with torch.no_grad():
            target_next = successor(self.target, learned, tuple(leaf[:, begin:] for leaf in targets))
            online_next = target_next
            if self.config.double:
                online_next = successor(self.net, learned, tuple(leaf.detach() for leaf in onlines))
        return learned, out, total, discount, take_steps(target_next, last), take_steps(online_next, last)

    def sync_target(self) -> None:
        self.updates += 1
        if int(self.updates[-1]) % self.config.target.every == 0:
            self.target_flat.lerp_(self.optim.flat, self.config.target.tau)


def successor(net: Any, batch: Rollout, memories: Memory) -> Tensor:
    """The network's output at next_obs after every step, [R, L, B, out].

    One parallel step from the memory after each step (leaves [R, L, B, ...]): this
    bootstraps a truncated episode exactly, where no later row of the sequence could.
    """
    flat = tuple(leaf.flatten(1, 2) for leaf in memories)
    flat = net.remember(flat, batch.action.flatten(1, 2))
    never = torch.zeros_like(batch.first.flatten(1, 2))
    out, _ = net.step(batch.next_obs.flatten(1, 2), flat, never)
    return out.view(*batch.reward.shape, -1)


def take_steps(sequence: Tensor, last: Tensor) -> Tensor:
    """sequence [R, L, B, ...] at the time indices `last` [R, S, B]."""
    if sequence.shape[1] == 1:
        return sequence
    index = last.view(*last.shape, *[1] * (sequence.ndim - 3)).expand(*last.shape, *sequence.shape[3:])
    return sequence.gather(1, index)


def masked_mean(value: Tensor, valid: Tensor) -> Tensor:
    """Mean over everything but R, of valid steps only: [R]."""
    weight = valid.to(value.dtype)
    return (value * weight).sum((1, 2)) / weight.sum((1, 2)).clamp(min=1.0)


def _huber(error: Tensor) -> Tensor:
    size = error.abs()
    return torch.where(size < 1.0, 0.5 * error.square(), size - 0.5)
