"""Logged steps for imitation and offline algorithms: the configs of `data=`.

A data set is a folder of two files, without pickle:

    steps.safetensors   obs, action, reward, terminated, truncated, each [steps, ...], in time
                        order, one episode after the other; and last_obs, where the last step
                        of each episode led (or next_obs, where steps do not follow each other)
    dataset.json        schema, the first file's size and SHA-256, and where the steps are from

`record` makes one from a trained run and `save` from arrays; reading trusts nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from rlrun import checkpoint
from rlrun.config import ConfigError, key, nearest
from rlrun.core import Box, Dataset, MultiDiscrete, Space
from rlrun.registry import register

SCHEMA = 2  # 1 always had next_obs, and integers of 64 bits
SHIPPED = Path(__file__).parent / "data"
_STEPS, _ABOUT = "steps.safetensors", "dataset.json"
_STORED = ("obs", "action", "reward", "terminated", "truncated", "next_obs")


@dataclass
class NoneConfig:
    """Nothing: the agent learns from its own steps."""


@dataclass
class FileConfig:
    """A data set on disk."""

    path: str = key("the data set's folder, or the name of one that is shipped")
    episodes: int | None = key("use only the first episodes; null: all", min=1)


@dataclass
class MinariConfig:
    """A data set of Minari's on this machine; needs the extra `minari`."""

    id: str = key("its name, such as D4RL/door/human-v2; `minari list local` shows those that are there")
    episodes: int | None = key("use only the first episodes; null: all", min=1)


@register("data", "none", NoneConfig)
def nothing(config: NoneConfig) -> Dataset | None:
    return None


@register("data", "file", FileConfig)
def read(config: FileConfig) -> Dataset:
    """The data set that a config names, checked.

    Raises:
        ConfigError: it is missing or damaged, or has fewer episodes than asked for.
    """
    shipped = SHIPPED / config.path
    path = shipped if shipped.parent == SHIPPED and shipped.is_dir() else Path(config.path)
    return _episodes(load(path), config.episodes, path)


@register("data", "minari", MinariConfig)
def read_minari(config: MinariConfig) -> Dataset:
    """A data set of Minari's, checked.

    Raises:
        ConfigError: it or Minari is missing, it is unsound, or has fewer episodes than asked for.
    """
    from rlrun import exchange

    arrays = exchange.load(config.id)
    try:
        _check_arrays(arrays)
    except ValueError as error:
        raise ConfigError(f"the Minari data set {config.id} cannot be used: {error}") from None
    return _episodes(Dataset(**arrays, first=_first(arrays)), config.episodes, config.id)


def _episodes(dataset: Dataset, episodes: int | None, name: object) -> Dataset:
    """The first episodes of a data set, or all of them."""
    if episodes is None:
        return dataset
    begins = np.flatnonzero(dataset.first)
    if episodes > len(begins):
        raise ConfigError(
            f"data.episodes is {episodes}: {name} has {len(begins)}",
            f"lower it, or say data.episodes=null for all {len(begins)}",
        )
    end = [*begins, len(dataset.first)][episodes]
    return Dataset(**{f.name: getattr(dataset, f.name)[:end] for f in fields(Dataset)})


