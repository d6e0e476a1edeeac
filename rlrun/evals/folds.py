"""Walk-forward splits: train on the past, validate on its end, test on what comes next.

Windows are half-open `[a, b)` and count *usable* rows: the rows that follow the first
`lookback` rows of the data, so usable row u is data row u + lookback and an observation at
u = 0 is the first that has its whole past. A train or validation window holds b - a - 1
transitions, its last observation being the bootstrap state; a test window scores b - a of
them, because the successor of its last row is the first row of the next test, except at the
end of the data. Where settings are comparable the splits are those of scikit-learn's
`TimeSeriesSplit`; what that accepts in silence (a negative gap, a shortened first window)
is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlrun.config import ConfigError, key
from rlrun.config.keys import violations
from rlrun.data.times import label

Window = tuple[int, int]


@dataclass
class ValidationConfig:
    """The last part of each train window, on which the policy to test is chosen."""

    # Any: OmegaConf 2.3 cannot merge a union inside a nested schema; `problems` checks the types.
    size: Any = key("rows; below 1 a share of the train window; 0: none, and the last policy counts", min=0)
    gap: Any = key("rows between fit and validation; auto: as eval.gap", min=0)
    every: int | None = key("env steps between validations; null: a twentieth of the run", min=1)
    metric: str = key("what to choose on: the sum of pnl over the window", choices=("val/score",))
    mode: str = key("whether high or low is good", choices=("max", "min"))


def rows_or_auto(values: Mapping[str, Any]) -> list[str]:
    """What is wrong with values that must be a number of rows, or the word auto."""
    return [
        f"{name} is {value}: it must be auto, or a number of rows"
        for name, value in values.items()
        if value != "auto" and (isinstance(value, bool) or not isinstance(value, int))
    ]


@dataclass
class SplitConfig:
    """Where windows lie. Rows are usable rows."""

    scheme: str = key(
        "expanding trains on all of the past, sliding on its last train_size rows",
        choices=("expanding", "sliding"),
    )
    n_folds: int = key("how many times to train and test", min=1)
    test_size: int | float | None = key("rows of a test; below 1 a share; null: n // (n_folds + 1)", above=0)
    train_size: int | None = key("rows of a train window; sliding, or the first one under align=start", min=2)
    max_train_size: int | None = key("expanding: rows of a train window at most; null: no limit", min=2)
    min_train_size: int | None = key("fewer rows to fit on are refused; null: 10 * lookback", min=2)
    step: int | None = key("rows from one test to the next, at least the test's size; null: that size", min=1)
    align: str = key(
        "end: the last test ends with the data; start: the first train window begins with it",
        choices=("end", "start"),
    )
    gap: int | str = key("rows between train and test; auto: the env's horizon + delay", min=0)
    validation: ValidationConfig = key("choosing the policy")
    folds: list[int] | None = key("the numbers of the folds to train and test; null: all of them")
    final_holdout: float = key("last share of the data, which no fold touches", min=0, below=1)

    def problems(self) -> list[str]:
        found = rows_or_auto({"gap": self.gap, "validation.gap": self.validation.gap})
        for name, size in (("test_size", self.test_size), ("validation.size", self.validation.size)):
            number = isinstance(size, (int, float)) and not isinstance(size, bool)
            if size is not None and not (number and (size < 1 or size == int(size))):
                found.append(f"{name} is {size}: it must be a number of rows, or a share below 1")
        sliding = self.scheme == "sliding"
        unused = "max_train_size" if sliding else "train_size" if self.align == "end" else None
        if unused and getattr(self, unused) is not None:
            instead = "train_size" if sliding else "max_train_size, or scheme=sliding"
            found.append(f"{unused} has no effect under scheme={self.scheme}: use {instead}")
        if (sliding or self.align == "start") and self.train_size is None:
            which = "scheme=sliding" if sliding else "align=start"
            found.append(f"train_size is null: {which} needs the rows of a train window")
        if self.folds is not None and (
            not self.folds or sorted(set(self.folds) & set(range(self.n_folds))) != sorted(self.folds)
        ):
            found.append(f"folds is {self.folds}: it must name some of 0 to {self.n_folds - 1}, each once")
        if not self.validation.size and self.validation.every is not None:
            found.append("validation.every has no effect with validation.size=0: remove it")
        return found


class SplitError(ConfigError):
    """The data cannot be split as asked; the message names the fix."""


@dataclass(frozen=True)
class Fold:
    """One train and test pair; `fit` and `val` lie inside `train`. `val` is None without validation."""

    number: int
    fit: Window
    val: Window | None
    train: Window
    test: Window

    @property
    def windows(self) -> dict[str, Window]:
        named = {"fit": self.fit, "val": self.val, "train": self.train, "test": self.test}
        return {name: window for name, window in named.items() if window is not None}


@dataclass(frozen=True)
class Plan:
    """All folds of one experiment, in usable rows."""

    scheme: str
    n: int  # rows that folds may touch
    n_rows: int  # the same and the final holdout
    lookback: int
    gap: int
    folds: tuple[Fold, ...]
    unused: tuple[Window, ...]  # in no train and no test window
    dates: np.ndarray | None = None  # [n_rows]

    @property
    def holdout(self) -> Window | None:
        """The rows that no fold touches."""
        return (self.n, self.n_rows) if self.n < self.n_rows else None

    def chosen(self, numbers: Sequence[int] | None) -> list[Fold]:
        """The folds of these numbers, in order; all by default."""
        return [fold for fold in self.folds if numbers is None or fold.number in numbers]

    def score_last(self, fold: Fold) -> bool:
        """Whether the test's last row has a successor that may be read."""
        return fold.test[1] < self.n

    def check_warmup(self, warmup: int) -> None:
        """SplitError if `warmup` rows before a validation or test window reach before the data."""
        for fold in self.folds:
            for name in ("val", "test"):
                window = fold.windows.get(name)
                if window and window[0] < warmup:
                    raise SplitError(
                        f"eval.warmup is {warmup}, but fold {fold.number}'s {name} window begins at row "
                        f"{window[0]}: lower eval.warmup or n_folds"
                    )

    def to_json(self, numbers: Sequence[int] | None = None) -> dict[str, Any]:
        """The layout of folds.json, of the `chosen` folds; dates are of a window's first and last row."""
        folds = []
        for fold in self.chosen(numbers):
            row: dict[str, Any] = {"fold": fold.number}
            row |= {name: list(window) for name, window in fold.windows.items()}
            row["dates"] = {name: self._span(window) for name, window in fold.windows.items()}
            folds.append(row)
        out: dict[str, Any] = {
            "scheme": self.scheme,
            "n": self.n,
            "lookback": self.lookback,
            "rows": "usable rows: data row = row + lookback",
            "gap": self.gap,
            "index": self._span((0, self.n)),
            "folds": folds,
            "unused": [list(window) for window in self.unused],
        }
        if self.holdout:
            out["holdout"] = list(self.holdout)
        return out

    def _span(self, window: Window) -> list[Any]:
        if self.dates is None:
            return [window[0], window[1] - 1]
        return [label(self.dates[window[0]]), label(self.dates[window[1] - 1])]


