"""What off-policy actor-critics share: replay, critics of actions, and memory where there is any.

With a recurrent model, actor and critics have a memory each, as Ni, Eysenbach and
Salakhutdinov found best ("Recurrent model-free RL can be a strong baseline for many POMDPs",
2022): the actor's is of observations, a critic's of observations and the actions really
taken. What another action would be worth at some step is one step of the critic, from its
memory of everything before. As in that paper, sequences begin with empty memory: the
memories of so many networks are not stored, so none goes stale. What the beginning of a
sequence lacks of its past is made up for by burn-in (Kapturowski et al., "R2D2", 2019).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from rlrun import nn
from rlrun.config import key
from rlrun.core import Act, Algorithm, Memory, Mode, Rollout, Spec
from rlrun.lazy import torch
from rlrun.parts.distributions import finite_bounds
from rlrun.parts.gradient import AdamConfig
from rlrun.parts.numbers import number
from rlrun.parts.offpolicy import ReplayConfig, TargetSync
from rlrun.parts.replay import Draw, Replay
from rlrun.parts.return_scale import ReturnScale
from rlrun.parts.returns import n_step
from rlrun.parts.sequences import branch, masked_mean, take_steps
from rlrun.rng import Stream
from rlrun.spaces import Box

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class ActorCriticConfig(ReplayConfig, AdamConfig):
    gamma: float = key("discount factor", min=0, max=1, per_replica=True)
    actor_learning_rate: float = key(
        "Adam's step size for the policy at the start", above=0, per_replica=True
    )
    critic_learning_rate: float = key(
        "Adam's step size for the critics at the start", above=0, per_replica=True
    )


class Trace(NamedTuple):
    """A network's way through the steps [R, S, B] that are learned from, with the actions really taken."""

    network: Any
    out: Any  # [R, S, B, columns]; None where only `beyond` will be asked
    before: Memory  # before each step, leaves [R, S, B, ...], detached; () without memory
    after: Memory

    def instead(self, learned: Rollout, action: Tensor) -> Tensor:
        """The outputs at the same steps, had other actions been taken."""
        return branch(self.network, learned.obs, self.before, learned.first, action)

    def beyond(self, next_obs: Tensor, last: Tensor, action: Tensor | None = None) -> Tensor:
        """The outputs at next_obs [R, S, B, ...], which follows the steps `last` [R, S, B]."""
        after = tuple(take_steps(leaf, last) for leaf in self.after)
        return branch(self.network, next_obs, after, torch.zeros_like(last, dtype=torch.bool), action)


