"""Dynamic programming on a known decision process, in float64 throughout: value iteration
(Bellman, "Dynamic Programming", 1957) and policy iteration (Howard, "Dynamic Programming and
Markov Processes", 1960); Sutton and Barto, "Reinforcement Learning", 2018, chapter 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rlrun.config import key
from rlrun.core import Act, Algorithm, Memory, Mode, Spec
from rlrun.lazy import torch
from rlrun.parts.explore import best
from rlrun.parts.masks import allowed
from rlrun.parts.numbers import number
from rlrun.registry import register
from rlrun.rng import Stream

if TYPE_CHECKING:
    from torch import Tensor

    from rlrun.core import Rollout


@dataclass
class ValueIterationConfig:
    gamma: float = key("discount factor", min=0, max=1, per_replica=True)
    theta: float = key(
        "converged once no value moves by more than this in a sweep", above=0, per_replica=True
    )


@register("algo", "value_iteration", ValueIterationConfig)
class ValueIteration(Algorithm):
    """One synchronous sweep of v(s) = max_a r(s, a) + gamma * E v(s') an update, until it stands still.

    The values are then within theta * gamma / (1 - gamma) of the optimal ones.
    """

    rollout_steps = 0
    family = "dynamic programming"
    takes_masks = True
    saved: ClassVar = {"v": "weights", "residual": "optimizer"}
    obs_kinds = ("discrete",)
    needs: ClassVar[tuple[str, ...]] = ("table",)

    def __init__(self, spec: Spec, config: ValueIterationConfig, model: Any) -> None:
        assert spec.table is not None
        self.spec = spec
        self.gamma, self.theta = number(config.gamma, spec, 3, "float64"), config.theta
        kinds: dict[str, Any] = {"dtype": torch.float64, "device": spec.device}
        self.probability = torch.tensor(spec.table.probability, **kinds)  # [S, A, S']
        self.reward = torch.tensor(spec.table.reward, **kinds)  # [S, A]
        self.alive = torch.tensor(~spec.table.terminal, device=spec.device)  # [S]
        legal = spec.table.legal
        self.legal = None if legal is None else torch.tensor(legal, device=spec.device)  # [S, A]
        self.v = torch.zeros((spec.replicas, len(self.reward)), **kinds)
        self.residual = torch.full((spec.replicas,), torch.inf, **kinds)

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
        q = allowed(self.q(obs, memory, first), mask)
        return Act(best(q).int().argmax(-1))  # the first of equally good ones

    def q(self, obs: Tensor, memory: Memory, first: Tensor) -> Tensor:
        """Action values [R, N, A], a look-ahead from the state values."""
        replica = torch.arange(len(self.v), device=self.v.device)[:, None]
        return self.look_ahead()[replica, obs]

    def value(self, obs: Tensor, memory: Memory, first: Tensor) -> Tensor:
        """State values [R, N]."""
        return self.v.gather(1, obs)

    def look_ahead(self) -> Tensor:
        """Values [R, S, A] of every action by the present state values; terminal states have none."""
        expected = self.v @ self.probability.flatten(0, 1).T  # [R, S * A]
        q = allowed(self.reward + self.gamma * expected.view(-1, *self.reward.shape), self.legal)
        return torch.where(self.alive[:, None], q, 0.0)

    def update(self, rollout: Rollout, *, step: np.ndarray) -> dict[str, Tensor]:
        """`loss/residual` is the largest move of any value in this sweep."""
        v = self.look_ahead().amax(-1)
        self.residual.copy_((v - self.v).abs().amax(-1))
        self.v.copy_(v)
        return {"loss/residual": self.residual.clone()}

    def converged(self) -> np.ndarray:
        return self.residual.cpu().numpy() <= self.theta


@dataclass
class PolicyIterationConfig(ValueIterationConfig):
    theta: float = key(
        "converged once no action is better than the policy's by more than this", above=0, per_replica=True
    )


@register("algo", "policy_iteration", PolicyIterationConfig)
class PolicyIteration(ValueIteration):
    """Value iteration whose update solves for the values of a policy, and then improves the policy.

    It begins with the uniform policy, and a state keeps its actions until others are better
    by more than theta: so a policy that reaches an end never gives way to one that does not,
    and gamma may be 1 wherever acting at random comes to an end.
    """

    saved: ClassVar = {"v": "weights", "policy": "weights", "residual": "optimizer"}

    def __init__(self, spec: Spec, config: PolicyIterationConfig, model: Any) -> None:
        super().__init__(spec, config, model)
        self.threshold = number(config.theta, spec, 2, "float64")
        uniform = torch.ones_like(self.reward) if self.legal is None else self.legal.to(self.reward)
        uniform = uniform / uniform.sum(-1, keepdim=True).clamp(min=1.0)
        self.policy = uniform.repeat(spec.replicas, 1, 1)

    def update(self, rollout: Rollout, *, step: np.ndarray) -> dict[str, Tensor]:
        """`loss/residual` is what the best action of any state gains on the policy."""
        self.v.copy_(self.evaluate())
        q = self.look_ahead()
        gain = q.amax(-1) - self.v  # [R, S]
        self.residual.copy_(gain.amax(-1))
        greedy = best(q).double()
        greedy /= greedy.sum(-1, keepdim=True)
        self.policy.copy_(torch.where((gain > self.threshold)[..., None], greedy, self.policy))
        return {"loss/residual": self.residual.clone()}

    def evaluate(self) -> Tensor:
        """The values [R, S] of the policy: v = r + gamma * P v, 0 at the ends."""
        policy = torch.where(self.alive[:, None], self.policy, 0.0)
        reward = (policy * self.reward).sum(-1)
        ahead = torch.einsum("rsa,sap->rsp", policy, self.probability)  # [R, S, S']
        identity = torch.eye(len(self.reward), dtype=ahead.dtype, device=ahead.device)
        # Without a check: where a policy has no values they are not finite, and its replica fails.
        return torch.linalg.solve_ex(identity - self.gamma * ahead, reward)[0]
