"""Deep Q-networks: Mnih et al., "Human-level control through deep reinforcement learning"
(2015), with double Q-learning (van Hasselt et al. 2016), dueling heads (Wang et al. 2016),
prioritised replay (Schaul et al. 2016) and n-step targets, each a flag. With a recurrent
model it learns from sequences with stored memory and burn-in (Hausknecht and Stone 2015;
Kapturowski et al., "R2D2", 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rlrun import nn
from rlrun.config import key
from rlrun.core import Act, Algorithm, Memory, Mode, Rollout, Spec
from rlrun.lazy import torch
from rlrun.parts.explore import EpsilonConfig, epsilon_greedy
from rlrun.parts.gradient import GradientConfig
from rlrun.parts.offpolicy import ReplayConfig, TargetSync
from rlrun.parts.prioritized import PrioritizedReplay
from rlrun.parts.replay import Draw, Replay, SequentialReplay
from rlrun.parts.returns import n_step
from rlrun.parts.schedules import schedule
from rlrun.parts.sequences import mean_weight, successor, take_steps
from rlrun.registry import register
from rlrun.rng import Stream
from rlrun.spaces import Discrete

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class PriorityConfig:
    alpha: float = key("how much the error counts; 0 draws uniformly, 1 in proportion", min=0, max=1)
    beta: float = key("share of the bias to correct at the start; all of it at the end", min=0, max=1)
    eta: float = key("weight of a sequence's largest error, against its mean one", min=0, max=1)


@dataclass
class DQNConfig(ReplayConfig, GradientConfig):
    gamma: float = key("discount factor", min=0, max=1)
    double: bool = key("choose the next action with the online network")
    dueling: bool = key("split the head into a value and advantages")
    loss: str = key("the error's loss", choices=("huber", "mse"))
    sampling: str = key(
        "how a minibatch is drawn: at random, as one stretch of time, or by error",
        choices=("uniform", "sequential", "prioritized"),
    )
    priority: PriorityConfig = key("what prioritized sampling goes by")
    epsilon: EpsilonConfig = key("random actions while training")

    def replay(self, num_envs: int, recurrent: bool) -> Replay:
        """An empty buffer that is sampled in this config's way."""
        if self.sampling == "prioritized":
            return PrioritizedReplay(self.buffer_size, num_envs, self.length(recurrent), self.priority.alpha)
        if self.sampling == "sequential":
            return SequentialReplay(self.buffer_size, num_envs, self.sequence_length if recurrent else 1)
        return Replay(self.buffer_size, num_envs)


@register("algo", "dqn", DQNConfig)
class DQN(Algorithm):
    """Learn action values off-policy from replay; recurrent with any memory model."""

    family = "value-based"
    takes_memory = True
    saved: ClassVar = {
        "net": "weights",
        "target": "weights",
        "optim": "optimizer",
        "replay": "replay",
        "rng": "random",
        "sync": "optimizer",
    }

    def __init__(self, spec: Spec, config: DQNConfig, model: Any) -> None:
        assert isinstance(spec.action, Discrete)
        self.spec, self.config, self.actions = spec, config, spec.action.n
        self.rollout_steps, self.updates_per_rollout = config.cadence(spec.num_envs)

        heads = [nn.Head(self.actions, 1.0)]
        init = Stream(spec.seeds, "init")
        self.net = nn.build_network(model, spec.obs, heads, init, spec, dueling=config.dueling)
        self.target = self.net.target()
        self.optim = config.adam(self.net)
        self.sync = TargetSync(config.target, self.optim.flat, nn.flatten(self.target))
        self.length = config.length(self.net.recurrent)
        self.replay = config.replay(spec.num_envs, self.net.recurrent)
        self.rng = Stream(spec.seeds, "sample", spec.device)
        epsilon = config.epsilon
        self.epsilon = schedule(epsilon.kind, epsilon.start, epsilon.end, epsilon.fraction * spec.total_steps)
        self.learning_rate = config.rate(config.learning_rate, spec.total_steps)
        self.beta = schedule("linear", config.priority.beta, 1.0, spec.total_steps)
        self.descend = nn.Recorded(self.gradient_step, when=self.net.recordable)

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

    def update(self, rollout: Rollout, *, step: np.ndarray) -> dict[str, Tensor]:
        self.net.observe(rollout.obs, rollout.valid)
        self.replay.add(rollout)
        self.sync.collected(rollout)
        if len(self.replay) < max(self.config.learning_starts, 1) or self.replay.size < self.length:
            return {}
        metrics: dict[str, Tensor] = {}
        for _ in range(self.config.gradient_steps * self.updates_per_rollout):
            draw = self.replay.draw(self.config.batch_size, self.length, self.rng)
            metrics = self.learn(draw, step)
        return metrics

    def learn(self, batch: Draw | Rollout, step: np.ndarray) -> dict[str, Tensor]:
        """One gradient step on sequences [R, L, B, ...], or on those that were drawn from the replay."""
        beta = self.beta(step) if isinstance(self.replay, PrioritizedReplay) else None
        loss, q, grad_norm, priority = self.descend(batch, beta, self.learning_rate(step))
        self.sync.updated()
        if isinstance(self.replay, PrioritizedReplay):
            self.replay.reprioritise(batch.info["cell"], priority)
        return {"loss/q": loss, "train/q": q, "train/grad_norm": grad_norm}

    def gradient_step(
        self, batch: Draw | Rollout, beta: Tensor | None, learning_rate: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Mean loss, mean action value and norm of the gradient, [R], and the sequences' new priorities."""
        loss, q, error = self.loss(self.replay.at(batch), beta)
        grad_norm = self.optim.step(loss, learning_rate)
        return loss, q, grad_norm, self.priority(error) if self.config.sampling == "prioritized" else None

    def loss(self, batch: Rollout, beta: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Over a batch [R, L, B, ...]: mean loss and mean action value, [R], and every error [R, L, B].

        Sequences that were drawn by priority weigh less the likelier they were, to the
        power of beta [R], and the least likely one weighs 1.
        """
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
        loss = kind(q, target, reduction="none")
        penalty = self.penalty(out, q)
        if penalty is not None:
            loss = loss + penalty
        mean = mean_weight(valid, q.dtype)
        weight = mean
        if beta is not None and "probability" in batch.info:
            likelihood = batch.info["probability"]
            power = beta.to(likelihood).unsqueeze(1)
            importance = (likelihood.amin(1, keepdim=True) / likelihood) ** power  # [R, B]
            weight = mean * importance.unsqueeze(1).to(mean)
        return (loss * weight).sum((1, 2)), (q.detach() * mean).sum((1, 2)), (q.detach() - target) * valid

    def penalty(self, out: Tensor, q: Tensor) -> Tensor | None:
        """What a variant adds to the loss of each step [R, L, B], by all action values and the one taken."""
        return None

    def priority(self, error: Tensor) -> Tensor:
        """Of sequences, by the errors [R, L, B] of their steps: [R, B] (Kapturowski et al. 2019)."""
        size, eta = error.abs(), self.config.priority.eta
        return eta * size.amax(1) + (1.0 - eta) * size.mean(1)

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
