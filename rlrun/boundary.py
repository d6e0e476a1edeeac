"""The boundary to environments: what crosses it is held against their spaces, and a fault says where.

`Check` looks at what one Gymnasium environment returns, before NumPy could cast or broadcast
it; `Crossing` plays a vector environment for whoever acts, in the terms of agents.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun.config.keys import EnvError, raised_at
from rlrun.spaces import Box, Discrete, MultiDiscrete, Space, allows

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv

STRICT = 3  # resets and steps of a vector env of which every row is looked at


class Misfit(ValueError):
    """What an environment returned is not what it may; the message continues "its ..."."""

    def __init__(self, what: str, advice: str = "") -> None:
        self.advice = advice
        super().__init__(what)


def fault(error: BaseException, env: str, where: str) -> EnvError:
    """The error to raise for one that came out of an environment, `where` it was.

    What ends a run from outside is raised again as it is: Ctrl-C, and an error of rlrun's own,
    such as the handler of a signal raises.
    """
    if isinstance(error, Misfit):
        return EnvError(f"{env}: its {error}", where, error.advice)
    if type(error) is KeyboardInterrupt or type(error).__module__.startswith("rlrun."):
        raise error
    return EnvError(f"{env}: {told(error)}", where, _advice(error))


def told(error: BaseException) -> str:
    """An exception and the line of code that raised it, in one line."""
    name, text = type(error).__name__, text_of(error)
    place = raised_at(error)
    return (f"{name}: {text}" if text else name) + (f" ({place})" if place else "")


def text_of(error: BaseException) -> str:
    """The message of an exception of unknown making, in one line."""
    try:
        return " ".join(str(error).split())[:200]
    except Exception:
        return ""


def _advice(error: BaseException) -> str:
    """What to do about the errors that an old kind of environment makes."""
    text = text_of(error)
    if isinstance(error, TypeError) and re.search("unexpected keyword argument '(seed|options)'", text):
        return "Gymnasium asks for reset(self, *, seed=None, options=None), which returns (observation, info)"
    if isinstance(error, ValueError) and "to unpack" in text:
        return OLD_STEP
    if isinstance(error, SystemExit):
        return "an environment may not end the process: raise an exception instead"
    return ""


OLD_RESET = "Gymnasium's reset returns (observation, info); older gym's returned the observation alone"
OLD_STEP = "Gymnasium's step returns (observation, reward, terminated, truncated, info)"


def at(sub_env: int, seed: int, step: int) -> str:
    """Where something happened; step 0 is the reset."""
    moment = f"step {step}" if step else "its reset"
    return f"in sub-env {sub_env}, episode of seed {seed}, {moment}"


def gym_seed(seed: Any) -> int:
    """An episode's seed in the 31 bits that every Gymnasium environment accepts."""
    return int(seed) >> 33


