"""rlrun against Stable-Baselines3 and sb3-contrib: training steps per CPU second, side by side.

    make bench                                   # all works, three rounds
    python benchmarks/compare.py --work ppo --rounds 5
    python benchmarks/compare.py --recording     # rlrun against itself without recorded gradient steps

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
        "algo.normalize_returns=false", "model.normalize_obs=false",
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
# Without a peer, for --recording.
OWN = {
    "sac": ["algo=sac", "env=pendulum"],
    "td3": ["algo=td3", "env=pendulum"],
    "lstm_dqn": ["algo=lstm_dqn", "env=cartpole"],
}
# The recipe's own way: as many steps in a minibatch, in chunks that begin with stored memory.
WORKS["lstm_ppo_chunks"] = [*WORKS["lstm_ppo"], "algo.chunk_length=16"]
PEER = {"lstm_ppo_chunks": "lstm_ppo"}  # where the peer's work has another name
STEPS = {
    "ppo": 60_000, "dqn": 20_000, "lstm_ppo": 20_000, "lstm_ppo_chunks": 20_000,
    "sac": 5_000, "td3": 5_000, "lstm_dqn": 10_000,
}  # fmt: skip
WARM = {
    "ppo": 4_096, "dqn": 4_000, "lstm_ppo": 2_048, "lstm_ppo_chunks": 2_048,
    "sac": 1_500, "td3": 1_500, "lstm_dqn": 3_000,
}  # fmt: skip
REPLICAS = {"ppo": (1, 16), "dqn": (1, 16), "lstm_ppo": (1,), "lstm_ppo_chunks": (1, 16)}


def measure_rlrun(work: str, replicas: int, plain: bool) -> dict[str, float]:
    """Train in this process; env steps of all replicas per CPU second of the loop.

    `plain` runs gradient steps as they are written, not as they were recorded.
    """
    import tempfile

    from rlrun.config.compose import compose
    from rlrun.nn import record
    from rlrun.runs.folder import RunFolder
    from rlrun.runs.process import keep_freed_memory
    from rlrun.runs.session import Session
    from rlrun.runs.task import Task, build
    from rlrun.trainer import Clock

    keep_freed_memory()  # as every run does
    if plain:
        record._FORMS = 0
    steps, warm = STEPS[work], WARM[work]
    with tempfile.TemporaryDirectory() as folder:
        config = compose(
            [
                *(WORKS | OWN)[work],
                f"replicas={replicas}",
                f"total_steps={steps}",
                f"eval.every={10 * steps}",
                f"out={folder}",
            ]
        )
        task = Task.of(config)
        algo = build(config, task.spec())
        session = Session(config, RunFolder(folder), algo, task.collector(), task.evaluation)
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
        session.close()
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


def speeds(contestants: dict[str, list[str]], work: str, rounds: int) -> list[dict[str, float]]:
    """Each contestant's steps per CPU second, round by round."""
    return [{name: measure(command, work) for name, command in contestants.items()} for _ in range(rounds)]


def row(results: list[dict[str, float]], ours: str, theirs: str) -> str:
    """Both medians, and the ratio's median, minimum and maximum over the rounds."""
    ratios = sorted(result[ours] / result[theirs] for result in results)
    a, b = (statistics.median(result[name] for result in results) for name in (ours, theirs))
    return f"| {a:,.0f} | {b:,.0f} | {statistics.median(ratios):.2f} ({ratios[0]:.2f} .. {ratios[-1]:.2f}) |"


def rlrun(work: str, replicas: int, *flags: str) -> list[str]:
    """The command that measures rlrun in a process of its own."""
    return [sys.executable, str(HERE / "compare.py"), "--measure", work, str(replicas), *flags]


def compare_recording(works: list[str], rounds: int) -> None:
    """Recorded gradient steps against the same steps as they are written."""
    print("| work | recorded, steps/s | as written, steps/s | ratio (min .. max) |\n|---|---|---|---|")
    for work in works:
        contestants = {"recorded": rlrun(work, 1), "plain": rlrun(work, 1, "--plain")}
        results = speeds(contestants, work, rounds)
        print(f"| {work} {row(results, 'recorded', 'plain')}", flush=True)


def compare_peers(works: list[str], rounds: int) -> None:
    """rlrun against its peers."""
    peer = peers()
    print("| work | R | rlrun steps/s | peer steps/s | ratio (min .. max) |\n|---|---|---|---|---|")
    for work in works:
        theirs = [peer, str(HERE / "peer_sb3.py"), PEER.get(work, work), str(STEPS[work]), str(WARM[work])]
        ours = {f"R={r}": rlrun(work, r) for r in REPLICAS[work]}
        results = speeds({"peer": theirs} | ours, work, rounds)
        for r in REPLICAS[work]:
            print(f"| {work} | {r} {row(results, f'R={r}', 'peer')}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", choices=WORKS | OWN, action="append", help="default: all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--recording", action="store_true", help="recorded gradient steps against plain ones")
    parser.add_argument("--measure", nargs=2, metavar=("WORK", "R"), help=argparse.SUPPRESS)
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        work, replicas = args.measure
        print(json.dumps(measure_rlrun(work, int(replicas), args.plain)))
    elif args.recording:
        compare_recording(args.work or [*WORKS, *OWN], args.rounds)
    else:
        compare_peers(args.work or [*WORKS], args.rounds)


if __name__ == "__main__":
    main()
