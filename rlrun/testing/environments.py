"""What every environment promises: episodes that are functions of a seed, and no surprises."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from rlrun import envs
from rlrun.boundary import has_state, mode_of
from rlrun.config import ConfigError
from rlrun.config.catalog import recipes
from rlrun.config.compose import compose
from rlrun.rng import keys
from rlrun.testing.masks import Legal
from rlrun.testing.rules import ENVS, require

M, STEPS = 4, 40
MOST = 1000  # steps until an episode should have ended, to see what comes then


def check_env(
    env: str | Callable[[Any], Any],
    *overrides: str,
    rules: Collection[int] | None = None,
    windowed: bool = False,
    table: Any = None,
) -> None:
    """Play an environment by random actions, several of them beside one another.

    Args:
        env: the name of a recipe of conf/env, a Gymnasium id (`module:Name-v0` imports the module), or
            a function that makes a Gymnasium `VectorEnv` of so many sub-environments.
        overrides: what `rlrun` would be told besides, such as "env.max_steps=50".
        rules: the numbers of the rules to check; all by default.
        windowed: whether to check the promises of `rlrun.envs.windowed` instead; `env` is then an id, or
            a function that makes a `gymnasium.Env` from a table.
        table: of a windowed one, the table: a NumPy array, pandas frame, `Series`, or a list of dated
            episodes; of an id, that of its `rows`.

    Raises:
        RuleError: a rule of CONTRIBUTING.md is broken; the message says which, and how.
        ConfigError: the recipe, the id or an override is refused.
    """
    for check in env_checks(env, *overrides, rules=rules, windowed=windowed, table=table).values():
        check()


def env_checks(
    env: str | Callable[[Any], Any],
    *overrides: str,
    rules: Collection[int] | None = None,
    windowed: bool = False,
    table: Any = None,
) -> Mapping[str, Callable[[], None]]:
    """The checks that `check_env` makes of this one, by name: for a test of each."""
    if windowed:
        if overrides:
            raise ConfigError(
                f"{overrides[0]} has no effect with windowed=True",
                "give a function that makes the env as it is",
            )
        from rlrun.testing.windowed import windowed_checks

        return windowed_checks(env, table, rules)
    return ENVS.ready(Subject(env, overrides), rules)


class Step(NamedTuple):
    """What is to be the same; every field is [M, ...]."""

    obs: Any
    reward: Any
    terminated: Any
    truncated: Any
    metrics: Any  # of its `Abilities`, [M, how many]


@dataclass(frozen=True)
class Subject:
    """A recipe, a Gymnasium id or a maker of vector envs."""

    env: str | Callable[[int], Any]
    more: tuple[str, ...] = ()

    def __str__(self) -> str:
        name = self.env if isinstance(self.env, str) else getattr(self.env, "__name__", repr(self.env))
        return " ".join((f"env={name}", *self.more))

    def make(self, num_envs: int = M) -> Any:
        env = self.env(num_envs) if callable(self.env) else envs.make(self._config, num_envs)
        return Legal(env) if envs.abilities(env).masks else env

    @cached_property
    def _config(self) -> Any:
        name = str(self.env)
        words = [f"env={name}"] if name in recipes("env") else ["env=gym", f"env.id={name}"]
        words += ["env.allow_import=true"] * (":" in name)
        refusals = []
        for judged in ("episodes", "online", "walk_forward"):  # no env is fit for all of them
            try:
                return compose([*words, f"eval={judged}", *self.more]).env
            except ConfigError as refusal:
                refusals.append(refusal)
        raise refusals[0]

    @cached_property
    def saves(self) -> bool:
        return has_state(self.make(1))

    @cached_property
    def resets_itself(self) -> bool:
        return mode_of(self.make(1)) != "Disabled"

    def actions(self, steps: int, num_envs: int = M) -> np.ndarray:
        """Random ones [steps, M, ...], the same at every call; sub-env i's do not depend on M."""
        space = self.make(1).single_action_space
        space.seed(7)
        return np.array([[space.sample() for _ in range(steps)] for _ in range(num_envs)]).swapaxes(0, 1)

    def seeds(self, first: int = 0, num_envs: int = M) -> Any:
        """Seeds of episodes, in the form that this environment takes."""
        seeds = keys(range(first, first + num_envs), "test")
        return seeds if self.saves else (seeds >> np.uint64(33)).tolist()


