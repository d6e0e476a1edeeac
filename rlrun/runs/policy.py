"""A trained policy on plain NumPy arrays: no environment, no trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rlrun.core import Algorithm, Memory
from rlrun.evals.play import Player
from rlrun.lazy import torch
from rlrun.rng import Stream
from rlrun.spaces import allows


class Policy:
    """One replica's policy. Observations are one ([...]) or a batch ([N, ...]).

    Those of a Dict or Tuple are such as the environment gives, with arrays [N, ...] for a batch; or
    the vector [F] or [N, F] that agents see. Where the run standardised what it showed of a table
    (`env.scale=fit`), they are in the table's own units, and standardised here as they were there.
    """

    _scaling: np.ndarray | None = None

    def __init__(
        self,
        algo: Algorithm,
        spec: Any,
        step: int,
        mode: str = "greedy",
        scaling: np.ndarray | None = None,
    ) -> None:
        """`scaling` is mean and deviation of every entry of an observation, float64 [2, F]."""
        self._algo, self._spec, self._mode = algo, spec, mode
        self._step = np.array([step])
        self._scaling = scaling
        self._rng = Stream(spec.seeds, "policy", spec.device)

    def act(
        self, obs: Any, memory: Memory | None = None, first: Any = None, mask: Any = None
    ) -> tuple[np.ndarray, Memory]:
        """The action for `obs`, and the memory to hand back with the next one.

        `first` (bool, one an env) says that an episode begins; it defaults to true where no
        memory is given. Both are in the environment's own terms: within its bounds, in its dtype.
        `mask` ([A] or [N, A]) is true where an action is allowed; it must be given where the
        environment that was trained in says so at every step.
        """
        action, memory = self._act(self._read(obs), memory, first, mask)
        action = self._spec.action.write(action)
        return (action[()] if self._spec.action.kind == "discrete" else action), memory

    def _act(
        self, obs: np.ndarray, memory: Memory | None, first: Any, mask: Any
    ) -> tuple[np.ndarray, Memory]:
        """The same in the terms of agents."""
        how: dict[str, Any] = {"step": self._step, "mode": self._mode, "rng": self._rng}
        with torch.no_grad():
            tensor, memory, flags, single = self._inputs(obs, memory, first)
            if self._spec.masks:
                how["mask"] = self._masked(mask, flags.shape[1])
            act = self._algo.act(tensor, memory, flags, **how)
        action = act.action[0].cpu().numpy()
        return (action[0] if single else action), act.memory

    def player(self, memory: Memory | None = None) -> Player:
        """It as a player of `rlrun.evals.play`, one replica: it keeps the memory.

        Raises:
            ValueError: the memory is another network's.
        """
        if memory:
            check_memory(memory, self._algo.initial_memory(memory[0].shape[1]))

        def act(obs: np.ndarray, first: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
            nonlocal memory
            action, memory = self._act(self._scaled(obs[0]), memory, first[0], mask)
            return action[None]

        return act

    def has(self, name: str) -> bool:
        """Whether it estimates such values: q or value."""
        return hasattr(self._algo, name)

    def q(self, obs: Any, memory: Memory | None = None, first: Any = None) -> np.ndarray:
        """Action values, [A] or [N, A]. AttributeError if the algorithm has none."""
        return self._values("q", obs, memory, first)

    def value(self, obs: Any, memory: Memory | None = None, first: Any = None) -> np.ndarray:
        """State values, a number or [N]. AttributeError if the algorithm has none."""
        return self._values("value", obs, memory, first)

    def _values(self, name: str, obs: Any, memory: Memory | None, first: Any) -> np.ndarray:
        function = getattr(self._algo, name, None)
        if function is None:
            raise AttributeError(
                f"{type(self._algo).__name__} has no {name}: it does not estimate such values"
            )
        with torch.no_grad():
            tensor, memory, flags, single = self._inputs(self._read(obs), memory, first)
            out = function(tensor, memory, flags)[0].cpu().numpy()
        return out[0] if single else out

    def _masked(self, mask: Any, count: int) -> Any:
        """A mask [1, count, A] from one ([A]) or `count` of them.

        Raises:
            ValueError: there is none, or it is no mask of this policy's actions.
        """
        sizes = self._spec.action.choices
        columns = sum(sizes)
        if mask is None:
            raise ValueError(f"this policy was trained with action masks: give mask=, {columns} truths")
        array = np.asarray(mask)
        shape = (columns,) if count == 1 and array.ndim == 1 else (count, columns)
        if array.shape != shape or not np.isin(array, (0, 1)).all():
            raise ValueError(
                f"mask is {array.dtype} {list(array.shape)}; it must be {count} times {columns} truths"
            )
        array = array.reshape(1, count, columns).astype(bool)
        if not allows(array, sizes).all():
            raise ValueError("mask allows nothing")
        return torch.from_numpy(array).to(self._spec.device)

    def _read(self, obs: Any) -> np.ndarray:
        """Observations as agents see them, from those of the environment, a Dict's entries too."""
        parts = getattr(self._spec.obs, "parts", ())
        if parts and isinstance(obs, Mapping if isinstance(parts[0].path[0], str) else tuple):
            obs = self._spec.obs.join(obs)
        array, shape = np.asarray(obs), self._spec.obs.form.shape
        if array.shape[0 if array.ndim == len(shape) else 1 :] != shape:
            raise ValueError(f"obs has shape {array.shape}; expected {shape} or (N, *{shape})")
        return self._spec.obs.read(self._scaled(array))

    def _scaled(self, obs: np.ndarray) -> np.ndarray:
        if self._scaling is None:
            return obs
        return (np.asarray(obs, np.float64) - self._scaling[0]) / self._scaling[1]

    def _inputs(self, array: np.ndarray, memory: Memory | None, first: Any) -> tuple[Any, Memory, Any, bool]:
        space = self._spec.obs
        single = array.ndim == len(space.shape)
        count = 1 if single else len(array)
        dtype = self._spec.dtype if space.dtype.startswith("float") else space.dtype
        tensor = torch.as_tensor(array.reshape(1, count, *space.shape), dtype=getattr(torch, dtype)).to(
            self._spec.device
        )
        flags = (
            np.full(count, memory is None)
            if first is None
            else np.broadcast_to(np.asarray(first, bool), (count,))
        )
        memory = self._algo.initial_memory(count) if memory is None else memory
        return tensor, memory, torch.from_numpy(np.array(flags)[None]).to(self._spec.device), single


def check_memory(memory: Memory, fresh: Memory) -> None:
    """ValueError unless memory that was saved looks like that of an episode's start."""
    leaves = [[(leaf.dtype, leaf.shape) for leaf in each] for each in (memory, fresh)]
    if leaves[0] != leaves[1]:
        raise ValueError("the memory that was saved is another network's")
