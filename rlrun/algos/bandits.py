"""Bandits: which of K arms to pull next, when a pull tells of no arm but its own.

All of them count the pulls of each arm and keep its mean reward (Sutton and Barto,
"Reinforcement Learning", 2018: incremental means 2.4, constant steps 2.5, optimistic
starts 2.6). They differ in the score by which an arm is chosen: the highest is pulled,
ties at random. Exploration noise is added to the scores.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rlrun.config import ConfigError, key
from rlrun.core import Act, Algorithm, Memory, Mode, Rollout, Spec
from rlrun.lazy import torch
from rlrun.parts.masks import allowed
from rlrun.parts.numbers import number
from rlrun.registry import register
from rlrun.rng import Stream
from rlrun.spaces import Discrete

if TYPE_CHECKING:
    from torch import Tensor

    from rlrun.config.run import RunConfig


@dataclass
class BanditConfig:
    """What every bandit algorithm asks of a run."""

    def conflicts(self, run: RunConfig) -> list[str]:
        if run.num_envs == 1:
            return []
        return [
            f"num_envs is {run.num_envs}: this algorithm pulls one arm at a time, of one bandit; "
            "use replicas for more bandits"
        ]


@dataclass
class EstimateConfig(BanditConfig):
    """How the arms' means are estimated."""

    step_size: float | None = key(
        "weight of a new reward; null: 1 / n, the sample average", above=0, max=1, per_replica=True
    )
    initial_value: float = key(
        "what arms are worth before their first reward; high is optimistic", per_replica=True
    )


UNTRIED = -1e30  # what an arm is worth that nobody has pulled: less than any other that is allowed


class Bandit(Algorithm):
    """Counts and mean rewards of the arms, [R, K]; a subclass says how one is chosen."""

    family = "bandit"
    takes_masks = True
    saved: ClassVar = {"counts": "weights", "means": "weights"}
    obs_kinds = ("discrete",)

    def __init__(self, spec: Spec, config: Any, model: Any) -> None:
        assert isinstance(spec.action, Discrete)
        if spec.obs != Discrete(1):
            raise ConfigError("algo is for bandits, which have one state, and env has more", "use env=bandit")
        estimate = config if isinstance(config, EstimateConfig) else EstimateConfig(None, 0.0)
        self.spec, self.config, self.step_size = spec, config, number(estimate.step_size, spec, 2)
        self.arms = spec.action.n
        self.counts = self._zeros(torch.int64)
        self.means = self._zeros(getattr(torch, spec.dtype)) + number(estimate.initial_value, spec, 2)

    def _zeros(self, dtype: Any) -> Tensor:
        return torch.zeros(self.spec.replicas, self.arms, dtype=dtype, device=self.spec.device)

    @abstractmethod
    def scores(self, envs: int, step: np.ndarray, rng: Stream) -> Tensor:
        """What the next choice goes by, [R, envs, K] or [R, 1, K]."""

    def guess(self) -> Tensor:
        """How good each arm is by all that is known, [R, K]: a greedy choice goes by it."""
        return torch.where(self.counts > 0, self.means, UNTRIED)

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
        if mode == "greedy":
            guess = self.guess()[:, None].expand(*obs.shape, -1)
            return Act(allowed(guess, mask).argmax(-1))
        scores, ties = self.scores(obs.shape[1], step, rng), rng.uniform(obs.shape[1], self.arms)
        scores = allowed(scores.expand(*obs.shape, -1), mask)
        return Act(torch.where(scores == scores.amax(-1, keepdim=True), ties, 0.0).argmax(-1))

    def q(self, obs: Tensor, memory: Memory, first: Tensor) -> Tensor:
        """The estimated mean reward of every arm, [R, N, K]."""
        return self.means[:, None].expand(*obs.shape, -1)

    def update(self, rollout: Rollout, *, step: np.ndarray) -> dict[str, Tensor]:
        """`loss/error` is how far a reward was from its arm's mean."""
        arm, reward, valid = rollout.action[:, 0], rollout.reward[:, 0], rollout.valid[:, 0]  # [R, 1]
        error = reward - self.means.gather(1, arm)
        learned = valid & error.isfinite()  # a reward that is no number must not spoil the mean
        mask = None if rollout.mask is None else rollout.mask[:, 0, 0]  # [R, K]
        self.learn(arm, torch.where(learned, reward, 0.0), learned, mask)
        return {"loss/error": torch.where(valid, error, 0.0)[:, 0].abs()}

    def learn(self, arm: Tensor, reward: Tensor, learned: Tensor, mask: Tensor | None) -> None:
        """Count `arm` and move its mean towards `reward`, [R, 1] each, where `learned`."""
        self.counts.scatter_add_(1, arm, learned.long())
        count = self.counts.gather(1, arm).clamp(min=1).to(reward.dtype)
        weight = 1.0 / count if self.step_size is None else self.step_size
        change = weight * (reward - self.means.gather(1, arm))
        self.means.scatter_add_(1, arm, torch.where(learned, change, 0.0))