def plan(
    config: SplitConfig,
    n_rows: int,
    lookback: int,
    horizon: int,
    delay: int,
    dates: np.ndarray | None = None,
) -> Plan:
    """Split `n_rows` usable rows; `dates` [n_rows] only labels them.

    Raises:
        SplitError: the config contradicts itself or the data are too short for it.
    """
    for problem in violations(config, "eval."):
        raise SplitError(problem)
    if dates is not None and len(dates) != n_rows:
        raise SplitError(f"{len(dates)} dates for {n_rows} usable rows: they must be as many")
    k = config.n_folds
    n = n_rows - _rows(config.final_holdout, n_rows)
    test = n // (k + 1) if config.test_size is None else _rows(config.test_size, n)
    if test < 2:
        raise SplitError(f"eval.test_size comes to {test} of {n} rows; need >= 2: lower n_folds or raise it")
    gap = horizon + delay if config.gap == "auto" else int(config.gap)
    val_gap = gap if config.validation.gap == "auto" else int(config.validation.gap)
    for name, value in (("gap", gap), ("validation.gap", val_gap)):
        if value < horizon:
            raise SplitError(
                f"eval.{name} is {value}, but decisions reach {horizon} rows ahead: raise it, or say auto"
            )
    step = config.step or test
    if step < test:
        raise SplitError(f"eval.step is {step}, below the test size of {test}: tests would overlap, raise it")
    starts = _starts(config, n, test, gap, step)
    need = max(10 * lookback if config.min_train_size is None else config.min_train_size, 2)
    folds = []
    for i, start in enumerate(starts):
        end = start - gap
        low = 0 if config.scheme == "expanding" else end - (config.train_size or 0)
        if config.max_train_size is not None:
            low = max(0, end - config.max_train_size)
        if low < 0:
            raise SplitError(
                f"fold {i} has {max(end, 0)} rows to train on, not train_size={config.train_size}: "
                "lower train_size, n_folds or test_size"
            )
        val = _rows(config.validation.size, max(end - low, 0))
        fit_end = end - val - (val_gap if val else 0)
        _check_sizes(config, i, fit_end - low, val, need, lookback)
        folds.append(
            Fold(i, (low, fit_end), (end - val, end) if val else None, (low, end), (start, start + test))
        )
    used = np.zeros(n, bool)
    for fold in folds:
        used[slice(*fold.train)] = used[slice(*fold.test)] = True
    return Plan(config.scheme, n, n_rows, lookback, gap, tuple(folds), _runs(~used), dates)


