"""Data sets of Minari (https://minari.farama.org), to and from ours. Needs the extra `minari`.

Only what is on this machine is read: `minari download ID` fetches a data set.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun.config import ConfigError
from rlrun.config.keys import nearest

if TYPE_CHECKING:
    from gymnasium.spaces import Space


def load(name: str) -> dict[str, np.ndarray]:
    """The arrays of a Minari data set, each [steps, ...]; an episode that was cut off is truncated.

    Raises:
        ConfigError: Minari or the data set is missing, or its steps are no plain arrays.
    """
    minari = _minari()
    try:
        episodes = list(minari.load_dataset(name).iterate_episodes())
    except ImportError as error:
        raise _missing(error) from None
    except FileNotFoundError:
        near = nearest(name, minari.list_local_datasets())
        raise ConfigError(
            f"data.id is {name}: Minari has no such data set on this machine",
            f"did you mean {near}?" if near else "`minari download ID` fetches one that is published",
            "`minari list local` shows those that are there",
        ) from None
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise ConfigError(f"the Minari data set {name} cannot be read: {error}") from None
    if not all(isinstance(each, np.ndarray) for e in episodes for each in (e.observations, e.actions)):
        raise ConfigError(
            f"the Minari data set {name} has nested observations or actions",
            "rlrun's data sets hold one array of each: flatten them first",
        )
    ends = [np.arange(len(e)) == len(e) - 1 for e in episodes]
    parts = {
        "obs": [e.observations[:-1] for e in episodes],
        "action": [e.actions for e in episodes],
        "reward": [e.rewards.astype(np.float64) for e in episodes],
        "terminated": [e.terminations.astype(bool) for e in episodes],
        "truncated": [e.truncations | (end & ~e.terminations) for e, end in zip(episodes, ends, strict=True)],
        "next_obs": [e.observations[1:] for e in episodes],
    }
    return {key: np.concatenate(arrays) for key, arrays in parts.items()}


def save(
    name: str, arrays: Mapping[str, np.ndarray], obs: Space, action: Space, about: Mapping[str, Any]
) -> None:
    """Write arrays of whole episodes, each [steps, ...], as a Minari data set of these Gymnasium spaces.

    Raises:
        ConfigError: Minari is missing, refuses the name, or has such a data set already.
    """
    minari = _minari()
    ended = np.flatnonzero(arrays["terminated"] | arrays["truncated"]) + 1
    episodes: list[Any] = []
    for begin, end in zip([0, *ended[:-1]], ended, strict=True):
        part = {key: array[begin:end] for key, array in arrays.items()}
        episodes.append(
            minari.data_collector.EpisodeBuffer(
                id=len(episodes),
                observations=np.concatenate([part["obs"], part["next_obs"][-1:]]),
                actions=part["action"],
                rewards=part["reward"],
                terminations=part["terminated"],
                truncations=part["truncated"],
            )
        )
    try:
        with warnings.catch_warnings():  # about a Gymnasium id to make the env by, which not every env has
            warnings.simplefilter("ignore")
            minari.create_dataset_from_buffers(
                name,
                episodes,
                observation_space=obs,
                action_space=action,
                algorithm_name=about["algo"],
                author="rlrun",
                author_email="unknown",
                code_permalink="unknown",
                description=json.dumps(dict(about)),
                jpeg_encoding=False,  # what is read back is what was recorded
            )
    except ImportError as error:
        raise _missing(error) from None
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"Minari does not take a data set {name}: {error}", "names look like cartpole/expert-v0"
        ) from None


def _minari() -> Any:
    try:
        import minari
        import minari.data_collector
    except ImportError as error:
        raise _missing(error) from None
    return minari


def _missing(error: ImportError) -> ConfigError:
    return ConfigError(
        f"Minari's data sets need packages that are missing: {error}", "pip install 'rlrun[minari]'"
    )
