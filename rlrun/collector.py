"""Steps the training environments: the only place that knows about autoreset.

R x N sub-environments live in one Gymnasium `VectorEnv` (sub-env r * N + n). Whatever its
autoreset mode, a `Rollout` holds true successors in `next_obs` and marks what is no
transition with `valid = False`. Episode e of env n of a seed is a pure function of
(seed, n, e) and the actions, so replicas cannot influence each other through their envs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun.boundary import Crossing, endless, has_state, mode_of
from rlrun.core import Algorithm, Memory, Mode, Rollout
from rlrun.lazy import torch
from rlrun.parts.statistics import EpisodeStatistics
from rlrun.rng import Stream, child, keys
from rlrun.spaces import Space

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv
    from torch import Tensor

RewardFunction = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class Pulse:
    """How many steps this process has taken, for who wants to see that it still takes some."""

    steps = 0


class Buffer:
    """Time-major storage of one rollout: torch tensors [R, T, N, ...] with NumPy views on them."""

    def __init__(
        self, replicas: int, steps: int, envs: int, obs: Space, action: Space, dtype: str, masks: bool = False
    ) -> None:
        self.steps = steps
        lead = (replicas, steps, envs)

        def make(shape: tuple[int, ...], kind: str) -> np.ndarray:
            return np.zeros(lead + shape, kind)

        obs_type = dtype if obs.dtype.startswith("float") else obs.dtype
        self.obs = make(obs.shape, obs_type)
        self.next_obs = make(obs.shape, obs_type)
        self.action = make(action.shape, dtype if action.dtype.startswith("float") else action.dtype)
        self.reward = make((), dtype)
        self.terminated, self.truncated, self.first, self.valid = (make((), "bool") for _ in range(4))
        if masks:
            self.mask, self.next_mask = (make((sum(action.choices),), "bool") for _ in range(2))
        self._wrap()
        self.extras: dict[str, Tensor] = {}
        self.info: dict[str, np.ndarray] = {}

    def _wrap(self) -> None:
        self.tensors = {
            name: torch.from_numpy(a) for name, a in vars(self).items() if isinstance(a, np.ndarray)
        }
        # What acting sees at each step: making views takes as long as a small network's layer.
        self.seen = list(zip(self.tensors["obs"].unbind(1), self.tensors["first"].unbind(1), strict=True))

    def put_extras(self, t: int, extras: Mapping[str, Tensor]) -> None:
        for name, value in extras.items():
            if name not in self.extras:
                shape = (value.shape[0], self.steps, *value.shape[1:])
                with torch.inference_mode(False):  # acting needs no gradients, learning from it does
                    self.extras[name] = torch.zeros(shape, dtype=value.dtype, device=value.device)
            self.extras[name][:, t] = value

    def put_info(self, t: int, name: str, value: np.ndarray) -> None:
        if name not in self.info:
            self.info[name] = np.zeros(self.reward.shape, "float64")
        self.info[name][:, t] = value

    def grow(self) -> None:
        """Double the number of steps, keeping what is there."""
        old = dict(vars(self))
        self.steps *= 2
        for name, array in old.items():
            if isinstance(array, np.ndarray):
                setattr(self, name, np.concatenate([array, np.zeros_like(array)], 1))
        with torch.inference_mode(False):
            self._wrap()
            self.extras = {k: torch.cat([v, torch.zeros_like(v)], 1) for k, v in self.extras.items()}
        self.info = {k: np.concatenate([v, np.zeros_like(v)], 1) for k, v in self.info.items()}


class Collector:
    """Owns the training envs, the current observations, the algorithm's memory and flags."""

    def __init__(
        self,
        env: VectorEnv,
        obs: Space,
        action: Space,
        seeds: tuple[int, ...],
        num_envs: int,
        *,
        reward: RewardFunction | None = None,
        options: Mapping[str, Any] | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        metrics: tuple[str, ...] = (),
        sums: tuple[str, ...] = (),
        limit: int | None = None,
    ) -> None:
        """`limit` is the longest that a whole episode may be."""
        self.env, self.num_envs, self.replicas = env, num_envs, len(seeds)
        self.obs_space, self.action_space = obs, action
        self.mode, self.limit = mode_of(env), limit
        self.reward_function, self.options = reward, dict(options or {})
        self.device, self.dtype = device, dtype
        self.rng = Stream(seeds, "explore", device)
        self.stats = EpisodeStatistics(self.replicas, num_envs, metrics, sums)
        shape = (self.replicas, num_envs)
        self._keys = child(keys(seeds, "env")[:, None], np.arange(num_envs)[None])  # [R, N]
        self.episode = np.zeros(shape, np.int64)  # index of the episode under way
        self._crossing = Crossing(env, shape, obs, action, self._where, dtype)
        self.obs: np.ndarray | None = None  # [R, N, ...]; None before the first reset
        self.first = np.ones(shape, bool)
        self.filler = np.zeros(shape, bool)  # the coming step only resets (autoreset NEXT_STEP)
        self.memory: Memory = ()
        self.taken = np.zeros(self.replicas, np.int64)  # valid steps [R] of the last rollout
        self._buffer: Buffer | None = None

    @cached_property
    def _nothing(self) -> Rollout:
        self.taken = np.ones(self.replicas, np.int64)
        size = (self.replicas, 0, self.num_envs)
        return self._rollout(Buffer(*size, self.obs_space, self.action_space, self.dtype), 0, ())

    def collect(self, algo: Algorithm, steps: int, step: np.ndarray, mode: Mode = "explore") -> Rollout:
        """`steps` steps of every env, or one whole episode of each if the algorithm says so.

        Of 0 steps the rollout is empty and no env is touched; the update itself counts as a step.
        """
        if not steps:
            Pulse.steps += 1
            return self._nothing
        whole = algo.whole_episodes
        if self.obs is None:
            self._reset(np.ones((self.replicas, self.num_envs), bool))
            self.memory = algo.initial_memory(self.num_envs)
        elif whole:  # padding stepped into the next episodes: begin them afresh
            self._reset(np.ones((self.replicas, self.num_envs), bool))
        buffer = self._buffer
        if buffer is None or (not whole and buffer.steps != steps):
            buffer = self._buffer = Buffer(
                self.replicas,
                steps if not whole else 128,
                self.num_envs,
                self.obs_space,
                self.action_space,
                self.dtype,
                algo.takes_masks and self._crossing.mask is not None,
            )
        start_memory = tuple([leaf.clone() for leaf in self.memory])  # fit to be learned from
        start_draws = self.rng.counter if whole else None
        running = np.ones((self.replicas, self.num_envs), bool)
        begin, row = step, np.full(self.replicas, self.num_envs)
        t = 0
        with torch.inference_mode():
            while running.any() if whole else t < steps:
                if t == buffer.steps:
                    buffer.grow()
                if whole and t == self.limit:
                    raise endless(self._crossing, int(running.argmax()), t)
                valid = self._step(algo, buffer, t, step, running, mode)
                step = step + (valid.sum(1) if whole or valid is not running else row)
                if whole:
                    running = running & ~(buffer.terminated[:, t] | buffer.truncated[:, t])
                t += 1
        self.taken = step - begin
        if whole:  # draws made for padding are taken back: a lone run would not make them
            own_steps = buffer.valid[:, :t].any(2).sum(1)
            self.rng.counter = start_draws + (self.rng.counter - start_draws) // t * own_steps
        return self._rollout(buffer, t, start_memory)

    def _step(
        self, algo: Algorithm, buffer: Buffer, t: int, step: np.ndarray, counted: np.ndarray, mode: Mode
    ) -> np.ndarray:
        """Step `t` of a rollout; which envs [R, N] took a valid one."""
        # The algorithm sees the buffer's own copy of the observations, and acts.
        buffer.obs[:, t] = self.obs
        buffer.first[:, t] = self.first
        obs, first = buffer.seen[t]
        if self.device != "cpu":
            obs, first = obs.to(self.device), first.to(self.device)
        masked: dict[str, Any] = {}
        if "mask" in buffer.tensors:
            buffer.mask[:, t] = self._crossing.mask
            masked["mask"] = buffer.tensors["mask"][:, t].to(self.device)
        act = algo.act(obs, self.memory, first, step=step, mode=mode, rng=self.rng, **masked)
        self.memory = act.memory
        if act.extras:
            buffer.put_extras(t, act.extras)
        action = act.action.numpy() if self.device == "cpu" else act.action.cpu().numpy()
        buffer.action[:, t] = action

        # The envs step, R x N of them in a row; the true successors.
        lead = (self.replicas, self.num_envs)
        obs_after, true_reward, terminated, truncated, info = self._crossing.step(action)
        Pulse.steps += 1
        next_obs = self._crossing.successors(obs_after, info)

        # What is learned from.
        reward = true_reward
        if self.reward_function is not None:
            # not self.obs, which is the env's own array and may have been overwritten
            reward = self.reward_function(true_reward, buffer.obs[:, t], action, next_obs)
        buffer.reward[:, t] = reward
        buffer.terminated[:, t] = terminated
        buffer.truncated[:, t] = truncated
        buffer.next_obs[:, t] = next_obs
        if masked:
            buffer.next_mask[:, t] = self._crossing.mask
        valid = counted & ~self.filler if self.mode == "NextStep" else counted
        buffer.valid[:, t] = valid
        for name in self.stats.metrics:
            buffer.put_info(t, name, np.asarray(info[name]).reshape(lead))
        self.stats.step(true_reward)
        self.obs = obs_after
        self._end_episodes(terminated | truncated, valid)
        return valid

    def _end_episodes(self, done: np.ndarray, valid: np.ndarray) -> None:
        """Count the episodes that a step ended, and begin the next ones in the env's own way."""
        if self.mode == "NextStep":
            self.first, self.filler = self.filler, done
            self.stats.begin(self.first)
        else:
            self.first = done
        if np.count_nonzero(done):  # several times as fast as done.any()
            ended = done & valid
            self.stats.end(ended)
            self.episode += ended
            if self.mode == "Disabled":
                self._reset(done)
            elif self.mode == "SameStep":
                self.stats.begin(done)

    def _reset(self, mask: np.ndarray) -> None:
        """Begin the next episode where `mask` [R, N] is true."""
        self.obs = self._crossing.reset(child(self._keys, self.episode), mask, self.options)
        self.first = mask | self.first
        self.filler = self.filler & ~mask
        self.stats.begin(mask)

    def _where(self, i: int) -> tuple[Any, int]:
        """Seed and step of the episode under way in sub-env i."""
        row = divmod(i, self.num_envs)
        return child(self._keys, self.episode)[row], int(self.stats.episode_length[row]) + 1

    def _rollout(self, buffer: Buffer, steps: int, memory: Memory) -> Rollout:
        tensors, extras = buffer.tensors, buffer.extras
        if steps != buffer.steps:
            tensors = {name: value[:, :steps] for name, value in tensors.items()}
            extras = {name: value[:, :steps] for name, value in extras.items()}
        info = {name: value[:, :steps] for name, value in buffer.info.items()}
        if info:
            self.stats.report(info, buffer.valid[:, :steps])
        if self.device != "cpu":
            tensors = {name: value.to(self.device) for name, value in tensors.items()}
        return Rollout(
            **tensors,
            memory=memory,
            extras=extras,
            info={name: torch.from_numpy(value) for name, value in info.items()},
        )

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, env state included; leaves [R, ...]."""
        if self.obs is None:
            return {}
        arrays: dict[str, np.ndarray] = {
            "obs": self.obs,
            "first": self.first,
            "filler": self.filler,
            "episode": self.episode,
        }
        if has_state(self.env):
            for name, value in self.env.state().items():  # type: ignore[attr-defined]
                arrays[f"env.{name}"] = value.reshape(self.replicas, self.num_envs, *value.shape[1:])
        out = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}
        out |= self.stats.state()
        out |= {f"memory.{i}": leaf for i, leaf in enumerate(self.memory)}
        out |= {f"rng.{name}": value for name, value in self.rng.state().items()}
        return out

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        if not state:
            return
        arrays = {name: value.cpu().numpy().copy() for name, value in state.items()}
        lead = (self.replicas, self.num_envs)
        flags = {"first": "bool", "filler": "bool", "episode": "int64"}
        for name, kind, shape in (
            ("obs", np.dtype(self.obs_space.dtype).kind, (*lead, *self.obs_space.shape)),
            *((name, np.dtype(dtype).kind, lead) for name, dtype in flags.items()),
        ):
            if arrays[name].dtype.kind != kind or arrays[name].shape != shape:
                found = f"{arrays[name].dtype} {list(arrays[name].shape)}"
                raise ValueError(f"collector.{name}: saved as {found}, this config has {list(shape)}")
        self.obs = arrays["obs"]
        self.first, self.filler, self.episode = arrays["first"], arrays["filler"], arrays["episode"]
        self.stats.load_state(arrays)
        env_state = {
            name[4:]: value.reshape(self.replicas * self.num_envs, *value.shape[2:])
            for name, value in arrays.items()
            if name.startswith("env.")
        }
        if has_state(self.env):
            self.env.load_state(env_state)  # type: ignore[attr-defined]
        else:  # the best that can be done: the episodes under way are lost, new ones begin
            self.episode += 1
            self._reset(np.ones_like(self.first))
        self._crossing.look()
        count = sum(name.startswith("memory.") for name in state)
        self.memory = tuple(state[f"memory.{i}"].to(self.device) for i in range(count))
        self.rng.load_state({"counter": state["rng.counter"]})