def _starts(config: SplitConfig, n: int, test: int, gap: int, step: int) -> list[int]:
    """The row at which each fold's test begins."""
    k = config.n_folds
    if config.align == "end":
        return [n - (k - 1 - i) * step - test for i in range(k)]
    assert config.train_size is not None  # the config's own check
    starts = [config.train_size + gap + i * step for i in range(k)]
    if starts[-1] + test > n:
        raise SplitError(
            f"fold {k - 1} would end at row {starts[-1] + test} of {n}: "
            "lower n_folds, train_size or test_size"
        )
    return starts


def _check_sizes(config: SplitConfig, number: int, fit: int, val: int, need: int, lookback: int) -> None:
    """SplitError where a fold has too few rows to fit or to validate on."""
    if fit < need:
        raise SplitError(
            f"fold {number} would train on {max(fit, 0)} steps; need >= {need}: "
            "lower n_folds, gap or test_size" + (" (or validation.size)" if val else "")
        )
    if fit < lookback:
        raise SplitError(
            f"fold {number} would train on {fit} steps, fewer than the lookback of {lookback}: "
            "lower n_folds or env.lookback"
        )
    if config.validation.size and val < 3:
        raise SplitError(
            f"fold {number} would validate on {max(val - 1, 0)} transitions; need >= 2: "
            "raise validation.size, or set it to 0"
        )


def _rows(size: float, n: int) -> int:
    """A count of rows; a float below one is a share of n, rounded down."""
    return int(size * n + 1e-9) if isinstance(size, float) and size < 1 else int(size)


def _runs(mask: np.ndarray) -> tuple[Window, ...]:
    """Where a mask is true, as windows."""
    edges: Sequence[int] = np.flatnonzero(np.diff(np.concatenate(([0], mask.astype(np.int8), [0])))).tolist()
    return tuple(zip(edges[::2], edges[1::2], strict=True))