@dataclass
class EpsilonGreedyConfig(EstimateConfig):
    epsilon: float = key("probability of a random arm", min=0, per_replica=True)
    decay: bool = key("divide epsilon by the number of the pull, t: min(1, epsilon / t)")

    def problems(self) -> list[str]:
        if self.decay or self.epsilon <= 1:
            return []
        return [f"epsilon is {self.epsilon}: without decay it is a probability, at most 1"]


@register("algo", "epsilon_greedy", EpsilonGreedyConfig)
class EpsilonGreedy(Bandit):
    """Mostly the arm that has paid best, now and then any (Sutton and Barto 2.2; Auer 2002, fig. 3)."""

    def scores(self, envs: int, step: np.ndarray, rng: Stream) -> Tensor:
        epsilon = torch.from_numpy(self.epsilon(step)).to(self.spec.device)
        explore = rng.uniform(envs, 1) < epsilon[:, None, None]
        return torch.where(explore, 0.0, self.means[:, None])  # all arms tie

    def epsilon(self, step: np.ndarray) -> np.ndarray:
        """The probability of a random arm at the pull after `step` [R]."""
        pull = step + 1.0 if self.config.decay else np.ones(step.shape)
        return np.minimum(self.config.epsilon / pull, 1.0)


@dataclass
class UCBConfig(EstimateConfig):
    c: float = key("weight of the bonus c * sqrt(ln t / n)", min=0, per_replica=True)

    def problems(self) -> list[str]:
        if self.initial_value and self.step_size is None:
            return [
                f"initial_value is {self.initial_value}: every arm is tried once, and a sample average "
                "then forgets it; set step_size too"
            ]
        return []


@register("algo", "ucb", UCBConfig)
class UCB(Bandit):
    """The arm that may be the best: its mean and a bonus for being rarely tried (Auer et al. 2002)."""

    def __init__(self, spec: Spec, config: UCBConfig, model: Any) -> None:
        super().__init__(spec, config, model)
        self.c = number(config.c, spec, 2)

    def scores(self, envs: int, step: np.ndarray, rng: Stream) -> Tensor:
        return self.bounds()[:, None]

    def bounds(self) -> Tensor:
        """The upper confidence bounds [R, K] before the next pull; infinite for untried arms."""
        counts = self.counts.to(self.means.dtype)
        pulls = counts.sum(-1, keepdim=True) + 1.0  # t, counting the pull to come
        bonus = self.c * (pulls.log() / counts.clamp(min=1.0)).sqrt()
        return torch.where(counts > 0.0, self.means + bonus, torch.inf)


@dataclass
class SoftmaxConfig(EstimateConfig):
    temperature: float = key(
        "an arm that is worse by this much is pulled e times as rarely", above=0, per_replica=True
    )
    over: str = key(
        "what is compared: an arm's mean reward, or all that it has paid", choices=("mean", "total")
    )

    def problems(self) -> list[str]:
        if self.over == "total" and (self.step_size is not None or self.initial_value):
            return ["over is total: a sum of rewards has no step_size (null) and no initial_value (0)"]
        return []


@register("algo", "softmax", SoftmaxConfig)
class Softmax(Bandit):
    """Arms in proportion to exp(worth / temperature): Boltzmann exploration (Luce 1959)."""

    def __init__(self, spec: Spec, config: SoftmaxConfig, model: Any) -> None:
        super().__init__(spec, config, model)
        self.temperature = number(config.temperature, spec, 3)

    def scores(self, envs: int, step: np.ndarray, rng: Stream) -> Tensor:
        worth = self.means * self.counts if self.config.over == "total" else self.means
        return worth[:, None] / self.temperature + rng.gumbel(envs, self.arms)


@dataclass
class GradientBanditConfig(BanditConfig):
    learning_rate: float = key("step size of the preferences (alpha)", above=0, per_replica=True)
    baseline: bool = key("compare a reward with the mean of those before, not with 0")


@register("algo", "gradient_bandit", GradientBanditConfig)
class GradientBandit(Bandit):
    """Stochastic gradient ascent on preferences whose softmax is the policy (Williams 1992; book 2.8)."""

    saved: ClassVar = {**Bandit.saved, "preferences": "weights"}

    def __init__(self, spec: Spec, config: GradientBanditConfig, model: Any) -> None:
        super().__init__(spec, config, model)
        self.preferences = torch.zeros_like(self.means)
        self.learning_rate = number(config.learning_rate, spec, 2)

    def scores(self, envs: int, step: np.ndarray, rng: Stream) -> Tensor:
        return self.preferences[:, None] + rng.gumbel(envs, self.arms)

    def guess(self) -> Tensor:
        return self.preferences

    def learn(self, arm: Tensor, reward: Tensor, learned: Tensor, mask: Tensor | None) -> None:
        chosen = torch.zeros_like(self.preferences).scatter_(1, arm, 1.0)  # [R, K]
        gradient = chosen - allowed(self.preferences, mask).softmax(-1)
        change = self.learning_rate * (reward - self.baseline(reward)) * gradient
        self.preferences += torch.where(learned, change, 0.0)
        super().learn(arm, reward, learned, mask)

    def baseline(self, reward: Tensor) -> Tensor:
        """What `reward` [R, 1] is compared with: the mean of all before it, the first with itself."""
        if not self.config.baseline:
            return torch.zeros_like(reward)
        pulls = self.counts.sum(-1, keepdim=True)
        mean = (self.counts * self.means).sum(-1, keepdim=True) / pulls.clamp(min=1)
        return torch.where(pulls > 0, mean, reward)