def _advance(env: Any, action: np.ndarray, subject: Subject, t: int) -> tuple[Step, np.ndarray, Any]:
    """A step, who ended by it, and info; where no sub-env resets itself, those are reset."""
    obs, reward, terminated, truncated, info = env.step(action)
    metrics = [np.asarray(info[name], float) for name in envs.abilities(env).metrics]
    values = obs, reward, terminated, truncated, np.reshape(metrics, (-1, env.num_envs)).T
    step, ended = Step(*map(np.array, values)), terminated | truncated
    if ended.any() and mode_of(env) == "Disabled":
        obs, _ = env.reset(seed=subject.seeds(200 + t, len(ended)), options={"reset_mask": ended})
        step = step._replace(obs=np.array(obs))
    return step, ended, info


def _episode(env: Any, seed: Any, actions: np.ndarray, subject: Subject) -> list[Step]:
    """Every sub-env from its beginning to where it first ends; what comes then is left out (zeros)."""
    begin = np.array(env.reset(seed=seed)[0])
    steps = [Step(begin, *[np.zeros(len(begin))] * 4)]
    over = np.zeros(len(begin), bool)
    for t, action in enumerate(actions):
        step, ended, info = _advance(env, action, subject, t)
        for i in np.flatnonzero(ended):  # where another episode is shown already
            step.obs[i] = info["final_obs"][i] if mode_of(env) == "SameStep" else 0
        for field in step:
            field[over] = 0
        steps.append(step)
        over = over | ended
    return steps


def _same(one: list[Step], other: list[Step], what: str) -> None:
    for t, (a, b) in enumerate(zip(one, other, strict=True)):
        for name, x, y in zip(Step._fields, a, b, strict=True):
            require(np.array_equal(x, y), f"{what}: {name} differs at step {t}")


@ENVS.of(15)
def an_episode_is_its_seed_and_its_actions(subject: Subject) -> None:
    """The same in another copy, after another episode, and alone."""
    actions, seed = subject.actions(STEPS), subject.seeds()
    env = subject.make()
    first = _episode(env, seed, actions, subject)
    _same(first, _episode(subject.make(), seed, actions, subject), "the same episode in two copies")
    _episode(env, subject.seeds(50), actions[::-1], subject)
    _same(first, _episode(env, seed, actions, subject), "the same episode after another one")
    for i in (0, M - 1):
        alone = _episode(subject.make(1), seed[i : i + 1], actions[:, i : i + 1], subject)
        one = [Step(*(x[i : i + 1] for x in step)) for step in first]
        _same(one, alone, f"sub-env {i} of {M}, and alone")
    self_test = envs.abilities(env).self_test
    reason = self_test().inexact if self_test else None
    require(reason is None, str(reason))


@ENVS.of(16)
def what_is_returned_lies_in_the_spaces(subject: Subject) -> None:
    env = subject.make()
    envs.spaces(env)
    space = env.single_observation_space
    obs, _ = env.reset(seed=subject.seeds())
    for t, action in enumerate([None, *subject.actions(STEPS)]):
        if action is not None:
            obs, reward, *ends, _ = env.step(action)
            require(np.shape(reward) == (M,), f"rewards are {list(np.shape(reward))} and not [{M}]")
            require(np.isfinite(np.asarray(reward, float)).all(), f"a reward is {reward} at step {t}")
            for name, flags in zip(("terminated", "truncated"), ends, strict=True):
                require(np.shape(flags) == (M,) and flags.dtype == bool, f"{name} is not bool [{M}]")
        require(np.shape(obs) == (M, *space.shape), f"observations are {list(np.shape(obs))}, not of {space}")
        require(obs.dtype == space.dtype, f"observations are {obs.dtype}, not of {space}")
        for i, one in enumerate(obs):
            require(space.contains(one), f"sub-env {i} shows {one} at step {t}, which is not in {space}")
        if action is not None and mode_of(env) == "Disabled" and (ends[0] | ends[1]).any():
            ended = ends[0] | ends[1]
            obs, _ = env.reset(seed=subject.seeds(100 + t), options={"reset_mask": ended})


