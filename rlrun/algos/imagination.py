"""What a planner imagines with: the task's own dynamics, or an ensemble of networks learned while acting.

Chua et al., "Deep reinforcement learning in a handful of trials using probabilistic dynamics
models" (2018), with deterministic members; rewards and ends are learned as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rlrun import nn
from rlrun.config import key
from rlrun.core import Dynamics, Rollout, Spec
from rlrun.lazy import torch
from rlrun.parts.distributions import Bounds
from rlrun.parts.numbers import number
from rlrun.parts.offpolicy import BufferConfig
from rlrun.parts.replay import Draw, Replay
from rlrun.parts.sequences import mean_weight
from rlrun.rng import Stream, child, keys
from rlrun.spaces import Box, Discrete
from rlrun.state import State, Stateful, copy_leaves

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class EnsembleConfig(BufferConfig):
    members: int = key("networks; a plan's return is the mean of what they expect", min=1, max=1000)
    learning_rate: float = key("Adam's step size", above=0, per_replica=True)


class Known(Stateful):
    """The task's own laws: one member, and nothing to learn."""

    members, starts = 1, 0

    def __init__(self, laws: Dynamics) -> None:
        self.laws = laws

    def __call__(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.laws(obs, action)

    def learn(self, rollout: Rollout, updates: int) -> dict[str, Tensor]:
        return {}


class Ensemble(Stateful):
    """Learned `core.Dynamics`: E networks a replica, apart by their first weights and what they are shown.

    They are one network of R * E replicas, from observations (normalised if the model says
    so) and actions to the change of the observation and the reward, both normalised, and
    the logit of an end.
    """

    recordable = True
    saved: ClassVar = {
        "weights": "weights",
        "targets": "normalizer",
        "moments": "optimizer",
        "replay": "replay",
        "rng": "random",
    }

    def __init__(
        self, spec: Spec, config: EnsembleConfig, model: Any, encode: Callable[[Tensor], Tensor]
    ) -> None:
        assert isinstance(spec.obs, Box)
        self.config, self.encode, self.columns = config, encode, spec.obs.size + 1
        self.members, self.starts = config.members, config.learning_starts
        seeds = child(keys(spec.seeds, "member")[:, None], np.arange(self.members)).ravel().tolist()
        heads = [nn.Head(self.columns), nn.Head(1)]
        size = spec.action.n if isinstance(spec.action, Discrete) else spec.action.size  # type: ignore[union-attr]
        self.net = nn.build_network(
            model,
            spec.obs,
            heads,
            Stream(seeds, "init"),
            replace(spec, seeds=tuple(seeds)),
            extra_inputs=size,
        )
        self.optim = nn.Adam(self.net)
        rate = config.learning_rate  # of a replica's members the same
        each = np.repeat(rate, self.members) if isinstance(rate, np.ndarray) else rate
        self.learning_rate = number(each, spec, dtype="float64")
        self.weights = Folded(self.net.state_dict, spec.replicas, self.net.named_parameters)
        self.moments = Folded(self.optim.state, spec.replicas)
        self.targets = nn.RunningNorm(
            spec.replicas, self.columns, getattr(torch, spec.dtype), spec.device
        )  # of changes and rewards, [R, F + 1]
        self.replay = Replay(config.buffer_size, spec.num_envs)
        self.rng = Stream(spec.seeds, "sample", spec.device)
        bounds = Bounds(spec.obs, spec.dtype, spec.device)
        self.low, self.high = bounds.low, bounds.high
        self.train_step = nn.Recorded(self.gradient_step, when=nn.recordable(self, self.net))

    def __call__(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Each member's next_obs, reward and terminated; inputs and outputs are [R, E, ..., features]."""
        out = self.outputs(obs.flatten(0, 1), action.flatten(0, 1)).view(*obs.shape[:-1], -1)
        lead = (-1, *[1] * (obs.ndim - 2), self.columns)
        scale, shift = self.targets.scale.view(lead), self.targets.shift.view(lead)
        expected = (out[..., :-1] - shift) / scale
        next_obs = (obs + expected[..., :-1]).clamp(self.low, self.high)
        return next_obs, expected[..., -1], out[..., -1] > 0.0

    def outputs(self, obs: Tensor, action: Tensor) -> Tensor:
        """The networks' columns [R * E, rows, F + 2], for inputs [R * E, ...]."""
        never = torch.zeros((), dtype=torch.bool, device=obs.device)  # there is no memory to clear
        return self.net.step(obs, (), never, extra=self.encode(action))[0]

    def learn(self, rollout: Rollout, updates: int) -> dict[str, Tensor]:
        """Store a rollout, and take gradient steps once there is enough; metrics [R]."""
        config = self.config
        target, valid = _changes(rollout), rollout.valid
        self.targets.update(target, valid & target.isfinite().all(-1))
        self.net.update_normalizer(
            rollout.obs.repeat_interleave(self.members, 0), valid.repeat_interleave(self.members, 0)
        )
        self.replay.add(rollout)
        if len(self.replay) < max(config.learning_starts, 1):
            return {}
        for _ in range(config.gradient_steps * updates):
            loss, grad_norm = self.train_step(self.replay.draw(self.members * config.batch_size, 1, self.rng))
        return {
            "loss/dynamics": loss.view(-1, self.members).mean(1),
            "train/grad_norm": grad_norm.view(-1, self.members).mean(1),
        }

    def gradient_step(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """The loss of every member and the norm of its gradient, [R * E]."""
        loss = self.loss(self.replay.at(draw))
        return loss, self.optim.step(loss, self.learning_rate)

    def loss(self, batch: Rollout) -> Tensor:
        """Of every member on a part of its own of the batch [R, 1, E * B, ...]: [R * E]."""
        target = self.targets.normalise(_changes(batch).squeeze(1))  # [R, E * B, F + 1]
        out = self.outputs(self.deal(batch.obs[:, 0]), self.deal(batch.action[:, 0]))  # [R * E, B, F + 2]
        error = 0.5 * (out[..., :-1] - self.deal(target)).square().sum(-1)
        ended = self.deal(batch.terminated[:, 0]).to(out.dtype)
        error += torch.nn.functional.binary_cross_entropy_with_logits(out[..., -1], ended, reduction="none")
        weight = mean_weight(self.deal(batch.valid[:, 0]).unsqueeze(1), error.dtype).squeeze(1)
        return (error * weight).sum(1)

    def deal(self, x: Tensor) -> Tensor:
        """[R, E * B, ...] -> [R * E, B, ...]: rows for each member."""
        return x.reshape(len(x) * self.members, self.config.batch_size, *x.shape[2:])


def _changes(rollout: Rollout) -> Tensor:
    """What an ensemble is to predict: [R, T, N, F + 1], changes of the observation and rewards."""
    return torch.cat((rollout.next_obs - rollout.obs, rollout.reward.unsqueeze(-1)), -1)


class Folded:
    """Saves what has replicas and members as one axis, leaves [R * E, ...], as [R, E, ...]."""

    def __init__(self, leaves: Callable[[], State], replicas: int, parameters: Any = tuple) -> None:
        """`parameters` gives those of the leaves that learning moves, by name."""
        self._leaves, self._replicas, self._parameters = leaves, replicas, parameters

    def state(self) -> State:
        return {name: leaf.unflatten(0, (self._replicas, -1)) for name, leaf in self._leaves().items()}

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, leaf.unflatten(0, (self._replicas, -1))) for name, leaf in self._parameters())

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        copy_leaves(self.state(), state, "ensemble")
