"""What batched NumPy environments share: episodes by seed, time limits, exact state, pictures.

An episode is a pure function of its uint64 seed and of the actions. All noise is
`uniforms(seed, counter)`, so that sub-environments cannot influence each other, and an
environment's whole state is a few arrays with the sub-environment first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from rlrun.envs.abilities import Abilities
from rlrun.rng import child, keys, uniforms

Arrays = dict[str, np.ndarray]
Step = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]


class NativeVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """M sub-environments stepped by array operations, without autoreset.

    A subclass writes `_begin`, `_advance`, `_observe` and `_arrays`; and `_renderer` and
    `_pose` where Gymnasium can draw it. Stepping a sub-environment beyond its end is
    harmless, and means nothing until it is reset.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (declared so by Gymnasium)
        "autoreset_mode": AutoresetMode.DISABLED,
        "render_modes": ["rgb_array"],
        "render_fps": 30,
    }
    render_mode = "rgb_array"
    reset_options: ClassVar[tuple[str, ...]] = ()  # beside reset_mask
    abilities: Abilities = Abilities()

    def __init__(
        self,
        num_envs: int,
        observation_space: gymnasium.Space,
        action_space: gymnasium.Space,
        max_steps: int | None,
    ) -> None:
        self.num_envs, self.max_steps = num_envs, max_steps
        self.single_observation_space, self.single_action_space = observation_space, action_space
        self.observation_space = batch_space(observation_space, num_envs)
        self.action_space = batch_space(action_space, num_envs)
        self._seed = np.zeros(num_envs, np.uint64)  # of the episode under way
        self._steps = np.zeros(num_envs, np.int64)  # since its beginning
        self._never = constant(False, num_envs)
        self._picture: Any = None

    def _begin(self, rows: np.ndarray, seed: np.ndarray, options: Mapping[str, Any]) -> None:
        """Put sub-envs `rows` at the beginning of the episodes of `seed` [len(rows)]."""
        raise NotImplementedError

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        """Move all sub-envs by one step: reward [M], terminated [M], info.

        `_steps` already counts this step: 1 at an episode's first.
        """
        raise NotImplementedError

    def _observe(self) -> np.ndarray:
        """The observations [M, ...], a fresh array."""
        raise NotImplementedError

    def _arrays(self) -> Arrays:
        """What else the next step depends on, [M, ...]: writable views, filled by `load_state`."""
        raise NotImplementedError

    def reset(
        self, *, seed: Any = None, options: Mapping[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode in every sub-env, or where options["reset_mask"] [M] is true.

        `seed` holds one uint64 per sub-env [M]; from an int they are derived, and None
        goes on to another episode. Returns the observations of all M.
        """
        options = options or {}
        unknown = options.keys() - {"reset_mask", *self.reset_options}
        if unknown:
            raise ValueError(f"{type(self).__name__} has no reset option {', '.join(sorted(unknown))}")
        rows = reset_rows(options, self.num_envs)
        seeds = episode_seeds(seed, self._seed)[rows]
        self._seed[rows] = seeds
        self._steps[rows] = 0
        self._begin(rows, seeds, options)
        return self._observe(), {}

    def step(self, actions: np.ndarray) -> Step:
        """One step of all sub-envs; the observations are true successors, also at an end."""
        self._steps += 1
        reward, terminated, info = self._advance(actions)
        truncated = self._never if self.max_steps is None else self._steps >= self.max_steps
        return self._observe(), reward, terminated, truncated, info

    def state(self) -> Arrays:
        """All that the future depends on, [M, ...]; copies."""
        own = {name: array.copy() for name, array in self._arrays().items()}
        return {"seed": self._seed.view(np.int64).copy(), "steps": self._steps.copy(), **own}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from `state()`.

        Raises:
            ValueError: an array is missing, unknown or of another shape.
        """
        own: Arrays = {"seed": self._seed.view(np.int64), "steps": self._steps, **self._arrays()}
        check_state(type(self).__name__, own, state)
        for name, array in own.items():
            array[...] = state[name]
        self._observe()  # raises where there is nothing to be seen

    def _renderer(self) -> gymnasium.Env:
        """Gymnasium's environment that draws this one."""
        raise NotImplementedError(f"{type(self).__name__} has no picture")

    def _pose(self, renderer: Any, index: int) -> None:
        """Put the renderer into the state of sub-env `index`."""
        raise NotImplementedError

    def render_frame(self, index: int) -> np.ndarray:
        """A picture of sub-env `index`, uint8 [H, W, 3].

        Raises:
            ImportError: pygame is missing.
            NotImplementedError: there is nothing to draw.
        """
        with drawing():
            if self._picture is None:
                self._picture = self._renderer()
                self._picture.reset(seed=0)
            self._pose(self._picture.unwrapped, index)
            return np.array(self._picture.unwrapped.render(), np.uint8)

    def render(self) -> tuple[np.ndarray, ...]:
        return tuple(self.render_frame(i) for i in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        if self._picture is not None:
            self._picture.close()


def episode_seeds(seed: Any, previous: np.ndarray) -> np.ndarray:
    """One seed per sub-env, uint64 [M], from an array, an int, or None: after the `previous`."""
    if seed is None:
        return child(previous, np.zeros(1, np.int64))
    if isinstance(seed, (int, np.integer)):
        return child(keys([int(seed)], "env"), np.arange(len(previous)))
    seeds = np.asarray(seed, np.uint64)
    if seeds.shape != previous.shape:
        raise ValueError(f"seed has shape {seeds.shape}; one per sub-env is {previous.shape}")
    return seeds


def reset_rows(options: Mapping[str, Any], num_envs: int) -> np.ndarray:
    """Indices of the sub-envs to reset: those of reset_mask, or all."""
    mask = options.get("reset_mask")
    if mask is None:
        return np.arange(num_envs)
    if np.shape(mask) != (num_envs,) or np.asarray(mask).dtype != bool:
        raise ValueError(
            f"reset_mask must be bool [{num_envs}], not {np.asarray(mask).dtype} {np.shape(mask)}"
        )
    return np.flatnonzero(mask)


def check_state(name: str, own: Arrays, state: Mapping[str, np.ndarray]) -> None:
    """Refuse a state whose arrays have other names, shapes or types than `own`."""
    if own.keys() != state.keys():
        odd = ", ".join(sorted(own.keys() ^ state.keys()))
        raise ValueError(f"{name}: the saved state is that of another env ({odd})")
    for key, array in own.items():
        if array.shape != state[key].shape:
            raise ValueError(f"{name}: saved {key} is {state[key].shape}, this env has {array.shape}")
        if array.dtype != state[key].dtype:
            raise ValueError(f"{name}: saved {key} is {state[key].dtype}, this env has {array.dtype}")


def normals(key: np.ndarray, counter: np.ndarray) -> np.ndarray:
    """Standard normal numbers at `counter`, of two uniforms each (Box and Muller, 1958)."""
    radius = np.sqrt(-2.0 * np.log(uniforms(key, 2 * counter)))
    return radius * np.cos(2.0 * np.pi * uniforms(key, 2 * counter + 1))


def constant(value: float, num_envs: int) -> np.ndarray:
    """The same value for every sub-env, read-only, so that it can be returned at every step."""
    array = np.full(num_envs, value)
    array.flags.writeable = False
    return array


@contextmanager
def drawing() -> Iterator[None]:
    """Draw without a screen; ImportError says what to install if something is missing."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    try:
        yield
    except gymnasium.error.DependencyNotInstalled as error:
        raise ImportError(f"drawing environments needs pip install 'rlrun[render]' ({error})") from error
