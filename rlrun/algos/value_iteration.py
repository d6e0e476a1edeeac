"""Value iteration on a known decision process (Bellman, "Dynamic Programming", 1957;
Sutton and Barto, "Reinforcement Learning", 2018, section 4.4), in float64 throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rlrun.config import key
from rlrun.core import Act, Algorithm, Memory, Mode, Rollout, Spec, TransitionTable
from rlrun.lazy import torch
from rlrun.registry import register
from rlrun.rng import Stream

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class ValueIterationConfig:
    gamma: float = key("discount factor", min=0, max=1)
    theta: float = key("converged once no value moves by more than this in a sweep", above=0)


@register("algo", "value_iteration", ValueIterationConfig)
class ValueIteration(Algorithm):
    """One synchronous sweep of v(s) = max_a r(s, a) + gamma * E v(s') an update, until it stands still.

    The values are then within theta * gamma / (1 - gamma) of the optimal ones.
    """

    rollout_steps = 0
    saved: ClassVar = {"v": "weights", "residual": "optimizer"}
    obs_kinds = ("discrete",)
    needs: ClassVar[tuple[str, ...]] = ("table",)

    def __init__(self, spec: Spec, config: ValueIterationConfig, model: Any) -> None:
        assert spec.table is not None
        self.spec, self.config, self.table = spec, config, spec.table
        states, actions = spec.table.reward.shape
        kinds: dict[str, Any] = {"dtype": torch.float64, "device": spec.device}
        self.probability = torch.tensor(spec.table.probability, **kinds).view(states * actions, states)
        self.reward = torch.tensor(spec.table.reward, **kinds)
        self.alive = torch.tensor(~spec.table.terminal, device=spec.device)  # [S]
        self.v = torch.zeros((spec.replicas, states), **kinds)
        self.residual = torch.full((spec.replicas,), torch.inf, **kinds)

    def act(
        self, obs: Tensor, memory: Memory, first: Tensor, *, step: np.ndarray, mode: Mode, rng: Stream
    ) -> Act:
        return Act(best(self.q(obs, memory, first)).int().argmax(-1))  # the first of equally good ones

    def q(self, obs: Tensor, memory: Memory, first: Tensor) -> Tensor:
        """Action values [R, N, A], a look-ahead from the state values."""
        replica = torch.arange(len(self.v), device=self.v.device)[:, None]
        return self.look_ahead()[replica, obs]

    def value(self, obs: Tensor, memory: Memory, first: Tensor) -> Tensor:
        """State values [R, N]."""
        return self.v.gather(1, obs)

    def look_ahead(self) -> Tensor:
        """Values [R, S, A] of every action by the present state values; terminal states have none."""
        expected = self.v @ self.probability.T  # [R, S * A]
        q = self.reward + self.config.gamma * expected.view(-1, *self.reward.shape)
        return torch.where(self.alive[:, None], q, 0.0)

    def update(self, rollout: Rollout | None, *, step: np.ndarray) -> dict[str, Tensor]:
        """`loss/residual` is the largest move of any value in this sweep."""
        v = self.look_ahead().amax(-1)
        self.residual.copy_((v - self.v).abs().amax(-1))
        self.v.copy_(v)
        return {"loss/residual": self.residual.clone()}

    def converged(self) -> np.ndarray:
        return (self.residual <= self.config.theta).cpu().numpy()

    def describe(self, replica: int) -> str:
        """The greedy policy of one replica as text."""
        return draw_policy(self.table, best(self.look_ahead()[replica]).cpu().numpy())


def best(q: Tensor) -> Tensor:
    """Which actions are as good as any, bool like q [..., A]; rounding errors make no difference."""
    top = q.amax(-1, keepdim=True)
    return q >= top - 1e-8 * top.abs().clamp(min=1.0)


def draw_policy(table: TransitionTable, chosen: np.ndarray) -> str:
    """The `chosen` actions (bool [S, A]; several where they tie) as arrows on the table's grid.

    A terminal state is a dot. Actions without a direction, and tables without a grid, show
    the actions' numbers.
    """
    names = _arrows(table)
    cells = [
        "." if end else "".join(sorted((names[a] for a in np.flatnonzero(row)), key=_ORDER.find))
        for row, end in zip(chosen, table.terminal, strict=True)
    ]
    width = max(map(len, cells))
    columns = table.shape[1] if table.shape else 1
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    return "\n".join(" ".join(cell.center(width) for cell in row).rstrip() for row in rows)


_ORDER = "←↓→↑"


def _arrows(table: TransitionTable) -> list[str]:
    """A name for each action: the direction in which it moves on the average, or its number.

    Only moves to a neighbouring cell count, so that a fall back to the start does not.
    """
    numbers = [str(a) for a in range(table.reward.shape[1])]
    if table.shape is None:
        return numbers
    position = np.stack(np.unravel_index(np.arange(len(table.terminal)), table.shape), -1)  # [S, 2]
    move = position[None] - position[:, None]  # [S, S', 2]
    near = (np.abs(move).sum(-1) == 1) & ~table.terminal[:, None]
    drift = np.einsum("sap,spd->ad", table.probability, np.where(near[..., None], move, 0))  # [A, 2]
    names = []
    for number, (down, right) in zip(numbers, drift, strict=True):
        if abs(down) == abs(right):
            names.append(number)
        elif abs(down) > abs(right):
            names.append("↓" if down > 0 else "↑")
        else:
            names.append("→" if right > 0 else "←")
    return names
