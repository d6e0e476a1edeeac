"""FrozenLake and CliffWalking: small worlds whose every probability is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlrun.config import key
from rlrun.envs import EnvConfig
from rlrun.registry import register

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv

MAPS = {
    "4x4": "SFFF/FHFH/FFFH/HFFG",
    "8x8": "SFFFFFFF/FFFFFFFF/FFFHFFFF/FFFFFHFF/FFFHFFFF/FHHFFFHF/FHFFHFHF/FFFHFFFG",
}


@dataclass
class FrozenLakeConfig(EnvConfig):
    map: str = key("4x4, 8x8, or rows of S (start), F (frozen), H (hole), G (goal): SFF/FHF/FFG")
    slippery: bool = key("whether a move may go astray")
    success_rate: float = key("chance of a move on slippery ice to go as meant", min=0, max=1)

    @property
    def rows(self) -> list[str]:
        return MAPS.get(self.map, self.map).split("/")

    def problems(self) -> list[str]:
        tiles = set("".join(self.rows))
        faults = [f"{tile!r} is no tile" for tile in sorted(tiles - set("SFHG"))]
        faults += [f"it has no {tile}" for tile in "SG" if tile not in tiles]
        if len({len(row) for row in self.rows}) > 1:
            faults.append("its rows differ in length")
        if not faults:
            return super().problems()
        usage = f"it must be {', '.join(MAPS)}, or rows such as SFF/FHF/FFG"
        return [*super().problems(), f"map is {self.map}: {faults[0]}; {usage}"]


@register("env", "frozen_lake", FrozenLakeConfig)
def frozen_lake(config: FrozenLakeConfig, num_envs: int) -> VectorEnv:
    from rlrun.envs.vector.table import Table
    from rlrun.envs.vector.table import frozen_lake as outcomes

    world = outcomes(config.rows, slippery=config.slippery, success_rate=config.success_rate)
    return Table(num_envs, config.max_steps, world, ("FrozenLake-v1", {"desc": config.rows}))


@dataclass
class CliffWalkingConfig(EnvConfig):
    fall: str = key("what a fall does after its -100", choices=("restart", "terminate"))
    slippery: bool = key("whether a move goes to either side two times in three")


@register("env", "cliff_walking", CliffWalkingConfig)
def cliff_walking(config: CliffWalkingConfig, num_envs: int) -> VectorEnv:
    from rlrun.envs.vector.table import Table
    from rlrun.envs.vector.table import cliff_walking as outcomes

    world = outcomes(slippery=config.slippery, terminate=config.fall == "terminate")
    return Table(num_envs, config.max_steps, world, ("CliffWalking-v1", {}))
