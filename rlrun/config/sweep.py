"""What a sweep asks for: how many jobs, and the few that show whether all of them can be composed."""

from __future__ import annotations

import importlib.util
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, RangeSweep
from omegaconf import OmegaConf

from rlrun.config import ConfigError, catalog
from rlrun.config.compose import composed
from rlrun.config.explain import explained
from rlrun.config.run import REGISTERED

# Launchers that sweeps know: the module of Hydra's plug-in, and the extra of rlrun that installs it.
LAUNCHERS = {
    "joblib": ("hydra_plugins.hydra_joblib_launcher", "joblib"),
    "submitit_local": ("hydra_plugins.hydra_submitit_launcher", "slurm"),
    "submitit_slurm": ("hydra_plugins.hydra_submitit_launcher", "slurm"),
    "ray": ("hydra_plugins.hydra_ray_launcher", "ray"),
}
_SWEEPERS = {"optuna": ("hydra_plugins.hydra_optuna_sweeper", "optuna")}  # that choose the values
DIRECTION = "hydra.sweeper.direction"  # in which such a one looks
_SUBDIR = "${hydra:job.num}"  # of Hydra's own naming, in config.yaml
_VALUES = 100  # of a key, that are tried one by one


@dataclass(frozen=True)
class Axis:
    """A key that takes several values; of an interval its ends stand for all."""

    key: str
    override: Override

    def __len__(self) -> int:
        """How many, without making them."""
        value = self.override.value()
        if isinstance(value, ChoiceSweep):
            return len(value.list)
        if isinstance(value, Glob):
            return len(self._names(value))
        if not isinstance(value, RangeSweep):
            return 2
        start, stop, step = (float(each or 0) for each in (value.start, value.stop, value.step))
        if not step or not math.isfinite(start + stop + step):
            raise ConfigError(f"{self.override.input_line}: it never comes to its end")
        return max(math.ceil((stop - start) / step), 0)

    def __iter__(self) -> Iterator[str]:
        """The values as a command line says them, each once, and none that is not asked for."""
        value = self.override.value()
        if isinstance(value, Glob):
            yield from self._names(value)
            return
        if isinstance(value, IntervalSweep):
            yield from (str(value.start), str(value.end))
            return
        if isinstance(value, RangeSweep):
            value.shuffle = False  # which would make them all
        seen: set[str] = set()
        for each in self.override.sweep_string_iterator():
            if each not in seen:
                seen.add(each)
                yield each

    def _names(self, glob: Glob) -> list[str]:
        names = catalog.recipes(self.override.key_or_group)
        chosen = [name for name in names if any(fnmatch(name, one) for one in glob.include)]
        return [name for name in chosen if not any(fnmatch(name, one) for one in glob.exclude)]


@dataclass(frozen=True)
class Sweep:
    """A sweep before it begins."""

    fixed: list[str]
    axes: list[Axis]
    folder: Path  # as it is `named`, else only its parent counts; of the first job where it is foreign
    named: bool
    foreign: bool  # a sweeper, a callback or names of Hydra's are asked for: Hydra runs it
    search: bool = False  # a sweeper chooses the values, as few or as many as it likes
    turned: bool = False  # it would look for the lowest score, which nobody has asked for
    launcher: str = "basic"
    params: Mapping[str, Any] = field(default_factory=dict)  # of the launcher

    def __len__(self) -> int:
        return math.prod(map(len, self.axes))

    def jobs(self) -> Iterator[dict[str, str]]:
        """The values that each job has of its own, by key; the last key varies fastest."""
        keys = [axis.key for axis in self.axes]
        for values in itertools.product(*self.axes):
            yield dict(zip(keys, values, strict=True))

    def probes(self) -> Iterator[list[str]]:
        """What jobs have of their own: each combination of what is chosen, and every other value once."""
        values = [[f"{axis.key}={each}" for each in itertools.islice(axis, _VALUES)] for axis in self.axes]
        first = [each[0] for each in values]
        chosen = [axis.key in (*REGISTERED, "experiment", "tuned", "env.id") for axis in self.axes]
        grids = [each if wanted else each[:1] for each, wanted in zip(values, chosen, strict=True)]
        yield from map(list, itertools.product(*grids))
        for i, each in enumerate(values):
            if not chosen[i]:
                yield from ([*first[:i], value, *first[i + 1 :]] for value in each[1:])


