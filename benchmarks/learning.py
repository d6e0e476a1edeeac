"""Evidence that every algorithm learns: each row is a command, and what its scores must be.

    make learn                                   # all rows; run again, it goes on where it stopped
    python benchmarks/learning.py dqn cliff      # the rows whose command has one of these words
    python benchmarks/learning.py --list

Scores are those of final policies on fresh episodes (or online returns, where the recipe is
judged so), one a replica, of seeds that chose nothing: tuning used the seeds from 1, the table
those from 1001. Where a trivial solution could pass there is a row that must fail: without
memory, without the teacher, without planning. The table is benchmarks/learning.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import operator
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent / "rlrun"
TABLE = HERE / "learning.md"
RUNS = HERE.parent / "outputs" / "learning"
FIRST_SEED = 1001
COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


def iqm(scores: np.ndarray) -> float:
    from rlrun.evals import stats

    return float(stats.iqm(scores))


STATISTICS: dict[str, Callable[[np.ndarray], float]] = {
    "median": lambda scores: float(np.median(scores)),
    "mean": lambda scores: float(scores.mean()),
    "iqm": iqm,
    "worst": lambda scores: float(scores.min()),
    "best": lambda scores: float(scores.max()),
}


@dataclass(frozen=True)
class Row:
    """A command without `rlrun`, claims such as "median >= 490" about its scores, and where those stand.

    `score` is the name of a figure of summary.json's replicas, or a function of the run's
    folder that returns one number a replica. `quick` rows are part of the fast test suite.
    """

    overrides: str
    claims: tuple[str, ...]
    score: str | Callable[[Path], np.ndarray] = "eval_return"
    quick: bool = False

    @property
    def command(self) -> str:
        """With the table's first seed, unless the row names its own."""
        return self.overrides if " seed=" in self.overrides else f"{self.overrides} seed={FIRST_SEED}"

    @property
    def title(self) -> str:
        """What the numbers are: returns, unless said otherwise."""
        name = self.score.__name__ if callable(self.score) else self.score
        return name.replace("eval_", "").replace("_", " ")

    def scores(self, folder: Path) -> np.ndarray:
        """One number a replica [R], of a finished run."""
        if callable(self.score):
            return self.score(folder)
        rows = json.loads((folder / "summary.json").read_text())["replicas"]
        return np.array([row[self.score] for row in rows], float)

    def failures(self, scores: np.ndarray) -> list[str]:
        """The claims that do not hold, each with the number found."""
        found = []
        for claim in self.claims:
            name, sign, bound = claim.split()
            value = STATISTICS[name](scores)
            if not COMPARE[sign](value, float(bound)):
                found.append(f"{name} is {value:.4g}, not {sign} {bound}")
        return found


def row(
    overrides: str,
    *claims: str,
    score: str | Callable[[Path], np.ndarray] = "eval_return",
    quick: bool = False,
) -> Row:
    return Row(overrides, claims, score, quick)


def near(mean: float, distance: float) -> tuple[str, str]:
    """The claims that the mean over replicas is no farther than that from a reference."""
    return f"mean >= {mean - distance:.4g}", f"mean <= {mean + distance:.4g}"


def second_episode(folder: Path) -> np.ndarray:
    """How many steps each replica's second episode took [R], of a run that recorded every step."""
    lengths: dict[int, list[float]] = {}
    with (folder / "metrics.jsonl").open() as lines:
        for record in map(json.loads, lines):
            if "train/length" in record:
                lengths.setdefault(record["replica"], []).append(record["train/length"])
    replicas = json.loads((folder / "run.json").read_text())["R"]
    return np.array([(*lengths.get(r, ()), np.inf, np.inf)[1] for r in range(replicas)])


TESTBED = "replicas=2000 algo="
DRIFTING = "algo=epsilon_greedy env=bandit_drifting replicas=1000 total_steps=5000 log.every=500"
SHORTCUT = "env=shortcut_maze eval=online env.max_steps=null log.every=1000 total_steps=6000 replicas=20"


def above_grid(folder: Path) -> np.ndarray:
    """How far each replica [R] is above a pendulum solved on a grid."""
    from pendulum_grid import gap

    return gap(folder)


PLANS = "replicas=3 eval.episodes=20"

