"""Generative adversarial imitation: Ho and Ermon, "Generative adversarial imitation learning"
(2016), on PPO, with a gradient penalty (Gulrajani et al. 2017; Kostrikov et al. 2019).

A discriminator learns to tell the expert's steps from the student's, and its logit l
rewards the student: PPO never sees the env's reward. Which function of l matters wherever
an episode's length is in the student's hands. `negative`, log D = -softplus(-l), makes
every step a loss, so that it pays to end; `positive`, -log(1 - D) = softplus(l), makes it
pay to live on, which on CartPole solves the task without any expert; `logit`, log D -
log(1 - D) = l, has either sign and no such bias at the point of confusion (Fu et al.,
"AIRL", 2018). Only tasks of a fixed length show what was really imitated.

Without a data set it brings its own expert: a PPO teacher that learns from the env's
reward, then shows its greedy steps, and is never heard again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from rlrun import nn
from rlrun.algos.ppo import PPO, PPOConfig
from rlrun.config import key
from rlrun.core import Act, Algorithm, Dataset, Memory, Mode, Rollout, Spec
from rlrun.lazy import torch
from rlrun.models import MLPConfig
from rlrun.parts.numbers import number
from rlrun.parts.sequences import masked_mean
from rlrun.registry import entry_of, register
from rlrun.rng import Stream
from rlrun.state import Stateful

if TYPE_CHECKING:
    from torch import Tensor

    from rlrun.config.run import RunConfig


@dataclass
class DiscriminatorConfig:
    network: MLPConfig = key("what tells the expert's steps from the student's, by observation and action")
    learning_rate: float = key("Adam's step size", above=0, per_replica=True)
    batch_size: int = key("steps of the expert, and as many of the student, in a minibatch", min=1)
    gradient_steps: int = key("gradient steps for each rollout; 0 leaves a random reward", min=0)
    gradient_penalty: float = key(
        "weight of the squared difference of its slope from 1", min=0, per_replica=True
    )


@dataclass
class GAILConfig(PPOConfig):
    """PPO's keys hold for the student and for the teacher."""

    teacher_steps: int = key(
        "the first of total_steps, in which a teacher learns from the env's reward; with data there are none",
        min=1,
    )
    demo_steps: int = key("the next ones, of which the teacher's are kept: the demonstration", min=1)
    reward: str = key(
        "what the student gets for the judge's logit l: l, softplus(l) > 0, or -softplus(-l) < 0",
        choices=("logit", "positive", "negative"),
    )
    discriminator: DiscriminatorConfig = key("the judge of the student's steps")

    def taught(self, num_envs: int) -> int:
        """Env steps until the student's turn, where there is a teacher."""
        return sum(self.rollouts(num_envs)) * self.rollout_steps * num_envs

    def rollouts(self, num_envs: int) -> tuple[int, int]:
        """Rollouts in which the teacher learns, and in which it is recorded."""
        size = self.rollout_steps * num_envs
        return -(-self.teacher_steps // size), -(-self.demo_steps // size)

    def conflicts(self, run: RunConfig) -> list[str]:
        found = super().conflicts(run)
        taught = self.taught(run.num_envs)
        if entry_of(run.data).kind == "none" and taught >= run.total_steps:
            found.append(
                f"total_steps is {run.total_steps}: algo.teacher_steps and algo.demo_steps take {taught} "
                "of them, in whole rollouts; raise it, lower them, or name an expert's data=..."
            )
        return found


class Steps(NamedTuple):
    """Some steps of each replica, [R, K, ...]."""

    obs: Tensor
    action: Tensor
    valid: Tensor

    def at(self, index: Tensor) -> Steps:
        """Those at index [R, B]."""
        rows = torch.arange(len(index), device=index.device)[:, None]
        return Steps(*(leaf[rows, index] for leaf in self))


class Logged(Stateful):
    """An expert that is there from the beginning: a data set, one copy of it for all replicas."""

    def __init__(self, spec: Spec, data: Dataset) -> None:
        obs, action = (torch.from_numpy(leaf).to(spec.device) for leaf in (data.obs, data.action))
        valid = torch.ones(len(obs), dtype=torch.bool, device=spec.device)
        self.steps = Steps(*(leaf.expand(spec.replicas, *leaf.shape) for leaf in (obs, action, valid)))


class Teacher(Algorithm):
    """An expert to be: PPO with the env's reward, whose greedy steps are recorded at the end."""

    saved: ClassVar = {
        "ppo": "own",
        "obs": "replay",
        "action": "replay",
        "valid": "replay",
        "rollouts": "optimizer",
    }

    def __init__(self, spec: Spec, config: GAILConfig, model: Any) -> None:
        self.lessons, self.shows = config.rollouts(spec.num_envs)
        lessons = self.lessons * config.rollout_steps * spec.num_envs
        self.ppo = PPO(replace(spec, total_steps=lessons), config, model)
        self.rollouts = torch.zeros(spec.replicas, dtype=torch.int64)  # the same number in every replica
        self.obs, self.action = (
            torch.zeros(
                (spec.replicas, config.demo_steps, *space.shape),
                dtype=getattr(torch, spec.dtype if space.dtype.startswith("float") else space.dtype),
                device=spec.device,
            )
            for space in (spec.obs, spec.action)
        )
        self.valid = torch.zeros(self.obs.shape[:2], dtype=torch.bool, device=spec.device)
        self.steps = Steps(self.obs, self.action, self.valid)

    @property
    def ready(self) -> bool:
        return int(self.rollouts[-1]) >= self.lessons + self.shows

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
        if int(self.rollouts[-1]) >= self.lessons:
            mode = "greedy"
        return self.ppo.act(obs, memory, first, step=step, mode=mode, rng=rng, mask=mask)

    def update(self, rollout: Rollout, *, step: np.ndarray) -> dict[str, Tensor]:
        shown = int(self.rollouts[-1]) - self.lessons
        self.rollouts += 1
        if shown < 0:
            return self.ppo.update(rollout, step=step)
        size = rollout.valid[0].numel()
        for kept, leaf in zip(self.steps, (rollout.obs, rollout.action, rollout.valid), strict=True):
            room = kept[:, shown * size : (shown + 1) * size]
            room.copy_(leaf.transpose(1, 2).flatten(1, 2)[:, : room.shape[1]])  # one env after the other
        return {}


class Discriminator(Stateful):
    """Gives each step a logit [R, rows]: above 0 for what looks like the expert's."""

    recordable = True
    saved: ClassVar = {"body": "weights", "norm": "normalizer", "optim": "optimizer", "rng": "random"}

    def __init__(self, spec: Spec, config: DiscriminatorConfig) -> None:
        self.config, network = config, config.network
        dtype, device = getattr(torch, spec.dtype), torch.device(spec.device)
        self.encodings = [nn.Encoding(space, dtype, device) for space in (spec.obs, spec.action)]
        width = sum(encoding.size for encoding in self.encodings)
        init = nn.Init.of(spec, Stream(spec.seeds, "discriminator/init"), network.init)
        self.body = nn.MLP(width, network.hidden, network.activation, init, [(1, 1.0)])
        self.norm = nn.RunningNorm(spec.replicas, width, dtype, spec.device)
        self.optim = nn.Adam(self.body)
        self.learning_rate = number(config.learning_rate, spec, dtype="float64")
        self.gradient_penalty = number(config.gradient_penalty, spec)
        self.rng = Stream(spec.seeds, "discriminator", spec.device)
        self.train_step = nn.Recorded(self.learn, streams=[self.rng], when=nn.recordable(self))

    def features(self, steps: Steps) -> Tensor:
        """Observation and action, integers as one-hot: [R, rows, F]."""
        pairs = zip(self.encodings, (steps.obs, steps.action), strict=True)
        return torch.cat([encode(values) for encode, values in pairs], -1)

    def inputs(self, steps: Steps) -> Tensor:
        return self.norm.normalise(self.features(steps))

    def logit(self, inputs: Tensor) -> Tensor:
        return self.body(inputs).squeeze(-1)

    def update(self, expert: Steps, student: Steps) -> dict[str, Tensor]:
        """Learn to tell a rollout's steps from the expert's; metrics [R]."""
        config, metrics = self.config, []
        if config.network.normalize_obs:
            self.norm.update(self.features(student), student.valid)
        for _ in range(config.gradient_steps):
            real, fake = (
                steps.at(self.rng.integers(steps.valid.shape[1], config.batch_size))
                for steps in (expert, student)
            )
            metrics.append(self.train_step(real, fake))
        if not metrics:
            return {}
        return dict(zip(METRICS, torch.stack(metrics).mean(0), strict=True))

    def learn(self, expert: Steps, student: Steps) -> Tensor:
        """One gradient step on steps [R, B, ...] of either; the metrics [2, R] in the order of METRICS."""
        real, fake = self.inputs(expert), self.inputs(student)
        right = torch.cat((self.logit(real), -self.logit(fake)), 1)  # [R, 2 B], above 0 where it is right
        valid = torch.cat((expert.valid, student.valid), 1)
        mix = self.rng.uniform(real.shape[1], 1).to(real.dtype)
        between = torch.lerp(fake, real, mix).requires_grad_()
        (slope,) = torch.autograd.grad(self.logit(between).sum(), between, create_graph=True)
        excess = (slope.square().sum(-1) + 1e-12).sqrt() - 1.0  # [R, B]
        error = mean(torch.nn.functional.softplus(-right), valid)
        penalty = mean(excess.square(), expert.valid & student.valid)
        self.optim.step(error + self.gradient_penalty * penalty, self.learning_rate)
        return torch.stack((error.detach(), mean((right.detach() > 0).to(error.dtype), valid)))


METRICS = ("loss/discriminator", "train/discriminator_accuracy")


def mean(values: Tensor, valid: Tensor) -> Tensor:
    """Of values [R, rows] where `valid`: [R]."""
    return masked_mean(values.unsqueeze(1), valid.unsqueeze(1))


@register("algo", "gail", GAILConfig)
class GAIL(Algorithm):
    """Imitate an expert's steps by reinforcement learning, without the env's reward."""

    family = "imitation"
    stochastic = True
    takes_memory = True
    takes_masks = True
    obs_kinds, action_kinds = PPO.obs_kinds, PPO.action_kinds
    takes = ("dataset",)
    # Acting depends on the student alone, so neither of the others counts as weights here.
    saved: ClassVar = {"student": "own", "expert": "optimizer", "discriminator": "optimizer"}

    def __init__(self, spec: Spec, config: GAILConfig, model: Any) -> None:
        self.config, self.rollout_steps, self.begin = config, config.rollout_steps, 0
        self.expert: Logged | Teacher
        if spec.dataset is not None:
            self.expert = Logged(spec, spec.dataset)
        else:
            self.expert, self.begin = Teacher(spec, config, model), config.taught(spec.num_envs)
        self.student = PPO(replace(spec, total_steps=max(spec.total_steps - self.begin, 1)), config, model)
        self.discriminator = Discriminator(spec, config.discriminator)

    def initial_memory(self, num_envs: int) -> Memory:
        return self.student.initial_memory(num_envs)

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
        # A recurrent student takes over in mid-episode with the teacher's memory: as good as any to it.
        actor = self.teacher if mode == "explore" else None
        return (actor or self.student).act(obs, memory, first, step=step, mode=mode, rng=rng, mask=mask)

    @property
    def teacher(self) -> Teacher | None:
        """Whose turn it is while there is an expert to be."""
        return self.expert if isinstance(self.expert, Teacher) and not self.expert.ready else None

    def update(self, rollout: Rollout, *, step: np.ndarray) -> dict[str, Tensor]:
        if self.teacher:
            metrics = self.teacher.update(rollout, step=step)
            return {tag.replace("/", "/teacher_"): value for tag, value in metrics.items()}
        seen = Steps(*(leaf.flatten(1, 2) for leaf in (rollout.obs, rollout.action, rollout.valid)))
        metrics = self.discriminator.update(self.expert.steps, seen)
        reward = self.reward(seen).view(rollout.reward.shape)
        metrics |= {"train/imitation_reward": masked_mean(reward, rollout.valid)}
        return metrics | self.student.update(
            rollout.with_(reward=reward), step=np.maximum(step - self.begin, 0)
        )

    def reward(self, steps: Steps) -> Tensor:
        """What the student is paid for steps [R, rows, ...]: [R, rows], detached."""
        with torch.no_grad():
            logit = self.discriminator.logit(self.discriminator.inputs(steps))
        if self.config.reward == "logit":
            return logit
        sign = 1.0 if self.config.reward == "positive" else -1.0
        return sign * torch.nn.functional.softplus(sign * logit)
