"""What every algorithm promises, whatever it learns: checked for every recipe under conf/algo.

A new YAML file joins by itself, on its home task, shrunk.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import (
    ACTING,
    ALGORITHMS,
    Trial,
    act_once,
    assert_same_bits,
    builder,
    digest,
    episodes,
    final_state,
    lifetime,
    poison,
    session,
    small,
    train_until,
)

from rlrun import registry
from rlrun.config.catalog import headline, recipes
from rlrun.core import FAMILIES
from rlrun.nn import record as recording
from rlrun.rng import Stream
from rlrun.runs import checkpoint
from rlrun.runs.load import restore
from rlrun.runs.run import execute
from rlrun.state import Stateful, select


def _recordings(part: Any) -> list[recording.Recorded]:
    """The recorded functions of an algorithm, and of its parts."""
    values = vars(part).values()
    inner = [f for value in values if isinstance(value, Stateful) for f in _recordings(value)]
    return [value for value in values if isinstance(value, recording.Recorded)] + inner


every_algorithm = pytest.mark.parametrize("algo", ALGORITHMS)


@every_algorithm
def test_it_says_what_it_is(algo: str) -> None:
    """One line of `rlrun list`: a family, the actions it takes, what it is, and the paper."""
    assert builder(algo).family in FAMILIES
    line = headline(recipes("algo")[algo])
    assert re.fullmatch(r".{10,80} \([A-Z].*\d{4}\)\.", line) and len(line) <= 84, line


@every_algorithm
def test_replica_is_a_lone_run(algo: str) -> None:
    """The middle one of three equals a run of its seed alone, in every leaf, after 200 updates."""
    steps = 20_000 if builder(algo).whole_episodes else 4_000  # more than 200 updates take
    config = small(algo, dtype="float64", seed=11, replicas=3, total_steps=steps)
    batch, lone = Trial.of(config), Trial.of(replace(config, seed=12, replicas=1))
    batch.train(200)
    lone.train(200)
    own, alone = select(batch.state(), 1), lone.state()
    assert own.keys() == alone.keys()
    for name, leaf in own.items():
        torch.testing.assert_close(
            leaf, alone[name], rtol=1e-6, atol=1e-6, equal_nan=True, msg=lambda m, name=name: f"{name}: {m}"
        )
    assert batch.clock.step[1] == lone.clock.step[0]
    if algo in ACTING:
        assert batch.clock.updates == 200 and batch.clock.active.all()  # nothing went on after an end


RECORDED = [algo for algo in ALGORITHMS if _recordings(Trial.of(small(algo)).algo)]


@pytest.mark.parametrize("algo", RECORDED)
def test_recorded_gradient_steps_are_the_plain_ones(algo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is replayed as a list of operations has the very bits of the algorithm's own code."""
    config = small(algo, replicas=2)
    recorded = Trial.of(config)
    monkeypatch.setattr(recording, "_FORMS", 0)
    plain = Trial.of(config)
    for trial in (recorded, plain):
        trial.train(60)
    assert any(f._programs for f in _recordings(recorded.algo))
    assert not any(f._programs for f in _recordings(plain.algo))
    assert_same_bits(recorded.state(), plain.state())


@every_algorithm
def test_state_has_replicas_first(algo: str) -> None:
    """Every leaf is [R, ...], and one replica's slice is the state of a lone run."""
    config = small(algo, replicas=3)
    batch, lone = Trial.of(config), Trial.of(replace(config, seed=99, replicas=1))
    batch.train(30)
    lone.train(2)  # other weights, other data: everything must be overwritten
    state = batch.state()
    assert state and all(leaf.shape[:1] == (3,) for leaf in state.values())
    one = select(state, 1)
    lone.load(one)
    assert_same_bits(lone.state(), one)


@every_algorithm
def test_state_is_refused_unless_it_fits(algo: str) -> None:
    """A leaf that is missing, or of another shape, is an error and not a silent start from new weights."""
    trial = Trial.of(small(algo))
    state = {name: leaf.clone() for name, leaf in trial.algo.state(("weights",)).items()}
    name = next(iter(state))
    with pytest.raises((ValueError, KeyError)):
        trial.algo.load_state({k: v for k, v in state.items() if k != name}, ("weights",))
    longer = torch.cat([state[name], state[name]], -1)
    with pytest.raises(ValueError):
        trial.algo.load_state(state | {name: longer}, ("weights",))


