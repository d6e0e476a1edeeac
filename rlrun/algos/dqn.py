"""Deep Q-networks: Mnih et al., "Human-level control through deep reinforcement learning"
(2015), with double Q-learning (van Hasselt et al. 2016), dueling heads (Wang et al. 2016),
prioritised replay (Schaul et al. 2016) and n-step targets, each a flag. With a recurrent
model it learns from sequences with stored memory and burn-in (Hausknecht and Stone 2015;
Kapturowski et al., "R2D2", 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from rlrun import nn
from rlrun.config import key
from rlrun.core import Act, Algorithm, Memory, Mode, Rollout, Spec
from rlrun.lazy import torch
from rlrun.parts.explore import EpsilonConfig, epsilon_greedy
from rlrun.parts.gradient import GradientConfig
from rlrun.parts.masks import allowed, allowed_after
from rlrun.parts.numbers import number
from rlrun.parts.offpolicy import ReplayConfig, TargetSync
from rlrun.parts.prioritized import PrioritizedReplay, PriorityConfig, importance, priority
from rlrun.parts.replay import Draw, Replay
from rlrun.parts.return_bounds import ReturnBounds
from rlrun.parts.return_scale import ReturnScale
from rlrun.parts.returns import n_step
from rlrun.parts.schedules import schedule
from rlrun.parts.sequences import mean_weight, successor, take_steps
from rlrun.parts.sequential import SequentialReplay
from rlrun.registry import register
from rlrun.rng import Stream
from rlrun.spaces import Discrete

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class DQNConfig(ReplayConfig, GradientConfig):
    gamma: float = key("discount factor", min=0, max=1, per_replica=True)
    double: bool = key("choose the next action with the online network")
    dueling: bool = key("split the head into a value and advantages")
    loss: str = key("the error's loss", choices=("huber", "mse"))
    clip_targets: bool = key("targets stay within r / (1 - gamma) of the least and the largest reward so far")
    sampling: str = key(
        "how a minibatch is drawn: at random, as one stretch of time, or by error",
        choices=("uniform", "sequential", "prioritized"),
    )
    priority: PriorityConfig = key("what prioritized sampling goes by")
    epsilon: EpsilonConfig = key("random actions while training")

    def replay(self, spec: Spec, recurrent: bool) -> Replay:
        """An empty buffer that is sampled in this config's way."""
        if self.sampling == "prioritized":
            alpha = number(self.priority.alpha, spec, 2, "float64")
            return PrioritizedReplay(self.buffer_size, spec.num_envs, self.length(recurrent), alpha)
        if self.sampling == "sequential":
            return SequentialReplay(self.buffer_size, spec.num_envs, self.sequence_length if recurrent else 1)
        return Replay(self.buffer_size, spec.num_envs)


class Values(NamedTuple):
    """What the loss is made of, for the steps that are learned from: [R, S, B]; with A, of each action."""

    q: Tensor  # [R, S, B, A], online; here and below, actions that are not allowed are worth nothing
    action: Tensor
    valid: Tensor
    total: Tensor  # rewards of the n steps, discounted
    discount: Tensor  # of what follows them; 0 where the task ended
    next_target_q: Tensor  # [R, S, B, A] after them, by the target network
    next_online_q: Tensor  # [R, S, B, A] after them, online; the target network's where not `double`


