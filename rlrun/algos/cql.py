"""Conservative Q-learning: Kumar et al., "Conservative Q-learning for offline reinforcement
learning" (2020), the variant CQL(H).

From logged steps alone, a Q-network can believe what it likes of actions that nobody took,
and a policy that seeks high values seeks just those. CQL adds to DQN's loss, or to that of
SAC's critics, alpha times how far a soft maximum over all actions lies above the value of
the action that the data have,

    alpha (log sum_a exp q(s, a) - q(s, a_data)),

so that values are pressed down wherever the data do not hold them up. Over continuous
actions the sum is an integral, estimated from actions drawn uniformly and from the policy.
With alpha = 0 it is plain DQN, or SAC, on logged steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rlrun.algos.actor_critic import Trace
from rlrun.algos.dqn import DQN, DQNConfig, Values
from rlrun.algos.sac import SAC, SACConfig
from rlrun.config import key
from rlrun.core import Act, Algorithm, Memory, Mode, Rollout, Spec
from rlrun.lazy import torch
from rlrun.parts.explore import EpsilonConfig
from rlrun.parts.gradient import GradientConfig
from rlrun.parts.numbers import number
from rlrun.parts.offline import LoggedReplay
from rlrun.parts.offpolicy import SequenceConfig
from rlrun.parts.prioritized import PriorityConfig
from rlrun.parts.sequences import masked_mean
from rlrun.registry import register
from rlrun.rng import Stream
from rlrun.spaces import Discrete

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class DiscreteConfig:
    double: bool = key("choose the next action with the online network")
    dueling: bool = key("split the head into a value and advantages")
    loss: str = key("the error's loss", choices=("huber", "mse"))


@dataclass
class ContinuousConfig:
    actor_learning_rate: float = key(
        "Adam's step size for the policy at the start", above=0, per_replica=True
    )
    temperature: float = key(
        "what a nat of entropy is worth in reward, at the start", above=0, per_replica=True
    )
    temperature_learning_rate: float = key(
        "Adam's step size for its logarithm; 0 keeps it", min=0, per_replica=True
    )
    target_entropy: float | None = key(
        "entropy to keep, in nats; null: minus the action dimensions", per_replica=True
    )
    samples: int = key("actions drawn uniformly, and as many from the policy, for the soft maximum", min=1)


@dataclass
class CQLConfig(SequenceConfig, GradientConfig):
    alpha: float = key(
        "weight of the penalty on values above the data's; 0 is plain DQN or SAC", min=0, per_replica=True
    )
    gamma: float = key("discount factor", min=0, max=1, per_replica=True)
    batch_size: int = key("sequences in a minibatch", min=1)
    discrete: DiscreteConfig = key("for discrete actions: as DQN")
    continuous: ContinuousConfig = key("for continuous actions: as SAC")

    def problems(self) -> list[str]:
        if self.target.unit == "updates":
            return []
        return [f"target.unit is {self.target.unit}: there are only updates here; say updates"]

    def dqn(self) -> DQNConfig:
        priority, epsilon = PriorityConfig(0.0, 0.0, 0.0), EpsilonConfig("constant", 0.0, 0.0, 0.0)
        own = {"sampling": "uniform", "priority": priority, "epsilon": epsilon, "clip_targets": False}
        return self._like(DQNConfig, vars(self.discrete) | own)

    def sac(self) -> SACConfig:
        own = {
            "critic_learning_rate": self.learning_rate,
            "alpha": self.continuous.temperature,
            "alpha_learning_rate": self.continuous.temperature_learning_rate,
        }
        return self._like(SACConfig, vars(self.continuous) | own)

    def _like(self, kind: type, own: dict[str, Any]) -> Any:
        """A config of this kind with its own values; data need no replay."""
        unused = {"buffer_size": 1, "learning_starts": 0, "train_every": 1, "gradient_steps": 1}
        values = vars(self) | unused | own
        return kind(**{f.name: values[f.name] for f in fields(kind)})


class ConservativeDQN(DQN):
    """DQN plus the penalty."""

    recordable = True

    def __init__(self, spec: Spec, config: CQLConfig, model: Any) -> None:
        super().__init__(spec, config.dqn(), model)
        self.networks, self.weight = (self.net,), number(config.alpha, spec, 3)

    def penalty(self, every_q: Tensor, q: Tensor) -> Tensor:
        return self.weight * (every_q.logsumexp(-1) - q)  # what is not allowed adds exp(-inf)

    def recurrent_values(self, batch: Rollout) -> Values:
        """No memory was logged: sequences begin with none."""
        return super().recurrent_values(batch.with_(memory=self.initial_memory(batch.reward.shape[2])))


class ConservativeSAC(SAC):
    """SAC plus the penalty, for each critic."""

    recordable = True
    saved: ClassVar = SAC.saved | {"proposals": "random"}

    def __init__(self, spec: Spec, config: CQLConfig, model: Any) -> None:
        super().__init__(spec, config.sac(), model)
        self.networks, self.weight = (self.actor, *self.critics), number(config.alpha, spec)
        self.samples = config.continuous.samples
        self.proposals = Stream(spec.seeds, "proposals", spec.device)
        self.streams.append(self.proposals)

    def penalty(self, actor: Trace, critics: list[Trace], learned: Rollout) -> Tensor:
        action, log_density = self.propose(actor)
        gaps = [self.soft_maximum(c, learned, action, log_density) - c.out.squeeze(-1) for c in critics]
        return self.weight * masked_mean(torch.stack(gaps).sum(0), learned.valid)

    def propose(self, actor: Trace) -> tuple[Tensor, Tensor]:
        """2 K actions at each step, half of them uniform and half by the policy, and their log densities.

        They are [R, S, B * 2 K, A] and [R, S, B, 2 K].
        """
        with torch.no_grad():
            policy = self.policy(actor.out.unsqueeze(-2).expand(*actor.out.shape[:3], self.samples, -1))
            drawn, log_prob = policy.rsample(self.proposals)  # [R, S, B, K, A], [R, S, B, K]
            uniform = 2.0 * self.proposals.uniform(*drawn.shape[1:]).to(drawn.dtype) - 1.0
            log_uniform = torch.full_like(log_prob, -self.action.size * math.log(2.0))
            action = torch.cat((uniform, drawn), -2).flatten(2, 3)
            return action, torch.cat((log_uniform, log_prob), -1)

    def soft_maximum(self, critic: Trace, learned: Rollout, action: Tensor, log_density: Tensor) -> Tensor:
        """log of the integral of exp q over [-1, 1]^A, by importance sampling: [R, S, B]."""
        count = log_density.shape[-1]

        def repeat(leaf: Tensor) -> Tensor:
            return leaf.repeat_interleave(count, 2)

        many = Trace(critic.network, None, tuple(repeat(leaf) for leaf in critic.before), ())
        steps = learned.with_(obs=repeat(learned.obs), first=repeat(learned.first))
        q = many.instead(steps, action).view_as(log_density)
        return (q - log_density).logsumexp(-1) - math.log(count)


@register("algo", "cql", CQLConfig)
class CQL(Algorithm):
    """Learn from logged steps what they hold up, and no more (Kumar et al. 2020)."""

    rollout_steps = 0
    action_kinds = ("discrete", "box")
    needs = ("dataset",)
    family = "offline"
    takes_memory = True
    takes_masks = True
    saved: ClassVar = {"learner": "own"}

    def __init__(self, spec: Spec, config: CQLConfig, model: Any) -> None:
        self.config = config
        kind = ConservativeDQN if isinstance(spec.action, Discrete) else ConservativeSAC
        self.learner: ConservativeDQN | ConservativeSAC = kind(replace(spec, num_envs=1), config, model)
        self.stochastic = self.learner.stochastic
        if isinstance(self.learner, DQN):
            self.q = self.learner.q
        if spec.dataset is not None:  # a policy that only acts has none
            self.data = LoggedReplay(spec.dataset, spec, self.learner.length)
            for steps in self.data.in_order():
                self.learner.return_scale.take_in(steps)
                self.learner.networks[0].update_normalizer(steps.obs, steps.valid)  # which all share

    def initial_memory(self, num_envs: int) -> Memory:
        return self.learner.initial_memory(num_envs)

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
        masked = {} if mask is None else {"mask": mask}
        return self.learner.act(obs, memory, first, step=step, mode=mode, rng=rng, **masked)

    def update(self, rollout: Rollout, *, step: np.ndarray) -> dict[str, Tensor]:
        return self.learner.learn(self.data.sample(self.config.batch_size, self.learner.rng), step)
