"""Planning by sampling, or model predictive control: imagine many plans from here, do the first
step of the best, and plan again.

Three classics are settings of one loop. Random shooting (Nagabandi et al. 2018) draws actions
uniformly and takes the best plan. The cross-entropy method (de Boer et al., "A tutorial on the
cross-entropy method", 2005; for control Chua et al., "PETS", 2018) draws them around a mean,
and moves it and its spread to those of an elite, several times over. MPPI (Williams et al.,
"Model predictive path integral control", 2017) weighs all plans by exp(return / temperature).

What follows an action is imagined by the task's own dynamics, or by an ensemble of networks
that is learned while acting (Chua et al. 2018, with deterministic members), rewards and ends
included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rlrun.algos.imagination import Ensemble, EnsembleConfig, Known
from rlrun.config import ConfigError, key
from rlrun.core import Act, Algorithm, Memory, Mode, Rollout, Spec
from rlrun.lazy import torch
from rlrun.parts.distributions import finite_bounds
from rlrun.parts.masks import allowed, nth
from rlrun.parts.numbers import column, number
from rlrun.parts.sequences import masked_mean
from rlrun.registry import register
from rlrun.rng import Stream
from rlrun.spaces import Box, Discrete

if TYPE_CHECKING:
    from torch import Tensor

    from rlrun.config.run import RunConfig

Parameters = tuple["Tensor", ...]  # of a distribution over plans; its centre [R, H, 1, N, A] comes first


@dataclass
class MPCConfig:
    dynamics: str = key("the task's own, or learned while acting", choices=("known", "learned"))
    gamma: float = key("discount factor within a plan", min=0, max=1, per_replica=True)
    horizon: int = key("steps of a plan", min=1)
    n_candidates: int = key("plans imagined at a time", min=1)
    iterations: int = key("times that plans are drawn, each time closer to the good ones", min=1)
    n_elites: int | None = key("plans that count, all alike; null: all do, by the temperature", min=1)
    temperature: float | None = key(
        "return that makes a plan e times heavier; null: elites", above=0, per_replica=True
    )
    noise: float | None = key(
        "first spread around the plan so far: deviation in half-ranges, or share of uniform choices; "
        "null: uniform, and no plan is kept",
        above=0,
        per_replica=True,
    )
    correlation: float = key("of a plan's noise from one step to the next", min=0, below=1, per_replica=True)
    smoothing: float = key(
        "weight of the old mean and spread in the new ones", min=0, below=1, per_replica=True
    )
    ensemble: EnsembleConfig = key("the learned dynamics, where they are learned")

    def problems(self) -> list[str]:
        found = []
        if (self.n_elites is None) == (self.temperature is None):
            found.append("n_elites and temperature: one of them must be null, and the other a number")
        if self.n_elites is not None and self.n_elites > self.n_candidates:
            found.append(
                f"n_elites is {self.n_elites}: it must be at most n_candidates ({self.n_candidates})"
            )
        return found

    def conflicts(self, run: RunConfig) -> list[str]:
        return [line.replace("algo.", "algo.ensemble.", 1) for line in self.ensemble.conflicts(run)]


@register("algo", "mpc", MPCConfig)
class MPC(Algorithm):
    """Plan afresh at every step, from the last plan shifted by one: that is the memory.

    Where actions are masked, a plan begins with one that is allowed now; what will be allowed
    later on in a plan nobody knows.

    All noise comes from `points`, fixed numbers in (0, 1) that are drawn once a replica: so
    greedy acting is a function of the observation and the plan. Otherwise each step shifts
    them at random, modulo 1, which leaves each of them uniform (Cranley and Patterson 1976).
    """

    family = "planning"
    takes_masks = True
    obs_kinds = ("box",)
    action_kinds = ("discrete", "box")
    saved: ClassVar = {"points": "weights", "dynamics": "own"}

    @classmethod
    def needs_of(cls, config: MPCConfig) -> tuple[str, ...]:
        return ("dynamics",) if config.dynamics == "known" else ()

    def __init__(self, spec: Spec, config: MPCConfig, model: Any) -> None:
        """Raises ConfigError unless observations are vectors and actions have finite bounds."""
        assert isinstance(spec.obs, Box)
        if len(spec.obs.shape) != 1 or not spec.obs.dtype.startswith("float"):
            raise ConfigError(
                f"planning needs observations that are vectors of floats, these are {spec.obs.dtype} "
                f"{list(spec.obs.shape)}",
                "env=gym can flatten them: env.wrappers=[FlattenObservation]",
            )
        self.spec, self.config = spec, config
        self.rollout_steps, self.updates_per_rollout = config.ensemble.cadence(spec.num_envs)
        self.gamma = number(config.gamma, spec, 4)
        self.temperature = number(config.temperature, spec, 3)
        self.smoothing = number(config.smoothing, spec, 5)
        self.plans = _plans(spec, config.noise)
        self.dtype = getattr(torch, spec.dtype)
        # Noise of each iteration, the same for all envs: [R, I, H, K, 1, numbers a step].
        shape = (config.iterations, config.horizon, config.n_candidates, 1, self.plans.numbers)
        self.points = Stream(spec.seeds, "points", spec.device).uniform(*shape).to(self.dtype)
        lag = np.abs(np.subtract.outer(np.arange(config.horizon), np.arange(config.horizon)))
        factor = np.linalg.cholesky(np.power(column(config.correlation, 3), lag))  # 0 ** 0 is 1
        self.factor = torch.tensor(factor, dtype=self.dtype, device=spec.device)

        self.dynamics: Known | Ensemble
        if config.dynamics == "known":
            assert spec.dynamics is not None
            self.dynamics = Known(spec.dynamics)
        else:
            self.dynamics = Ensemble(spec, config.ensemble, model, self.plans.encode)

    def initial_memory(self, num_envs: int) -> Memory:
        return (self.neutral(num_envs),) if self.config.noise is not None else ()

    def neutral(self, num_envs: int) -> Tensor:
        """A plan for nothing in particular, [R, N, H, A]."""
        shape = (self.spec.replicas, num_envs, self.config.horizon, self.plans.size)
        return self.points.new_full(shape, self.plans.neutral)

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
        # Begin with what is left of the last plan; with an even one where an episode begins.
        neutral = self.neutral(first.shape[1])
        plan = torch.where(first[..., None, None], neutral, memory[0]) if memory else neutral
        # Search around it, with points that are shifted at random except when greedy.
        points = self.points
        if mode != "greedy":
            _, iterations, horizon, *_, numbers = points.shape
            shift = rng.uniform(iterations, horizon, 1, 1, numbers).to(points)
            points = (points + shift).frac()
        plan, promised = self.improve(plan.transpose(1, 2).unsqueeze(2), obs, points, mask)  # [R, H, 1, N, A]
        action = self.plans.best(allowed(plan[:, 0, 0], mask))  # [R, N] or [R, N, A]
        # Before the dynamics are learned, act at random.
        if mode == "explore":
            uniform = self.plans.uniform(rng.uniform(action.shape[1], self.plans.numbers).to(points), mask)
            early = torch.from_numpy(step < self.dynamics.starts).to(action.device)
            action = torch.where(
                early.view(-1, *[1] * (action.ndim - 1)), self.plans.actions(uniform), action
            )
        # The rest of the plan is where the next step begins.
        if memory:
            rest = plan[:, 1:].squeeze(2).transpose(1, 2)
            memory = (torch.cat((rest, neutral[:, :, :1]), 2),)
        return Act(action, memory, {"promised": promised} if mode == "explore" else {})

    def improve(
        self, plan: Tensor, obs: Tensor, points: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """A better plan [R, H, 1, N, A] from obs [R, N, F], and the return it promises, [R, N].

        A mask [R, N, A] says which actions are allowed at its first step.
        """
        tiny = torch.finfo(points.dtype).eps
        noise = torch.special.ndtri(points.clamp(tiny, 1.0 - tiny))
        which = "gh" if self.factor.ndim == 2 else "rgh"  # the same in every replica, or each its own
        noise = torch.einsum(f"{which},rihknc->rigknc", self.factor, noise)
        parameters = self.plans.around(plan)
        if mask is not None:  # of probabilities: the others get what is not allowed
            begin = parameters[0][:, :1] * mask[:, None, None]
            begin = begin / begin.sum(-1, keepdim=True).clamp(min=tiny)
            parameters = (torch.cat((begin, parameters[0][:, 1:]), 1),)
        for numbers in noise.unbind(1):
            candidates = self.plans.draw(parameters, numbers)  # [R, H, K, N, ...]
            returns = self.imagine(obs, self.plans.actions(candidates))  # [R, K, N]
            if mask is not None:  # a share of 0 may come up by rounding
                begins = mask.unsqueeze(1).expand(*returns.shape, -1).gather(-1, candidates[:, 0, ..., None])
                returns = returns.masked_fill(~begins.squeeze(-1), torch.finfo(returns.dtype).min)
            weights = self.weigh(returns)
            fitted = self.plans.fit(candidates, weights[:, None, :, :, None])
            old = parameters
            parameters = tuple(torch.lerp(a, b, self.smoothing) for a, b in zip(fitted, old, strict=True))
        return parameters[0], (weights * returns).sum(1)

    def imagine(self, obs: Tensor, actions: Tensor) -> Tensor:
        """Returns [R, K, N] of taking actions [R, H, K, N, ...] from obs [R, N, F]; none after an end."""
        lead = (len(obs), self.dynamics.members, actions.shape[2], obs.shape[1])
        obs = obs[:, None, None].expand(*lead, -1)
        total, weight = obs.new_zeros(lead), obs.new_ones(lead)
        for action in actions.unbind(1):
            obs, reward, terminated = self.dynamics(obs, action.unsqueeze(1).expand(*lead, *action.shape[3:]))
            total += weight * reward
            weight = self.gamma * weight * ~terminated
        returns = total.mean(1)
        return torch.where(returns.isfinite(), returns, torch.finfo(returns.dtype).min)

    def weigh(self, returns: Tensor) -> Tensor:
        """What each candidate counts, [R, K, N], 1 in all; candidates as good as the last elite are elite."""
        if self.temperature is not None:
            return (returns / self.temperature).softmax(1)
        assert self.config.n_elites is not None
        last = returns.topk(self.config.n_elites, 1).values[:, -1:]
        elite = (returns >= last).to(returns.dtype)
        return elite / elite.sum(1, keepdim=True)

    def update(self, rollout: Rollout, *, step: np.ndarray) -> dict[str, Tensor]:
        """`train/surprise` is the dynamics' mean squared error on steps that they have not learned from."""
        lead = (len(rollout.obs), self.dynamics.members, *rollout.reward.shape[1:])
        obs, action = (x.unsqueeze(1).expand(*lead, *x.shape[3:]) for x in (rollout.obs, rollout.action))
        with torch.no_grad():
            next_obs, reward, _ = self.dynamics(obs, action)  # [R, members, T, N, ...]
        error = (next_obs.mean(1) - rollout.next_obs).square().sum(-1)
        error += (reward.mean(1) - rollout.reward).square()
        return {
            "train/surprise": masked_mean(error, rollout.valid),
            "train/promised": masked_mean(rollout.extras["promised"], rollout.valid),
            **self.dynamics.learn(rollout, self.updates_per_rollout),
        }