SECTIONS: dict[str, list[Row]] = {
    "Bandits": [
        # Ten arms, 2000 of them. What a mean must be comes from an independent simulation of 5000 (that of
        # tests/test_bandits.py), and how near from four standard errors of the difference.
        # Figure 2.2: optimal actions in the last 100 of 1000 steps, and the reward there.
        row(f"{TESTBED}epsilon_greedy algo.epsilon=0", *near(0.357, 0.05), score="optimal"),
        row(f"{TESTBED}epsilon_greedy algo.epsilon=0.01", *near(0.593, 0.05), score="optimal"),
        row(f"{TESTBED}epsilon_greedy algo.epsilon=0.1", *near(0.797, 0.035), score="optimal", quick=True),
        row(f"{TESTBED}epsilon_greedy algo.epsilon=0", *near(1.034, 0.085), score="reward"),
        row(f"{TESTBED}epsilon_greedy algo.epsilon=0.01", *near(1.313, 0.07), score="reward"),
        row(f"{TESTBED}epsilon_greedy algo.epsilon=0.1", *near(1.369, 0.06), score="reward"),
        # Figure 2.3: optimism against epsilon, both with a constant step.
        row(
            f"{TESTBED}epsilon_greedy algo.epsilon=0 algo.initial_value=5 algo.step_size=0.1",
            *near(0.860, 0.035),
            score="optimal",
        ),
        row(f"{TESTBED}epsilon_greedy algo.step_size=0.1", *near(0.755, 0.035), score="optimal"),
        # Figure 2.4: the reward of UCB; that of epsilon-greedy is above.
        row(f"{TESTBED}ucb", *near(1.493, 0.065), score="reward"),
        # Figure 2.5: gradient bandits on means about +4, with and without a baseline.
        row(f"{TESTBED}gradient_bandit env.mean=4", *near(0.850, 0.035), score="optimal"),
        row(
            f"{TESTBED}gradient_bandit env.mean=4 algo.learning_rate=0.4",
            *near(0.718, 0.05),
            score="optimal",
        ),
        row(
            f"{TESTBED}gradient_bandit env.mean=4 algo.baseline=false",
            *near(0.489, 0.045),
            score="optimal",
        ),
        row(
            f"{TESTBED}gradient_bandit env.mean=4 algo.learning_rate=0.4 algo.baseline=false",
            *near(0.293, 0.045),
            score="optimal",
        ),
        # Figure 2.6: the mean reward over all 1000 steps, three points of each curve.
        *(
            row(f"{TESTBED}{overrides} log.every=1000", *near(reward, 0.065), score="reward")
            for overrides, reward in (
                ("epsilon_greedy algo.epsilon=0.0078125", 1.171),
                ("epsilon_greedy algo.epsilon=0.0625", 1.333),
                ("epsilon_greedy algo.epsilon=0.25", 1.119),
                ("ucb algo.c=0.25", 1.450),
                ("ucb algo.c=1", 1.482),
                ("ucb algo.c=4", 1.168),
                ("epsilon_greedy algo.epsilon=0 algo.step_size=0.1 algo.initial_value=0.25", 1.321),
                ("epsilon_greedy algo.epsilon=0 algo.step_size=0.1 algo.initial_value=1", 1.458),
                ("epsilon_greedy algo.epsilon=0 algo.step_size=0.1 algo.initial_value=4", 1.329),
                ("gradient_bandit algo.learning_rate=0.03125", 1.101),
                ("gradient_bandit algo.learning_rate=0.25", 1.402),
                ("gradient_bandit algo.learning_rate=2", 1.058),
            )
        ),
        # Regret in all; by the same simulation.
        row(f"{TESTBED}decaying_epsilon", *near(178.3, 12), score="total_regret"),
        row(f"{TESTBED}softmax", *near(147.0, 20), score="total_regret"),
        row("algo=thompson replicas=500", *near(27.8, 3), score="total_regret"),
        row(f"{TESTBED}thompson_gaussian", *near(69.0, 4), score="total_regret"),
        # Exercise 2.5, means that walk at random: a constant step keeps up, a sample average falls behind.
        row(f"{DRIFTING} algo.step_size=0.1", *near(0.696, 0.04), score="optimal"),
        row(DRIFTING, *near(0.442, 0.06), score="optimal"),
    ],
    "Dynamic programming": [
        row("algo=value_iteration env=frozen_lake", "median >= 0.6", quick=True),
        row("algo=policy_iteration env=frozen_lake_8x8 eval.episodes=1000", "median >= 0.8"),
        row("algo=policy_iteration env=frozen_lake env.slippery=false", "worst >= 1", "best <= 1"),
        row("algo=policy_iteration env=cliff_walking algo.gamma=1", "worst >= -13", "best <= -13"),
        row("algo=value_iteration env=taxi eval.episodes=1000", "median >= 7.7", "median <= 8.2", quick=True),
    ],
    "Temporal differences": [
        *(
            row(f"algo={algo} eval=online total_steps=50000 log.every=25000 replicas=30", *claims)
            for algo, *claims in (
                ("sarsa", "median >= -24", "median <= -19"),
                ("expected_sarsa", "median >= -24", "median <= -19"),
                ("q_learning", "median >= -55", "median <= -43"),
            )
        ),
        row("algo=q_learning replicas=10", "median >= -13"),
        row("algo=double_q_learning replicas=10 eval.episodes=1000", "median >= 0.68"),
        row("algo=q_learning env=taxi replicas=5 eval.episodes=1000", "median >= 7.6", "median <= 8.2"),
        row("algo=q_learning env=frozen_lake replicas=10 eval.episodes=1000", "median >= 0.68"),
        row("algo=n_step_sarsa total_steps=20000 replicas=20", "median <= 15", score="eval_length"),
        row(
            "algo=dyna_q eval=online env.max_steps=null log.every=1 total_steps=5000 replicas=30",
            "median <= 48",
            score=second_episode,
        ),
        row(
            "algo=dyna_q eval=online env.max_steps=null log.every=1 total_steps=15000 replicas=30 "
            "algo.planning_steps=0",
            "median >= 480",
            score=second_episode,
        ),
        # 1 in 16 steps pays on the old way, 1 in 10 by the shortcut: the mean of the last 1000
        row(f"algo=dyna_q_plus {SHORTCUT}", "median >= 0.075", score="reward"),
        row(f"algo=dyna_q {SHORTCUT}", "best <= 0.0625", score="reward"),
    ],
    "Value-based": [
        row("algo=dqn env=cartpole replicas=10", "median >= 490", "worst >= 300"),
        row("algo=double_dqn env=cartpole replicas=5", "median >= 490", "worst >= 400"),
        row("algo=dueling_dqn env=cartpole replicas=5", "median >= 490", "worst >= 400"),
        row("algo=prioritized_dqn env=cartpole replicas=5", "median >= 490", "worst >= 400"),
        row("algo=mini_rainbow env=cartpole replicas=3", "median >= 490", "worst >= 400"),
        row("algo=dqn env=acrobot replicas=8", "median >= -85", "worst >= -110"),
        row("algo=dqn env=pendulum_discrete replicas=5", "median >= -170", "worst >= -250"),
        row("algo=lstm_dqn env=cartpole replicas=5", "median >= 490", "worst >= 300"),
        row("algo=lstm_dqn env=cartpole_masked replicas=5", "median >= 450", "worst >= 195"),
        row("algo=gru_dqn env=cartpole_masked replicas=3", "median >= 450", "worst >= 195"),
        row("algo=dqn env=cartpole_masked replicas=3", "best <= 60"),
        row("algo=lstm_dqn env=recall replicas=5", "median >= 0.9", "worst >= 0.9"),
        row("algo=dqn env=recall replicas=3 total_steps=5000", "best <= 0.3"),
    ],
    "Policy gradient": [
        row("algo=ppo env=cartpole replicas=10", "median >= 490", "worst >= 350", quick=True),
        row("algo=ppo env=pendulum replicas=3", "median >= -300", "worst >= -500"),
        row("algo=ppo env=acrobot replicas=5", "median >= -85", "worst >= -100"),
        row("algo=ppo env=lunar_lander replicas=4", "median >= 200"),
        row("algo=a2c env=cartpole replicas=5", "median >= 475", "worst >= 350"),
        row("algo=actor_critic env=cartpole replicas=5", "median >= 450", "worst >= 150"),
        row("algo=reinforce env=cartpole replicas=5", "median >= 400", "worst >= 300"),
        # CartPole hardly needs the baseline: at 50k steps, the mean of 20 is 442 without, 481 with it.
        row(
            "algo=reinforce env=cartpole replicas=5 algo.baseline=none algo.learning_rate=1e-3",
            "median >= 400",
            "worst >= 300",
        ),
        row("algo=lstm_ppo env=cartpole_masked replicas=5", "median >= 480", "worst >= 400", quick=True),
        row("algo=lstm_a2c env=cartpole_masked replicas=5", "median >= 480", "worst >= 195"),
        row("algo=lstm_reinforce env=cartpole_masked replicas=5", "median >= 195", "worst >= 100"),
        row("algo=ppo env=cartpole_masked replicas=3", "best <= 60"),
        row("algo=ppo env=catch model=cnn replicas=3 total_steps=15000", "worst >= 0.9"),
        row("algo=lstm_ppo env=catch model=cnn_lstm replicas=3 total_steps=40000", "worst >= 0.9"),
        row("algo=lstm_ppo env=recall replicas=10", "median >= 0.9", "worst >= 0.9"),
        row("algo=lstm_ppo env=recall_continuous replicas=5 algo.chunk_length=null", "worst >= 0.9"),
        row("algo=lstm_a2c env=recall replicas=10", "median >= 0.9", "worst >= 0.9"),
        row("algo=lstm_reinforce env=recall replicas=10", "median >= 0.9"),
        row("algo=ppo env=recall replicas=3 total_steps=30000 eval.episodes=1000", "best <= 0.2"),
        row("algo=a2c env=recall replicas=3 total_steps=60000 eval.episodes=1000", "best <= 0.2"),
        row("algo=reinforce env=recall replicas=3 total_steps=60000 eval.episodes=1000", "best <= 0.2"),
    ],
    "Off-policy actor-critics": [
        row("algo=sac env=pendulum replicas=5", "median >= -170", "worst >= -250"),
        row("algo=td3 env=pendulum replicas=5", "median >= -200", "worst >= -400"),
        row("algo=ddpg env=pendulum replicas=5", "median >= -200", "worst >= -400"),
        # Without the velocity: memory swings it up, and without memory nothing does.
        row("algo=lstm_sac env=pendulum_masked replicas=3", "median >= -300", "worst >= -500"),
        row("algo=lstm_td3 env=pendulum_masked replicas=3", "median >= -300", "worst >= -500"),
        row("algo=lstm_ddpg env=pendulum_masked replicas=3", "median >= -300", "worst >= -500"),
        row("algo=lstm_ppo env=pendulum_masked replicas=3", "median >= -400", "worst >= -700"),
        row("algo=sac env=pendulum_masked replicas=3 total_steps=5000", "best <= -700"),
        row("algo=td3 env=pendulum_masked replicas=3 total_steps=5000", "best <= -700"),
        row("algo=ddpg env=pendulum_masked replicas=3 total_steps=5000", "best <= -700"),
        # A cue, and an answer 20 steps later.
        row("algo=lstm_sac env=recall_continuous replicas=3", "median >= 0.9", "worst >= 0.9"),
        row("algo=lstm_td3 env=recall_continuous replicas=3", "median >= 0.9", "worst >= 0.9"),
        row("algo=lstm_ddpg env=recall_continuous replicas=3", "median >= 0.9", "worst >= 0.9"),
        row("algo=sac env=recall_continuous replicas=3 total_steps=5000", "best <= 0.25"),
        row("algo=td3 env=recall_continuous replicas=3 total_steps=5000", "best <= 0.25"),
        row("algo=ddpg env=recall_continuous replicas=3 total_steps=5000", "best <= 0.25"),
    ],
    "Imitation": [
        row("algo=bc env=cartpole replicas=5", "median >= 450", "worst >= 400", quick=True),
        row("algo=bc env=cartpole replicas=5 data.episodes=1", "median >= 450"),
        # The env of the next rows pays for [0.6, 0.6]: who goes there gets -7, who acts at random -66,
        # and an expert that goes to [-0.6, -0.6] instead -105 (by moves -100).
        row("algo=gail replicas=4", "median >= -12", "worst >= -20"),
        row(
            "algo=gail data=point_wrong_way data.episodes=1 total_steps=40000 replicas=4",
            "best <= -95",
            "worst >= -115",
        ),
        row(
            "algo=gail env=point_discrete data=point_discrete_wrong_way data.episodes=1 total_steps=40000 "
            "replicas=4",
            "best <= -85",
            "worst >= -110",
        ),
        # Paid for where that expert goes, which gets -7: a reward that nobody has trained leads elsewhere.
        row(
            "algo=gail env.goal=[-0.6,-0.6] data=point_wrong_way data.episodes=1 total_steps=40000 "
            "algo.discriminator.gradient_steps=0 replicas=4",
            "best <= -30",
        ),
    ],
    "Offline": [
        # Data at random: what is to be copied is bad, what can be learned is not.
        row("algo=cql replicas=5", "median >= 300", "worst >= 100"),
        row("algo=bc data=cartpole_random replicas=5", "median <= 40"),
        # Data of an expert alone: what it never did must not look better.
        row("algo=cql data=cartpole_expert replicas=5", "median >= 450", "worst >= 400"),
        row("algo=cql data=cartpole_expert algo.alpha=0 replicas=5", "median <= 100"),
        # Data of mixed quality, continuous actions.
        row("algo=cql_continuous replicas=5", "median >= -550"),
        row("algo=cql_continuous algo.alpha=0 replicas=5", "median <= -650"),
        row("algo=bc env=pendulum data=pendulum_replay replicas=5", "median <= -580"),
    ],
    # With the pendulum's own laws the score is what is missing to a solution on a grid, from the same starts.
    "Planning": [
        row(f"algo=cem env=pendulum {PLANS}", "worst >= -20", "best <= 5", score=above_grid),
        row(f"algo=mppi env=pendulum {PLANS}", "worst >= -20", "best <= 5", score=above_grid),
        row(f"algo=random_shooting env=pendulum {PLANS}", "worst >= -25", "best <= 5", score=above_grid),
        row(f"algo=cem env=pendulum algo.horizon=2 {PLANS}", "best <= -300", score=above_grid),
        row(f"algo=mppi env=pendulum_discrete {PLANS}", "median >= -180", "worst >= -220"),
        row(f"algo=cem env=cartpole {PLANS}", "worst >= 490"),
        row(f"algo=mppi env=cartpole {PLANS}", "worst >= 490"),
        row(f"algo=random_shooting env=cartpole {PLANS}", "worst >= 490"),
        row(f"algo=cem_learned env=pendulum {PLANS}", "worst >= -250"),
        row(f"algo=cem_learned algo.ensemble.learning_starts=3000 {PLANS}", "best <= -800"),
    ],
}
ROWS = [row for rows in SECTIONS.values() for row in rows]


