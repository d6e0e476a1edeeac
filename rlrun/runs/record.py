"""Data sets from runs: episodes played by a trained policy, or taken from its replay buffer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlrun import envs
from rlrun.config import ConfigError
from rlrun.config.plain import from_dict
from rlrun.core import MASKS, Spec
from rlrun.data import minari as minari_format
from rlrun.data.steps import ABOUT, STORED, firsts, save
from rlrun.evals.play import play as played
from rlrun.parts.masks import pick
from rlrun.rng import Stream, child, keys
from rlrun.runs.folder import RunFolder, sound
from rlrun.runs.load import check_replay, load, opened
from rlrun.spaces import Box, MultiDiscrete, Space


def record(
    folder: Path,
    episodes: int,
    out: Path | None = None,
    replica: int = 0,
    mode: str | None = None,
    minari: str | None = None,
) -> dict[str, Any]:
    """Play whole episodes with a trained run's policy and write them as a data set.

    It goes to the folder `out`, or to Minari's under the name `minari`. With mode `replay`
    they are the first episodes of the run's own training, see `replayed`; see `play` for the
    others. Returns what dataset.json says about them.

    Raises:
        ConfigError: the folder is no finished run, or there is such a data set already.
    """
    if out is not None and (out / ABOUT).exists():
        raise ConfigError(f"{out} is a data set already", "choose another folder, or delete this one")
    if out is not None and out.is_relative_to(folder):  # an own choice may be a link, a stranger's none
        with sound(folder):
            RunFolder(folder).folder_for(out)
    if mode == "replay":
        arrays, about = replayed(folder, episodes, replica)
    else:
        arrays, about = play(folder, episodes, replica, mode)
    if minari is not None:
        env = envs.make(from_dict(RunFolder(folder).read()["config"]).env, 1)
        spaces = env.single_observation_space, env.single_action_space
        minari_format.save(minari, _as_written(arrays, *envs.spaces(env)), *spaces, about)
    if out is not None:
        return save(out, arrays, about)
    return {"steps": len(arrays["reward"]), "episodes": episodes} | about


def play(
    folder: Path, episodes: int, replica: int = 0, mode: str | None = None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays [steps, ...] of whole episodes, and where they are from.

    `mode` is greedy, sample, or random (uniform actions, whatever the policy); as the run
    was judged by default. The episodes are of seeds that neither training nor evaluation
    uses, the same in every mode; the rewards are the env's own.
    """
    policy = None if mode == "random" else load(folder, replica, mode)
    run = RunFolder(folder).read()
    _known(replica, run, folder)
    config, seed = from_dict(run["config"]), int(run["replicas"][replica]["seed"])
    if config.env.never_ends:
        raise ConfigError(f"{folder}: its env never ends, and data sets are of whole episodes")
    with sound(folder):
        env = envs.make(config.env, episodes)
        obs_space, action_space = envs.spaces(env)
    rng = Stream([seed], "record/random")

    def at_random(obs: np.ndarray, first: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        return _uniform(action_space, rng.numbers(episodes, *action_space.shape)[0], mask)[None]

    player = at_random if policy is None else policy.player()
    seeds = child(keys([seed], "record")[:, None], np.arange(episodes)[None])
    stored = STORED if envs.abilities(env).masks is None else (*STORED, *MASKS)
    rows: dict[str, list[np.ndarray]] = {name: [] for name in (*stored, "counts")}
    for now in played(env, player, seeds, limit=config.longest_episode, dtype=config.dtype):
        for name, row in rows.items():
            row.append(np.array(getattr(now, name)[0]))
    env.close()
    kept = np.stack(rows.pop("counts"), 1)  # [episodes, T]
    types = {"obs": obs_space.dtype, "next_obs": obs_space.dtype, "action": action_space.dtype}
    types |= {"reward": "float64", **dict.fromkeys(("terminated", "truncated", *MASKS), "bool")}
    arrays = {name: np.stack(values, 1)[kept].astype(types[name]) for name, values in rows.items()}
    return arrays, _about(run, replica, mode or str(getattr(config.eval, "mode", "greedy")), arrays)


def replayed(folder: Path, episodes: int, replica: int = 0) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The first episodes in a run's replay buffer, of mixed quality: arrays [steps, ...], and about them.

    One env after the other; the rewards are those that were learned from.

    Raises:
        ConfigError: the run has no replay buffer, or fewer episodes in it.
    """
    run = RunFolder(folder).read()
    _known(replica, run, folder)
    files = opened(RunFolder(folder), only="replay").files["replay"]
    leaves = {name.rpartition("replay.")[2]: leaf[replica] for name, leaf in files.items()}
    if not leaves.keys() >= {"cursor", *STORED}:
        raise ConfigError(f"{folder} has no replay buffer", "mode=sample plays new episodes")
    with sound(folder):
        spaces, config = RunFolder(folder).spaces(), from_dict(run["config"])
        check_replay(files, Spec(*spaces, 1, (0,), config.total_steps, "cpu", config.dtype))
        head = int(leaves["cursor"][1]) % len(leaves["reward"])  # the oldest row, where the buffer is full
        stored = [name for name in (*STORED, *MASKS) if name in leaves]
        rows = {name: np.roll(leaves[name].numpy(), -head, 0) for name in stored}  # [rows, N, ...]
        rows["truncated"][-1] |= ~rows["terminated"][-1]  # another env's steps come next
        arrays = {name: np.concatenate(list(rows[name].swapaxes(0, 1))) for name in stored}
    ends = np.flatnonzero(arrays["terminated"] | arrays["truncated"])
    if episodes > len(ends):
        raise ConfigError(f"episodes is {episodes}: the replay buffer of {folder} has {len(ends)}")
    arrays = {name: array[: ends[episodes - 1] + 1] for name, array in arrays.items()}
    return arrays, _about(run, replica, "replay", arrays)


def _known(replica: int, run: Mapping[str, Any], folder: Path) -> None:
    if not 0 <= replica < len(run["replicas"]):
        raise ConfigError(f"replica is {replica}: {folder} has 0 to {len(run['replicas']) - 1}")


def _about(
    run: Mapping[str, Any], replica: int, mode: str, arrays: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Where steps are from: what dataset.json says besides their number."""
    choices = run["config"]["choices"]
    returns = np.add.reduceat(arrays["reward"], np.flatnonzero(firsts(arrays)))
    return {
        "env": choices.get("env"),
        "algo": "random" if mode == "random" else choices.get("algo"),
        "mode": mode,
        "config_hash": run.get("config_hash"),
        "replica": replica,
        "seed": int(run["replicas"][replica]["seed"]),
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
    }


def _as_written(arrays: Mapping[str, np.ndarray], obs: Space, action: Space) -> dict[str, np.ndarray]:
    """The arrays with what the env itself writes otherwise in its own terms."""
    spaces = {"obs": obs, "next_obs": obs, "action": action}
    written = {name: space.write(arrays[name]) for name, space in spaces.items() if space.own}
    return {**arrays, **written}


def _uniform(space: Space, numbers: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Actions from numbers [N, *shape] in (0, 1): all that a mask [1, N, A] allows are equally likely."""
    if isinstance(space, Box):
        low, high = (np.reshape(bound, space.shape) for bound in (space.low, space.high))
        if not np.isfinite([low, high]).all():
            raise ConfigError("mode is random: this env's actions have no finite bounds")
        return (low + numbers * (high - low)).astype(space.dtype)
    if mask is not None:
        return pick(mask[0], space.choices, numbers.reshape(len(numbers), -1)).reshape(numbers.shape)
    return (numbers * (space.nvec if isinstance(space, MultiDiscrete) else space.n)).astype(np.int64)
