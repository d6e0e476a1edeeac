"""Trading envs made by hand, and how tests play them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from rlrun.data.table import Series
from rlrun.envs.series import SeriesConfig, prepared
from rlrun.envs.series import trading as make_trading
from rlrun.envs.vector.series import Trading

CONF = Path(__file__).parents[1] / "conf" / "env"


@cache
def shipped(name: str = "series") -> SeriesConfig:
    values: dict[Any, Any] = {"path": "wti_daily"}
    for part in (name, "series"):  # the variant's values win
        found = OmegaConf.to_container(OmegaConf.load(CONF / f"{part}.yaml"))
        assert isinstance(found, dict)
        values = found | values
    del values["defaults"]
    made = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(SeriesConfig), values))
    assert isinstance(made, SeriesConfig)
    return made


def series(prices: Any, *others: Any) -> Series:
    values = np.column_stack([np.asarray(column, float) for column in (prices, *others)])
    return Series(np.arange(len(values)), ("close", "a", "b")[: values.shape[1]], values, "")


def trading(data: Series, num_envs: int = 1, **changes: Any) -> Trading:
    config = replace(shipped(), **({"lookback": 1} | changes))
    env = make_trading(num_envs, config, prepared(data, config))
    assert isinstance(env, Trading)
    return env


def walk(length: int, seed: int = 0) -> Series:
    rng = np.random.default_rng(seed)
    return series(100 * np.exp(0.01 * rng.normal(size=length).cumsum()), rng.normal(size=length))


def play(env: Trading, actions: Iterator[np.ndarray], **options: Any) -> list[dict[str, np.ndarray]]:
    """Every step's outputs until all sub-envs have ended; step 0 holds only obs."""
    obs, _ = env.reset(seed=7, options=options)
    steps: list[dict[str, np.ndarray]] = [{"obs": obs}]
    over = np.zeros(env.num_envs, bool)
    while not over.all():
        obs, reward, terminated, truncated, info = env.step(next(actions))
        over = terminated | truncated
        steps.append({"obs": obs, "reward": reward, "terminated": terminated, "truncated": truncated} | info)
    return steps


def column(steps: list[dict[str, np.ndarray]], name: str) -> np.ndarray:
    return np.stack([step[name] for step in steps[1:]])  # [T, M]