class ActorCritic(Algorithm):
    """An actor, critics with target networks, and their replay; a subclass says what is learned."""

    action_kinds = ("box",)
    family = "off-policy actor-critic"
    takes_memory = True
    saved: ClassVar = {
        "actor": "weights",
        "critics": "weights",
        "targets": "weights",
        "actor_optim": "optimizer",
        "critic_optim": "optimizer",
        "sync": "optimizer",
        "return_scale": "own",
        "replay": "replay",
        "rng": "random",
        "noise": "random",
    }

    gradient_step: Callable[..., dict[str, Tensor]]  # of a batch and the rates that it takes

    def __init__(self, spec: Spec, config: Any, model: Any, *, outputs: int, critics: int) -> None:
        """An actor with `outputs` columns for each element of an action, and so many critics.

        Raises:
            ConfigError: the action space has no finite bounds.
        """
        assert isinstance(spec.action, Box)
        self.spec, self.config, self.action = spec, config, spec.action
        self.rollout_steps, self.updates_per_rollout = config.cadence(spec.num_envs)
        self.gamma = number(config.gamma, spec, dtype="float64")
        self.return_scale = ReturnScale(spec, config.gamma, config.reward_scale)
        size = spec.action.size
        # The policy and the critics live in [-1, 1], so that neither noise nor the scale of
        # inputs depends on the unit of the actions.
        self.bounds = finite_bounds(spec.action, spec)

        init = Stream(spec.seeds, "init")
        self.actor = nn.build_network(model, spec.obs, [nn.Head(size)] * outputs, init, spec)
        self.critics, self.targets = torch.nn.ModuleList(), torch.nn.ModuleList()
        for _ in range(critics):
            critic = nn.build_network(
                model, spec.obs, [nn.Head(1)], init, spec, extra_inputs=size, norm=self.actor.norm
            )
            self.critics.append(critic)
            self.targets.append(critic.target())

        self.actor_optim, self.critic_optim = config.adam(self.actor), config.adam(self.critics)
        self.sync = TargetSync(config.target, self.critic_optim.flat, nn.flatten(self.targets))
        self.replay = Replay(config.buffer_size, spec.num_envs)
        self.rng = Stream(spec.seeds, "sample", spec.device)
        self.noise = Stream(spec.seeds, "noise", spec.device)
        # Without memory a transition takes n rows, and only the first of them is learned from.
        recurrent = self.actor.recurrent
        self.length = config.length(recurrent)
        self.burn_in: int = config.burn_in if recurrent else 0
        self.learned_steps: int = config.sequence_length if recurrent else 1
        self.actor_rate, self.critic_rate = (
            config.rate(rate, spec.total_steps)
            for rate in (config.actor_learning_rate, config.critic_learning_rate)
        )
        self.streams = [self.noise]  # all that a gradient step draws from: a variant adds its own
        recordable = nn.recordable(self, self.actor, *self.critics)
        self.train_step = nn.Recorded(self.gradient_step, streams=self.streams, when=recordable)

    def choose(self, out: Tensor, mode: Mode, rng: Stream) -> Tensor:
        """Actions in [-1, 1], [R, N, A], from the actor's outputs; what lies outside gets clipped."""
        raise NotImplementedError

    def learn(self, batch: Draw | Rollout, step: np.ndarray) -> dict[str, Tensor]:
        """One gradient step of everything, on sequences [R, L, B, ...] or on those drawn from the replay."""
        raise NotImplementedError

    def initial_memory(self, num_envs: int) -> Memory:
        return self.actor.initial_memory(num_envs)

    def act(
        self, obs: Tensor, memory: Memory, first: Tensor, *, step: np.ndarray, mode: Mode, rng: Stream
    ) -> Act:
        out, after = self.actor.step(obs, memory, first)
        action = self.choose(out, mode, rng)
        if mode == "explore":
            uniform = 2.0 * rng.uniform(*action.shape[1:]).to(action.dtype) - 1.0
            early = torch.from_numpy(step < self.config.learning_starts).to(action.device)
            action = torch.where(early.view(-1, 1, 1), uniform, action)
        action = self.bounds.apply(action).view(*first.shape, *self.action.shape)
        return Act(action, self.actor.remember(after, action))

    def schedules(self, step: np.ndarray) -> dict[str, np.ndarray]:
        rates = self.config.planned(self.critic_rate, step)
        return {"train/replay_size": self.replay.filled(step)} | rates

    def update(self, rollout: Rollout, *, step: np.ndarray) -> dict[str, Tensor]:
        self.actor.update_normalizer(rollout.obs, rollout.valid, nn.ENOUGH)  # the critics' as well
        self.return_scale.take_in(rollout, step)
        self.replay.add(rollout)
        self.sync.collected(rollout)
        metrics: dict[str, Tensor] = {}
        if len(self.replay) < max(self.config.learning_starts, 1) or self.replay.size < self.length:
            return metrics
        for _ in range(self.config.gradient_steps * self.updates_per_rollout):
            metrics |= self.learn(self.replay.draw(self.config.batch_size, self.length, self.rng), step)
        return metrics

    def learned(self, batch: Rollout) -> Rollout:
        """The steps of a batch that are learned from, [R, S, B, ...]."""
        return batch.steps(self.burn_in, self.burn_in + self.learned_steps)

    def trace(
        self, network: Any, batch: Rollout, learned: Rollout, *, judges: bool = False, ahead: bool = False
    ) -> Trace:
        """Run a network through a batch, from empty memory.

        A critic `judges` the actions taken. A target network looks `ahead`: only what lies
        beyond the steps is asked of it, and without memory that takes no run.
        """
        if ahead and not network.recurrent:
            return Trace(network, None, (), ())

        def inputs(part: Rollout) -> tuple[Any, ...]:
            return part.first, part.action, self.unit(part) if judges else None

        memory = network.initial_memory(batch.reward.shape[2])
        if self.burn_in:
            past = batch.steps(0, self.burn_in)
            with torch.no_grad():
                _, memory = network(past.obs, memory, *inputs(past))
        out, after = network.unroll(learned.obs, memory, *inputs(learned))
        after = tuple(leaf.detach() for leaf in after)
        pairs = zip(memory, after, strict=True)
        before = tuple(torch.cat((start.unsqueeze(1), leaf[:, :-1]), 1) for start, leaf in pairs)
        return Trace(network, out, before, after)

    def judge(self, batch: Rollout, learned: Rollout) -> list[Trace]:
        """How each critic values the actions taken."""
        return [self.trace(critic, batch, learned, judges=True) for critic in self.critics]

    def judge_ahead(
        self, batch: Rollout, learned: Rollout, next_obs: Tensor, last: Tensor, action: Tensor
    ) -> Tensor:
        """The smallest value that a target critic gives to the action [R, S, B, A] at next_obs: [R, S, B]."""
        traces = [self.trace(target, batch, learned, judges=True, ahead=True) for target in self.targets]
        return min_q([trace.beyond(next_obs, last, action) for trace in traces])

    def unit(self, steps: Rollout) -> Tensor:
        """The actions taken, in [-1, 1] and flat: [R, T, B, A]."""
        return self.bounds.invert(steps.action.reshape(*steps.reward.shape, -1))

    def returns(self, batch: Rollout) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """n-step returns of the learned steps, the discount of what follows, its obs, and its time."""
        window = batch.steps(self.burn_in)
        flags = window.terminated, window.truncated
        total, discount, last = n_step(
            window.reward, *flags, self.gamma, self.config.n_step, self.learned_steps
        )
        return total * self.return_scale.scale, discount, take_steps(window.next_obs, last), last

    def critic_loss(self, critics: list[Trace], target: Tensor, learned: Rollout) -> tuple[Tensor, Tensor]:
        """Mean squared error of all critics, [R], and the mean action value in the task's units, [R]."""
        q = torch.stack([critic.out.squeeze(-1) for critic in critics])  # [critics, R, S, B]
        error = (q - target).square().sum(0)
        mean_q = q.detach().mean(0) / self.return_scale.scale
        return masked_mean(error, learned.valid), masked_mean(mean_q, learned.valid)


def min_q(values: list[Tensor]) -> Tensor:
    """The most pessimistic of the critics' values, each [R, S, B, 1]: [R, S, B]."""
    return torch.stack(values).amin(0).squeeze(-1)
