"""Walk-forward evaluation: folds x seeds train as the replicas of one program.

Replica fold * S + s trains on fold's fit window with seed s. Its policy is chosen on the
validation window, which follows the fit window after a gap, and scored once on the test
window after that. The score is `info["pnl"]`, the env's own account, whatever reward the
agent learned from. Training envs are bounded to their fit windows: a row outside cannot be
read, so what an agent learns does not depend on the rest of the data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun import envs
from rlrun.config import ConfigError, key
from rlrun.core import Act, Algorithm, Memory, Mode, Rollout
from rlrun.evals import folds
from rlrun.evals.evaluation import Evaluation, Later, Replica, Scores, StepTable
from rlrun.evals.play import Played, run_episodes
from rlrun.lazy import torch
from rlrun.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from rlrun.config.run import RunConfig
    from rlrun.rng import Stream

_STEPS = ("t", "pnl", "gross", "cost", "equity", "position", "scored")  # what test_steps.csv.gz holds


@dataclass
class StatsConfig:
    """How sure one can be."""

    level: float = key("confidence of every interval", above=0, below=1)
    n_boot: int = key("bootstrap resamples", min=100, max=100_000)


@dataclass
class WalkForwardConfig(folds.SplitConfig):
    """Splits in time, and how an agent is trained and tested on them."""

    refit: str = key("retrain: every fold starts from new weights", choices=("retrain",))
    episode_steps: int | None = key("a training episode's steps, from a random start; null: all", min=1)
    warmup: int | str = key("rows seen before a window is scored; auto: what the model needs", min=0)
    test_policy: str = key(
        "greedy: the best guess; sampled: the stochastic policy as it is", choices=("greedy", "sampled")
    )
    liquidate: bool = key("close the position at the end of a window, at cost")
    baseline: str = key("the one baseline that the headline compares with, declared beforehand")
    baselines: list[str] = key("those of the env's baselines that are shown")
    stats: StatsConfig = key("intervals")

    def problems(self) -> list[str]:
        found = folds.rows_or_auto({"warmup": self.warmup}) + super().problems()
        if self.baseline not in self.baselines:
            found.append(
                f"baseline is {self.baseline}: it must be one of baselines ({', '.join(self.baselines)})"
            )
        return found

    def conflicts(self, run: RunConfig) -> list[str]:
        if run.env.time_indexed:
            return []
        return [
            "eval=walk_forward needs data in time order, which this env lacks: use env=trading or env=series"
        ]

    def choosing(self) -> dict[str, Any]:
        """What of this config decides which policies come out of training: all but how they are shown."""
        shown = ("baseline", "baselines", "stats", "test_policy")
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in shown}


@register("eval", "walk_forward", WalkForwardConfig)
class WalkForward(Evaluation):
    """Fit, choose, test; fold by fold, all folds and seeds side by side."""

    holds_back = once = True

    def __init__(self, config: WalkForwardConfig, run: RunConfig) -> None:
        self.config, self.run = config, run
        spec = envs.abilities(envs.make(run.env, 1)).data_spec
        assert spec is not None  # the config is time-indexed
        data = self.data = spec
        self.split = folds.plan(
            config, data.usable, data.lookback, data.horizon, data.delay, data.index[data.lookback :]
        )
        self.plan = self.split.to_json()
        self.warmup = _warmup(config, run, data.lookback)
        self.split.check_warmup(self.warmup)
        pairs = [
            (fold, seed) for fold in self.split.folds for seed in range(run.seed, run.seed + run.replicas)
        ]
        self.replicas = [Replica(i, seed, fold.number) for i, (fold, seed) in enumerate(pairs)]
        self.folds = [fold for fold, _ in pairs]  # of each replica
        self.best = (config.validation.metric, config.validation.mode) if config.validation.size else None
        self.every = config.validation.every or max(run.total_steps // 20, 1)
        self.env = envs.make(run.env, len(self.replicas))
        for name in config.baselines:
            known = envs.abilities(self.env).baselines
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

    def play(self, algo: Algorithm, name: str, step: np.ndarray) -> tuple[Played, dict[str, np.ndarray]]:
        """One pass of every replica over its window `name`: "val" or "test"."""
        test = name == "test"
        options = {
            "window": np.array([fold.windows[name] for fold in self.folds]),
            "warmup": self.warmup,
            "episode_steps": 0,
            "score_last": np.array([test and self.split.score_last(fold) for fold in self.folds]),
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

    def final(self, algo: Algorithm, step: np.ndarray, last: Mapping[str, np.ndarray]) -> Scores:
        played, agent = self.play(algo, "test", step)
        validated = self.periodic(algo, step).get("val/score")
        traces = {"agent": agent}
        sums = {}
        for name in self.config.baselines:
            fixed, traces[name] = self.play(_Baseline(self.env, name), "test", step)
            sums[name] = fixed.info["pnl"][:, 0]
        results = []
        for i, fold in enumerate(self.folds):
            result: dict[str, Any] = {
                "eval_return": float(played.info["pnl"][i, 0]),
                "eval_return_std": 0.0,
                "eval_episodes": 1,
                "test_rows": list(fold.test),
                "baselines": {name: float(values[i]) for name, values in sums.items()},
            }
            if validated is not None:
                result["val_score"] = float(validated[i])
            results.append(result)
        rows = [row for replica in self.replicas for row in step_rows(replica, traces, self.data.index)]
        pnl = [f"pnl_{name}" for name in self.config.baselines]
        return Scores(results, StepTable(["time", "replica", "seed", "fold", *_STEPS[:-1], *pnl], rows))

    def again(self, algo: Algorithm, step: np.ndarray, how: Later) -> Scores:
        raise NotImplementedError("a test is scored once")


def step_rows(
    replica: Replica, traces: Mapping[str, Mapping[str, np.ndarray]], index: np.ndarray
) -> Iterator[list[Any]]:
    """A line for every step of a replica that any policy scored; what did not score it is left empty.

    `traces` holds the info arrays [R, 1, T] of the agent and of each baseline, by name.
    """
    own = {
        policy: {name: values[replica.index, 0] for name, values in trace.items()}
        for policy, trace in traces.items()
    }
    for k in range(max(len(trace["t"]) for trace in own.values())):
        scored = {
            policy: {name: values[k] for name, values in trace.items()}
            for policy, trace in own.items()
            if k < len(trace["t"]) and trace["scored"][k] == 1.0
        }
        if scored:
            t = int(next(iter(scored.values()))["t"])
            agent = [repr(float(scored["agent"][n])) if "agent" in scored else "" for n in _STEPS[1:-1]]
            others = [policy for policy in traces if policy != "agent"]
            pnl = [repr(float(scored[policy]["pnl"])) if policy in scored else "" for policy in others]
            yield [folds.label(index[t]), *(replica.index, replica.seed, replica.fold), t, *agent, *pnl]


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
        self._env, self._policy = env, envs.abilities(env).baselines[name]

    def act(
        self, obs: Tensor, memory: Memory, first: Tensor, *, step: np.ndarray, mode: Mode, rng: Stream
    ) -> Act:
        action = self._policy(self._env, obs.cpu().numpy().reshape(-1, *obs.shape[2:]))
        return Act(torch.from_numpy(action.reshape(*first.shape, *action.shape[1:])))

    def update(self, rollout: Rollout, *, step: np.ndarray) -> dict[str, Tensor]:
        raise NotImplementedError("a baseline does not learn")
