"""Playing whole episodes: the one loop under evaluation, recording and watching."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rlrun import envs
from rlrun.boundary import Crossing, endless
from rlrun.collector import Pulse
from rlrun.core import Algorithm, Memory, Mode
from rlrun.lazy import torch
from rlrun.rng import Stream, child, keys

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv
    from torch import Tensor

LOOKS = 16  # steps of an evaluation at which action values are kept, for their histogram
_MOST = 1 << 22  # such values at a time

# obs [R, P, ...], first [R, P], mask [R, P, A] or None -> actions [R, P, ...]
Player = Callable[[np.ndarray, np.ndarray, np.ndarray | None], np.ndarray]


class Step(NamedTuple):
    """One step of all sub-envs, [R, P, ...]; the env may overwrite its arrays at the next one."""

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    next_obs: np.ndarray
    info: Mapping[str, Any]  # as the env gives it, [R * P]
    counts: np.ndarray  # whether the step belongs to an episode that is asked for
    mask: np.ndarray | None  # what was allowed, and what is next, [R, P, A]; None: everything
    next_mask: np.ndarray | None


def play(
    env: VectorEnv,
    player: Player,
    seed: np.ndarray,
    *,
    asked: np.ndarray | None = None,
    options: Mapping[str, Any] | None = None,
    under_way: np.ndarray | None = None,
    limit: int | None = None,
    dtype: str = "float32",
) -> Iterator[Step]:
    """One episode in each of R x P sub-envs, step by step, until the last one has ended.

    Observations and actions are as agents see them, whatever the env writes.

    Args:
        seed: of the episodes, uint64 [R, P].
        asked: which of them are wanted, bool [R, P]; all by default.
        under_way: the observations [R, P, ...] of episodes that go on; else they begin anew.
        limit: steps after which an episode must have ended.
        dtype: what the player computes in.

    Raises:
        EnvError: the env fails, returns what is not in its spaces, or an episode is too long.
    """
    lead, t = seed.shape, 0
    crossing = Crossing(env, lead, *envs.spaces(env), lambda i: (seed.reshape(-1)[i], t), dtype)
    obs = crossing.reset(seed, np.ones(lead, bool), options or {}) if under_way is None else under_way
    if under_way is not None:
        crossing.look()
    first = np.full(lead, under_way is None)
    counts = np.ones(lead, bool) if asked is None else asked
    while counts.any():
        if t == limit:
            raise endless(crossing, int(counts.argmax()), t)
        t += 1
        mask = crossing.mask
        action = player(obs, first, mask)
        next_obs, reward, terminated, truncated, info = crossing.step(action)
        Pulse.steps += 1
        yield Step(obs, action, reward, terminated, truncated, next_obs, info, counts, mask, crossing.mask)
        obs, first = next_obs, terminated | truncated
        counts = counts & ~first
        if counts.any() and first.any() and crossing.mode == "Disabled":
            obs = crossing.reset(seed, first, options or {})  # padding; it counts nowhere


class ActionValues:
    """The action values at a few steps of what is played, spread evenly over it.

    Every step is looked at until there are twice as many as are wanted; then every second of them
    is kept, and from there on every second step is looked at, and so on.
    """

    def __init__(self, algo: Algorithm, steps: int) -> None:
        self._q = getattr(algo, "q", None) if steps else None
        self._wanted, self._every, self._t = steps, 1, 0
        self._kept: list[np.ndarray] = []  # [R, P, A], and [R, P * A] when it is known what counts

    def look(self, obs: Tensor, memory: Memory, first: Tensor, mask: Tensor | None) -> None:
        """At what is to be acted on; NaN where an action is not allowed."""
        if self._q is None or self._t % self._every:
            return
        q = self._q(obs, memory, first)
        self._kept.append((q if mask is None else q.where(mask, torch.nan)).cpu().numpy())
        if len(self._kept) == 1:
            self._wanted = min(self._wanted, max(_MOST // (2 * q.nelement()), 1))

    def count(self, counts: np.ndarray) -> None:
        """The step has been taken: NaN where it does not count."""
        if self._q is not None and self._t % self._every == 0:
            q = self._kept[-1]
            self._kept[-1] = np.where(counts[..., None], q, np.nan).reshape(len(q), -1)
            if len(self._kept) == 2 * self._wanted:
                self._kept, self._every = self._kept[::2], 2 * self._every
        self._t += 1

    def all(self) -> np.ndarray | None:
        """[R, K]; None: the algorithm has none, or they were not asked for."""
        return np.concatenate(self._kept, 1) if self._kept else None


class AlgorithmPlayer:
    """An algorithm as a player: it holds the memory, and keeps no record for gradients."""

    def __init__(
        self,
        algo: Algorithm,
        memory: Memory,
        *,
        mode: Mode,
        step: np.ndarray,
        rng: Stream,
        dtype: Any,
        values: ActionValues | None = None,
    ) -> None:
        """`dtype` is the torch type of observations; `values` are shown what is acted on."""
        self._algo, self._memory, self._dtype = algo, memory, dtype
        self._how: dict[str, Any] = {"step": step, "mode": mode, "rng": rng}
        self._device, self._values = rng.device, values

    def __call__(self, obs: np.ndarray, first: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        how, may = self._how, None
        if mask is not None and self._algo.takes_masks:
            may = torch.from_numpy(mask).to(self._device)
            how = {**how, "mask": may}
        with torch.inference_mode():
            seen = torch.from_numpy(obs).to(self._device, self._dtype)
            begins = torch.from_numpy(first).to(self._device)
            if self._values is not None:
                self._values.look(seen, self._memory, begins, may)
            act = self._algo.act(seen, self._memory, begins, **how)
        self._memory = act.memory
        return act.action.cpu().numpy()


@dataclass(frozen=True)
class Played:
    """What was played; every array is [R, episodes] but for the action values, [R, K]."""

    returns: np.ndarray
    lengths: np.ndarray
    info: dict[str, np.ndarray]  # sums over the episode of the env's metrics
    q: np.ndarray | None = None  # action values at some of the steps; NaN where they do not count

    def means(self, prefix: str) -> dict[str, np.ndarray]:
        """Mean return and length of each replica, [R], by tag."""
        return {f"{prefix}/return": self.returns.mean(1), f"{prefix}/length": self.lengths.mean(1)}

    def distributions(self, prefix: str) -> dict[str, np.ndarray]:
        """What is [R, K], by tag."""
        return {} if self.q is None else {f"{prefix}/q": self.q}


def run_episodes(
    algo: Algorithm,
    env: VectorEnv,
    seeds: tuple[int, ...],
    episodes: int,
    *,
    purpose: str,
    mode: Mode,
    step: np.ndarray,
    device: str = "cpu",
    dtype: str = "float32",
    options: Mapping[str, Any] | None = None,
    record: tuple[str, ...] = (),
    limit: int | None = None,
    looks: int = 0,
) -> tuple[Played, dict[str, np.ndarray]]:
    """Play `episodes` whole episodes for each replica; episode i of a seed is always the same.

    `purpose` names the seeds' family ("eval", "test"); the env has R * P sub-envs, and
    episodes are played P at a time, each for `limit` steps at most; the action values of `looks`
    of their steps, or up to twice as many, are kept. Returns the scores, and the info arrays named
    in `record` as [R, P, steps] of the last round.
    """
    parallel = env.num_envs // len(seeds)
    lead = (len(seeds), parallel)
    obs_space, _ = envs.spaces(env)
    obs_type = getattr(torch, dtype if obs_space.dtype.startswith("float") else obs_space.dtype)
    names = envs.abilities(env).metrics
    base = keys(seeds, purpose)[:, None]
    rounds = -(-episodes // parallel)
    sums = {name: np.zeros((lead[0], rounds * parallel)) for name in ("return", "length", *names)}
    trace: dict[str, list[np.ndarray]] = {}
    values = ActionValues(algo, looks)
    for begin in range(0, rounds * parallel, parallel):
        # A stream per round: the length of one replica's episodes must not move another's draws.
        rng = Stream(seeds, f"{purpose}/act/{begin}", device)
        memory = algo.initial_memory(parallel)
        player = AlgorithmPlayer(algo, memory, mode=mode, step=step, rng=rng, dtype=obs_type, values=values)
        index = np.arange(begin, begin + parallel)[None]
        asked = np.broadcast_to(index < episodes, lead)
        total = {name: row[:, begin : begin + parallel] for name, row in sums.items()}
        trace = {name: [] for name in record}
        seeds_now = child(base, index)
        for now in play(env, player, seeds_now, asked=asked, options=options, limit=limit, dtype=dtype):
            total["return"] += np.where(now.counts, now.reward, 0.0)
            total["length"] += now.counts
            for name in names:
                total[name] += np.where(now.counts, np.asarray(now.info[name]).reshape(lead), 0.0)
            values.count(now.counts)
            for name in record:
                trace[name].append(np.where(now.counts, np.asarray(now.info[name]).reshape(lead), np.nan))
    asked_for = {name: row[:, :episodes] for name, row in sums.items()}
    played = Played(asked_for.pop("return"), asked_for.pop("length"), asked_for, values.all())
    return played, {name: np.stack(rows, -1) for name, rows in trace.items()}
