"""Logged steps for imitation and offline algorithms: the configs of `data=`."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from rlrun.config import ConfigError, key
from rlrun.core import Dataset
from rlrun.data import minari
from rlrun.data.steps import SHIPPED, check_arrays, firsts, load
from rlrun.registry import register


@dataclass
class NoneConfig:
    """Nothing: the agent learns from its own steps."""


@dataclass
class FileConfig:
    """A data set on disk."""

    path: str = key("the data set's folder, or the name of one that is shipped", path=True)
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
    arrays = minari.load(config.id)
    try:
        check_arrays(arrays)
    except ValueError as error:
        raise ConfigError(f"the Minari data set {config.id} cannot be used: {error}") from None
    return _episodes(Dataset(**arrays, first=firsts(arrays)), config.episodes, config.id)


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
    arrays = {f.name: getattr(dataset, f.name) for f in fields(Dataset)}
    return replace(dataset, **{name: array[:end] for name, array in arrays.items() if array is not None})
