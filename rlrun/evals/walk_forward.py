"""Walk-forward evaluation: the config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlrun.config import key
from rlrun.registry import register

if TYPE_CHECKING:
    from rlrun.config import RunConfig
    from rlrun.walk_forward import WalkForward


@dataclass
class ValidationConfig:
    """The last part of each train window, on which the policy to test is chosen."""

    # Any: OmegaConf 2.3 cannot merge a union inside a nested schema; `problems` checks the types.
    size: Any = key("rows; below 1 a share of the train window; 0: none, and the last policy counts", min=0)
    gap: Any = key("rows between fit and validation; auto: as eval.gap", min=0)
    every: int | None = key("env steps between validations; null: a twentieth of the run", min=1)
    metric: str = key("what to choose on: the sum of pnl over the window", choices=("val/score",))
    mode: str = key("whether high or low is good", choices=("max", "min"))


@dataclass
class StatsConfig:
    """How sure one can be."""

    level: float = key("confidence of every interval", above=0, below=1)
    n_boot: int = key("bootstrap resamples", min=100)


@dataclass
class WalkForwardConfig:
    """Splits in time, and how an agent is trained and tested on them. Rows are usable rows."""

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
    refit: str = key("retrain: every fold starts from new weights", choices=("retrain",))
    episode_steps: int | None = key("a training episode's steps, from a random start; null: all", min=1)
    warmup: int | str = key("rows seen before a window is scored; auto: what the model needs", min=0)
    test_policy: str = key(
        "greedy: the best guess; sampled: the stochastic policy as it is", choices=("greedy", "sampled")
    )
    liquidate: bool = key("close the position at the end of a window, at cost")
    final_holdout: float = key("last share of the data, which no fold touches", min=0, below=1)
    baseline: str = key("the one baseline that the headline compares with, declared beforehand")
    baselines: list[str] = key("those of the env's baselines that are shown")
    stats: StatsConfig = key("intervals")

    def problems(self) -> list[str]:
        found = []
        for name, value in (
            ("gap", self.gap),
            ("validation.gap", self.validation.gap),
            ("warmup", self.warmup),
        ):
            if value != "auto" and (isinstance(value, bool) or not isinstance(value, int)):
                found.append(f"{name} is {value}: it must be auto, or a number of rows")
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
        if not self.validation.size and self.validation.every is not None:
            found.append("validation.every has no effect with validation.size=0: remove it")
        if self.baseline not in self.baselines:
            found.append(
                f"baseline is {self.baseline}: it must be one of baselines ({', '.join(self.baselines)})"
            )
        return found

    def conflicts(self, run: RunConfig) -> list[str]:
        if getattr(type(run.env), "time_indexed", False):
            return []
        return [
            "eval=walk_forward needs data in time order, which this env lacks: use env=trading or env=series"
        ]


@register("eval", "walk_forward", WalkForwardConfig)
def build(config: WalkForwardConfig, run: RunConfig) -> WalkForward:
    from rlrun.walk_forward import WalkForward

    return WalkForward(config, run)