def load(folder: Path) -> Dataset:
    """Read a data set.

    Raises:
        ConfigError: it is missing or damaged; the message says what to do.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as decode

    try:
        about = json.loads(checkpoint.read_regular(folder / _ABOUT, 1 << 20))
        if about["schema"] > SCHEMA:
            raise ConfigError(
                f"{folder} was written by a newer rlrun (schema {about['schema']}; this one knows {SCHEMA})"
            )
        data = checkpoint.read_regular(folder / _STEPS, int(about["size"]))
        if hashlib.sha256(data).hexdigest() != about["sha256"]:
            raise ValueError(f"{_STEPS} does not match its checksum")
        arrays = _unpacked(decode(data))
        _check_arrays(arrays)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _missing(folder, Path(error.filename or _ABOUT).name) from None
    except ConfigError:
        raise
    except (
        ArithmeticError,
        LookupError,
        OSError,
        RecursionError,
        SafetensorError,
        TypeError,
        ValueError,
    ) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ConfigError(
            f"the data set {folder} is damaged: {why}", "record it again, or restore it from a copy"
        ) from None
    return Dataset(**arrays, first=_first(arrays))


def save(folder: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> dict[str, Any]:
    """Write obs, action, reward, terminated, truncated and next_obs, each [steps, ...], as a data set.

    `about` is plain JSON that says where the steps are from. Returns all of dataset.json.

    Raises:
        ConfigError: the folder holds one already.
        ValueError: the arrays do not make a data set.
    """
    from safetensors.numpy import save as encode

    if (folder / _ABOUT).exists():
        raise ConfigError(f"{folder} is a data set already", "choose another folder, or delete this one")
    _check_arrays(arrays)
    folder.mkdir(parents=True, exist_ok=True)
    data = encode({name: np.ascontiguousarray(array) for name, array in _packed(arrays).items()})
    head = {
        "schema": SCHEMA,
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "steps": len(arrays["reward"]),
        "episodes": int(_first(arrays).sum()),
    }
    checkpoint.write_atomic(folder / _STEPS, data)
    checkpoint.write_atomic(folder / _ABOUT, json.dumps(head | dict(about), indent=1).encode() + b"\n")
    return head | dict(about)


def sha256(dataset: Dataset) -> str:
    """What identifies the steps, wherever they were read from."""
    digest = hashlib.sha256()
    for f in fields(Dataset):
        array = np.ascontiguousarray(getattr(dataset, f.name))
        digest.update(f"{f.name} {array.dtype} {array.shape} ".encode() + array.tobytes())
    return digest.hexdigest()


def _packed(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What is written: no `next_obs` where it is the next step's obs, and the shortest integers."""
    packed, last = dict(arrays), _last(arrays)
    if np.array_equal(arrays["next_obs"][~last], np.roll(arrays["obs"], -1, 0)[~last]):
        packed["last_obs"] = packed.pop("next_obs")[last]
    if arrays["action"].dtype.kind == "i":
        ends = arrays["action"].min(), arrays["action"].max()
        packed["action"] = arrays["action"].astype(np.result_type(*map(np.min_scalar_type, ends)))
    return packed


