"""What every algorithm promises, whatever it learns."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from rlrun.config import ConfigError, catalog
from rlrun.lazy import torch
from rlrun.rng import Stream
from rlrun.state import Stateful, select
from rlrun.testing import whole_runs as whole_runs  # its checks join
from rlrun.testing.fillers import Fillers
from rlrun.testing.masks import Masks, random_mask, require_allowed
from rlrun.testing.rules import ALGORITHMS, require
from rlrun.testing.trial import (
    Metrics,
    Subject,
    Trial,
    act_once,
    assert_close,
    assert_same_bits,
    copies,
    digest,
    lifetime,
    small,
)


def check_algorithm(algo: str | type, *overrides: str, rules: Collection[int] | None = None) -> None:
    """Train a recipe of conf/algo, shrunk, in the ways that break what is not written for R replicas.

    Args:
        algo: the recipe's name, or the registered class that it builds.
        overrides: what `rlrun` would be told besides, such as "env=frozen_lake".
        rules: the numbers of the rules to check; all by default, in a minute or less.

    Raises:
        RuleError: a rule of CONTRIBUTING.md is broken; the message says which, and how.
        ConfigError: the recipe or an override is refused.
    """
    checks = algorithm_checks(algo, *overrides, rules=rules)
    Trial.of(small(_recipe(algo), *overrides)).train(2)  # what does not even run says so in its own words
    for check in checks.values():
        check()


def algorithm_checks(
    algo: str | type, *overrides: str, rules: Collection[int] | None = None
) -> Mapping[str, Callable[[], None]]:
    """The checks that `check_algorithm` makes of this one, by name: for a test of each."""
    return ALGORITHMS.ready(Subject(_recipe(algo), overrides), rules)


def _recipe(algo: str | type) -> str:
    """A recipe's own name, or that of the plainest one that builds a class."""
    if isinstance(algo, str):
        return algo
    names = [name for name in catalog.recipes("algo") if _builds(name) is algo]
    if not names:
        raise ConfigError(f"no recipe of conf/algo builds {algo.__name__}", "check_algorithm takes its name")
    return min(names, key=len)


def _builds(name: str) -> Any:
    entry = catalog.entry("algo", name)
    return entry.build if entry else None


@ALGORITHMS.of(1)
def replica_is_a_lone_run(subject: Subject) -> None:
    """The middle one of three equals a run of its seed alone, in every leaf, after 200 updates."""
    steps = 20_000 if subject.kind.whole_episodes else 4_000  # more than 200 updates take
    config = subject.config(dtype="float64", seed=11, replicas=3, total_steps=steps)
    batch, lone = Trial.of(config), Trial.of(replace(config, seed=12, replicas=1))
    batch.train(200)
    lone.train(200)
    assert_close(select(batch.state(), 1), lone.state())
    require(batch.clock.step[1] == lone.clock.step[0], "the lone run took another number of steps")
    if subject.acts:
        went_on = batch.clock.updates == 200 and bool(batch.clock.active.all())
        require(went_on, "it ended before 200 updates")


@ALGORITHMS.of(2, lambda subject: subject.acts)
def what_is_not_valid_is_not_learned_from(subject: Subject) -> None:
    """A step that only resets, and its reward: the same bits, whatever the reward is."""
    outcomes = []
    for noise in (0.0, 1e3):
        trial = subject.trial(replicas=2)
        env: Any = Fillers(trial.task.env, noise)
        trial.collector = replace(trial.task, env=env).collector()
        seen = Metrics()
        trial.train(60, seen)
        state = copies(trial.algo.state(("weights", "normalizer", "optimizer", "random")))
        outcomes.append(
            state | {f"{tag} of update {i}": v for i, m in enumerate(seen) for tag, v in m.items()}
        )
    one, other = outcomes
    assert_same_bits(one, other)


