"""What is compared, and for how many steps: read by both sides, so it imports neither's packages."""

from __future__ import annotations

from dataclasses import dataclass

FLAT = ({"FilterObservation": {"filter_keys": ["image", "direction"]}}, {"FlattenObservation": {}})
SIGHT = ({"FilterObservation": {"filter_keys": ["image", "direction"]}},)


@dataclass(frozen=True)
class Row:
    """An algorithm on a task. `low` and `high` are what a random and a good policy return."""

    algo: str
    task: str
    steps: int
    low: float
    high: float
    env: tuple[str, ...]  # the words of our command
    peer: str = ""  # the class of Stable-Baselines3 or sb3-contrib; "": none
    tuned_on: bool = False  # whether our defaults were chosen by it
    zoo: float | None = None  # what the Zoo's tuned hyper-parameters reach, in its own number of steps

    @property
    def name(self) -> str:
        return f"{self.algo} {self.task}"


def gym(task: str, *more: str) -> tuple[str, ...]:
    return ("env=gym", f"env.id={task}", *more)


GRID = "minigrid_empty"
DOOR = gym("MiniGrid-DoorKey-5x5-v0", "env.wrappers=[{FilterObservation:{filter_keys:[image,direction]}}]")
LANDER = gym("LunarLander-v3", "env.kwargs={continuous:true}")
CLIFF = gym("CliffWalking-v1", "env.max_steps=200")
BREAKOUT = gym("minatar.gym:MinAtar/Breakout-v1", "env.allow_import=true", "env.max_steps=1000")

ROWS = (
    Row("ppo", "CartPole-v1", 50_000, 22, 500, gym("CartPole-v1"), "PPO", True, 500.0),
    Row("dqn", "CartPole-v1", 50_000, 22, 500, gym("CartPole-v1"), "DQN", True, 500.0),
    Row("a2c", "CartPole-v1", 50_000, 22, 500, gym("CartPole-v1"), "A2C", True, 500.0),
    Row("ppo", "Acrobot-v1", 50_000, -500, -75, gym("Acrobot-v1"), "PPO", False, -73.5),
    Row("dqn", "Acrobot-v1", 50_000, -500, -75, gym("Acrobot-v1"), "DQN", False, -76.6),
    Row("dqn", "MountainCar-v0", 50_000, -200, -100, gym("MountainCar-v0"), "DQN", False, -100.8),
    Row("ppo", "Pendulum-v1", 50_000, -1250, -150, gym("Pendulum-v1"), "PPO", True, -172.2),
    Row("sac", "Pendulum-v1", 10_000, -1250, -150, gym("Pendulum-v1"), "SAC", True, -156.9),
    Row("td3", "Pendulum-v1", 10_000, -1250, -150, gym("Pendulum-v1"), "TD3", True, -163.2),
    Row("ddpg", "Pendulum-v1", 10_000, -1250, -150, gym("Pendulum-v1"), "DDPG", False, -161.6),
    Row("ppo", "FrozenLake-v1", 50_000, 0, 0.74, gym("FrozenLake-v1"), "PPO"),
    Row("dqn", "FrozenLake-v1", 50_000, 0, 0.74, gym("FrozenLake-v1"), "DQN"),
    Row("dqn", "CliffWalking-v1", 50_000, -200, -13, CLIFF, "DQN"),
    Row("ppo", "Taxi-v4", 50_000, -200, 8, gym("Taxi-v4"), "PPO"),
    Row("ppo", "MiniGrid-Empty-5x5-v0", 50_000, 0, 0.95, (f"env={GRID}",), "PPO", False),
    Row("dqn", "MiniGrid-Empty-5x5-v0", 50_000, 0, 0.95, (f"env={GRID}",), "DQN", True),
    Row("ppo", "MiniGrid-DoorKey-5x5-v0", 100_000, 0, 0.95, DOOR, "PPO"),
    Row("ppo", "LunarLander-v3", 100_000, -200, 250, gym("LunarLander-v3"), "PPO", True, 242.1),
    Row("dqn", "LunarLander-v3", 100_000, -200, 250, gym("LunarLander-v3"), "DQN", False, 154.4),
    Row("ppo", "LunarLanderContinuous-v3", 100_000, -200, 280, LANDER, "PPO", False, 270.9),
    Row("sac", "LunarLanderContinuous-v3", 20_000, -200, 280, LANDER, "SAC", False, 260.4),
    Row("sac", "MountainCarContinuous-v0", 20_000, -100, 95, gym("MountainCarContinuous-v0"), "SAC", False, 94.5),
    Row("ppo", "MountainCarContinuous-v0", 50_000, -100, 95, gym("MountainCarContinuous-v0"), "PPO", False, 91.7),
    Row("sac", "InvertedPendulum-v5", 10_000, 5, 1000, gym("InvertedPendulum-v5"), "SAC"),
    Row("ppo", "InvertedPendulum-v5", 50_000, 5, 1000, gym("InvertedPendulum-v5"), "PPO", True),
    Row("sac", "Reacher-v5", 10_000, -45, -4, gym("Reacher-v5"), "SAC"),
    Row("sac", "Hopper-v5", 20_000, 15, 2000, gym("Hopper-v5"), "SAC", False, 2325.5),
    Row("td3", "Hopper-v5", 20_000, 15, 2000, gym("Hopper-v5"), "TD3", False, 3604.6),
    Row("sac", "HalfCheetah-v5", 20_000, -280, 4000, gym("HalfCheetah-v5"), "SAC", True, 9535.5),
    Row("td3", "HalfCheetah-v5", 20_000, -280, 4000, gym("HalfCheetah-v5"), "TD3", False, 9656.0),
    Row("ppo", "MinAtar/Breakout-v1", 50_000, 0.5, 10, BREAKOUT, "PPO"),
    Row("dqn", "MinAtar/Breakout-v1", 50_000, 0.5, 10, BREAKOUT, "DQN"),
    Row("dqn", "catch", 30_000, -0.8, 1, ("env=catch",)),
    Row("ppo", "catch", 30_000, -0.8, 1, ("env=catch",)),
    Row("lstm_ppo", "T-maze 10", 50_000, -1, 1, ("env=recall", "env.delay=10"), "RecurrentPPO", True),
    Row("lstm_ppo", "T-maze 30", 50_000, -1, 1, ("env=recall", "env.delay=30"), "RecurrentPPO", True),
    Row("lstm_ppo", "CartPole masked", 50_000, 22, 500, ("env=cartpole_masked",), "RecurrentPPO", True),
    Row("lstm_ppo", "Pendulum masked", 50_000, -1250, -150, ("env=pendulum_masked",), "RecurrentPPO"),
    Row("lstm_dqn", "CartPole masked", 60_000, 22, 500, ("env=cartpole_masked",), "", True),
    Row("lstm_dqn", "T-maze 10", 50_000, -1, 1, ("env=recall", "env.delay=10")),
    Row("lstm_dqn", "T-maze 30", 50_000, -1, 1, ("env=recall", "env.delay=30"), "", True),
    Row("lstm_sac", "Pendulum masked", 20_000, -1250, -150, ("env=pendulum_masked",)),
)  # fmt: skip
# ruff: noqa: E501
