"""rlrun: reinforcement learning runs that are configured in YAML, batched over seeds and
folds, judged honestly, and resumed to the bit.

    result = rlrun.run("algo=dqn env=cartpole", replicas=5)
    policy = rlrun.load(result.folder)
    action, memory = policy.act(obs)
    print(rlrun.compare("outputs"))

Importing the package imports nothing else: torch comes with the first run or load.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlrun.api import Result
    from rlrun.report.compare import Comparison
    from rlrun.runs.policy import Policy
    from rlrun.sweeps.sweep import Swept

__version__ = "0.1.0"
__all__ = ["__version__", "compare", "load", "run", "sweep"]


def run(
    overrides: str | Sequence[str] = (),
    *,
    config_dir: str | Path | None = None,
    quiet: bool = False,
    **keys: Any,
) -> Result:
    """Train as `rlrun OVERRIDES...` does; returns the run folder, the summary and the policy.

    Args:
        overrides: a line as it is typed, `"algo=dqn env=cartpole"`, or a list of words.
        keys: more of them, as `replicas=5`; those with dots as `**{"algo.gamma": 0.98}`.

    Raises:
        rlrun.config.ConfigError: the overrides are refused; nothing was written.
    """
    from rlrun import api
    from rlrun.config import ConfigError

    try:
        return api.run(overrides, config_dir, quiet=quiet, keys=keys)
    except ConfigError as error:
        raise ConfigError(*error.lines) from None  # whose three lines say it all


def sweep(
    overrides: str | Sequence[str] = (),
    *,
    jobs: int | None = None,
    name: str | None = None,
    retry_failed: bool = False,
    config_dir: str | Path | None = None,
    **keys: Any,
) -> Swept:
    """Train every combination of values as `rlrun -m OVERRIDES...` does, those that are not trained yet.

    Args:
        overrides: as of `run`, with values that are separated by commas.
        jobs: at a time; by default as many as there are cores and memory for.
        name: of the sweep's folder.
        retry_failed: whether jobs are tried again that failed.
        keys: more overrides; a list holds several values, as `seed=[0, 5]`.

    Raises:
        rlrun.config.ConfigError: the sweep is refused; nothing was written.
    """
    from rlrun import api
    from rlrun.config import ConfigError
    from rlrun.config.sweep import sweep as read
    from rlrun.sweeps.options import Options
    from rlrun.sweeps.sweep import begin

    folder = None if config_dir is None else str(config_dir)
    options = Options(jobs, name, retry_failed, config_dir=folder)
    try:
        return begin(read(api.words(overrides, keys, several=True), folder), options)
    except ConfigError as error:
        raise ConfigError(*error.lines) from None


def load(run_folder: str | Path, replica: int = 0) -> Policy:
    """The trained policy of one replica of a run folder; needs no environment.

    Raises:
        rlrun.config.ConfigError: there is no such run or replica, or it is damaged.
    """
    from rlrun.runs.load import load

    return load(run_folder, replica)


def compare(
    paths: Sequence[str | Path] | str | Path, *, by: str = "iqm", baseline: str | None = None
) -> Comparison:
    """Which of the configurations under `paths` is better, and how surely, as `rlrun compare` says.

    `by` is iqm, median, mean or worst; `baseline`, the name of the row that others are tested against.

    Raises:
        rlrun.config.ConfigError: there is no finished run, or no such ranking or row.
    """
    from rlrun.report.compare import comparison

    return comparison(paths, by, baseline)
