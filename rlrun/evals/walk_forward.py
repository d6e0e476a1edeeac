"""Walk-forward evaluation: folds x seeds train as the replicas of one program.

Replica fold * S + s trains on fold's fit window with seed s. Its policy is chosen on the
validation window, which follows the fit window after a gap, and scored once on the test
window after that. The score is `info["pnl"]`, the env's own account, whatever reward the
agent learned from. Training envs are bounded to their fit windows: a row outside cannot be
read, so what an agent learns does not depend on the rest of the data.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun import envs
from rlrun.config import ConfigError, key
from rlrun.core import Act, Algorithm, Memory, Mode, Rollout
from rlrun.evals import folds
from rlrun.evals.evaluation import Evaluation, Replica
from rlrun.evals.play import Scores, run_episodes
from rlrun.files import write_atomic
from rlrun.lazy import torch
from rlrun.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from rlrun.config.run import RunConfig
    from rlrun.rng import Stream

_STEPS = ("t", "pnl", "gross", "cost", "equity", "position", "scored")  # what test_steps.csv.gz holds


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
class WalkForward(Evaluation):
    """Fit, choose, test; fold by fold, all folds and seeds side by side."""

    def __init__(self, config: WalkForwardConfig, run: RunConfig) -> None:
        self.config, self.run = config, run
        self.data = envs.make(run.env, 1).data_spec  # type: ignore[attr-defined]
        data = self.data
        self.plan = folds.plan(
            config, data.usable, data.lookback, data.horizon, data.delay, data.index[data.lookback :]
        )
        self.warmup = _warmup(config, run, data.lookback)
        self.plan.check_warmup(self.warmup)
        pairs = [
            (fold, seed) for fold in self.plan.folds for seed in range(run.seed, run.seed + run.replicas)
        ]
        self.replicas = [Replica(i, seed, fold.number) for i, (fold, seed) in enumerate(pairs)]
        self.folds = [fold for fold, _ in pairs]  # of each replica
        self.best = (config.validation.metric, config.validation.mode) if config.validation.size else None
        self.every = config.validation.every or max(run.total_steps // 20, 1)
        self.env = envs.make(run.env, len(self.replicas))
        for name in config.baselines:
            known = self.env.baselines  # type: ignore[attr-defined]
            if name not in known:
                raise ConfigError(f"eval.baselines names {name}: this env has {', '.join(known)}")
        self.mode: Mode = "greedy" if config.test_policy == "greedy" else "sample"

    def training_options(self, num_envs: int) -> dict[str, Any]:
        windows = np.array([fold.fit for fold in self.folds])
        return {
            "window": windows.repeat(num_envs, 0),
            "episode_steps": self.config.episode_steps,
            "liquidate": self.config.liquidate,
        }

    def prepare(self, folder: Path) -> None:
        write_atomic(folder / "folds.json", json.dumps(self.plan.to_json(), indent=1).encode())

    def play(self, algo: Algorithm, name: str, step: np.ndarray) -> tuple[Scores, dict[str, np.ndarray]]:
        """One pass of every replica over its window `name`: "val" or "test"."""
        test = name == "test"
        options = {
            "window": np.array([fold.windows[name] for fold in self.folds]),
            "warmup": self.warmup,
            "episode_steps": 0,
            "score_last": np.array([test and self.plan.score_last(fold) for fold in self.folds]),
            "liquidate": self.config.liquidate,
        }
        return run_episodes(
            algo,
            self.env,
            self.seeds,
            1,
            purpose=name,
            mode=self.mode,
            step=step,
            device=self.run.device,
            dtype=self.run.dtype,
            options=options,
            record=_STEPS if test else (),
        )

    def periodic(self, algo: Algorithm, step: np.ndarray) -> dict[str, np.ndarray]:
        if self.best is None:
            return {}
        scores, _ = self.play(algo, "val", step)
        return {"val/score": scores.info["pnl"][:, 0]}

    def final(
        self, algo: Algorithm, step: np.ndarray, folder: Path | None, last: Mapping[str, np.ndarray]
    ) -> list[dict[str, Any]]:
        scores, steps = self.play(algo, "test", step)
        baselines, curves = {}, {}
        for name in self.config.baselines:
            played, rows = self.play(_Baseline(self.env, name), "test", step)
            baselines[name], curves[name] = played.info["pnl"][:, 0], rows
        validated = self.periodic(algo, step).get("val/score")
        results = []
        for i, fold in enumerate(self.folds):
            result: dict[str, Any] = {
                "eval_return": float(scores.info["pnl"][i, 0]),
                "eval_return_std": 0.0,
                "eval_episodes": 1,
                "test_rows": list(fold.test),
                "baselines": {name: float(values[i]) for name, values in baselines.items()},
            }
            if validated is not None:
                result["val_score"] = float(validated[i])
            results.append(result)
        if folder is not None:
            self._write_steps(folder / "test_steps.csv.gz", steps, curves)
            from rlrun.report.walk_forward import walk_forward_report

            walk_forward_report(folder, self, results, steps, curves)
        return results

    def _write_steps(
        self, path: Path, steps: dict[str, np.ndarray], curves: dict[str, dict[str, np.ndarray]]
    ) -> None:
        """One line for every scored test step of every replica, with the baselines' pnl beside it."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(
            [
                "time",
                "replica",
                "seed",
                "fold",
                *_STEPS[:-1],
                *(f"pnl_{name}" for name in self.config.baselines),
            ]
        )
        for replica in self.replicas:
            rows = {name: values[replica.index, 0] for name, values in steps.items()}
            for k in np.flatnonzero(rows["scored"] == 1.0):
                t = int(rows["t"][k])
                writer.writerow(
                    [
                        folds.label(self.data.index[t]),
                        replica.index,
                        replica.seed,
                        replica.fold,
                        t,
                        *(repr(float(rows[name][k])) for name in _STEPS[1:-1]),
                        *(repr(float(curves[n]["pnl"][replica.index, 0, k])) for n in self.config.baselines),
                    ]
                )
        write_atomic(path, gzip.compress(text.getvalue().encode(), mtime=0))


def _warmup(config: WalkForwardConfig, run: RunConfig, lookback: int) -> int:
    """Rows that refresh memory before a window; none for a model without memory."""
    if config.warmup != "auto":
        return int(config.warmup)
    if not run.recurrent:
        return 0
    trained = getattr(run.algo, "burn_in", 0) + getattr(run.algo, "sequence_length", 0)
    return max(lookback, trained)


class _Baseline(Algorithm):
    """One of the env's own fixed policies, played like any other."""

    def __init__(self, env: Any, name: str) -> None:
        self._env, self._policy = env, env.baselines[name]

    def act(
        self, obs: Tensor, memory: Memory, first: Tensor, *, step: np.ndarray, mode: Mode, rng: Stream
    ) -> Act:
        action = self._policy(self._env, obs.cpu().numpy().reshape(-1, *obs.shape[2:]))
        return Act(torch.from_numpy(action.reshape(*first.shape, *action.shape[1:])))

    def update(self, rollout: Rollout | None, *, step: np.ndarray) -> dict[str, Tensor]:
        raise NotImplementedError("a baseline does not learn")