@every_algorithm
def test_metrics_are_detached_and_per_replica(algo: str) -> None:
    seen: set[str] = set()

    def check(clock: Any, metrics: dict[str, torch.Tensor]) -> None:
        for tag, value in metrics.items():
            seen.add(tag)
            assert isinstance(value, torch.Tensor) and value.shape == (2,) and not value.requires_grad, tag
            assert bool(value.isfinite().all()), tag

    Trial.of(small(algo, replicas=2)).train(60, check)
    assert seen and all(tag.startswith(("loss/", "train/")) for tag in seen)


@every_algorithm
def test_greedy_draws_nothing_and_acting_changes_nothing(algo: str) -> None:
    trial = Trial.of(small(algo, replicas=2))
    trial.train(30)
    before = digest(trial.state())
    rng = Stream(trial.task.evaluation.seeds, "test")
    one, two = act_once(trial, "greedy", rng), act_once(trial, "greedy", rng)
    assert torch.equal(one, two)
    assert (rng.counter == 0).all()
    act_once(trial, "sample", rng)
    act_once(trial, "explore", rng)
    assert digest(trial.state()) == before


@every_algorithm
def test_acting_draws_as_much_for_every_replica(algo: str) -> None:
    trial = Trial.of(small(algo, replicas=3))
    trial.train(20)
    rng = Stream(trial.task.evaluation.seeds, "test")
    for mode in ("sample", "explore"):
        act_once(trial, mode, rng)
        assert len(set(rng.counter.tolist())) == 1


@every_algorithm
def test_evaluation_mutates_nothing(algo: str) -> None:
    trial = Trial.of(small(algo, replicas=2))
    trial.train(30)
    before = digest(trial.state())
    one = trial.task.evaluation.periodic(trial.algo, trial.clock.step)
    two = trial.task.evaluation.periodic(trial.algo, trial.clock.step)
    assert digest(trial.state()) == before
    assert one.keys() == two.keys() and all(np.array_equal(one[tag], two[tag]) for tag in one)


@every_algorithm
def test_evaluating_more_often_changes_no_bit(algo: str, tmp_path: Path) -> None:
    states = []
    for every in (40, 1_000_000):
        config = small(algo, eval=episodes(episodes=2, during=2, every=every))
        run = session(config, tmp_path / str(every))
        train_until(run, 40)
        saved, _ = checkpoint.load(tmp_path / str(every) / "ckpt")
        trained = {k: v for k, v in saved.files["tensors"].items() if k.startswith(("algo/", "collector/"))}
        states.append(trained | saved.files["replay"])
    assert_same_bits(*states)


