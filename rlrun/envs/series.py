"""Time series: the config of trading one column of a table.

`env=trading` is the shipped WTI crude oil series, `env=series env.path=my.csv` one's own; both are
judged by `eval=walk_forward`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rlrun.config import key
from rlrun.data.grid import GAPS
from rlrun.data.market import Market, market
from rlrun.data.table import SHIPPED, DataError, Series, read_table
from rlrun.data.times import duration
from rlrun.envs import EnvConfig
from rlrun.registry import register

if TYPE_CHECKING:
    import numpy as np
    from gymnasium.vector import VectorEnv

    from rlrun.envs.vector.accounts import Account


@dataclass
class SeriesConfig(EnvConfig):
    """A table, what is seen of it, and how one trades it."""

    path: str = key(
        "a file of CSV or Parquet, compressed by gzip or not, or the name of a shipped series such as "
        "wti_daily",
        path=True,
    )
    time: str = key(
        "the column of times, strictly increasing: ISO 8601, seconds to nanoseconds since 1970, or integers"
    )
    columns: list[str] | None = key("the columns to use; null: all but the time")
    where: Any = key("the rows to use, of a table of several things: {column: value}; null: all")
    step: str | None = key("how far apart rows are, such as 1h, 15min or 1d; null: no matter")
    on_gap: str = key(
        "with a step, where rows are missing: refuse; ffill: take the row before; segment: look, trade and "
        "hold nothing across the gap",
        choices=GAPS,
    )
    price: str | None = key("the column that is traded; null: the first of columns")
    features: list[str] = key(
        "what is seen of each row: default (the price's change and the other columns as they are), "
        "column X, return X 5, diff X 5, lag X 5, mean X 24, std X 24, zscore X 24, volatility X 24 "
        "(over so many rows back), hour, weekday, month"
    )
    lag: Any = key("how much later columns are known than their rows say: {column: rows, or 2h}; null: not")
    scale: str = key(
        "fit: what is seen of the columns, and the training reward, are standardised, by the fold's own "
        "fit rows; none: they are as they are",
        choices=("fit", "none"),
    )
    lookback: int = key("rows seen back, of every feature", min=1)
    delay: int = key(
        "rows from a decision to its fill; 0 fills at the very price that was seen", min=0, max=1000
    )
    fill: str = key(
        "close: at the price of the row; open: at env.open, of the same row", choices=("close", "open")
    )
    open: str | None = key("the column of prices at the beginning of a row, for env.fill=open")
    account: str = key(
        "share: a position is a share of the equity, held there (so that a short which loses is made "
        "smaller without a charge); fixed: a number of contracts, at any price",
        choices=("share", "fixed"),
    )
    unit: float = key("account=fixed: how much of the priced thing one contract is", above=0)
    capital: float | None = key("account=fixed: the money that the account begins with", above=0)
    ruin: float = key("equity at which an account is closed, as a share of its beginning", above=0, below=1)
    cost: float = key("cost of trading, as a share of the value that is traded", min=0)
    fee: float = key("cost of trading, in money for each unit that is traded", min=0)
    actions: str = key(
        "discrete: short, flat, long; continuous: any position from -1 to 1",
        choices=("discrete", "continuous"),
    )
    periods_per_year: float | None = key("rows in a year, to annualise; null: do not", above=0)

    time_indexed: ClassVar[bool | None] = True  # walk-forward can split it

    def problems(self) -> list[str]:
        found = super().problems()
        if self.columns is not None and not self.columns:
            found.append("columns is empty: name at least one, or null for all")
        for what in ("price", "open"):
            name = getattr(self, what)
            if self.columns and name is not None and name not in self.columns:
                found.append(f"{what} is {name}: it must be one of columns ({', '.join(self.columns)})")
        if self.columns and self.time in self.columns:
            found.append(f"columns holds the time column {self.time}: leave it out")
        for name in ("where", "lag"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, dict):
                example = "{column: value}" if name == "where" else "{column: rows, or 2h}"
                found.append(f"{name} is {value}: give it as {example}")
        if self.step is not None and duration(self.step) in (None, 0):
            found.append(
                f"step is {self.step}: it must be a time such as 1h, 15min, 1d or 500ms, or a number"
            )
        if self.step is None and self.on_gap != "refuse":
            found.append(f"on_gap={self.on_gap} has no effect without env.step, which says what a gap is")
        if not self.features:
            found.append("features is empty: name at least one, or [default]")
        if self.account == "fixed" and self.capital is None:
            found.append("capital is null: account=fixed needs the money that it begins with")
        if self.account == "share" and self.capital is not None:
            found.append(
                f"capital is {self.capital}: it has no effect under account=share, which begins with 1: use "
                "null, or account=fixed"
            )
        if (self.fill == "open") != (self.open is not None):
            found.append("fill=open goes with env.open, the column of opening prices; fill=close without")
        if self.fill == "open" and self.delay == 0:
            found.append("delay is 0: fill=open fills at the next row's open at the earliest, use delay=1")
        return found

    def money(self) -> Account:
        """What positions earn and cost."""
        from rlrun.envs.vector.accounts import fixed, share

        if self.capital is None:
            return share(self.cost, self.fee)
        return fixed(self.cost, self.fee, self.unit, self.capital)


@register("env", "series", SeriesConfig)
def series(config: SeriesConfig, num_envs: int) -> VectorEnv:
    return trading(num_envs, config, load_market(config))


def trading(
    num_envs: int, config: SeriesConfig, market: Market, oracle: np.ndarray | None = None
) -> VectorEnv:
    """Trading one column of a table, as the config says; `oracle` are the positions of one who knows."""
    from rlrun.envs.vector.series import Trading

    return Trading(
        num_envs,
        config.max_steps,
        market,
        config.money(),
        lookback=config.lookback,
        delay=config.delay,
        ruin=config.ruin,
        actions=config.actions,
        oracle=oracle,
    )


def load_market(config: SeriesConfig) -> Market:
    """The table that a config names, ready to be traded on; read once in a process.

    Raises:
        DataError: the file is missing or damaged, or cannot be used as the config says.
    """
    path = _path(config)
    try:
        return prepared(load_series(config), config)
    except DataError as error:
        text = str(error)
        raise DataError(text if str(path) in text else f"{path}: {text}") from None


def load_series(config: SeriesConfig) -> Series:
    """The table itself; DataError where the file is missing or damaged."""
    path, columns = _path(config), None if config.columns is None else tuple(config.columns)
    where = tuple((config.where or {}).items())
    return _read(path, _version(path), config.time, columns, where, config.step, config.on_gap)


def prepared(series: Series, config: SeriesConfig) -> Market:
    """A table with what a config wants to see of it."""
    return _prepared(
        series,
        price=config.price,
        opens=config.open,
        features=tuple(config.features),
        lag=tuple((config.lag or {}).items()),
        positive=config.account == "share",
        scaled=config.scale == "fit",
        lookback=config.lookback,
        delay=config.delay,
        periods_per_year=config.periods_per_year,
    )


def _path(config: SeriesConfig) -> Path:
    path, shipped = Path(config.path), SHIPPED / f"{config.path}.csv.gz"
    return shipped if path.name == config.path and shipped.is_file() else path


def _version(path: Path) -> tuple[int, ...]:
    try:
        about = path.stat()
    except OSError:
        return ()  # reading says what is wrong
    return about.st_mtime_ns, about.st_size, about.st_ino


@lru_cache(maxsize=1)  # an env to look at, one to train in and one to judge in share a table
def _read(
    path: Path,
    version: tuple[int, ...],
    time: str,
    columns: tuple[str, ...] | None,
    where: tuple[tuple[str, Any], ...],
    step: str | None,
    on_gap: str,
) -> Series:
    return read_table(path, time, columns, where=dict(where), step=step, on_gap=on_gap)


@lru_cache(maxsize=1)
def _prepared(series: Series, **how: Any) -> Market:
    return market(series, **how | {"lag": dict(how["lag"])})