class NormalPlans:
    """Each element of each action a normal, clipped to the bounds; mean and deviation in [-1, 1]."""

    neutral = 0.0

    def __init__(self, spec: Spec, box: Box, noise: float | None) -> None:
        self.size = self.numbers = box.size
        self.noise, self.shape = number(noise, spec, 5), box.shape
        self.bounds = finite_bounds(box, spec)

    def around(self, plan: Tensor) -> Parameters:
        """The first mean and deviation."""
        return plan, torch.zeros_like(plan) + (0.0 if self.noise is None else self.noise)

    def draw(self, parameters: Parameters, noise: Tensor) -> Tensor:
        """Candidates [R, H, K, N, A] in [-1, 1], from normal noise [R, H, K, 1, A]."""
        if self.noise is None:
            return self.uniform(torch.special.ndtr(noise))
        mean, deviation = parameters
        return torch.addcmul(mean, deviation, noise).clamp(-1.0, 1.0)

    def uniform(self, points: Tensor, mask: Tensor | None = None) -> Tensor:
        """Any candidates, from numbers [..., A] in (0, 1)."""
        return 2.0 * points - 1.0

    def fit(self, candidates: Tensor, weights: Tensor) -> Parameters:
        """Mean and deviation of weighted candidates."""
        mean = (weights * candidates).sum(2, keepdim=True)
        return mean, (weights * (candidates - mean).square()).sum(2, keepdim=True).sqrt()

    def actions(self, candidates: Tensor) -> Tensor:
        """As the env takes them."""
        return self.bounds.apply(candidates).unflatten(-1, self.shape)

    best = actions  # of a mean [R, N, A]

    def encode(self, actions: Tensor) -> Tensor:
        """Actions [..., *shape] as inputs of a network, [..., A]."""
        return self.bounds.invert(actions.flatten(actions.ndim - len(self.shape)))


