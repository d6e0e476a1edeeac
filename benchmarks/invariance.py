"""Whether defaults mind the units of rewards and observations.

    make invariance                     # goes on where it stopped
    make invariance ROWS="ppo Pendulum"

Every deep algorithm's recipe without presets, 5 seeds from 1, on CartPole and Pendulum: with
rewards times 0.001, 1 and 1000, native and through Gymnasium, and through Gymnasium with
observations times 0.001 and 1000, and plus 100. Scores are in the task's own units. The table is
benchmarks/invariance.md; `spread` is how far medians lie apart, `worst` how far the worst seed of
all lies below the median as things are, both in parts of the task's range.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from held_out.runs import Runs, asked, write_page

HERE = Path(__file__).resolve().parent
SEEDS = 5
# task -> (native recipe, what a random and a good policy return, algorithms)
TASKS = {
    "CartPole-v1": ("cartpole", 22.0, 500.0, "ppo a2c dqn double_dqn reinforce lstm_ppo lstm_a2c lstm_dqn"),
    "Pendulum-v1": ("pendulum", -1250.0, -150.0, "ppo sac td3 ddpg lstm_ppo lstm_sac"),
}
REWARDS = (0.001, 1.0, 1000.0)
OBSERVATIONS = ((0.001, 0.0), (1000.0, 0.0), (1.0, 100.0))  # factor, and what is added


def variants(task: str, native: str) -> dict[str, list[str]]:
    """The words of a command, by what is different."""
    through = ["env=gym", "env.id=held_out.rescaled:Rescaled-v0", "env.allow_import=true"]
    found = {f"native, r x {k:g}": [f"env={native}", f"env.reward.scale={k}"] for k in REWARDS}
    for reward, (factor, shift) in [*((k, (1.0, 0.0)) for k in REWARDS), *((1.0, o) for o in OBSERVATIONS)]:
        units = f"o x {factor:g}" if factor != 1.0 else "o + 100" if shift else f"r x {reward:g}"
        kwargs = f"env.kwargs={{task:{task},factor:{factor},shift:{shift}}}"
        found[f"gym, {units}"] = [*through, kwargs, f"env.reward.scale={reward}"]
    return found


def main(words: list[str]) -> None:
    words, run = asked(words)
    runs = Runs(HERE / "held_out" / "invariance.json", HERE.parent / "outputs" / "invariance", run=run)
    heads = list(variants("", ""))
    table = [["algorithm", "task", *heads, "spread", "worst"]]
    for task, (native, low, high, algorithms) in TASKS.items():
        for algo in algorithms.split():
            if not all(word == algo or word in task for word in words):
                continue
            medians, worst, cells = [], [], []
            for name, env in variants(task, native).items():
                command = [f"algo={algo}", *env, f"replicas={SEEDS}", "~tuned"]
                scores = runs.scores(f"{algo} {task} {name}", command)
                if isinstance(scores, str):
                    print(algo, task, name, scores, flush=True)
                    break  # a row is compared as a whole
                medians.append(float(np.median(scores)))
                worst.append(min(scores))
                cells.append(f"{medians[-1]:.4g} ({worst[-1]:.4g})")
                print(algo, task, name, cells[-1], flush=True)
            else:
                spread = (max(medians) - min(medians)) / (high - low)
                below = (medians[heads.index("native, r x 1")] - min(worst)) / (high - low)
                table.append([algo, task, *cells, f"{spread:.0%}", f"{below:.0%}"])
    if words:
        return
    about = (
        f"Made by `make invariance`: medians and (worst) of {SEEDS} seeds, no presets, in the recipes' own "
        "steps, final policies on fresh episodes, scores in the task's own units. `r x` multiplies "
        "rewards, `o x` observations, `o +` adds to them. `spread` is how far the medians of a row lie apart "
        "and `worst` how far its worst seed lies below the first plain median, in parts of the task's range."
    )
    write_page(HERE / "invariance.md", "Other units, the same scores", about, table)


if __name__ == "__main__":
    main(sys.argv[1:])
