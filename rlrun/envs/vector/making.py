"""Makes one Gymnasium environment: its constructor, its wrappers, and a vector of what is a Dict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium

from rlrun.boundary import fault, told
from rlrun.config import ConfigError


@dataclass(frozen=True)
class Maker:
    """Makes copies of one environment; `wrappers` are names with arguments, innermost first."""

    env_id: str
    max_steps: int | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    wrappers: Sequence[tuple[str, Mapping[str, Any]]] = ()

    def __call__(self, render_mode: str | None = None) -> gymnasium.Env:
        """A new copy.

        Raises:
            ConfigError: Gymnasium cannot make it.
        """
        options: dict[str, Any] = {"max_episode_steps": self.max_steps, "render_mode": render_mode}
        options = {name: value for name, value in options.items() if value is not None}
        try:
            env = gymnasium.make(self.env_id, disable_env_checker=True, **options, **self.kwargs)
            for name, arguments in self.wrappers:
                env = getattr(gymnasium.wrappers, name)(env, **arguments)
            if isinstance(env.observation_space, (gymnasium.spaces.Dict, gymnasium.spaces.Tuple)):
                env = gymnasium.wrappers.FlattenObservation(env)  # one vector; integers become one-hot
        except BaseException as error:  # whatever a constructor raises, sys.exit() too
            fault(error, self.env_id, "")  # raises it again where it came from outside
            advice = "pip install 'rlrun[box2d]'" if "Box2D" in str(error) else ""
            raise ConfigError(f"env.id {self.env_id} cannot be made: {told(error)}", advice) from error
        return env