@ALGORITHMS.of(3)
def nothing_is_drawn_from_global_generators(subject: Subject) -> None:
    trial = subject.trial(replicas=2)
    before = _global_generators()
    trial.train(20)
    if subject.acts:
        for mode in ("explore", "sample", "greedy"):
            act_once(trial, mode, Stream(trial.task.evaluation.seeds, "test"))
    drawn = [name for name, state in _global_generators().items() if state != before[name]]
    require(not drawn, f"numbers were drawn from {', '.join(drawn)}")


def _global_generators() -> dict[str, Any]:
    numpy: Any = np.random.get_state()  # noqa: NPY002 (what must not be used is what is looked at)
    return {
        "torch's generator": torch.get_rng_state().numpy().tobytes(),
        "numpy.random": (numpy[1].tobytes(), numpy[2:]),
        "random": random.getstate(),
    }


@ALGORITHMS.of(3)
def as_much_is_drawn_for_every_replica(subject: Subject) -> None:
    trial = subject.trial(replicas=3)
    trial.train(20)
    for name, leaf in trial.algo.state(("random",)).items():
        require((leaf == leaf[:1]).all(), f"{name} has drawn more for one replica than for another")
    rng = Stream(trial.task.evaluation.seeds, "test")
    for mode in ("sample", "explore"):
        act_once(trial, mode, rng)
        require(len(set(rng.counter.tolist())) == 1, f"mode={mode} draws more for one replica than another")


@ALGORITHMS.of(3)
def greedy_draws_nothing(subject: Subject) -> None:
    trial = subject.trial(replicas=2)
    trial.train(30)
    rng = Stream(trial.task.evaluation.seeds, "test")
    one, two = act_once(trial, "greedy", rng), act_once(trial, "greedy", rng)
    require(torch.equal(one, two), "mode=greedy acts differently on the same observations")
    require((rng.counter == 0).all(), "mode=greedy draws random numbers")


@ALGORITHMS.of(4)
def state_has_replicas_first(subject: Subject) -> None:
    """Every leaf is [R, ...], and one replica's slice is the state of a lone run."""
    config = subject.config(replicas=3)
    batch, lone = Trial.of(config), Trial.of(replace(config, seed=99, replicas=1))
    batch.train(30)
    lone.train(2)  # other weights, other data: everything must be overwritten
    state = batch.state()
    require(batch.algo.state(), "it has no state: `saved` is empty")
    for name, leaf in state.items():
        require(leaf.shape[:1] == (3,), f"{name} is {list(leaf.shape)} with three replicas")
    one = select(state, 1)
    lone.load(one)
    assert_same_bits(lone.state(), one)


@ALGORITHMS.of(4)
def state_is_refused_unless_it_fits(subject: Subject) -> None:
    """A leaf that is missing, or of another shape, is an error and not a silent start from new weights."""
    algo = subject.trial().algo
    state = copies(algo.state(("weights",)))
    require(state, "it has nothing with the role `weights`")
    name = next(iter(state))
    longer = torch.cat([state[name], state[name]], -1)
    for wrong, what in (
        ({k: v for k, v in state.items() if k != name}, "without"),
        (state | {name: longer}, "with a longer"),
    ):
        try:
            algo.load_state(wrong, ("weights",))
        except (ValueError, KeyError):
            continue
        raise AssertionError(f"load_state took a state {what} {name}")


def _recordings(part: Any) -> list[Any]:
    """The recorded functions of an algorithm, and of its parts."""
    from rlrun.nn import Recorded

    values = vars(part).values()
    inner = [f for value in values if isinstance(value, Stateful) for f in _recordings(value)]
    return [value for value in values if isinstance(value, Recorded)] + inner


@ALGORITHMS.of(5, lambda subject: bool(_recordings(subject.trial().algo)))
def recorded_steps_are_the_plain_ones(subject: Subject) -> None:
    """What is replayed as a list of operations has the very bits of the algorithm's own code."""
    from rlrun.nn import record

    recorded = subject.trial(replicas=2)
    forms, record._FORMS = record._FORMS, 0
    try:
        plain = subject.trial(replicas=2)
    finally:
        record._FORMS = forms
    for trial in (recorded, plain):
        trial.train(60)
    require(any(f._programs for f in _recordings(recorded.algo)), "nothing came to be replayed")
    require(not any(f._programs for f in _recordings(plain.algo)), "the plain one was replayed too")
    assert_same_bits(recorded.state(), plain.state())


