"""Small worlds whose every probability is known: lakes, cliffs, mazes, a windy grid and a taxi."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from rlrun.config import key
from rlrun.envs import EnvConfig
from rlrun.registry import register

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv

MAPS = {
    "4x4": "SFFF/FHFH/FFFH/HFFG",
    "8x8": "SFFFFFFF/FFFFFFFF/FFFHFFFF/FFFFFHFF/FFFHFFFF/FHHFFFHF/FHFFHFHF/FFFHFFFG",
}


def map_fault(rows: Any, tiles: str, needed: str) -> str:
    """What is wrong with a map, or "": rows are texts of one length, of `tiles`, with all `needed`."""
    if not isinstance(rows, list) or not all(isinstance(row, str) for row in rows):
        return "its rows are no texts"
    found = set("".join(rows))
    faults = [f"{tile!r} is no tile" for tile in sorted(found - set(tiles))]
    faults += [f"it has no {tile}" for tile in needed if tile not in found]
    faults += ["its rows differ in length"] if len({len(row) for row in rows}) > 1 else []
    return faults[0] if faults else ""


@dataclass
class TabularConfig(EnvConfig):
    tabular: ClassVar[bool] = True


@dataclass
class FrozenLakeConfig(TabularConfig):
    map: Any = key("4x4, 8x8, or rows of S (start), F (frozen), H (hole), G (goal): [SFF, FHF, FFG]")
    slippery: bool = key("whether a move may go astray")
    success_rate: float = key("chance of a move on slippery ice to go as meant", min=0, max=1)

    score_bounds: ClassVar[tuple[float | None, float | None]] = (0.0, 1.0)

    @property
    def rows(self) -> list[str]:
        return MAPS.get(self.map, self.map).split("/") if isinstance(self.map, str) else self.map

    def problems(self) -> list[str]:
        fault = map_fault(self.rows, "SFHG", "SG")
        usage = f"it must be {', '.join(MAPS)}, or rows such as [SFF, FHF, FFG]"
        return [*super().problems(), *([f"map is {self.map}: {fault}; {usage}"] if fault else [])]


@register("env", "frozen_lake", FrozenLakeConfig)
def frozen_lake(config: FrozenLakeConfig, num_envs: int) -> VectorEnv:
    from rlrun.envs.vector.table import Table
    from rlrun.envs.vector.table import frozen_lake as outcomes

    world = outcomes(config.rows, slippery=config.slippery, success_rate=config.success_rate)
    return Table(num_envs, config.max_steps, [world], drawing=("FrozenLake-v1", {"desc": config.rows}))


@dataclass
class CliffWalkingConfig(TabularConfig):
    fall: str = key("what a fall does after its -100", choices=("restart", "terminate"))
    slippery: bool = key("whether a move goes to either side two times in three")
    start: str = key("where episodes begin", choices=("corner", "first_column"))

    score_bounds: ClassVar[tuple[float | None, float | None]] = (None, -1.0)


@register("env", "cliff_walking", CliffWalkingConfig)
def cliff_walking(config: CliffWalkingConfig, num_envs: int) -> VectorEnv:
    from rlrun.envs.vector.table import Table
    from rlrun.envs.vector.table import cliff_walking as outcomes

    world = outcomes(
        slippery=config.slippery,
        terminate=config.fall == "terminate",
        anywhere=config.start == "first_column",
    )
    return Table(num_envs, config.max_steps, [world], drawing=("CliffWalking-v1", {}))


@dataclass
class MazeConfig(TabularConfig):
    map: list[str] = key("rows of S (start), G (goal, reward 1), # (wall) and . (floor)")
    later: list[str] | None = key("what the map becomes while an episode lasts; null: it stays")
    change_after: int | None = key("steps of an episode before `later` holds; null: it stays", min=1)
    continuing: bool = key("the goal leads back to the start, and no episode ends there")

    @property
    def endless(self) -> bool:  # type: ignore[override]
        return self.continuing

    @property
    def score_bounds(self) -> tuple[float | None, float | None]:  # type: ignore[override]
        return 0.0, None if self.continuing else 1.0

    def problems(self) -> list[str]:
        found = super().problems()
        maps = {"map": self.map} | ({} if self.later is None else {"later": self.later})
        for name, rows in maps.items():
            fault = map_fault(rows, "SG#.", "SG")
            if not fault and self.continuing and "".join(rows).count("S") > 1:
                fault = "a continuing maze has one S"
            if fault:
                found.append(f"{name} is {rows}: {fault}; it must be rows such as [S.#, ..G]")
        if (self.later is None) != (self.change_after is None):
            found.append("later and change_after go together: set both, or none")
        elif not found and self.later is not None and _outline(self.later) != _outline(self.map):
            found.append("later must have the size of map, and its S and G in the same places")
        return found


def _outline(rows: list[str]) -> list[str]:
    """A map without its walls: all that must stay when they change."""
    return [row.replace("#", ".") for row in rows]


@register("env", "maze", MazeConfig)
def maze(config: MazeConfig, num_envs: int) -> VectorEnv:
    from rlrun.envs.vector.table import Table
    from rlrun.envs.vector.table import maze as outcomes

    maps = [config.map] if config.later is None else [config.map, config.later]
    worlds = [outcomes(rows, continuing=config.continuing) for rows in maps]
    return Table(num_envs, config.max_steps, worlds, change_after=config.change_after or 0)


@dataclass
class WindyGridworldConfig(TabularConfig):
    wind: list[int] = key("cells that the wind of each column blows a mover up", min=0, max=6)

    score_bounds: ClassVar[tuple[float | None, float | None]] = (None, -1.0)

    def problems(self) -> list[str]:
        short = ["wind has fewer than 8 columns: the goal is in the 8th"] if len(self.wind) < 8 else []
        return [*super().problems(), *short]


@register("env", "windy_gridworld", WindyGridworldConfig)
def windy_gridworld(config: WindyGridworldConfig, num_envs: int) -> VectorEnv:
    from rlrun.envs.vector.table import Table
    from rlrun.envs.vector.table import windy_gridworld as outcomes

    return Table(num_envs, config.max_steps, [outcomes(config.wind)])


@dataclass
class TaxiConfig(TabularConfig):
    """Nothing to set: the town is Dietterich's."""

    score_bounds: ClassVar[tuple[float | None, float | None]] = (None, 20.0)


@register("env", "taxi", TaxiConfig)
def taxi(config: TaxiConfig, num_envs: int) -> VectorEnv:
    from rlrun.envs.vector.table import Table
    from rlrun.envs.vector.table import taxi as outcomes

    return Table(num_envs, config.max_steps, [outcomes()], drawing=("Taxi-v4", {}))
