"""Gymnasium environments one beside the other, with an exact state for any of them.

Few environments can save themselves, but most are functions of a seed and the actions
since. So every sub-environment's seed and actions are kept, and a state is restored by
replay. `self_test` tells whether an environment is such a function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from rlrun.config import ConfigError
from rlrun.envs.abilities import Abilities
from rlrun.envs.vector.base import Arrays, Step, check_state, drawing, episode_seeds, reset_rows


class GymVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """M copies of one environment, stepped in turn, without autoreset.

    A sub-environment that has ended stays as it is until it is reset.

    Raises:
        ConfigError: Gymnasium cannot make it, or a space is not one of arrays or integers.
    """

    def __init__(
        self,
        env_id: str,
        num_envs: int,
        max_steps: int | None = None,
        kwargs: Mapping[str, Any] | None = None,
        wrappers: Sequence[tuple[str, Mapping[str, Any]]] = (),
    ) -> None:
        self.env_id, self.num_envs, self.max_steps = env_id, num_envs, max_steps
        self.kwargs, self.wrappers = dict(kwargs or {}), tuple(wrappers)
        self.envs = [self._make() for _ in range(num_envs)]
        one = self.envs[0]
        self.metadata = dict(one.metadata) | {"autoreset_mode": AutoresetMode.DISABLED}
        self.render_mode = "rgb_array"
        self.spec = one.spec
        obs, action = one.observation_space, one.action_space
        self.single_observation_space, self.single_action_space = obs, action
        if obs.shape is None or action.shape is None:
            raise ConfigError(
                f"env.id {env_id}: {obs if obs.shape is None else action} is not made of arrays or integers"
            )
        self.observation_space, self.action_space = (batch_space(space, num_envs) for space in (obs, action))
        self._obs = np.zeros((num_envs, *obs.shape), obs.dtype)
        self._seed = np.zeros(num_envs, np.uint64)
        self._steps = np.zeros(num_envs, np.int64)
        self._actions = np.zeros((num_envs, 64, *action.shape), action.dtype)
        self._reward = np.zeros(num_envs)
        self._terminated, self._truncated = (np.zeros(num_envs, bool) for _ in range(2))
        self.abilities = Abilities(self_test=self.self_test)
        self._picture: gymnasium.Env | None = None
        self._drawn = (-1, np.uint64(0), 0)  # sub-env, seed and steps that the picture shows

    def _make(self, render_mode: str | None = None) -> gymnasium.Env:
        options: dict[str, Any] = {"max_episode_steps": self.max_steps, "render_mode": render_mode}
        options = {name: value for name, value in options.items() if value is not None}
        try:
            env = gymnasium.make(self.env_id, disable_env_checker=True, **options, **self.kwargs)
            for name, arguments in self.wrappers:
                env = getattr(gymnasium.wrappers, name)(env, **arguments)
            if isinstance(env.observation_space, (gymnasium.spaces.Dict, gymnasium.spaces.Tuple)):
                env = gymnasium.wrappers.FlattenObservation(env)  # one vector; integers become one-hot
        except (gymnasium.error.Error, ImportError, TypeError, ValueError, AssertionError) as error:
            advice = "pip install 'rlrun[box2d]'" if "Box2D" in str(error) else ""
            raise ConfigError(f"env.id {self.env_id} cannot be made: {error}", advice) from error
        return env

    def reset(
        self, *, seed: Any = None, options: Mapping[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode in every sub-env, or where options["reset_mask"] [M] is true.

        `seed` holds one uint64 per sub-env [M]; from an int they are derived, and None
        goes on to another episode. Returns the observations of all M.
        """
        options = options or {}
        unknown = options.keys() - {"reset_mask"}
        if unknown:
            raise ValueError(
                f"env.id {self.env_id}: rlrun passes no reset option {', '.join(sorted(unknown))}"
            )
        rows = reset_rows(options, self.num_envs)
        self._seed[rows] = episode_seeds(seed, self._seed)[rows]
        infos: dict[str, Any] = {}
        for i in rows:
            info = self._begin(i)
            if info:
                infos = self._add_info(infos, info, i)
        return self._obs.copy(), infos

    def _begin(self, i: int) -> dict[str, Any]:
        self._obs[i], info = self.envs[i].reset(seed=gym_seed(self._seed[i]))
        self._steps[i] = 0
        self._reward[i] = 0.0
        self._terminated[i] = self._truncated[i] = False
        return info

    def step(self, actions: np.ndarray) -> Step:
        """One step of every sub-env that has not ended; the observations are true successors."""
        actions = np.asarray(actions, self._actions.dtype)
        if self._steps.max() == self._actions.shape[1]:
            self._actions = np.concatenate([self._actions, np.zeros_like(self._actions)], 1)
        infos: dict[str, Any] = {}
        for i in range(self.num_envs):
            if self._terminated[i] or self._truncated[i]:
                self._reward[i] = 0.0
                continue
            self._actions[i, self._steps[i]] = actions[i]
            self._steps[i] += 1
            info = self._step_one(i, actions[i])
            if info:
                infos = self._add_info(infos, info, i)
        return (
            self._obs.copy(),
            self._reward.copy(),
            self._terminated.copy(),
            self._truncated.copy(),
            infos,
        )

    def _step_one(self, i: int, action: Any) -> dict[str, Any]:
        try:
            self._obs[i], self._reward[i], self._terminated[i], self._truncated[i], info = self.envs[i].step(
                action.copy()
            )
        except Exception as error:
            seed, step = gym_seed(self._seed[i]), self._steps[i]
            error.add_note(f"in {self.env_id}, sub-env {i}, episode of seed {seed}, step {step}")
            raise
        return info

    def state(self) -> Arrays:
        """Seed and actions of the episodes under way, [M, ...]; copies."""
        length = int(self._steps.max())
        actions = self._actions[:, :length].copy()
        actions[np.arange(length) >= self._steps[:, None]] = 0  # left over from earlier episodes
        return {"seed": self._seed.view(np.int64).copy(), "steps": self._steps.copy(), "actions": actions}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from `state()`, by replay: as many steps as the episodes are old.

        Raises:
            ValueError: an array is missing, unknown or of another shape.
        """
        length = state["actions"].shape[1] if "actions" in state else 0
        actions = np.zeros(
            (self.num_envs, max(64, 2 * length), *self._actions.shape[2:]), self._actions.dtype
        )
        own: Arrays = {
            "seed": self._seed.view(np.int64),
            "steps": self._steps,
            "actions": actions[:, :length],
        }
        check_state(self.env_id, own, state)
        own["seed"][:] = state["seed"]
        own["actions"][:] = state["actions"]
        self._actions = actions
        if not ((state["steps"] >= 0) & (state["steps"] <= length)).all():
            raise ValueError(f"{self.env_id}: more steps were saved than actions")
        for i, steps in enumerate(state["steps"]):
            self._begin(i)
            for t in range(steps):
                if self._terminated[i] or self._truncated[i]:
                    raise ValueError(
                        f"{self.env_id}: saved actions go on after an episode's end, at step {t}"
                    )
                self._steps[i] += 1
                self._step_one(i, actions[i, t])

    def self_test(self, steps: int = 20) -> str | None:
        """Whether `steps` steps come out the same when replayed; if not, what differed.

        Two fresh copies play one episode with one sequence of actions, one of them after
        another episode; so this also finds what an env carries from episode to episode.
        """
        space = self.single_action_space
        space.seed(0)
        actions = [space.sample() for _ in range(steps)]
        used, fresh = self._make(), self._make()
        try:
            _play(used, 1, actions)
            for t, (one, other) in enumerate(
                zip(_play(used, 2, actions), _play(fresh, 2, actions), strict=True)
            ):
                for name, a, b in zip(("obs", "reward", "terminated", "truncated"), one, other, strict=True):
                    if not np.array_equal(a, b):
                        return f"{self.env_id}: {name} differs at step {t} of the same episode played twice"
        finally:
            used.close()
            fresh.close()
        return None

    def render_frame(self, index: int) -> np.ndarray:
        """A picture of sub-env `index`, uint8 [H, W, 3], drawn by a copy that replays its actions.

        Raises:
            ImportError: what draws it is missing.
            NotImplementedError: this environment draws no RGB pictures.
        """
        if "rgb_array" not in self.metadata.get("render_modes", ()):
            raise NotImplementedError(f"{self.env_id} has no picture")
        if self._picture is None:
            self._picture = self._make("rgb_array")
        of, seed, shown = self._drawn
        if (of, seed) != (index, self._seed[index]) or shown > self._steps[index]:
            self._picture.reset(seed=gym_seed(self._seed[index]))
            shown = 0
        for t in range(shown, self._steps[index]):
            self._picture.step(self._actions[index, t].copy())
        self._drawn = (index, self._seed[index], int(self._steps[index]))
        with drawing():
            return np.array(self._picture.render(), np.uint8)

    def render(self) -> tuple[np.ndarray, ...]:
        return tuple(self.render_frame(i) for i in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        for env in (*self.envs, *([self._picture] if self._picture else [])):
            env.close()


def gym_seed(seed: np.uint64) -> int:
    """An episode's seed in the 31 bits that every Gymnasium environment accepts."""
    return int(seed) >> 33


def _play(env: gymnasium.Env, seed: int, actions: Sequence[Any]) -> list[tuple[Any, ...]]:
    """(obs, reward, terminated, truncated) after the reset and each step, until the end."""
    record: list[tuple[Any, ...]] = [(np.array(env.reset(seed=seed)[0]), 0.0, False, False)]
    for action in actions:
        obs, reward, terminated, truncated, _ = env.step(action)
        record.append((np.array(obs), reward, terminated, truncated))
        if terminated or truncated:
            break
    return record