@dataclass
class ThompsonConfig(BanditConfig):
    alpha: float = key(
        "of the Beta prior: one more than the successes an arm is taken to have had", min=1, per_replica=True
    )
    beta: float = key(
        "of the Beta prior: one more than the failures an arm is taken to have had", min=1, per_replica=True
    )

    def conflicts(self, run: RunConfig) -> list[str]:
        found, reward = super().conflicts(run), run.env.reward
        if getattr(run.env, "rewards", None) != "bernoulli":
            found.append(
                "algo=thompson has a Beta prior, for rewards of 0 and 1, and env has others: "
                "use algo=thompson_gaussian, or env=bandit_bernoulli"
            )
        elif (reward.scale, reward.shift, reward.shaping) != (1.0, 0.0, None):
            found.append(
                "env.reward changes rewards of 0 and 1, which algo=thompson needs: leave it as it is"
            )
        return found


@register("algo", "thompson", ThompsonConfig)
class Thompson(Bandit):
    """An arm as often as it is likely to be the best: Beta posteriors of success (Thompson 1933)."""

    def __init__(self, spec: Spec, config: ThompsonConfig, model: Any) -> None:
        super().__init__(spec, config, model)
        self.prior = [number(value, spec, 2, "float64") for value in (config.alpha, config.beta)]

    def scores(self, envs: int, step: np.ndarray, rng: Stream) -> Tensor:
        alpha, beta = (part[:, None].expand(-1, envs, -1) for part in self.posterior())
        wins, losses = sample_gamma(alpha, rng), sample_gamma(beta, rng)
        return wins / (wins + losses)  # Beta(alpha, beta)

    def guess(self) -> Tensor:
        alpha, beta = self.posterior()
        return alpha / (alpha + beta)

    def posterior(self) -> tuple[Tensor, Tensor]:
        """The parameters alpha and beta of each arm's Beta distribution, [R, K] in float64."""
        successes = self.counts * self.means.double()
        alpha, beta = self.prior
        return alpha + successes, beta + self.counts - successes


@dataclass
class ThompsonGaussianConfig(BanditConfig):
    prior_mean: float = key("what an arm's mean reward is before its first", per_replica=True)
    prior_spread: float = key("standard deviation of that belief", above=0, per_replica=True)
    noise: float = key(
        "standard deviation of a reward about its arm's mean, taken as known", above=0, per_replica=True
    )


@register("algo", "thompson_gaussian", ThompsonGaussianConfig)
class ThompsonGaussian(Bandit):
    """Thompson sampling for rewards of known variance: Gaussian posteriors of the means."""

    def __init__(self, spec: Spec, config: ThompsonGaussianConfig, model: Any) -> None:
        super().__init__(spec, config, model)
        precisions = config.prior_spread**-2, config.noise**-2  # of the belief, and of a pull
        self.prior, self.pull, self.prior_mean = (
            number(value, spec, 2) for value in (*precisions, config.prior_mean)
        )

    def scores(self, envs: int, step: np.ndarray, rng: Stream) -> Tensor:
        mean, deviation = (part[:, None] for part in self.posterior())
        return mean + deviation * rng.normal(envs, self.arms)

    def guess(self) -> Tensor:
        return self.posterior()[0]

    def posterior(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of what each arm's mean reward may be, [R, K]."""
        precision = self.prior + self.pull * self.counts
        total = self.prior * self.prior_mean + self.pull * self.counts * self.means
        return total / precision, precision.rsqrt()


def sample_gamma(shape: Tensor, rng: Stream, tries: int = 5) -> Tensor:
    """A number of Gamma(shape) for each element of `shape` [R, ...], which are 1 or more.

    By rejection (Marsaglia and Tsang, "A simple method for generating gamma variables",
    2000): every try is drawn at once, so that each replica draws the same. All five fail
    with a probability below 4e-7; the mode, nearly, then stands in.
    """
    normal, uniform = (draw(tries, *shape.shape[1:]) for draw in (rng.normal, rng.uniform))
    scale = shape[:, None] - 1.0 / 3.0  # [R, 1, ...]
    cube = (1.0 + normal / (9.0 * scale).sqrt()) ** 3  # [R, tries, ...]
    log_cube = cube.clamp(min=1e-300).log()
    accepted = (cube > 0.0) & (uniform.log() < 0.5 * normal**2 + scale * (1.0 - cube + log_cube))
    which = accepted.byte().argmax(1, keepdim=True)
    return (scale * torch.where(accepted, cube, 1.0)).gather(1, which).squeeze(1)