def sources() -> str:
    """A digest of the package: what was measured with other sources is measured again."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def folder_of(row: Row) -> Path:
    """A folder of its own for each command and the config that it stands for."""
    from rlrun.config.compose import compose
    from rlrun.config.plain import config_hash

    name = re.sub(r"[^\w.=-]+", "_", re.sub(r"\b(algo|env)=", "", row.overrides))[:80]
    return RUNS / f"{name}-{config_hash(compose(row.command.split()))[:8]}"


def finished(folder: Path, digest: str | None) -> bool:
    """Whether the folder holds a whole run, of these sources unless `digest` is None."""
    stamp = folder / "sources"
    fresh = digest is None or (stamp.exists() and stamp.read_text() == digest)
    return fresh and (folder / "summary.json").exists()


def train(command: str, folder: Path) -> None:
    """In a process of its own: from the beginning, or from where the run was interrupted."""
    from rlrun import api
    from rlrun.config.compose import compose

    if (folder / "run.json").exists():
        result = api.resume(folder, quiet=True)
    else:
        config = compose([*command.split(), "log.tensorboard=false", "log.plot=false"])
        result = api.train(config, folder=folder, quiet=True)
    raise SystemExit(result.exit_code)


def measure(row: Row, folder: Path, digest: str) -> tuple[int, float]:
    """Train a row's run in a process of its own: the exit code, and the seconds that it took."""
    began = time.monotonic()
    stamp = folder / "sources"
    if folder.exists() and not (stamp.exists() and stamp.read_text() == digest):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stamp.write_text(digest)
    with (folder / "log.txt").open("ab") as log:
        arguments = [sys.executable, __file__, "--train", row.command, "--folder", str(folder)]
        code = subprocess.run(arguments, stdout=log, stderr=log).returncode
    return code, time.monotonic() - began


