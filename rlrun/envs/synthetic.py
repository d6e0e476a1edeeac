"""Made-up series, in which one knows what can be learned; the config of trading them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlrun.config import key
from rlrun.envs.series import SeriesConfig, prepared, trading
from rlrun.registry import register

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv


@dataclass
class SyntheticConfig(SeriesConfig):
    """Its table is made, by these; the baseline `oracle` knows what can be foretold."""

    signal: str = key(
        "predictive: a column goes ahead of the price; ar1: returns go on; regime: a drift that turns; "
        "calendar: a drift by the hour; memory: a sign shown lookback + 10 rows before; noise: nothing",
        choices=("predictive", "ar1", "regime", "calendar", "memory", "noise"),
    )
    rows: int = key("rows, an hour each", min=100, max=10_000_000)
    series_seed: int = key("of the series; seed is that of agents", min=0)


@register("env", "synthetic", SyntheticConfig)
def synthetic(config: SyntheticConfig, num_envs: int) -> VectorEnv:
    from rlrun.data.synthetic import synthetic as made

    found = made(config.signal, config.rows, config.series_seed, config.delay, config.lookback)
    return trading(num_envs, config, prepared(found.series, config), found.oracle(config.cost))