class Check:
    """What one Gymnasium environment returns, against its observation space; Misfit says what is wrong."""

    def __init__(self, space: Space, name: str = "observation") -> None:
        self.space, self.shape, self.dtype = space, space.form.shape, np.dtype(space.form.dtype)
        self.name = name
        self._range: tuple[Any, Any] | None = None  # of integers that count something
        self._whole, self._box = isinstance(space, Discrete), isinstance(space, Box)
        if isinstance(space, Discrete):
            first = (*space.form.start, 0)[0]
            self._range = first, first + space.n - 1
        elif isinstance(space, MultiDiscrete):
            low = np.reshape(space.form.start or np.zeros_like(space.nvec), self.shape)
            self._range = low, low + np.reshape(space.nvec, self.shape) - 1
        else:
            low, high = np.array(space.low), np.array(space.high)
            slack = 1e-5 * np.maximum(1.0, np.where(np.isfinite(high - low), high - low, 1.0))
            self._bounds = low - slack, high + slack

    def reset(self, returned: Any) -> Any:
        """The observation of (observation, info), fit to be assigned."""
        if not isinstance(returned, (tuple, list)) or len(returned) != 2:
            raise Misfit(f"reset returned {_kind(returned)} and not two values", OLD_RESET)
        return self.obs(returned[0])

    def step(self, returned: Any) -> tuple[Any, float, bool, bool]:
        """Observation, reward, terminated and truncated; info is never looked at."""
        if not isinstance(returned, (tuple, list)) or len(returned) != 5:
            raise Misfit(f"step returned {_kind(returned)} and not five values", OLD_STEP)
        obs, reward, terminated, truncated, _ = returned
        if not (type(reward) is float and math.isfinite(reward)):
            reward = number(reward)
        if terminated is not False:
            terminated = flag(terminated, "terminated")
        if truncated is not False:
            truncated = flag(truncated, "truncated")
        if not (
            type(obs) is np.ndarray and obs.dtype is self.dtype and obs.shape == self.shape and self._box
        ):
            obs = self.obs(obs)
        return obs, reward, terminated, truncated

    def obs(self, value: Any) -> Any:
        """An observation, fit to be assigned: nothing is broadcast, and nothing but rounding lost."""
        if self._whole:
            return self._integer(value)
        if not (type(value) is np.ndarray and value.dtype == self.dtype and value.shape == self.shape):
            value = self._array(value)
        if self._range is not None and not np.all((value >= self._range[0]) & (value <= self._range[1])):
            raise Misfit(f"{self.name} is {_short(value)}, which is not in its space")
        return value

    def _integer(self, value: Any) -> int:
        assert self._range is not None
        try:
            index = operator.index(value)
        except TypeError:
            index = int(self._array(value))  # 2.0 is 2
        if not self._range[0] <= index <= self._range[1]:
            raise Misfit(f"{self.name} is {index}, and its space {self._range[0]} to {self._range[1]}")
        return index

    def _array(self, value: Any) -> np.ndarray:
        array = _numbers(value, self.name)
        if array.shape != self.shape:
            raise Misfit(f"{self.name} has shape {list(array.shape)}, and its space {list(self.shape)}")
        if array.dtype == self.dtype:
            return array
        with np.errstate(invalid="ignore", over="ignore"):
            cast = array.astype(self.dtype)
        if self.dtype.kind != "f":
            lost = np.flatnonzero(cast != array)
            if len(lost):
                odd = array.ravel()[lost[0]]
                raise Misfit(f"{self.name} holds {odd}, which its space's {self.dtype} cannot")
        return cast

    def outside(self, obs: np.ndarray) -> str:
        """Which number of an observation leaves its Box by more than rounding; '' where none does.

        That is no fault: nothing is lost by it, and many a good environment does so now and then.
        """
        if not isinstance(self.space, Box):
            return ""
        flat = obs.ravel()
        out = (flat < self._bounds[0]) | (flat > self._bounds[1])
        if not np.count_nonzero(out):
            return ""
        i = int(out.argmax())
        low, high = self.space.low[i], self.space.high[i]
        return f"{self.name}{_index(i, self.shape)} is {flat[i]:g}, and its Box {low:g} to {high:g}"


def number(value: Any) -> float:
    """A reward as a float."""
    array = _numbers(value, "reward")
    if array.shape != ():
        raise Misfit(f"reward has shape {list(array.shape)}: it must be one number")
    if not math.isfinite(array):
        raise Misfit(f"reward is {float(array)}")
    return float(array)


def flag(value: Any, name: str) -> bool:
    """`terminated` or `truncated` as a bool."""
    if value is True or value is False:
        return value
    array = _numbers(value, name)
    if array.shape != () or array not in (0, 1):
        raise Misfit(f"{name} is {_short(value)}: it must be true or false")
    return bool(array)


def _numbers(value: Any, name: str) -> np.ndarray:
    """`value` as an array of real numbers; Misfit if it is none."""
    try:
        array = np.asarray(value)
    except Exception as error:  # ragged lists, and whatever an object's __array__ raises
        raise Misfit(f"{name} is {_kind(value)} and no array: {text_of(error)}") from None
    if array.dtype.kind not in "biuf":
        raise Misfit(f"{name} is {_kind(value)} and not made of real numbers")
    return array


def _kind(value: Any) -> str:
    """What a value is, in a word or two."""
    if value is None:
        return "None"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, (np.ndarray, np.generic)):
        return f"an array of {value.dtype}"
    return f"a {type(value).__name__}"