def verdict(rows: list[Row], folder: Path, code: int, seconds: float) -> str:
    """How a run went, in a line."""
    took = f"{seconds:6.0f} s  {rows[0].command}"
    if not (folder / "summary.json").exists():
        return f"ERROR {took}: exit code {code}, see {folder}/log.txt"
    failures = [failure for row in rows for failure in row.failures(row.scores(folder))]
    return f"FAIL  {took}: {'; '.join(failures)}" if failures else f"ok    {took}"


def write_table(folders: dict[Row, Path], digest: str | None) -> int:
    """benchmarks/learning.md, of all that is measured; how many rows are missing or fail."""
    bad = 0
    lines = [
        "# What every algorithm learns",
        "",
        "Made by `make learn`; each line is one command (`rlrun ...`), its replicas trained in one program.",
        "Scores are those of final policies on fresh episodes, or what the section says; seconds are those",
        "of training and judging on one core of two, both busy. A claim that does not hold is struck out.",
    ]
    head = (
        "env",
        "steps",
        "replicas",
        "score",
        "mean",
        "median",
        "IQM",
        "worst",
        "seconds",
        "claim",
        "command",
    )
    for section, rows in SECTIONS.items():
        lines += ["", f"## {section}", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
        for row in rows:
            folder = folders[row]
            claim, env = ", ".join(row.claims), re.search(r"env=(\S+)", row.command)
            if not finished(folder, digest):
                bad += 1
                cells = [env[1] if env else "", *["not measured"] * 8, claim]
            else:
                scores = row.scores(folder)
                summary = json.loads((folder / "summary.json").read_text())
                record = json.loads((folder / "run.json").read_text())
                if row.failures(scores):
                    bad += 1
                    claim = f"~~{claim}~~"
                figures = (STATISTICS[name](scores) for name in ("mean", "median", "iqm", "worst"))
                cells = [
                    record["config"]["choices"]["env"],
                    f"{record['config']['total_steps']:,}",
                    str(len(scores)),
                    row.title,
                    *(f"{figure:.4g}" for figure in figures),
                    f"{summary['wall_seconds']:.0f}",
                    claim,
                ]
            lines.append(f"| {' | '.join([*cells, f'`{row.command}`'])} |")
    TABLE.write_text("\n".join(lines) + "\n")
    return bad


def rows_with(words: Iterable[str]) -> list[Row]:
    """Those whose command has one of the words; all, where there are none."""
    return [row for row in ROWS if not words or any(word in row.command for word in words)]


def main(words: Iterable[str], jobs: int, keep: bool) -> int:
    """Measure what is not measured yet, and write the table; how many rows are missing or fail."""
    digest = sources()
    folders = {row: folder_of(row) for row in ROWS}
    chosen = rows_with(words)
    missing: dict[Path, list[Row]] = {}  # rows that look at one run from several sides share it
    for row in chosen:
        if not finished(folders[row], None if keep else digest):
            missing.setdefault(folders[row], []).append(row)
    print(f"{len(chosen)} rows, {len(missing)} runs to train", flush=True)
    try:
        with ThreadPoolExecutor(jobs) as pool:
            runs = {pool.submit(measure, rows[0], folder, digest): folder for folder, rows in missing.items()}
            for run in as_completed(runs):
                folder = runs[run]
                print(verdict(missing[folder], folder, *run.result()), flush=True)
    finally:
        bad = write_table(folders, None if keep else digest)
    print(f"{TABLE}: {len(ROWS)} rows, {bad} of them fail or are not measured")
    return bad


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("words", nargs="*", help="only rows whose command has one of these words")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="rows at once")
    parser.add_argument("--keep", action="store_true", help="trust what older sources measured")
    parser.add_argument("--list", action="store_true", help="show the commands and claims, and stop")
    parser.add_argument("--train", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train is not None:
        train(args.train, args.folder)
    elif args.list:
        print("\n".join(f"{', '.join(row.claims):32} rlrun {row.command}" for row in rows_with(args.words)))
    else:
        raise SystemExit(bool(main(args.words, args.jobs, args.keep)))
