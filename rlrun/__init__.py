"""rlrun: reinforcement learning runs that are configured in YAML, batched over seeds and
folds, judged honestly, and resumed to the bit.

    result = rlrun.run(["algo=dqn", "env=cartpole"])
    policy = rlrun.load(result.folder)
    action, memory = policy.act(obs)

Importing the package imports nothing else: torch comes with the first run or load.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlrun.runs.policy import Policy
    from rlrun.runs.run import Result

__version__ = "0.1.0"
__all__ = ["__version__", "load", "run"]


def run(
    overrides: Sequence[str] = (), *, config_dir: str | Path | None = None, quiet: bool = False
) -> Result:
    """Train as `rlrun OVERRIDES...` does; returns the run folder, the summary and the policy.

    Raises:
        rlrun.config.ConfigError: the overrides are refused; nothing was written.
    """
    from rlrun import api

    return api.run(overrides, config_dir, quiet=quiet)


def load(run_folder: str | Path, replica: int = 0) -> Policy:
    """The trained policy of one replica of a run folder; needs no environment.

    Raises:
        rlrun.config.ConfigError: there is no such run or replica, or it is damaged.
    """
    from rlrun.runs.load import load

    return load(run_folder, replica)
