"""rlrun against Stable-Baselines3 and sb3-contrib: training steps per CPU second, side by side.

    make bench                                   # all works, three rounds
    python benchmarks/compare.py --work ppo --rounds 5

Each measurement is a process of its own with one thread; start-up, the first steps and
evaluation do not count. Rounds alternate between the contestants, so that a machine whose
speed drifts drifts for all of them, and the ratios are medians over rounds. The peers live
in a virtual environment of their own, which the first call makes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
PEERS = HERE / ".venv"
PACKAGES = ("torch==2.13.0", "stable-baselines3==2.9.2", "sb3-contrib==2.9.2")

# The same task, network and hyper-parameters as in peer_sb3.py; what differs is said there.
WORKS: dict[str, list[str]] = {
    "ppo": [
        "algo=ppo", "env=cartpole", "num_envs=8", "algo.rollout_steps=128", "algo.epochs=4",
        "algo.n_minibatches=4", "algo.gamma=0.98", "algo.gae_lambda=0.9",
    ],
    "dqn": [
        "algo=dqn", "env=cartpole", "num_envs=1", "algo.train_every=4", "algo.batch_size=128",
        "algo.gamma=0.99", "algo.n_step=1", "algo.double=false", "model.normalize_obs=false",
        "algo.reward_scale=1",
        "algo.target.tau=1", "algo.target.every=125", "algo.learning_starts=1000",
    ],
    "lstm_ppo": [
        "algo=lstm_ppo", "env=cartpole_masked", "num_envs=8", "algo.rollout_steps=128", "algo.epochs=4",
        "algo.n_minibatches=4", "algo.chunk_length=null", "algo.normalize_returns=false",
        "model.hidden_size=64", "model.normalize_obs=false",
    ],
}  # fmt: skip
# The recipe's own way: as many steps in a minibatch, in chunks that begin with stored memory.
WORKS["lstm_ppo_chunks"] = [*WORKS["lstm_ppo"], "algo.chunk_length=16"]
PEER = {"lstm_ppo_chunks": "lstm_ppo"}  # where the peer's work has another name
STEPS = {"ppo": 60_000, "dqn": 20_000, "lstm_ppo": 20_000, "lstm_ppo_chunks": 20_000}
WARM = {"ppo": 4_096, "dqn": 4_000, "lstm_ppo": 2_048, "lstm_ppo_chunks": 2_048}
REPLICAS = {"ppo": (1, 16), "dqn": (1, 16), "lstm_ppo": (1,), "lstm_ppo_chunks": (1, 16)}


def measure_rlrun(work: str, replicas: int) -> dict[str, float]:
    """Train in this process; env steps of all replicas per CPU second of the loop."""
    import tempfile

    from rlrun.compose import compose
    from rlrun.runner import Task, build
    from rlrun.session import Session
    from rlrun.trainer import Clock

    steps, warm = STEPS[work], WARM[work]
    with tempfile.TemporaryDirectory() as folder:
        config = compose(
            [
                *WORKS[work],
                f"replicas={replicas}",
                f"total_steps={steps}",
                f"eval.every={10 * steps}",
                f"out={folder}",
            ]
        )
        task = Task.of(config)
        algo = build(config, task.spec())
        session = Session(config, Path(folder), algo, task.collector(), task.evaluation)
        marks: list[tuple[int, float]] = []
        ordinary = session.on_step

        def on_step(clock: Clock, metrics: dict) -> None:
            step = int(clock.step.max())
            if step >= warm and (not marks or step < steps):
                marks[1:] = [(step, time.process_time())] if marks else []
                if not marks:
                    marks.append((step, time.process_time()))
            ordinary(clock, metrics)

        session.on_step = on_step  # type: ignore[method-assign]
        session.train()
        session.metrics.close()
        if session.tensorboard:
            session.tensorboard.close()
    (first, begin), (last, end) = marks
    return {"steps_per_second": (last - first) * replicas / (end - begin)}


def measure(contestant: list[str], work: str) -> float:
    """One process; its steps per CPU second."""
    env = os.environ | {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    done = subprocess.run(contestant, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{work}: {' '.join(contestant)} failed\n{done.stderr[-2000:]}")
    return float(json.loads(done.stdout.strip().splitlines()[-1])["steps_per_second"])


def peers() -> str:
    """The interpreter of the peers' virtual environment."""
    python = PEERS / "bin" / "python"
    if not (PEERS / ".ready").exists():
        print("setting up the peers' virtual environment (once) ...", file=sys.stderr)
        venv.create(PEERS, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        (PEERS / ".ready").touch()
    return str(python)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", choices=WORKS, action="append", help="default: all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", nargs=2, metavar=("WORK", "R"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure_rlrun(args.measure[0], int(args.measure[1]))))
        return
    peer = peers()
    print("| work | R | rlrun steps/s | peer steps/s | ratio (min .. max) |\n|---|---|---|---|---|")
    for work in args.work or WORKS:
        contestants = {
            "peer": [peer, str(HERE / "peer_sb3.py"), PEER.get(work, work), str(STEPS[work]), str(WARM[work])]
        }
        contestants |= {
            f"R={r}": [sys.executable, str(HERE / "compare.py"), "--measure", work, str(r)]
            for r in REPLICAS[work]
        }
        rounds = [
            {name: measure(command, work) for name, command in contestants.items()}
            for _ in range(args.rounds)
        ]
        for r in REPLICAS[work]:
            ratios = sorted(result[f"R={r}"] / result["peer"] for result in rounds)
            ours, theirs = (statistics.median(result[n] for result in rounds) for n in (f"R={r}", "peer"))
            spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} .. {ratios[-1]:.2f})"
            print(f"| {work} | {r} | {ours:,.0f} | {theirs:,.0f} | {spread} |", flush=True)


if __name__ == "__main__":
    main()
