"""The bits of every recipe, as SHA-256 sums: what a change that must not change anything is held against.

    python benchmarks/guard.py ../before.json                    # write the sums
    python benchmarks/guard.py ../after.json --against ../before.json

Each recipe trains for about 200 updates on its home task, two replicas, shrunk so that all of them take
a few minutes; DQN and PPO also as they are; one walk-forward run also with its report. Hashed are every
leaf of the last checkpoint and metrics.jsonl. Only `rlrun.run` and the run folder are relied on, so that
the script measures older and newer sources alike. Sums hold for one machine and one set of versions.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

CONF = Path(__file__).resolve().parents[1] / "conf"
UPDATES = 200
QUIET = ["log.tensorboard=false", "log.plot=false", "checkpoint.every_seconds=1000"]
SMALL: dict[str, Any] = {
    "model.hidden": [16], "model.hidden_size": 16, "env.max_steps": 30, "eval.episodes": 4, "eval.during": 2,
    "algo.rollout_steps": 8, "algo.epochs": 2, "algo.n_minibatches": 2, "algo.chunk_length": 4,
    "algo.buffer_size": 800, "algo.batch_size": 32, "algo.learning_starts": 48, "algo.train_every": 4,
    "algo.sequence_length": 4, "algo.burn_in": 2, "algo.horizon": 4, "algo.n_candidates": 24,
    "algo.ensemble.members": 2, "algo.ensemble.buffer_size": 800, "algo.ensemble.batch_size": 32,
    "algo.ensemble.learning_starts": 48, "algo.teacher_steps": 400, "algo.demo_steps": 32,
    "algo.discriminator.batch_size": 32, "algo.discriminator.gradient_steps": 2,
}  # fmt: skip
WHOLE = {
    "dqn as it is": ["algo=dqn", "total_steps=10000", "replicas=2"],
    "ppo as it is": ["algo=ppo", "total_steps=20000", "replicas=2"],
    "walk-forward": [
        "algo=lstm_dqn", "env=trading", "eval=walk_forward", "replicas=2", "eval.n_folds=3",
        "total_steps=3000", "algo.learning_starts=200",
    ],
}  # fmt: skip
HOMES = ("", "cartpole", "pendulum", "frozen_lake", "cliff_walking", "bandit")


def train(overrides: list[str], out: str) -> Path:
    """The folder of a finished run."""
    import rlrun

    return rlrun.run([*overrides, *QUIET, f"out={out}"], quiet=True).folder


def sums(folder: Path) -> dict[str, str]:
    """SHA-256 of every leaf of the newest checkpoint, and of what else a run says about itself."""
    from safetensors.numpy import load_file

    found = {}
    newest = max((folder / "ckpt").iterdir())
    for file in sorted(newest.glob("*.safetensors")):
        for name, leaf in load_file(file).items():
            head = f"{leaf.dtype} {leaf.shape} ".encode()
            found[f"{file.stem}/{name}"] = hashlib.sha256(head + leaf.tobytes()).hexdigest()
    for name in ("metrics.jsonl", "folds.json", "test_steps.csv.gz", "report.md", "report.json"):
        if (folder / name).exists():
            found[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    scores = [row.get("eval_return") for row in json.loads((folder / "summary.json").read_text())["replicas"]]
    found["scores"] = hashlib.sha256(repr(scores).encode()).hexdigest()
    return found


def recipe(algo: str, out: str) -> Path:
    """Train one recipe for `UPDATES` updates, shrunk, where it is at home."""
    from rlrun import run
    from rlrun.config import ConfigError

    for home in HOMES:
        asked = [f"algo={algo}", "replicas=2", *([f"env={home}"] if home else [])]
        config = composed(asked)
        small = [f"{key}={value}" for key, value in SMALL.items() if _lowers(config, key, value)]
        small += [f"num_envs={min(config['num_envs'], 2)}"]
        try:
            trial = run([*asked, *small, *QUIET, f"out={out}/trial", "total_steps=600"], quiet=True)
        except ConfigError:
            continue
        steps = max(int(trial.summary["env_steps"]) // 2, 600) * UPDATES // trial.summary["updates"]
        return train([*asked, *small, f"total_steps={steps}"], out)
    raise RuntimeError(f"{algo} fits no task")


def composed(overrides: list[str]) -> Any:
    """The config that rlrun makes of overrides, by its own command."""
    import yaml

    command = [sys.executable, "-m", "rlrun", "--cfg", "job", *overrides]
    return yaml.safe_load(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _lowers(config: Any, path: str, value: Any) -> bool:
    """Whether a config has a key, with more in it than `value`."""
    for name in path.split("."):
        if not isinstance(config, dict) or name not in config:
            return False
        config = config[name]
    if path == "env.max_steps":
        return config is None or config > value
    return config is not None and (isinstance(value, list) or config > value)


def work(label: str) -> tuple[str, dict[str, str]]:
    with tempfile.TemporaryDirectory() as out:
        return label, sums(train(WHOLE[label], out) if label in WHOLE else recipe(label, out))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("file", type=Path, help="where the sums go")
    parser.add_argument("--against", type=Path, help="sums that these must equal")
    parser.add_argument("--only", nargs="*", help="recipes, instead of all")
    args = parser.parse_args()
    labels = args.only or [*WHOLE, *sorted(path.stem for path in (CONF / "algo").glob("*.yaml"))]
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        found = dict(pool.map(work, labels))
    args.file.write_text(json.dumps(found, indent=1, sort_keys=True))
    leaves = sum(map(len, found.values()))
    print(f"{leaves} sums of {len(found)} runs in {args.file}")
    if args.against is None:
        return 0
    before = json.loads(args.against.read_text())
    wrong = [
        f"{label}: {name}"
        for label, own in found.items()
        for name in sorted(own.keys() | before.get(label, {}).keys())
        if own.get(name) != before.get(label, {}).get(name)
    ]
    print("\n".join(wrong[:40]) or f"all equal to {args.against}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