@ALGORITHMS.of(6)
def nothing_that_changes_is_left_out_of_the_state(subject: Subject) -> None:
    """After restoring into fresh objects, the next 20 updates are the same, metrics included."""
    config = subject.config(replicas=2)
    trial, fresh = Trial.of(config), Trial.of(config)
    trial.train(lifetime(config, 60) * 3 // 4)
    fresh.load(trial.state())
    fresh.clock.step, fresh.clock.active = trial.clock.step.copy(), trial.clock.active.copy()
    records = Metrics(), Metrics()
    for one, record in zip((trial, fresh), records, strict=True):
        one.train(20, record)
    require(len(records[0]) == len(records[1]) > 0, "a restored run makes another number of updates")
    for i, (a, b) in enumerate(zip(*records, strict=True)):
        assert_same_bits(a, b, what=f"update {i} after restoring")
    assert_same_bits(trial.state(), fresh.state())


@ALGORITHMS.of(7)
def acting_changes_nothing(subject: Subject) -> None:
    trial = subject.trial(replicas=2)
    trial.train(30)
    before = digest(trial.state())
    for mode in ("greedy", "sample", "explore"):
        act_once(trial, mode, Stream(trial.task.evaluation.seeds, "test"))
        after = digest(trial.state())
        changed = [name for name in before if after[name] != before[name]]
        require(not changed, f"acting in mode {mode} changes {', '.join(changed)}")


@ALGORITHMS.of(7)
def judging_changes_nothing(subject: Subject) -> None:
    trial = subject.trial(replicas=2)
    trial.train(30)
    before = digest(trial.state())
    one, two = (trial.task.evaluation.periodic(trial.algo, trial.clock.step) for _ in range(2))
    require(digest(trial.state()) == before, "evaluation changes the state")
    equal = one.keys() == two.keys() and all(np.array_equal(one[tag], two[tag], True) for tag in one)
    require(equal, "the same policy is judged differently the second time")


@ALGORITHMS.of(19, lambda subject: subject.minds_masks)
def no_action_is_taken_that_a_mask_forbids(subject: Subject) -> None:
    """In no mode, trained or not; and not while it trains, where every step has another mask."""
    trial, rng = subject.trial(replicas=2), np.random.default_rng(0)
    space, rows = trial.task.action, 2 * trial.task.config.num_envs
    for _ in range(2):
        for mode in ("greedy", "sample", "explore") * 4:
            mask = random_mask(space, rows, rng)
            taken = act_once(trial, mode, Stream(trial.task.evaluation.seeds, "test"), mask)
            require_allowed(space, taken.flatten(0, 1).cpu().numpy(), mask)
        trial.train(30)
    if subject.acts:
        masked: Any = Masks(trial.task.env)
        Trial.on(replace(trial.task, env=masked)).train(60)


@ALGORITHMS.of(8)
def metrics_are_detached_and_per_replica(subject: Subject) -> None:
    seen: set[str] = set()

    def look(clock: Any, metrics: Mapping[str, Any]) -> None:
        for tag, value in metrics.items():
            seen.add(tag)
            require(isinstance(value, torch.Tensor), f"{tag} is a {type(value).__name__} and no tensor")
            require(value.shape == (2,), f"{tag} is {list(value.shape)} with two replicas")
            require(not value.requires_grad, f"{tag} is not detached")
            require(value.isfinite().all(), f"{tag} is {value.tolist()}")

    subject.trial(replicas=2).train(60, look)
    odd = [tag for tag in seen if not tag.startswith(("loss/", "train/"))]
    require(seen, "60 updates returned no metric")
    require(not odd, f"tags begin with loss/ or train/, unlike {', '.join(sorted(odd))}")