class CategoricalPlans:
    """Each step a choice; its parameters are the probabilities."""

    numbers = 1

    def __init__(self, spec: Spec, space: Discrete, noise: float | None) -> None:
        self.size, self.neutral = space.n, 1.0 / space.n
        self.noise = 1.0 if noise is None else number(np.minimum(noise, 1.0), spec, 5)
        self.eye = torch.eye(space.n, dtype=getattr(torch, spec.dtype), device=spec.device)

    def around(self, plan: Tensor) -> Parameters:
        """The plan's probabilities, mixed with a share of uniform ones."""
        return (plan + self.noise * (self.neutral - plan),)

    def draw(self, parameters: Parameters, noise: Tensor) -> Tensor:
        """Candidates [R, H, K, N], from normal noise [R, H, K, 1, 1]: choices by their cumulative share."""
        below = parameters[0].cumsum(-1)[..., :-1]
        return (torch.special.ndtr(noise) > below).sum(-1)

    def uniform(self, points: Tensor, mask: Tensor | None) -> Tensor:
        """Any candidates that a mask [..., A] allows, from numbers [..., 1] in (0, 1)."""
        if mask is None:
            return (points.squeeze(-1) * self.size).long()
        count = mask.sum(-1)
        return nth(mask, torch.minimum((points.squeeze(-1) * count).long(), count - 1))

    def fit(self, candidates: Tensor, weights: Tensor) -> Parameters:
        """How often each action stands in weighted candidates."""
        return ((weights * self.encode(candidates)).sum(2, keepdim=True),)

    def actions(self, candidates: Tensor) -> Tensor:
        """As the env takes them."""
        return candidates

    def best(self, probabilities: Tensor) -> Tensor:
        """The likeliest actions [R, N]."""
        return probabilities.argmax(-1)

    def encode(self, actions: Tensor) -> Tensor:
        """Actions [...] as inputs of a network, one-hot [..., A]."""
        return self.eye[actions]


def _plans(spec: Spec, noise: float | None) -> NormalPlans | CategoricalPlans:
    if isinstance(spec.action, Discrete):
        return CategoricalPlans(spec, spec.action, noise)
    assert isinstance(spec.action, Box)
    return NormalPlans(spec, spec.action, noise)
