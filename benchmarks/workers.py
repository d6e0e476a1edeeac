"""What `env.workers=2` is worth, beside what two processes are worth on this machine.

    python benchmarks/workers.py

An env whose step takes 5 ms of CPU, and LunarLander (extra box2d), 8 copies each: wall time of the same
steps with one process and with two. Beside them two busy loops that share nothing, one after the other and
at once. Rounds alternate between all of these; ratios are medians over rounds.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import statistics
import time
from typing import Any

import gymnasium
import numpy as np

from rlrun import envs
from rlrun.config.compose import compose

COPIES, ROUNDS = 8, 5
STEPS = {"Busy-v0": 40, "LunarLander-v3": 1500}


def loop(count: int) -> None:
    for _ in range(count):
        pass


def calibrated(seconds: float) -> int:
    """How often `loop` must turn to take so many seconds of CPU."""
    count = 100_000
    began = time.process_time()
    for _ in range(20):
        loop(count)
    return int(count * seconds * 20 / (time.process_time() - began))


class Busy(gymnasium.Env):
    """Each step takes as long as its loop."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (8,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    turns = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.np_random.random(8, np.float32), {}

    def step(self, action: Any) -> Any:
        loop(Busy.turns)
        return self.np_random.random(8, np.float32), 0.0, False, False, {}


def loops(at_once: bool) -> float:
    """Seconds that two loops take."""
    turns = 300 * Busy.turns
    began = time.monotonic()
    if at_once:
        both = [multiprocessing.get_context("fork").Process(target=loop, args=(turns,)) for _ in range(2)]
        for each in both:
            each.start()
        for each in both:
            each.join()
    else:
        loop(2 * turns)
    return time.monotonic() - began


def stepped(env: Any, steps: int) -> tuple[float, np.ndarray]:
    """Seconds that so many steps take, and the last observations."""
    env.reset(seed=1)
    actions = np.random.default_rng(0).integers(env.single_action_space.n, size=(steps, COPIES))
    began = time.monotonic()
    for action in actions:
        obs, _, terminated, truncated, _ = env.step(action)
        if (over := terminated | truncated).any():
            obs, _ = env.reset(options={"reset_mask": over})
    return time.monotonic() - began, obs


def main() -> None:
    Busy.turns = calibrated(0.005)
    gymnasium.register("Busy-v0", Busy)
    ids = [env_id for env_id in STEPS if env_id == "Busy-v0" or importlib.util.find_spec("Box2D")]
    made = {
        (env_id, n): envs.make(compose(["env=gym", f"env.id={env_id}", f"env.workers={n}"]).env, COPIES)
        for env_id in ids
        for n in (1, 2)
    }
    ratios: dict[str, list[float]] = {"two loops": [], **{env_id: [] for env_id in ids}}
    for _ in range(ROUNDS):
        ratios["two loops"].append(loops(False) / loops(True))
        for env_id in ids:
            (one, obs), (two, same) = (stepped(made[env_id, n], STEPS[env_id]) for n in (1, 2))
            assert np.array_equal(obs, same)
            ratios[env_id].append(one / two)
    of_loops = statistics.median(ratios["two loops"])
    print("| work | ratio (min .. max) | of that of two loops |")
    print("|---|---|---|")
    for name, each in ratios.items():
        middle = statistics.median(each)
        print(f"| {name} | {middle:.2f} ({min(each):.2f} .. {max(each):.2f}) | {middle / of_loops:.2f} |")
    for env in made.values():
        env.close()


if __name__ == "__main__":
    main()
