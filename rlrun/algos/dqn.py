"""Deep Q-networks: Mnih et al., "Human-level control through deep reinforcement learning"
(2015), with double Q-learning (van Hasselt et al. 2016), dueling heads (Wang et al. 2016)
and n-step targets. With a recurrent model it learns from sequences with stored memory and
burn-in (Hausknecht and Stone 2015; Kapturowski et al., "R2D2", 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rlrun.algos._offpolicy import TargetConfig, buffer_problems, cadence, cadence_conflicts
from rlrun.config import key
from rlrun.core import Act, Algorithm, Discrete, Memory, Mode, Rollout, Spec
from rlrun.explore import EpsilonConfig, epsilon_greedy
from rlrun.lazy import nn, torch
from rlrun.registry import register
from rlrun.returns import n_step
from rlrun.rng import Stream
from rlrun.schedules import schedule
from rlrun.sequences import mean_weight, successor, take_steps
from rlrun.storage import Replay

if TYPE_CHECKING:
    from torch import Tensor

    from rlrun.config import RunConfig


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
        return buffer_problems(self.buffer_size, self.learning_starts, self.batch_size)

    def conflicts(self, run: RunConfig) -> list[str]:
        found = cadence_conflicts(self.train_every, run.num_envs)
        if not hasattr(run.model, "hidden_size") and (self.sequence_length > 1 or self.burn_in):
            found.append(
                "algo.sequence_length and algo.burn_in need a model with memory: "
                "set them to 1 and 0, or use model=lstm or model=gru"
            )
        return found


@register("algo", "dqn", DQNConfig)
class DQN(Algorithm):
    """Learn action values off-policy from replay; recurrent with any memory model."""

    saved: ClassVar = {
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
        self.rollout_steps, self.updates_per_rollout = cadence(config.train_every, spec.num_envs)

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
        epsilon = config.epsilon
        self.epsilon = schedule(epsilon.kind, epsilon.start, epsilon.end, epsilon.fraction * spec.total_steps)
        self.learning_rate = schedule(config.lr_schedule, config.learning_rate, 0.0, spec.total_steps)

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
        out, action, valid, total, discount, target_next, online_next = values(batch)
        if config.double:
            next_value = target_next.gather(-1, online_next.argmax(-1, keepdim=True)).squeeze(-1)
        else:
            next_value = target_next.amax(-1)
        target = torch.add(discount * next_value, total, alpha=config.reward_scale)  # [R, L, B]
        q = out.gather(-1, action.unsqueeze(-1)).squeeze(-1)
        kind = torch.nn.functional.huber_loss if config.loss == "huber" else torch.nn.functional.mse_loss
        error = kind(q, target, reduction="none")
        weight = mean_weight(valid, error.dtype)
        return (error * weight).sum((1, 2)), (q.detach() * weight).sum((1, 2))

    def values(self, batch: Rollout) -> tuple[Tensor, ...]:
        """Without memory: only the first of each window's n steps is learned from."""
        learned = batch.steps(0, 1) if self.length > 1 else batch
        total, discount, last = n_step(
            batch.reward, batch.terminated, batch.truncated, self.config.gamma, self.config.n_step, starts=1
        )
        out, _ = self.net(learned.obs, (), learned.first)
        with torch.no_grad():
            next_obs = take_steps(batch.next_obs, last)
            target_next, _ = self.target(next_obs, (), learned.first)
            online_next = self.net(next_obs, (), learned.first)[0] if self.config.double else target_next
        return out, learned.action, learned.valid, total, discount, target_next, online_next

    def recurrent_values(self, batch: Rollout) -> tuple[Tensor, ...]:
        """With memory: every step after the burn-in, each with up to n rewards of its sequence."""
        begin = self.config.burn_in
        learned, memory = batch.steps(begin), batch.memory
        with torch.no_grad():
            if begin:
                past = batch.steps(0, begin)
                _, memory = self.net(past.obs, memory, past.first, past.action)
            _, targets = self.target.unroll(batch.obs, batch.memory, batch.first, batch.action)
        out, onlines = self.net.unroll(learned.obs, memory, learned.first, learned.action)
        total, discount, last = n_step(
            learned.reward, learned.terminated, learned.truncated, self.config.gamma, self.config.n_step
        )
        with torch.no_grad():
            target_next = successor(self.target, learned, tuple(leaf[:, begin:] for leaf in targets))
            online_next = target_next
            if self.config.double:
                online_next = successor(self.net, learned, tuple(leaf.detach() for leaf in onlines))
        next_values = take_steps(target_next, last), take_steps(online_next, last)
        return out, learned.action, learned.valid, total, discount, *next_values

    def sync_target(self) -> None:
        self.updates += 1
        if int(self.updates[-1]) % self.config.target.every == 0:
            self.target_flat.lerp_(self.optim.flat, self.config.target.tau)