def _short(value: Any) -> str:
    return " ".join(repr(value.tolist() if isinstance(value, np.ndarray) else value).split())[:60]


def _index(i: int, shape: tuple[int, ...]) -> str:
    """Where the i-th element is, such as [2, 0]; '' if there are no axes."""
    return str([int(axis) for axis in np.unravel_index(i, shape)]) if shape else ""


def mode_of(env: VectorEnv) -> str:
    """The env's autoreset mode as a word: NextStep (Gymnasium's default), SameStep or Disabled."""
    mode = env.metadata.get("autoreset_mode", "NextStep")
    return getattr(mode, "value", mode)


def has_state(env: VectorEnv) -> bool:
    """Whether an env can be saved and go on exactly; its seeds are then uint64."""
    return hasattr(env, "load_state")


def name_of(env: VectorEnv) -> str:
    """What messages call an env."""
    return str(getattr(getattr(env, "spec", None), "id", None) or type(env).__name__)


class Crossing:
    """A vector environment as agents play it: [*lead, ...] and in their terms, every step looked at."""

    def __init__(
        self,
        env: VectorEnv,
        lead: tuple[int, ...],
        obs: Space,
        action: Space,
        where: Callable[[int], tuple[Any, int]],
        dtype: str = "float32",
    ) -> None:
        """`lead` are the axes of its sub-envs, such as (R, N); `where` says the seed (uint64) of a
        sub-env's episode and the step that it takes, for messages; `dtype` is what agents compute in."""
        self.env, self.mode, self.name = env, mode_of(env), name_of(env)
        self._lead, self._where, self._obs, self._action = lead, where, obs, action
        self._shape, self._raw = (*lead, *obs.shape), (env.num_envs, *obs.form.shape)
        self._rows, self._check, self._strict = (env.num_envs,), Check(obs), STRICT
        self._writes = action.own is not None or isinstance(action, Box)
        self._most = float(np.finfo(dtype).max)
        self._masks = getattr(getattr(env, "abilities", None), "masks", None)
        self.mask: np.ndarray | None = None  # what is allowed at the latest observations, bool [*lead, A]

    def reset(self, seed: np.ndarray, mask: np.ndarray, options: Mapping[str, Any]) -> np.ndarray:
        """Begin in the sub-envs in `mask` [*lead] the episodes of these seeds (uint64); all observations."""
        flat_seed: Any = seed.reshape(-1)
        if not has_state(self.env):  # Gymnasium's own take a list of ints, and many envs only 31 bits
            flat_seed = [gym_seed(each) for each in flat_seed]
        if self.mode == "Disabled":
            options = {"reset_mask": mask.reshape(-1), **options}
        # The others reset themselves later on: one seed each for their whole life.
        try:
            returned = self.env.reset(seed=flat_seed, options=dict(options))
            if not isinstance(returned, (tuple, list)) or len(returned) != 2:
                raise Misfit(f"reset returned {_kind(returned)} and not two values", OLD_RESET)
        except BaseException as error:
            raise fault(error, self.name, self._moment(0)) from error
        obs = self._seen(returned[0], 0)
        self.look(0)
        return obs

    def look(self, step: int | None = None, over: np.ndarray | None = None) -> None:
        """Read the masks of the latest observations; where a task is `over` everything is allowed."""
        if self._masks is None:
            return
        mask, sizes = self._masks(), self._action.choices
        shape = (*self._rows, sum(sizes))
        if getattr(mask, "shape", None) != shape or mask.dtype != bool:
            raise self._odd(f"action masks are no array of bool {list(shape)}", self._moment(step))
        if over is not None and np.count_nonzero(over):
            mask = mask | over.reshape(-1, 1)
        some = allows(mask, sizes)
        if np.count_nonzero(some) < some.size:
            raise self._odd("action mask allows nothing", self.at(int(np.argmin(some.all(1))), step))
        self.mask = mask.reshape(*self._lead, -1)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Any]:
        """One step by actions [*lead, ...]: obs, reward, terminated and truncated [*lead, ...], and info."""
        if self._writes:
            action = self._action.write(action)
        try:
            returned = self.env.step(action.reshape(-1, *action.shape[len(self._lead) :]))
            flat, reward, terminated, truncated, info = returned
            rows = self._rows
            fit = reward.shape == terminated.shape == truncated.shape == rows
            fit &= terminated.dtype.char == truncated.dtype.char == "?" and reward.dtype.kind in "fiu"
        except BaseException as error:
            raise self._step_fault(error) from error
        if not fit:
            what = f"reward, terminated and truncated are not {rows[0]} numbers, bool and bool"
            raise self._odd(what, self._moment(None))
        self._finite(reward, "reward", None)
        lead, obs = self._lead, self._seen(flat, None)
        self.look(over=terminated)
        return obs, reward.reshape(lead), terminated.reshape(lead), truncated.reshape(lead), info

    def successors(self, obs: np.ndarray, info: Mapping[str, Any]) -> np.ndarray:
        """The observations that a step led to, where those of episodes that it ended are in info."""
        if self.mode != "SameStep" or "final_obs" not in info:
            return obs
        obs = obs.copy()
        rows = obs.reshape(-1, *self._obs.shape)
        for i in np.flatnonzero(info["_final_obs"]).tolist():
            rows[i] = self._obs.read(np.asarray(self._row(i, info["final_obs"][i], None)))
        return obs

    def _seen(self, flat: Any, step: int | None) -> np.ndarray:
        """Observations [M, ...] as agents see them, [*lead, ...]."""
        if self._strict or getattr(flat, "shape", None) != self._raw:
            self._strict = max(self._strict - 1, 0)
            if len(np.atleast_1d(flat)) != self._rows[0]:
                raise self._odd(f"observations are not {self._rows[0]}, one a sub-env", self._moment(step))
            flat = np.stack([self._row(i, row, step) for i, row in enumerate(flat)])
        if flat.dtype.kind == "f":
            self._finite(flat, "observation", step)
        return self._obs.read(flat).reshape(self._shape)

    def _step_fault(self, error: BaseException) -> EnvError:
        """What went wrong in or right after a step: in the env itself, or what it returned is no step."""
        if isinstance(error, (AttributeError, TypeError, ValueError)):
            frame = error.__traceback__ and error.__traceback__.tb_next
            if frame is None:
                error = Misfit("step returned no five arrays of its sub-envs", OLD_STEP)
        return fault(error, self.name, self._moment(None))

    def _row(self, i: int, row: Any, step: int | None) -> Any:
        try:
            return self._check.obs(row)
        except Misfit as error:
            raise fault(error, self.name, self.at(i, step)) from None

    def _finite(self, values: np.ndarray, name: str, step: int | None) -> None:
        """Refuse what is not finite, or not as agents compute."""
        # The square of a float64 says both at once, and overflows at 1e154.
        if values.dtype.char == "d":
            fine = np.vdot(values, values) < 1e70
        else:
            fine = np.count_nonzero(np.isfinite(values)) == values.size
        if fine:
            return
        bad = ~np.isfinite(values) if values.dtype.char != "d" else ~(np.abs(values) <= self._most)
        if not bad.any():
            return
        i, *element = (int(axis[0]) for axis in np.nonzero(bad))
        value = values[i, *element]
        why = f", beyond the {self._most:g} of the run's dtype" if np.isfinite(value) else ""
        raise self._odd(f"{name}{element or ''} is {value}{why}", self.at(i, step))

    def at(self, i: int, step: int | None) -> str:
        seed, now = self._where(i)
        return at(i, gym_seed(seed), now if step is None else step)

    def _odd(self, what: str, where: str) -> EnvError:
        return EnvError(f"{self.name}: its {what}", where)

    def _moment(self, step: int | None) -> str:
        return f"{self.at(0, step)}, or in another of its {self._rows[0]} sub-envs"


def endless(crossing: Crossing, sub_env: int, limit: int) -> EnvError:
    """The error of an episode that goes on after `limit` steps, where whole ones are asked for."""
    return EnvError(
        f"{crossing.name}: an episode has not ended after {limit:,} steps (episode_limit)",
        crossing.at(sub_env, limit),
        "give it an end, such as env.max_steps=1000; or raise episode_limit",
    )