@ENVS.of(17, lambda subject: subject.saves)
def state_goes_out_and_back_in(subject: Subject) -> None:
    """Save in the midst, go on; go on from there again, in the same copy and in a fresh one."""
    env, actions = subject.make(), subject.actions(2 * STEPS)
    env.reset(seed=subject.seeds())
    _play_on(env, actions[:STEPS], subject)
    saved = {name: array.copy() for name, array in env.state().items()}
    for name, array in saved.items():
        require(len(array) == M, f"{name} of its state is {list(array.shape)} with {M} sub-envs")
    after = _play_on(env, actions[STEPS:], subject)
    ended = {name: array.copy() for name, array in env.state().items()}
    fresh = subject.make()
    fresh.reset(seed=subject.seeds(70))
    for each, what in ((env, "the same copy"), (fresh, "a fresh copy")):
        each.load_state({name: array.copy() for name, array in saved.items()})
        again = _play_on(each, actions[STEPS:], subject)
        _same(after, again, f"after load_state in {what}")
        for name, array in each.state().items():
            require(np.array_equal(array, ended[name]), f"{name} of the state differs later in {what}")


def _play_on(env: Any, actions: np.ndarray, subject: Subject) -> list[Step]:
    return [_advance(env, action, subject, t)[0] for t, action in enumerate(actions)]


@ENVS.of(18, lambda subject: not subject.resets_itself)
def reset_mask_leaves_the_others_alone(subject: Subject) -> None:
    """Those in the mask begin their episodes, the others go on as if nothing had been."""
    actions, mask = subject.actions(20), np.arange(M) % 2 == 1
    env, undisturbed, fresh = (subject.make() for _ in range(3))
    for each in (env, undisturbed):
        each.reset(seed=subject.seeds())
        obs = _play_on(each, actions[:10], subject)[-1].obs
    begun = np.array(env.reset(seed=subject.seeds(30), options={"reset_mask": mask})[0])
    anew = np.array(fresh.reset(seed=subject.seeds(30))[0])
    require(np.array_equal(begun[~mask], obs[~mask]), "reset_mask changes a sub-env that is not in it")
    require(np.array_equal(begun[mask], anew[mask]), "reset_mask does not begin the episode of the seed")
    one, other, new = (_play_on(each, actions[10:], subject) for each in (env, undisturbed, fresh))
    for rows, same, what in ((~mask, other, "an episode that went on"), (mask, new, "the one that began")):
        shown, expected = ([Step(*(x[rows] for x in step)) for step in steps] for steps in (one, same))
        _same(shown, expected, what)


@ENVS.of(18, lambda subject: subject.resets_itself)
def an_end_is_followed_by_a_beginning(subject: Subject) -> None:
    """In mode SameStep the last observation is in info; in NextStep one step more only resets."""
    env = subject.make()
    mode = mode_of(env)
    require(mode in ("SameStep", "NextStep"), f"autoreset_mode is {mode}: there is no such mode")
    env.reset(seed=subject.seeds())
    for action in subject.actions(MOST):
        *_, terminated, truncated, info = env.step(action)
        ended = np.flatnonzero(terminated | truncated)
        if not len(ended):
            continue
        if mode == "SameStep":
            require("final_obs" in info, "an episode ended, and info has no final_obs")
        else:
            _, reward, terminated, truncated, _ = env.step(action)
            for i in ended.tolist():
                still = terminated[i] or truncated[i] or reward[i] != 0
                require(not still, f"sub-env {i} ended, and the step after that is none that only resets")
        return
