"""Logged steps for imitation and offline algorithms: the configs of `data=`.

A data set is a folder of two files, without pickle:

    steps.safetensors   obs, action, reward, terminated, truncated, next_obs, each [steps, ...],
                        in time order, one episode after the other
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

SCHEMA = 1
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
    dataset = load(path)
    if config.episodes is None:
        return dataset
    begins = np.flatnonzero(dataset.first)
    if config.episodes > len(begins):
        raise ConfigError(
            f"data.episodes is {config.episodes}: {path} has {len(begins)}",
            f"lower it, or say data.episodes=null for all {len(begins)}",
        )
    end = [*begins, len(dataset.first)][config.episodes]
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
        arrays = decode(data)
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


def save(folder: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Write obs, action, reward, terminated, truncated and next_obs, each [steps, ...], as a data set.

    `about` is plain JSON that says where the steps are from.

    Raises:
        ConfigError: the folder holds one already.
        ValueError: the arrays do not make a data set.
    """
    from safetensors.numpy import save as encode

    if (folder / _ABOUT).exists():
        raise ConfigError(f"{folder} is a data set already", "choose another folder, or delete this one")
    _check_arrays(arrays)
    folder.mkdir(parents=True, exist_ok=True)
    data = encode({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    head = {
        "schema": SCHEMA,
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "steps": len(arrays["reward"]),
        "episodes": int(_first(arrays).sum()),
    }
    checkpoint.write_atomic(folder / _STEPS, data)
    checkpoint.write_atomic(folder / _ABOUT, json.dumps(head | dict(about), indent=1).encode() + b"\n")


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


def record(folder: Path, episodes: int, out: Path, replica: int = 0) -> dict[str, Any]:
    """Play whole episodes with a trained run's policy and write them to `out` as a data set.

    The episodes are of seeds that neither training nor evaluation uses, the rewards the
    env's own. Returns what dataset.json says about them.

    Raises:
        ConfigError: the folder is no finished run, or `out` holds a data set already.
    """
    from rlrun import envs, runner
    from rlrun.collector import mode_of, reset
    from rlrun.config import from_dict
    from rlrun.rng import child, keys

    if (out / _ABOUT).exists():
        raise ConfigError(f"{out} is a data set already", "choose another folder, or delete this one")
    policy = runner.load(folder, replica)
    run = runner.read_run(folder)
    config, seed = from_dict(run["config"]), int(run["replicas"][replica]["seed"])
    env = envs.make(config.env, episodes)
    obs_space, action_space = envs.spaces(env)
    everyone, running = np.ones((1, episodes), bool), np.ones(episodes, bool)
    seeds = child(keys([seed], "record")[:, None], np.arange(episodes)[None])
    obs, memory, first = reset(env, seeds, everyone, {}), None, running
    rows: dict[str, list[np.ndarray]] = {name: [] for name in (*_STORED, "running")}
    while running.any():
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
    returns = np.where(kept, np.stack(rows["reward"], 1), 0.0).sum(1)
    about = {
        "env": config.choices.get("env"),
        "algo": config.choices.get("algo"),
        "config_hash": run["config_hash"],
        "replica": replica,
        "seed": seed,
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
    }
    save(out, arrays, about)
    return json.loads((out / _ABOUT).read_text())
