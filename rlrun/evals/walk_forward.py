"""Walk-forward evaluation: folds x seeds train as the replicas of one program.

Replica fold * S + s trains on fold's fit window with seed s. Its policy is chosen on the
validation window, which follows the fit window after a gap, and scored once on the test
window after that. The score is the sum of `info["score"]`, whatever reward the agent learned
from. Training envs are bounded to their fit windows: a row outside cannot be read, and what
observations are standardised by comes from there too, so that what an agent learns does not
depend on the rest of the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun import envs
from rlrun.config import ConfigError, key
from rlrun.core import Act, Algorithm, Memory, Mode, Rollout
from rlrun.data.times import label
from rlrun.evals import folds
from rlrun.evals.evaluation import NOT_JUDGED, Evaluation, Later, Replica, Scores, StepTable
from rlrun.evals.play import LOOKS, Played, run_episodes
from rlrun.lazy import torch
from rlrun.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from rlrun.config.run import RunConfig
    from rlrun.data.table import DataSpec
    from rlrun.rng import Stream

_NO_TIME = "eval=walk_forward needs data in time order, which this env lacks: use env=trading or env=series"
_OFTEN = 20  # validations of a run, if they are cheap
_SHARE = 0.25  # of the steps of a run that validating may take
_PASSES = (3, 300)  # over the fit rows: with fewer little is learned, with more they are learned by heart


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
    baseline: str | None = key(
        "the one baseline that the headline compares with, declared beforehand; null: the env's first"
    )
    baselines: list[str] | None = key("those of the env's baselines that are shown; null: all")
    stats: StatsConfig = key("intervals")

    def problems(self) -> list[str]:
        found = folds.rows_or_auto({"warmup": self.warmup}) + super().problems()
        if self.baselines is not None and self.baseline not in (None, *self.baselines):
            found.append(
                f"baseline is {self.baseline}: it must be one of baselines ({', '.join(self.baselines)})"
            )
        return found

    def conflicts(self, run: RunConfig) -> list[str]:
        found = [_NO_TIME] if run.env.time_indexed is False else []
        if run.stop.judges and not self.validation.size:
            found.append(f"{NOT_JUDGED}, and there is none: set eval.validation.size")
        return found

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
        if spec is None:
            raise ConfigError(
                _NO_TIME, "an env of one's own declares its index by a data_spec: see rlrun.envs.windowed"
            )
        data = self.data = spec
        self.split = folds.plan(
            config, data.usable, data.lookback, data.horizon, data.delay, data.index[data.rows]
        )
        self.warmup = _warmup(config, run, data)
        self.split.check_warmup(self.warmup)
        seeds = range(run.seed, run.seed + run.replicas)
        pairs = [(fold, seed) for fold in self.split.chosen(config.folds) for seed in seeds]
        self.replicas = [Replica(i, seed, fold.number) for i, (fold, seed) in enumerate(pairs)]
        self.folds = [fold for fold, _ in pairs]  # of each replica
        self.best = (config.validation.metric, config.validation.mode) if config.validation.size else None
        self.every = config.validation.every or self._rarely(run.total_steps, run.num_envs)
        self.env = envs.make(run.env, len(self.replicas))
        self.offers = envs.abilities(self.env)
        self.baselines = self._chosen(config)
        self.plan = self.split.to_json(config.folds) | {
            "baselines": self.baselines,
            "notes": list(data.notes),
            "episodes": data.episodes,
        }
        self.mode: Mode = "greedy" if config.test_policy == "greedy" else "sample"
        self.windows: dict[str, np.ndarray] = {
            name: np.array([fold.windows[name] for fold in self.folds]) for name in self.folds[0].windows
        }
        if self.offers.scaling is not None:
            self.scaling = self.offers.scaling(self.windows["fit"])
        if self.offers.reward_scale is not None:
            self.reward_scale = self.offers.reward_scale(self.windows["fit"])
        self.remarks = [*data.notes, *_cold(run, data), *self._passes(run.total_steps)]

    def _chosen(self, config: WalkForwardConfig) -> list[str]:
        """The baselines that are shown, the one of the headline first."""
        known = self.offers.baselines
        shown = list(known) if config.baselines is None else config.baselines
        first = config.baseline or next(iter(shown), None)
        for name in (first, *shown):
            if name not in known:
                raise ConfigError(f"eval.baselines names {name}: this env has {', '.join(known) or 'none'}")
        return [str(first), *(name for name in shown if name != first)]

    def _rarely(self, total_steps: int, num_envs: int) -> int:
        """Env steps between validations that take no more of a run's time than they may."""
        rows = max((fold.val[1] - fold.val[0] for fold in self.split.folds if fold.val), default=0)
        most = int(_SHARE / (1 - _SHARE) * total_steps / num_envs / max(rows + self.warmup, 1))
        return max(total_steps // min(max(most, 1), _OFTEN), 1)

    def _passes(self, total_steps: int) -> list[str]:
        if self.data.episodes:
            return []  # an episode is of who knows how many steps
        rows = [fold.fit[1] - fold.fit[0] for fold in self.folds]
        least, most = total_steps / max(rows), total_steps / min(rows)
        said = f"{total_steps:,} steps are {least:.1f}"
        said += (f" to {most:.1f}" if round(least, 1) < round(most, 1) else "") + " passes over the fit rows"
        if least < _PASSES[0]:
            return [f"{said}: few, total_steps={_PASSES[0] * 10 * max(rows)} makes {_PASSES[0] * 10}"]
        return [f"{said}: many, what is learned may be these rows by heart"] if most > _PASSES[1] else [said]

    def training_options(self, num_envs: int) -> dict[str, Any]:
        return self._known(
            {
                "window": self.windows["fit"].repeat(num_envs, 0),
                "episode_steps": self.config.episode_steps,
                "liquidate": self.config.liquidate,
                "scaling": None if self.scaling is None else self.scaling.repeat(num_envs, 0),
            }
        )

    def _known(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the reset options that this env has."""
        names = getattr(self.env, "reset_options", ())
        return {
            name: value
            for name, value in options.items()
            if name in names and not (name == "scaling" and value is None)
        }

    def play(
        self, algo: Algorithm, name: str, step: np.ndarray, **more: Any
    ) -> tuple[Played, dict[str, np.ndarray]]:
        """One pass of every replica over its window `name`: "val" or "test"; `more` reset options."""
        test = name == "test"
        options = {
            "window": self.windows[name],
            "warmup": self.warmup,
            "episode_steps": 0,
            "score_last": np.array([test and self._scores_last(fold) for fold in self.folds]),
            "across": True,
            "liquidate": self.config.liquidate,
            "scaling": self.scaling,
            **more,
        }

        def one(purpose: str, options: Mapping[str, Any]) -> tuple[Played, dict[str, np.ndarray]]:
            return run_episodes(
                algo,
                self.env,
                self.seeds,
                1,
                purpose=purpose,
                mode=self.mode,
                step=step,
                device=self.run.device,
                dtype=self.run.dtype,
                options=self._known(options),
                record=("t", "scored", *self.offers.recorded) if test else (),
                looks=0 if test or self.data.episodes else LOOKS,
            )

        if not self.data.episodes:
            return one(name, options)
        low, high = self.windows[name].T
        parts = []
        for k in range(int((high - low).max())):  # a row is an episode, and begins with a cleared memory
            row = np.minimum(low + k, high - 1)
            played, trace = one(f"{name}/{k}", options | {"window": np.stack([row, row + 1], 1), "warmup": 0})
            parts.append(_where(low + k < high, played, trace))
        return _joined(parts)

    def _scores_last(self, fold: folds.Fold) -> bool:
        """Whether the step from a test's last row is scored: an episode of its own needs no row after it."""
        return not self.data.episodes and self.split.score_last(fold)

    def hold(self, name: str, step: np.ndarray) -> tuple[Played, dict[str, np.ndarray]]:
        """A baseline's pass over the tests.

        What holds one position is not closed between them: it is taken before the first one, and
        given up after the last, whose costs are theirs.
        """
        more = {}
        if name in self.offers.holdings:
            first, last = self.split.folds[0].number, self.split.folds[-1].number
            more = {
                "holding": self.offers.holdings[name],
                "entered": np.array([fold.number != first for fold in self.folds]),
                "liquidate": np.array([fold.number == last for fold in self.folds]),
            }
        return self.play(_Baseline(self.env, name), "test", step, **more)

    def periodic(self, algo: Algorithm, step: np.ndarray) -> dict[str, np.ndarray]:
        if self.best is None:
            return {}
        scores, _ = self.play(algo, "val", step)
        return {"val/score": scores.info["score"][:, 0]} | scores.distributions("val")

    def final(self, algo: Algorithm, step: np.ndarray, last: Mapping[str, np.ndarray]) -> Scores:
        played, agent = self.play(algo, "test", step)
        validated = last.get("val/score")
        traces = {"agent": agent}
        sums = {}
        for name in self.baselines:
            fixed, traces[name] = self.hold(name, step)
            sums[name] = fixed.info["score"][:, 0]
        results = []
        for i, fold in enumerate(self.folds):
            result: dict[str, Any] = {
                "eval_return": float(played.info["score"][i, 0]),
                "eval_return_std": 0.0,
                "eval_episodes": 1,
                "test_rows": list(fold.test),
                "baselines": {name: float(values[i]) for name, values in sums.items()},
            }
            if validated is not None and np.isfinite(validated[i]):
                result["val_score"] = float(validated[i])
            if (ruin := self._ruin(agent, i)) is not None:
                result["ruined"] = ruin
            results.append(result)
        return Scores(results, self._steps(traces))

    def _ruin(self, trace: Mapping[str, np.ndarray], replica: int) -> str | int | None:
        """When the account of a replica was ruined."""
        if "ruined" not in trace or not (ruined := trace["ruined"][replica, 0] == 1.0).any():
            return None
        return label(self.data.index[int(trace["t"][replica, 0, ruined.argmax()])])

    def _steps(self, traces: Mapping[str, Mapping[str, np.ndarray]]) -> StepTable:
        """All that is recorded of every row of every test, for the agent and beside it each baseline."""
        names = self.offers.recorded
        header = ["time", "replica", "seed", "fold", "t"]
        header += [name if who == "agent" else f"{name}_{who}" for who in traces for name in names]
        rows: list[list[Any]] = []
        times: dict[int, list[str | int]] = {}  # of each fold, the same for all seeds
        for replica, fold in zip(self.replicas, self.folds, strict=True):
            low, high = fold.test
            first = low if self.data.episodes else low + 1  # the row of an episode, or that a step reached
            reached = self.data.rows[first : high + self._scores_last(fold)]
            own = [recorded(trace, replica.index, reached, names) for trace in traces.values()]
            columns = [column for each in own for column in each]
            who = replica.index, replica.seed, replica.fold
            if fold.number not in times:
                times[fold.number] = [label(moment) for moment in self.data.index[reached]]
            for time, t, *values in zip(times[fold.number], reached.tolist(), *columns, strict=True):
                rows.append([time, *who, t, *values])
        return StepTable(header, rows)

    def again(self, algo: Algorithm, step: np.ndarray, how: Later) -> Scores:
        raise NotImplementedError("a test is scored once")


def recorded(
    trace: Mapping[str, np.ndarray], replica: int, rows: np.ndarray, names: Sequence[str]
) -> list[list[str]]:
    """Columns of numbers as text, a cell for each of the data `rows`, from info arrays [R, 1, T].

    Where nothing was scored it is 0, after an end too; but what is left of an account stays.
    """
    scored = trace["scored"][replica, 0] == 1.0
    at = np.searchsorted(rows, trace["t"][replica, 0, scored])
    out = []
    for name in names:
        column, values = np.zeros(len(rows)), trace[name][replica, 0, scored]
        if name in _ADDED:
            np.add.at(column, at, values)
        else:
            column[at] = values
        if name in _STAYS and len(at):
            column[at[-1] + 1 :] = column[at[-1]]
        out.append([repr(value) for value in column.tolist()])
    return out


_STAYS, _ADDED = ("equity", "ruined"), ("score", "pnl", "gross", "cost", "traded")


def _where(
    counts: np.ndarray, played: Played, trace: dict[str, np.ndarray]
) -> tuple[Played, dict[str, np.ndarray]]:
    """What was played, of those replicas [R] alone that it counts for."""
    mine = counts[:, None]
    info = {name: np.where(mine, values, 0.0) for name, values in played.info.items()}
    own = Played(np.where(mine, played.returns, 0.0), np.where(mine, played.lengths, 0.0), info)
    return own, {name: np.where(mine[:, :, None], values, np.nan) for name, values in trace.items()}


def _joined(
    parts: Sequence[tuple[Played, dict[str, np.ndarray]]],
) -> tuple[Played, dict[str, np.ndarray]]:
    """Episodes played one after the other, as one."""
    played = [each for each, _ in parts]
    info = {name: np.sum([each.info[name] for each in played], 0) for name in played[0].info}
    whole = Played(
        np.sum([each.returns for each in played], 0), np.sum([each.lengths for each in played], 0), info
    )
    traces = [trace for _, trace in parts]
    return whole, {name: np.concatenate([trace[name] for trace in traces], -1) for name in traces[0]}


def _cold(run: RunConfig, data: DataSpec) -> list[str]:
    """What is to be said of an agent with memory whose tests begin without any."""
    if data.warmup or not run.recurrent or data.episodes:
        return []
    return ["every test begins without memory: this env cannot show rows before it acts"]


def _warmup(config: WalkForwardConfig, run: RunConfig, data: DataSpec) -> int:
    """Rows that refresh memory before a window; none for a model without, or where none can be shown."""
    if config.warmup != "auto":
        if config.warmup and not data.warmup:
            raise ConfigError(
                f"eval.warmup is {config.warmup}: this env cannot show rows before it acts, use auto or 0"
            )
        return int(config.warmup)
    if not run.recurrent or not data.warmup:
        return 0
    trained = getattr(run.algo, "burn_in", 0) + getattr(run.algo, "sequence_length", 0)
    return max(data.lookback, trained)


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
