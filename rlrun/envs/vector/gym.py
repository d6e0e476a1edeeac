"""Gymnasium environments one beside the other, with an exact state for any of them.

Few environments can save themselves, but most are functions of a seed and the actions
since. So every sub-environment's seed and actions are kept, and a state is restored by
replay. `self_test` tells whether an environment is such a function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from rlrun.boundary import Check, Misfit, at, fault, gym_seed, told
from rlrun.config import ConfigError
from rlrun.config.keys import EnvError
from rlrun.envs.abilities import Abilities, Trial
from rlrun.envs.vector.base import Arrays, Step, check_state, drawing, episode_seeds, reset_rows
from rlrun.envs.vector.making import Maker
from rlrun.envs.vector.masks import masks_of
from rlrun.envs.vector.spaces import space_of
from rlrun.envs.vector.surroundings import staying
from rlrun.envs.vector.trial import trial
from rlrun.envs.vector.windows import Windows


class GymVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """M copies of one environment, stepped in turn, without autoreset.

    A sub-environment that has ended stays as it is until it is reset. Of what one says in its
    info only an action mask is looked at, and of a windowed one what it reports (`windows`).

    Raises:
        ConfigError: Gymnasium cannot make it, or agents cannot play in its spaces.
        EnvError: later, where one fails or returns what is not in its spaces.
    """

    def __init__(
        self,
        env_id: str,
        num_envs: int,
        max_steps: int | None = None,
        kwargs: Mapping[str, Any] | None = None,
        wrappers: Sequence[tuple[str, Mapping[str, Any]]] = (),
    ) -> None:
        self.env_id, self.num_envs = env_id, num_envs
        self.first = 0  # the number of its first sub-env, in messages: there may be others elsewhere
        self._make = Maker(env_id, max_steps, kwargs or {}, wrappers)
        self.envs = [self._make() for _ in range(num_envs)]
        one = self.envs[0]
        self.metadata = dict(one.metadata) | {"autoreset_mode": AutoresetMode.DISABLED}
        self.render_mode = "rgb_array"
        self.spec = one.spec
        obs, action = (self._space(name) for name in ("observation_space", "action_space"))
        self.single_observation_space, self.single_action_space = obs, action
        self._check, self._agents = Check(space_of(obs, "observation")), space_of(action, "action")
        actions = self._agents.form
        self.observation_space, self.action_space = (batch_space(space, num_envs) for space in (obs, action))
        self._obs = np.zeros((num_envs, *self._check.shape), self._check.dtype)
        # A Box of no axes is given arrays of none, and a Discrete numbers, as Gymnasium's sample() gives.
        self._cut = () if isinstance(action, gymnasium.spaces.Discrete) else (...,)
        self._seed = np.zeros(num_envs, np.uint64)
        self._steps = np.zeros(num_envs, np.int64)
        self._longest = 0  # no episode under way has more steps
        self._actions = np.zeros((num_envs, 64, *actions.shape), actions.dtype)
        self._reward = np.zeros(num_envs)
        self._terminated, self._truncated = (np.zeros(num_envs, bool) for _ in range(2))
        try:
            self._allowed = masks_of(one, self._agents)
        except BaseException as error:
            raise ConfigError(*self._fault(error, 0).lines) from error
        self._mask = np.ones((num_envs, sum(self._agents.choices) if self._allowed else 0), bool)
        masks = (lambda: self._mask.copy()) if self._allowed else None
        self.windows = Windows.of(one, self._agents, num_envs)
        offers = self.windows.abilities() if self.windows else Abilities()
        self.abilities = replace(offers, self_test=self.self_test, masks=masks)
        self.reset_options = self.windows.options if self.windows else ()
        self._picture: gymnasium.Env | None = None
        self._drawn: tuple[Any, int] = (None, 0)  # the episode and the step of it that the picture shows

    def _space(self, name: str) -> Any:
        try:
            return getattr(self.envs[0], name)
        except Exception as error:
            raise ConfigError(f"env.id {self.env_id} has no {name}: {told(error)}") from error

    def reset(
        self, *, seed: Any = None, options: Mapping[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode in every sub-env, or where options["reset_mask"] [M] is true.

        `seed` holds one uint64 per sub-env [M]; from an int they are derived, and None
        goes on to another episode. Returns the observations of all M.
        """
        options = options or {}
        self.check_options(options)
        mask = np.zeros(self.num_envs, bool)
        mask[rows := reset_rows(options, self.num_envs)] = True
        seeds = episode_seeds(seed, self._seed)
        if self.windows:
            self.windows.choose(rows, seeds[rows], options)
        self.begin(seeds, mask)
        return self._obs.copy(), {}

    def check_options(self, options: Mapping[str, Any]) -> None:
        """ValueError for a reset option that is not passed on."""
        unknown = options.keys() - {"reset_mask", *self.reset_options}
        if unknown:
            raise ValueError(
                f"env.id {self.env_id}: rlrun passes no reset option {', '.join(sorted(unknown))}"
            )

    def begin(self, seed: np.ndarray, mask: np.ndarray, rows: Arrays | None = None) -> None:
        """Begin the episodes of seeds [M], uint64, where `mask` [M] is true; `rows` are of their windows."""
        self._seed[mask] = seed[mask]
        for name, values in (rows or {}).items():
            self._rows_played()[name][mask] = values[mask]
        for i in np.flatnonzero(mask).tolist():
            self._begin(i)

    def seen(self) -> tuple[np.ndarray, ...]:
        """What its sub-envs show, [M, ...]: obs, reward, terminated, truncated, mask, and what info has."""
        shown = (self._obs, self._reward, self._terminated, self._truncated, self._mask)
        return *shown, *(self.windows.info().values() if self.windows else ())

    def _begin(self, i: int) -> None:
        self._steps[i] = 0
        self._reward[i] = 0.0
        self._terminated[i] = self._truncated[i] = False
        try:
            if self.windows:
                self.windows.begin(i)
            with staying():
                returned = self.envs[i].reset(**self._told(i))
            self._obs[i] = self._check.reset(returned)
            if self._allowed:
                self._mask[i] = self._allowed(self.envs[i], returned[1])
        except BaseException as error:
            raise self._fault(error, i) from error

    def _told(self, i: int) -> dict[str, Any]:
        """What sub-env i is reset with: its episode is a function of that and of actions."""
        options = {"options": self.windows.told(i)} if self.windows else {}
        return {"seed": gym_seed(self._seed[i]), **options}

    def baseline(self, name: str, obs: np.ndarray) -> np.ndarray:
        """What a windowed environment's baseline does now, as agents write actions, [M, ...]."""
        assert self.windows
        moments = zip(self._seed.tolist(), self._steps.tolist(), strict=True)
        masks = self._mask if self._allowed else None
        return self.windows.baseline(name, obs, self.envs, moments, masks)

    def step(self, actions: np.ndarray) -> Step:
        """One step of every sub-env that has not ended; the observations are true successors."""
        actions = np.array(actions, self._actions.dtype)  # a copy, for an env may keep what it is given
        if self._longest == self._actions.shape[1]:  # perhaps: it may have been reset since
            self._longest = int(self._steps.max())
            if self._longest == self._actions.shape[1]:
                self._actions = np.concatenate([self._actions, np.zeros_like(self._actions)], 1)
        self._longest += 1
        over = self._terminated | self._truncated
        (live,) = (~over).nonzero()
        self._actions[live, self._steps[live]] = actions[live]
        self._steps[live] += 1
        if len(live) < self.num_envs:
            self._reward[over] = 0.0
        for i in live.tolist():
            self._step_one(i, actions[i, *self._cut])
        return (
            self._obs.copy(),
            self._reward.copy(),
            self._terminated.copy(),
            self._truncated.copy(),
            self.windows.info() if self.windows else {},
        )

    def _step_one(self, i: int, action: Any) -> None:
        try:
            returned = self.envs[i].step(action)
            self._obs[i], self._reward[i], self._terminated[i], self._truncated[i] = self._check.step(
                returned
            )
            if self.windows:
                self.windows.step(i, returned[4], self._terminated[i], self._truncated[i])
            if self._allowed and not self._terminated[i]:  # at an end nothing is to be chosen
                self._mask[i] = self._allowed(self.envs[i], returned[4])
        except BaseException as error:
            raise self._fault(error, i) from error

    def _fault(self, error: BaseException, i: int) -> EnvError:
        return fault(error, self.env_id, at(self.first + i, gym_seed(self._seed[i]), int(self._steps[i])))

    def state(self) -> Arrays:
        """Seed and actions of the episodes under way, [M, ...]; copies."""
        length = int(self._steps.max())
        actions = self._actions[:, :length].copy()
        actions[np.arange(length) >= self._steps[:, None]] = 0  # left over from earlier episodes
        windows = {name: array.copy() for name, array in self._rows_played().items()}
        own = {"seed": self._seed.view(np.int64).copy(), "steps": self._steps.copy(), "actions": actions}
        return own | windows

    def _rows_played(self) -> Arrays:
        return self.windows.state() if self.windows else {}

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
            **self._rows_played(),
        }
        check_state(self.env_id, own, state)
        for name in own.keys() - {"steps"}:  # which are counted again
            own[name][:] = state[name]
        self._actions, self._longest = actions, length
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
                self._step_one(i, actions[i, t, *self._cut].copy())

    def self_test(self) -> Trial:
        """What two fresh copies show when they play, see `trial`; and whether baselines can act."""
        make = self._make
        if self.windows:
            one = GymVectorEnv(make.env_id, 1, make.max_steps, make.kwargs, make.wrappers)
            obs = self._check.space.read(one.reset(seed=0)[0])
            for name in self.abilities.baselines:
                one.baseline(name, obs)
            one.close()
        return trial(self.env_id, make, self._check, self._agents, self._allowed)

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
        (drawn, shown), episode = self._drawn, (index, self._told(index))
        try:
            if drawn != episode or shown > self._steps[index]:
                self._picture.reset(**episode[1])
                shown = 0
            for t in range(shown, self._steps[index]):
                self._picture.step(self._actions[index, t, *self._cut].copy())
            self._drawn = (episode, int(self._steps[index]))
            with drawing():
                picture = np.asarray(self._picture.render())
            if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype.kind not in "iu":
                raise Misfit(f"picture is {picture.dtype} {list(picture.shape)}, and not uint8 [H, W, 3]")
        except (ImportError, NotImplementedError):
            raise
        except BaseException as error:
            raise self._fault(error, index) from error
        return picture.astype(np.uint8)

    def render(self) -> tuple[np.ndarray, ...]:
        return tuple(self.render_frame(i) for i in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        for env in (*self.envs, *([self._picture] if self._picture else [])):
            env.close()
