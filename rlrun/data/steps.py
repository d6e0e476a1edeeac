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
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from rlrun.config import ConfigError
from rlrun.config.keys import nearest
from rlrun.core import MASKS, Dataset
from rlrun.files import read_declared, read_json, write_atomic
from rlrun.spaces import Box, MultiDiscrete, Space

SCHEMA = 2  # 1 always had next_obs, and integers of 64 bits
SHIPPED = Path(__file__).parent / "shipped" / "steps"
_STEPS, ABOUT = "steps.safetensors", "dataset.json"
STORED = ("obs", "action", "reward", "terminated", "truncated", "next_obs")


def load(folder: Path) -> Dataset:
    """Read a data set.

    Raises:
        ConfigError: it is missing or damaged; the message says what to do.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as decode

    try:
        about = read_json(folder / ABOUT, 1 << 20)
        if about["schema"] > SCHEMA:
            raise ConfigError(
                f"{folder} was written by a newer rlrun (schema {about['schema']}; this one knows {SCHEMA})"
            )
        data = read_declared(folder / _STEPS, about["size"], about["sha256"])
        arrays = _unpacked(decode(data))
        check_arrays(arrays)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _missing(folder, Path(error.filename or ABOUT).name) from None
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
    return Dataset(**arrays, first=firsts(arrays))


def save(folder: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> dict[str, Any]:
    """Write obs, action, reward, terminated, truncated and next_obs, each [steps, ...], as a data set.

    `about` is plain JSON that says where the steps are from. Returns all of dataset.json.

    Raises:
        ConfigError: the folder holds one already.
        ValueError: the arrays do not make a data set.
    """
    from safetensors.numpy import save as encode

    if (folder / ABOUT).exists():
        raise ConfigError(f"{folder} is a data set already", "choose another folder, or delete this one")
    check_arrays(arrays)
    folder.mkdir(parents=True, exist_ok=True)
    data = encode({name: np.ascontiguousarray(array) for name, array in _packed(arrays).items()})
    head = {
        "schema": SCHEMA,
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "steps": len(arrays["reward"]),
        "episodes": int(firsts(arrays).sum()),
    }
    write_atomic(folder / _STEPS, data)
    write_atomic(folder / ABOUT, json.dumps(head | dict(about), indent=1).encode() + b"\n")
    return head | dict(about)


def sha256(dataset: Dataset) -> str:
    """What identifies the steps, wherever they were read from."""
    digest = hashlib.sha256()
    for f in fields(Dataset):
        if getattr(dataset, f.name) is None:
            continue
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


def firsts(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Whether a step begins an episode: the first of all, and each that follows an end."""
    ended = arrays["terminated"] | arrays["truncated"]
    return np.concatenate([[True], ended[:-1]])


def check_arrays(arrays: Mapping[str, np.ndarray]) -> None:
    """ValueError unless these are the arrays of a data set."""
    if sorted(arrays) not in (sorted(STORED), sorted((*STORED, *MASKS))):
        raise ValueError(
            f"its arrays are {', '.join(sorted(arrays))}; they must be {', '.join(STORED)}, "
            f"and {' and '.join(MASKS)} or neither"
        )
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
    for name in MASKS:
        if name in arrays and (arrays[name].dtype != bool or arrays[name].ndim != 2):
            raise ValueError(f"{name} is {arrays[name].dtype} {list(arrays[name].shape)}")
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