def _unpacked(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays again that `_packed` was given."""
    if "last_obs" in arrays:
        arrays["next_obs"] = np.roll(arrays["obs"], -1, 0)
        arrays["next_obs"][_last(arrays)] = arrays.pop("last_obs")
    if arrays["action"].dtype.kind in "iu":
        arrays["action"] = arrays["action"].astype(np.int64)
    return arrays


def _last(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Whether a step is the last of its episode, or of all."""
    ended = arrays["terminated"] | arrays["truncated"]
    return np.append(ended[:-1], True)


def _first(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Whether a step begins an episode: the first of all, and each that follows an end."""
    ended = arrays["terminated"] | arrays["truncated"]
    return np.concatenate([[True], ended[:-1]])


def _check_arrays(arrays: Mapping[str, np.ndarray]) -> None:
    """ValueError unless these are the arrays of a data set."""
    if sorted(arrays) != sorted(_STORED):
        raise ValueError(f"its arrays are {', '.join(sorted(arrays))}; they must be {', '.join(_STORED)}")
    lengths = {len(array) if array.ndim else 0 for array in arrays.values()}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError("its arrays must have the same number of steps, at least one")
    kinds = {"reward": "f", "terminated": "b", "truncated": "b"}
    kinds |= {"obs": "fiu", "next_obs": "fiu", "action": "fi"}
    for name, allowed in kinds.items():
        array = arrays[name]
        if array.dtype.kind not in allowed or (len(allowed) == 1 and array.ndim != 1):
            raise ValueError(f"{name} is {array.dtype} {list(array.shape)}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name} has values that are not finite")
    obs, next_obs = arrays["obs"], arrays["next_obs"]
    if obs.shape != next_obs.shape or obs.dtype != next_obs.dtype:
        raise ValueError("obs and next_obs differ in shape or type")


def _missing(folder: Path, name: str) -> ConfigError:
    names = sorted(path.name for path in SHIPPED.iterdir() if path.is_dir())
    near = nearest(str(folder), names)
    what = f"it has no {name}" if folder.is_dir() else "there is no such folder"
    return ConfigError(
        f"data.path is {folder}, which is no data set: {what}",
        f"did you mean {near}?" if near else "`rlrun record RUN` makes one from a trained run",
        f"shipped data sets are {', '.join(names)}",
    )


def check(dataset: Dataset, obs: Space, action: Space, data: str, env: str) -> None:
    """Refuse a data set `data` whose observations or actions are not those of `env`.

    Raises:
        ConfigError: shapes or kinds differ, or values lie outside the space.
    """
    for what, array, space in (("observations", dataset.obs, obs), ("actions", dataset.action, action)):
        problem = _misfit(array, space, bounded=what == "actions")
        if problem:
            raise ConfigError(
                f"data={data} does not fit env={env}: its {what} are {problem}",
                "choose the environment that the data were recorded in, or other data",
            )


def _misfit(array: np.ndarray, space: Space, *, bounded: bool) -> str:
    """What the array [steps, ...] is, and the space is not; '' if they agree."""
    floats = isinstance(space, Box) and space.dtype.startswith("float")
    if array.shape[1:] != space.shape or (array.dtype.kind == "f") != floats:
        return f"{array.dtype} {list(array.shape[1:])}, the env's {space.dtype} {list(space.shape)}"
    low, high = array.min(0).ravel(), array.max(0).ravel()
    if isinstance(space, Box):
        if bounded and (np.any(low < space.low) or np.any(high > space.high)):
            own, other = (low.min(), high.max()), (min(space.low), max(space.high))
            return "from {:g} to {:g}, the env's from {:g} to {:g}".format(*own, *other)
        return ""
    limit = np.array(space.nvec if isinstance(space, MultiDiscrete) else [space.n])
    if np.any(low < 0) or np.any(high >= limit):
        return f"integers from {low.min()} to {high.max()}, the env's below {limit.max()}"
    return ""


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
    from rlrun import envs, exchange, runner
    from rlrun.config import from_dict

    if out is not None and (out / _ABOUT).exists():
        raise ConfigError(f"{out} is a data set already", "choose another folder, or delete this one")
    if mode == "replay":
        arrays, about = replayed(folder, episodes, replica)
    else:
        arrays, about = play(folder, episodes, replica, mode)
    if minari is not None:
        env = envs.make(from_dict(runner.read_run(folder)["config"]).env, 1)
        spaces = env.single_observation_space, env.single_action_space
        exchange.save(minari, arrays, *spaces, about)
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
    from rlrun import envs, runner
    from rlrun.collector import mode_of, reset
    from rlrun.config import from_dict
    from rlrun.rng import Stream, child, keys

    policy = None if mode == "random" else runner.load(folder, replica, mode)
    run = runner.read_run(folder)
    config, seed = from_dict(run["config"]), int(run["replicas"][replica]["seed"])
    if config.env.never_ends:
        raise ConfigError(f"{folder}: its env never ends, and data sets are of whole episodes")
    env = envs.make(config.env, episodes)
    obs_space, action_space = envs.spaces(env)
    rng = Stream([seed], "record/random")
    everyone, running = np.ones((1, episodes), bool), np.ones(episodes, bool)
    seeds = child(keys([seed], "record")[:, None], np.arange(episodes)[None])
    obs, memory, first = reset(env, seeds, everyone, {}), None, running
    rows: dict[str, list[np.ndarray]] = {name: [] for name in (*_STORED, "running")}
    while running.any():
        if policy is None:
            action = _uniform(action_space, rng.numbers(episodes, *action_space.shape)[0])
        else:
            action, memory = policy.act(obs, memory, first)
        next_obs, reward, terminated, truncated, _ = env.step(action)
        step = (obs, action, reward, terminated, truncated, next_obs, running)
        for name, value in zip(rows, step, strict=True):
            rows[name].append(np.array(value))
        obs, first = next_obs, terminated | truncated
        running = running & ~first
        if running.any() and first.any() and mode_of(env) == "Disabled":
            obs = reset(env, seeds, first[None], {})  # padding; not kept
    env.close()
    kept = np.stack(rows.pop("running"), 1)  # [episodes, T]
    types = {"obs": obs_space.dtype, "next_obs": obs_space.dtype, "action": action_space.dtype}
    types |= {"reward": "float64", "terminated": "bool", "truncated": "bool"}
    arrays = {name: np.stack(values, 1)[kept].astype(types[name]) for name, values in rows.items()}
    return arrays, _about(run, replica, mode or str(getattr(config.eval, "mode", "greedy")), arrays)


def replayed(folder: Path, episodes: int, replica: int = 0) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The first episodes in a run's replay buffer, of mixed quality: arrays [steps, ...], and about them.

    One env after the other; the rewards are those that were learned from.

    Raises:
        ConfigError: the run has no replay buffer, or fewer episodes in it.
    """
    from rlrun import runner

    run = runner.read_run(folder)
    saved, _ = checkpoint.load(folder / "ckpt", only="replay")
    leaves = {name.rpartition("replay.")[2]: leaf[replica] for name, leaf in saved.files["replay"].items()}
    if not leaves.keys() >= {"cursor", *_STORED}:
        raise ConfigError(f"{folder} has no replay buffer", "mode=sample plays new episodes")
    head = int(leaves["cursor"][1]) % len(leaves["reward"])  # the oldest row, where the buffer is full
    rows = {name: np.roll(leaves[name].numpy(), -head, 0) for name in _STORED}  # [rows, N, ...]
    rows["truncated"][-1] |= ~rows["terminated"][-1]  # another env's steps come next
    arrays = {name: np.concatenate(list(rows[name].swapaxes(0, 1))) for name in _STORED}
    ends = np.flatnonzero(arrays["terminated"] | arrays["truncated"])
    if episodes > len(ends):
        raise ConfigError(f"episodes is {episodes}: the replay buffer of {folder} has {len(ends)}")
    arrays = {name: array[: ends[episodes - 1] + 1] for name, array in arrays.items()}
    return arrays, _about(run, replica, "replay", arrays)


def _about(
    run: Mapping[str, Any], replica: int, mode: str, arrays: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Where steps are from: what dataset.json says besides their number."""
    choices = run["config"]["choices"]
    returns = np.add.reduceat(arrays["reward"], np.flatnonzero(_first(arrays)))
    return {
        "env": choices.get("env"),
        "algo": "random" if mode == "random" else choices.get("algo"),
        "mode": mode,
        "config_hash": run["config_hash"],
        "replica": replica,
        "seed": int(run["replicas"][replica]["seed"]),
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
    }


def _uniform(space: Space, numbers: np.ndarray) -> np.ndarray:
    """Actions from numbers [N, *shape] in (0, 1): all are equally likely."""
    if isinstance(space, Box):
        low, high = (np.reshape(bound, space.shape) for bound in (space.low, space.high))
        if not np.isfinite([low, high]).all():
            raise ConfigError("mode is random: this env's actions have no finite bounds")
        return (low + numbers * (high - low)).astype(space.dtype)
    return (numbers * (space.nvec if isinstance(space, MultiDiscrete) else space.n)).astype(np.int64)