@register("algo", "dqn", DQNConfig)
class DQN(Algorithm):
    """Learn action values off-policy from replay; recurrent with any memory model."""

    family = "value-based"
    takes_memory = True
    takes_masks = True
    recordable = True
    saved: ClassVar = {
        "net": "weights",
        "target": "weights",
        "optim": "optimizer",
        "replay": "replay",
        "rng": "random",
        "sync": "optimizer",
        "return_scale": "own",
        "bounds": "own",
    }

    def __init__(self, spec: Spec, config: DQNConfig, model: Any) -> None:
        assert isinstance(spec.action, Discrete)
        self.spec, self.config, self.actions = spec, config, spec.action.n
        self.rollout_steps, self.updates_per_rollout = config.cadence(spec.num_envs)

        self.gamma = number(config.gamma, spec, dtype="float64")
        self.return_scale = ReturnScale(spec, config.gamma, config.reward_scale)
        self.bounds = ReturnBounds(spec, config.gamma, config.clip_targets)
        self.eta = number(config.priority.eta, spec, 2)
        heads = [nn.Head(self.actions, 1.0)]
        init = Stream(spec.seeds, "init")
        self.net = nn.build_network(model, spec.obs, heads, init, spec, dueling=config.dueling)
        self.target = self.net.target()
        self.optim = config.adam(self.net)
        self.sync = TargetSync(config.target, self.optim.flat, nn.flatten(self.target))
        self.length = config.length(self.net.recurrent)
        self.replay = config.replay(spec, self.net.recurrent)
        self.rng = Stream(spec.seeds, "sample", spec.device)
        epsilon = config.epsilon
        self.epsilon = schedule(epsilon.kind, epsilon.start, epsilon.end, epsilon.fraction * spec.total_steps)
        self.learning_rate = config.rate(config.learning_rate, spec.total_steps)
        self.beta = schedule("linear", config.priority.beta, 1.0, spec.total_steps)
        self.train_step = nn.Recorded(self.gradient_step, when=nn.recordable(self, self.net))

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
        q, after = self.net.step(obs, memory, first)  # [R, N, A]
        action = allowed(q, mask).argmax(-1)
        if mode == "explore":
            action = epsilon_greedy(action, self.actions, self.epsilon(step), rng, mask)
        stored = {f"memory.{i}": leaf for i, leaf in enumerate(memory)} if mode == "explore" else {}
        return Act(action, self.net.remember(after, action), stored)

    def schedules(self, step: np.ndarray) -> dict[str, np.ndarray]:
        planned = self.config.planned(self.learning_rate, step)
        return {"train/epsilon": self.epsilon(step), "train/replay_size": self.replay.filled(step)} | planned

    def q(self, obs: Tensor, memory: Memory, first: Tensor) -> Tensor:
        """Action values [R, N, A], in units of the task's own rewards."""
        return self.net.step(obs, memory, first)[0] / self.return_scale.scale

    def update(self, rollout: Rollout, *, step: np.ndarray) -> dict[str, Tensor]:
        self.net.update_normalizer(rollout.obs, rollout.valid, nn.ENOUGH)
        self.return_scale.take_in(rollout, step)
        self.bounds.take_in(rollout)
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
        loss, q, grad_norm, priority = self.train_step(batch, beta, self.learning_rate(step))
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
        prioritized = self.config.sampling == "prioritized"
        return loss, q, grad_norm, priority(error, self.eta) if prioritized else None

    def loss(self, batch: Rollout, beta: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Over a batch [R, L, B, ...]: mean loss, mean q in the task's units, [R], and every error [R, S, B].

        beta [R] says how much of the bias of prioritised sampling the loss makes up for.
        """
        v = self.recurrent_values(batch) if self.net.recurrent else self.values(batch)
        q = v.q.gather(-1, v.action.unsqueeze(-1)).squeeze(-1)  # [R, S, B]
        if self.config.double:
            best = v.next_online_q.argmax(-1, keepdim=True)
            next_value = v.next_target_q.gather(-1, best).squeeze(-1)
        else:
            next_value = v.next_target_q.amax(-1)
        scale = self.return_scale.scale
        target_q = self.bounds.clip(scale * v.total + v.discount * next_value, scale)
        kind = torch.nn.functional.huber_loss if self.config.loss == "huber" else torch.nn.functional.mse_loss
        loss = kind(q, target_q, reduction="none")
        penalty = self.penalty(v.q, q)
        if penalty is not None:
            loss = loss + penalty

        mean = weight = mean_weight(v.valid, q.dtype)
        if beta is not None and "probability" in batch.info:
            weight = mean * importance(batch.info["probability"], beta).unsqueeze(1).to(mean)
        error = (q.detach() - target_q) * v.valid
        return (loss * weight).sum((1, 2)), (q.detach() / scale * mean).sum((1, 2)), error

    def penalty(self, every_q: Tensor, q: Tensor) -> Tensor | None:
        """What a variant adds to the loss [R, S, B], by all action values and that of the action taken."""
        return None

    def values(self, batch: Rollout) -> Values:
        """Without memory: only the first of each window's n steps is learned from."""
        learned = batch.steps(0, 1) if self.length > 1 else batch
        total, discount, last = n_step(
            batch.reward, batch.terminated, batch.truncated, self.gamma, self.config.n_step, starts=1
        )
        q = allowed(self.net(learned.obs, (), learned.first)[0], learned.mask)
        with torch.no_grad():
            next_obs = take_steps(batch.next_obs, last)
            target_q, _ = self.target(next_obs, (), learned.first)
            online_q = self.net(next_obs, (), learned.first)[0] if self.config.double else target_q
        next_q = (allowed_after(each, batch, last) for each in (target_q, online_q))
        return Values(q, learned.action, learned.valid, total, discount, *next_q)

    def recurrent_values(self, batch: Rollout) -> Values:
        """With memory: every step after the burn-in, each with up to n rewards of its sequence."""
        begin = self.config.burn_in
        learned, memory = batch.steps(begin), batch.memory
        with torch.no_grad():
            if begin:
                past = batch.steps(0, begin)
                _, memory = self.net(past.obs, memory, past.first, past.action)
            _, targets = self.target.unroll(batch.obs, batch.memory, batch.first, batch.action)
        q, onlines = self.net.unroll(learned.obs, memory, learned.first, learned.action)
        total, discount, last = n_step(
            learned.reward, learned.terminated, learned.truncated, self.gamma, self.config.n_step
        )
        with torch.no_grad():
            target_q = successor(self.target, learned, tuple(leaf[:, begin:] for leaf in targets))
            online_q = target_q
            if self.config.double:
                online_q = successor(self.net, learned, tuple(leaf.detach() for leaf in onlines))
        next_q = (allowed_after(take_steps(each, last), learned, last) for each in (target_q, online_q))
        return Values(allowed(q, learned.mask), learned.action, learned.valid, total, discount, *next_q)