def sweep(overrides: Sequence[str], config_dir: str | None = None) -> Sweep:
    """What `rlrun -m OVERRIDES` asks for, with what recipes say under `hydra.sweeper.params`.

    Raises:
        ConfigError: it cannot be read, or has no end.
    """
    fixed, axes = _split(overrides)
    _require_plugin(fixed)
    with composed(fixed, config_dir) as cfg, explained():
        params = OmegaConf.select(cfg, "hydra.sweeper.params") or {}
        raw: Any = OmegaConf.to_container(cfg.hydra.sweep, resolve=False)
        folder, named = Path(str(cfg.hydra.sweep.dir)), "rlrun.unique" not in str(raw["dir"])
        foreign = bool(cfg.hydra.callbacks) or str(raw["subdir"]) != _SUBDIR
        chosen = cfg.hydra.runtime.choices
        launcher = str(chosen["hydra/launcher"])
        search = str(chosen["hydra/sweeper"]) != "basic"
        foreign |= search or launcher not in ("basic", *LAUNCHERS)
        direction = OmegaConf.select(cfg, "hydra.sweeper.direction")
        given: Any = OmegaConf.to_container(cfg.hydra.launcher, resolve=launcher in LAUNCHERS)
        more_fixed, more = _split([f"{key}={value}" for key, value in params.items()])
    told = {axis.key for axis in axes} | {word.partition("=")[0] for word in fixed}
    axes = [*axes, *(axis for axis in more if axis.key not in told)]
    for axis in axes:
        if not search and isinstance(axis.override.value(), IntervalSweep):
            raise ConfigError(
                f"{axis.override.input_line}: there is no end to such values",
                "list them (1,2,3), or let a search choose them: hydra/sweeper=optuna",
            )
        if not len(axis):
            raise ConfigError(f"{axis.override.input_line}: it has no values")
    fixed = [*(word for word in more_fixed if word.partition("=")[0] not in told), *fixed]
    if foreign:
        folder /= re.sub(r"\$\{.*\}", "0", str(raw["subdir"]))
    fixed = [word for word in fixed if not of_launcher(word)]
    params = {name: value for name, value in given.items() if name != "_target_"}
    turned = getattr(direction, "name", direction) == "minimize"
    turned &= not any(word.lstrip("+").startswith(f"{DIRECTION}=") for word in fixed)
    return Sweep(fixed, axes, folder, named, foreign, search, turned, launcher, params)


def of_launcher(word: str) -> bool:
    """Whether an override chooses a launcher, or says how it works."""
    return word.lstrip("+~").startswith(("hydra/launcher", "hydra.launcher"))


def _require_plugin(words: Sequence[str]) -> None:
    """ConfigError where a launcher or a sweeper is chosen that is not installed."""
    known = {"hydra/launcher": LAUNCHERS, "hydra/sweeper": _SWEEPERS}
    for word in words:
        group, _, name = word.lstrip("+").partition("=")
        module, extra = known.get(group, {}).get(name, ("hydra", ""))
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:  # nor is the package that it is in
            found = None
        if found is None:
            raise ConfigError(f"{group}={name} is not installed", f"pip install 'rlrun[{extra}]'")


def _split(overrides: Sequence[str]) -> tuple[list[str], list[Axis]]:
    """The overrides of one value, and those of several."""
    with explained():
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    fixed = [each.input_line or "" for each in parsed if not each.is_sweep_override()]
    return fixed, [Axis(each.get_key_element(), each) for each in parsed if each.is_sweep_override()]
