"""Time series: reading and checking a table, and the config of trading one of its columns.

`env=trading` is the shipped WTI crude oil series, `env=series env.path=my.csv` one's own; both are
judged by `eval=walk_forward`.
A file that could mislead is refused: every problem is named by line and column, the first
three of a kind, with what to do about it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from rlrun.config import key
from rlrun.data.table import SHIPPED, DataError, Series, instead, read_csv
from rlrun.envs import EnvConfig
from rlrun.registry import register

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv


@dataclass
class SeriesConfig(EnvConfig):
    """A table, and how one trades it."""

    path: str = key("a .csv or .csv.gz file, or the name of a shipped series such as wti_daily", path=True)
    time: str = key("the column of time stamps (ISO 8601) or integers, strictly increasing")
    columns: list[str] | None = key("the columns to use; null: all but the time")
    price: str | None = key("the column that is traded; null: the first of columns")
    lookback: int = key("rows seen back: log returns of the price, in percent, and the other columns", min=1)
    delay: int = key(
        "rows from a decision to its fill; 0 fills at the very price that was seen", min=0, max=1000
    )
    cost: float = key("cost of moving the position by 1, as a share of equity", min=0)
    actions: str = key(
        "discrete: short, flat, long; continuous: any position from -1 to 1",
        choices=("discrete", "continuous"),
    )
    periods_per_year: float | None = key("rows in a year, to annualise; null: do not", above=0)

    time_indexed: ClassVar[bool] = True  # walk-forward can split it

    def problems(self) -> list[str]:
        found = super().problems()
        if self.columns is not None and not self.columns:
            found.append("columns is empty: name at least one, or null for all")
        if self.columns and self.price is not None and self.price not in self.columns:
            found.append(f"price is {self.price}: it must be one of columns ({', '.join(self.columns)})")
        if self.columns and self.time in self.columns:
            found.append(f"columns holds the time column {self.time}: leave it out")
        return found


@register("env", "series", SeriesConfig)
def series(config: SeriesConfig, num_envs: int) -> VectorEnv:
    return trading(num_envs, config, load_series(config))


def trading(num_envs: int, config: SeriesConfig, series: Series) -> VectorEnv:
    """Trading one column of a table, as the config says."""
    from rlrun.envs.vector.series import Trading

    try:
        return Trading(
            num_envs,
            config.max_steps,
            series,
            price=config.price,
            lookback=config.lookback,
            delay=config.delay,
            cost=config.cost,
            actions=config.actions,
            periods_per_year=config.periods_per_year,
        )
    except DataError as error:
        raise DataError(f"{config.path}: {error}") from None


def load_series(config: SeriesConfig) -> Series:
    """The table that a config names, checked to be usable for trading.

    Raises:
        DataError: the file is missing or damaged, or a price is not positive.
    """
    path = Path(config.path)
    shipped = SHIPPED / f"{config.path}.csv.gz"
    if path.name == config.path and shipped.is_file():
        path = shipped
    series = read_csv(path, config.time, config.columns)
    name = config.price or series.columns[0]
    if name not in series.columns:
        raise DataError(f"{path}: env.price is {name}{instead(name, series.columns)}")
    prices = series.values[:, series.columns.index(name)]
    low = np.flatnonzero(prices <= 0)
    if low.size:
        where = "; ".join(f"{prices[i]:g} at {series.index[i]}" for i in low[:3])
        raise DataError(
            f"{path}: the price column {name} must be positive, but is {where} ({low.size} in all): "
            "choose another by env.price, or drop these rows"
        )
    return series