@pytest.mark.parametrize(
    ("algo", "what"), [(a, "weights") for a in ALGORITHMS] + [(a, "rewards") for a in ACTING]
)
def test_nan_stays_in_its_replica(
    algo: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are bit-identical to a run without it; the failed one is named, and the run exits with 1.

    Where a rollout is as long as the longest replica's episode, its length changes with the
    failed one, and so does the rounding of the others' sums: there the policies that they end
    with are equal to 1e-6.
    """
    config = small(algo, replicas=3, out=str(tmp_path), dtype="float64")
    kind = registry.entry_of(config.algo).build
    updates = lifetime(algo, 40)
    config = replace(config, total_steps=_steps(config, updates))
    update, count = kind.update, 0

    def poisoned(self: Any, rollout: Any, *, step: np.ndarray) -> dict[str, torch.Tensor]:
        nonlocal count
        count += 1
        if count >= 15 and what == "rewards":
            rollout = poison(rollout, 1)
        if count == min(15, updates // 2) and what == "weights":
            for leaf in self.state(("weights",)).values():
                if leaf.is_floating_point():
                    leaf[1] = float("nan")
        return update(self, rollout, step=step)

    clean = execute(config, folder=tmp_path / "clean")
    assert clean.exit_code == 0
    monkeypatch.setattr(kind, "update", poisoned)
    failed = execute(config, folder=tmp_path / "failed")
    assert failed.exit_code == 1
    rows = failed.summary["replicas"]
    assert [("failed" in row) for row in rows] == [False, True, False]
    assert json.loads((tmp_path / "failed" / "status.json").read_text())["status"] == "failed"
    assert "replica 1 (seed=2) failed" in capsys.readouterr().err
    one, other = final_state(tmp_path / "clean"), final_state(tmp_path / "failed")
    apart = ("tensors/kept", "tensors/means")  # what the trainer keeps because a replica ended early
    one, other = ({k: v for k, v in s.items() if not k.startswith(apart)} for s in (one, other))
    if kind.whole_episodes:
        folders = (tmp_path / "clean", tmp_path / "failed")
        kept, same = (restore(folder)[1].state(("weights", "normalizer")) for folder in folders)
        for name, leaf in kept.items():
            torch.testing.assert_close(leaf[[0, 2]], same[name][[0, 2]], rtol=1e-6, atol=1e-6)
    else:
        assert_same_bits(one, other, rows=[0, 2])
    for row in (0, 2):
        assert clean.summary["replicas"][row] == rows[row]
    if what == "rewards":
        for name in Trial.of(config).algo.state(("weights", "normalizer")):  # the policy is still of use
            assert bool(other[f"tensors/algo/{name}"][1].double().isfinite().all()), name


def _steps(config: Any, updates: int) -> int:
    """total_steps that make a run of about `updates` updates."""
    kind = registry.entry_of(config.algo).build
    if not kind.rollout_steps:
        return updates
    trial = Trial.of(config)
    trial.train(updates)
    return int(trial.clock.step.max())


@every_algorithm
def test_resume_is_uninterrupted(algo: str, tmp_path: Path) -> None:
    """Stop after 37 updates, restore into new objects, go on: final state and metrics, byte for byte."""
    updates = lifetime(algo, 60)
    stop = 37 if updates == 60 else updates // 2
    config = small(algo, replicas=2)
    config = replace(config, total_steps=_steps(config, updates))
    if hasattr(config.eval, "every"):
        config = replace(config, eval=replace(config.eval, every=max(config.total_steps // 5, 1)))
    # Rarely recorded, so that much is pending when it stops.
    config = replace(config, log=replace(config.log, every=max(config.total_steps // 4, 1)))
    whole = session(config, tmp_path / "whole")
    train_until(whole)
    part = session(config, tmp_path / "part")
    train_until(part, stop)
    assert part.clock.active.any()
    saved, notes = checkpoint.load(tmp_path / "part" / "ckpt")
    assert not notes
    rest = session(config, tmp_path / "part", saved)
    train_until(rest)
    assert rest.clock.updates == whole.clock.updates
    for name in ("tensors.safetensors", "replay.safetensors"):
        one, other = (
            (tmp_path / run / "ckpt" / f"{whole.clock.updates:08d}" / name).read_bytes()
            for run in ("whole", "part")
        )
        assert one == other, name
    one, other = ((tmp_path / run / "metrics.jsonl").read_bytes() for run in ("whole", "part"))
    assert one == other and one


@pytest.mark.parametrize("algo", [algo for algo in ACTING if builder(algo).whole_episodes])
def test_a_replica_that_ends_early_keeps_its_policy(algo: str, tmp_path: Path) -> None:
    """Later updates, made for the others, change neither what is judged nor what is loaded."""
    config = small(algo, replicas=3, dtype="float64", total_steps=700)
    execute(config, folder=tmp_path / "batch")
    saved, _ = checkpoint.load(tmp_path / "batch" / "ckpt")
    assert saved.files["tensors"]["session/has_kept"].any()
    batch = restore(tmp_path / "batch")[1].state(("weights", "normalizer"))
    for r in range(3):
        folder = tmp_path / f"{r}"
        execute(replace(config, seed=1 + r, replicas=1), folder=folder)
        lone = restore(folder)[1].state(("weights", "normalizer"))
        for name, leaf in select(batch, r).items():
            torch.testing.assert_close(leaf, lone[name], rtol=1e-6, atol=1e-6)


@every_algorithm
def test_nothing_mutable_is_left_out_of_the_state(algo: str) -> None:
    """After restoring into fresh objects, the next 20 updates are the same, metrics included."""
    config = small(algo, replicas=2)
    trial, fresh = Trial.of(config), Trial.of(config)
    trial.train(lifetime(algo, 60) * 3 // 4)
    fresh.load(trial.state())
    fresh.clock.step, fresh.clock.active = trial.clock.step.copy(), trial.clock.active.copy()
    records: list[list[dict[str, torch.Tensor]]] = [[], []]
    for one, record in zip((trial, fresh), records, strict=True):
        one.train(
            20,
            lambda clock, metrics, record=record: record.append({k: v.clone() for k, v in metrics.items()}),
        )
    assert len(records[0]) == len(records[1]) > 0
    for a, b in zip(*records, strict=True):
        assert_same_bits(a, b)
    assert_same_bits(trial.state(), fresh.state())
