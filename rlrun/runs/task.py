"""A checked config with everything that a run is made of, before anything is written."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from rlrun import envs, registry
from rlrun.boundary import mode_of
from rlrun.collector import Collector
from rlrun.config import ConfigError, catalog
from rlrun.config.run import RunConfig
from rlrun.core import Algorithm, Dataset, Spec
from rlrun.data.steps import check, sha256
from rlrun.envs.abilities import Trial
from rlrun.evals.evaluation import Evaluation
from rlrun.lazy import torch
from rlrun.parts.numbers import vary
from rlrun.spaces import Space, size

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv


@dataclass(frozen=True)
class Task:
    """A checked config with its environments: all that can be refused has been."""

    config: RunConfig
    evaluation: Evaluation
    env: VectorEnv
    obs: Space
    action: Space
    dataset: Dataset | None

    @classmethod
    def of(cls, config: RunConfig, *, learns: bool = True) -> Task:
        """Build what a run needs besides torch; nothing is written.

        A trained policy that only acts (`learns` is false) needs no data set.

        Raises:
            ConfigError: the parts of the config do not fit each other.
        """
        algo = registry.entry_of(config.algo).build
        needs = algo.needs_of(config.algo)
        label = config.choices.get("algo", registry.entry_of(config.algo).kind)
        if config.recurrent and not algo.takes_memory:
            raise ConfigError(
                f"algo={label} has no use for memory, which model={config.choices.get('model')} has",
                "use model=mlp, or an algorithm that `rlrun list algo` shows with memory",
            )
        evaluation = registry.entry_of(config.eval).build(config.eval, config)
        env = envs.make(config.env, len(evaluation.replicas) * config.num_envs)
        obs, action = envs.spaces(env)
        offers = envs.abilities(env)
        if offers.masks and mode_of(env) != "Disabled":
            raise ConfigError(
                f"env={config.choices.get('env')} masks actions, and begins episodes of its own accord",
                "with action masks an environment must have the autoreset_mode DISABLED",
            )
        if offers.data_spec is not None:
            _in_time(config, evaluation, needs, learns)
        for what, space, kinds in (
            ("observations", obs, algo.obs_kinds),
            ("actions", action, algo.action_kinds),
        ):
            if space.kind not in kinds:
                env_label = config.choices.get("env")
                raise ConfigError(
                    f"algo={label} cannot work with {space.kind} {what}, which env={env_label} has\n"
                    f"it takes {' or '.join(kinds)} {what}; {_fitting(what, obs, action)}"
                )
        dataset = None
        if learns and "dataset" in (*needs, *algo.takes):
            dataset = registry.entry_of(config.data).build(config.data)
        if learns and "dataset" in needs and dataset is None:
            raise ConfigError(
                f"algo={label} learns from logged steps, and data={config.choices.get('data')} has none\n"
                "choose a data set: data=NAME (rlrun list data), or data=file data.path=FOLDER"
            )
        if dataset is not None:
            names = config.choices.get("data", "?"), config.choices.get("env", "?")
            check(dataset, obs, action, *names)
        if "table" in needs and offers.table is None:
            raise ConfigError(
                f"algo={label} needs a known transition table, which env={config.choices.get('env')} lacks\n"
                "choose env=frozen_lake, env=cliff_walking or env=taxi"
            )
        if "dynamics" in needs and offers.dynamics is None:
            raise ConfigError(
                f"algo={label} plans by known dynamics, which env={config.choices.get('env')} lacks\n"
                "choose env=pendulum or env=cartpole, or let it learn them: algo.dynamics=learned"
            )
        return cls(config, evaluation, env, obs, action, dataset)

    @property
    def masks(self) -> bool:
        """Whether the environment says which actions are allowed, to an algorithm that minds."""
        takes: bool = registry.entry_of(self.config.algo).build.takes_masks
        return takes and envs.abilities(self.env).masks is not None

    @cached_property
    def tried(self) -> Trial:
        """What came of trying the environment out.

        Raises:
            ConfigError: it fails, or returns what is not in its spaces.
        """
        self_test = envs.abilities(self.env).self_test  # native envs are exact by construction
        return self_test() if self_test else Trial(None)

    @property
    def data_sha256(self) -> str | None:
        """What identifies the steps that are learned from, and the series that an env plays; None without."""
        series = getattr(envs.abilities(self.env).data_spec, "sha256", None)
        steps = None if self.dataset is None else sha256(self.dataset)
        return "+".join(filter(None, (series, steps))) or None

    def spec(self) -> Spec:
        return Spec(
            self.obs,
            self.action,
            self.config.num_envs,
            self.evaluation.seeds,
            self.config.total_steps,
            self.config.device,
            self.config.dtype,
            envs.abilities(self.env).table,
            envs.dynamics(self.config.env, self.env),
            self.dataset,
            masks=self.masks,
        )

    def collector(self) -> Collector:
        return Collector(
            self.env,
            self.obs,
            self.action,
            self.evaluation.seeds,
            self.config.num_envs,
            reward=envs.reward_function(self.config.env, self.env, self.evaluation.reward_scale),
            options=self.evaluation.training_options(self.config.num_envs),
            device=self.config.device,
            dtype=self.config.dtype,
            metrics=envs.abilities(self.env).metrics,
            sums=envs.abilities(self.env).sums,
            limit=self.config.longest_episode,
        )


def _in_time(config: RunConfig, evaluation: Evaluation, needs: tuple[str, ...], learns: bool) -> None:
    """Refuse what would let an agent be judged on rows of a time series that it has learned from."""
    env, judged, algo, data = (f"{g}={config.choices.get(g)}" for g in ("env", "eval", "algo", "data"))
    if not evaluation.holds_back:
        raise ConfigError(
            f"{env} is a time series: {judged} would judge an agent on the very rows that it learned from",
            "use eval=walk_forward, which tests it on rows that come after those",
        )
    if learns and ("dataset" in needs or registry.entry_of(config.data).kind != "none"):
        raise ConfigError(
            f"{algo} {data} learns from logged steps, which may be of rows that {judged} tests on",
            "a logged step does not say of which row it is, so that none can be kept out",
            "use data=none and an algorithm that acts: rlrun list algo",
        )
    if learns and config.init_from:
        raise ConfigError(
            f"init_from={config.init_from} may have learned from rows that {judged} tests on",
            "leave it out: every fold starts from new weights",
        )


def _fitting(what: str, obs: Space, action: Space) -> str:
    """The algorithms for such spaces, by the names of their plainest recipes."""
    names = [
        e.kind
        for e in catalog.everything("algo")
        if obs.kind in e.build.obs_kinds and action.kind in e.build.action_kinds
    ]
    known = catalog.recipes("algo")
    plain = ", ".join(name for name in names if name in known)
    kind = obs.kind if what == "observations" else action.kind
    return f"for {kind} {what} here there are {plain or 'none'}"


def build(config: RunConfig, spec: Spec) -> Algorithm:
    """The algorithm of a config, with fresh weights."""
    if config.device != "cpu" and not torch.cuda.is_available():
        raise ConfigError(f"device is {config.device}: this machine has no CUDA device\nuse device=cpu")
    algo = registry.entry_of(config.algo).build
    if spec.most is not None:
        _bounded(algo, spec)
    return algo(spec, vary(config.algo, spec.variants), config.model)


_SMALL = 1 << 16  # numbers that are no burden, whatever was saved


def _bounded(algo: type[Algorithm], spec: Spec) -> None:
    """Refuse spaces that are larger than all that was saved: every input and output has a number there."""
    inputs, outputs = size(spec.obs), size(spec.action)
    largest = inputs * outputs if algo.obs_kinds == ("discrete",) else max(inputs, outputs)  # a table, or not
    if largest > (spec.most or 0) + _SMALL:
        raise ConfigError(f"spaces of {inputs:,} and {outputs:,} are larger than what was saved for them")
