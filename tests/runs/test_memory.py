"""What does not fit into memory is refused before anything is made, and what fits is not."""

from __future__ import annotations

import resource
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.runs import memory
from rlrun.runs.memory import needed, prepared, require_scores
from rlrun.runs.room import Room, available, size
from rlrun.runs.task import Task, build

MEMINFO = "MemTotal: 8000 kB\nMemFree: 10 kB\nMemAvailable: 4000 kB\nSwapTotal: 1000 kB\n"


def files(root: Path, **more: str) -> Path:
    for name, text in {"proc/meminfo": MEMINFO, "proc/sys/vm/overcommit_memory": "0\n", **more}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_there_is_as_much_as_the_system_has(tmp_path: Path) -> None:
    there = available(files(tmp_path))
    assert there == Room((4_096_000, "available memory"), (9_216_000, "memory and swap of this machine"))
    files(tmp_path, **{"proc/sys/vm/overcommit_memory": "1\n"})
    assert available(tmp_path).reserve[0] == 1 << 62


def test_a_system_that_says_nothing_has_no_limit(tmp_path: Path) -> None:
    assert available(tmp_path).fill == available(tmp_path).reserve == (1 << 62, "no limit is known")


@pytest.mark.parametrize("where", ["job", ""])  # the group of the process, and one above it
def test_control_groups_of_version_2(where: str, tmp_path: Path) -> None:
    tree = "sys/fs/cgroup/"
    limits = {f"{tree}{where}/memory.max": "1000000\n", f"{tree}{where}/memory.current": "700000\n"}
    limits[f"{tree}{where}/memory.stat"] = "anon 5\ninactive_file 200000\n"
    limits |= {f"{tree}job/inner/memory.max": "max\n", f"{tree}job/inner/memory.current": "700000\n"}
    there = available(files(tmp_path, **{"proc/self/cgroup": "0::/job/inner\n"}, **limits))
    assert there.fill == (500_000, f"the limit of the control group /{where}")


def test_control_groups_of_version_1(tmp_path: Path) -> None:
    tree = "sys/fs/cgroup/memory/job/"
    limits = {f"{tree}memory.limit_in_bytes": "1000000\n", f"{tree}memory.usage_in_bytes": "900000\n"}
    limits[f"{tree}memory.stat"] = "inactive_file 1\ntotal_inactive_file 50000\n"
    groups = "9:name=systemd:/\n5:cpu,memory:/job\n0::/\n"
    assert available(files(tmp_path, **{"proc/self/cgroup": groups}, **limits)).fill[0] == 150_000


def test_the_address_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (3_000_000, 3_000_000))
    there = available(files(tmp_path, **{"proc/self/status": "Name: x\nVmSize:\t 1000 kB\n"}))
    assert there.fill == there.reserve == (3_000_000 - 1_024_000, "the limit of the address space, ulimit -v")


def test_this_machine_has_memory() -> None:
    assert available().fill[0] > 1 << 20


@pytest.mark.parametrize(
    ("bytes_", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (99_949, "99.9 kB"),
        (304e12, "304 TB"),
        (5e18, "5,000 PB"),
    ],
)
def test_sizes_are_legible(bytes_: float, words: str) -> None:
    assert size(bytes_) == words


RUNS = {
    "dqn": ["algo=dqn", "algo.buffer_size=20000", "total_steps=1000000"],
    "memory": ["algo=lstm_dqn", "algo.buffer_size=3000"],
    "priorities": ["algo=prioritized_dqn", "algo.buffer_size=5000"],
    "actor-critic": ["algo=sac", "env=pendulum", "algo.buffer_size=4000", "num_envs=2"],
    "planner": ["algo=cem_learned", "algo.ensemble.buffer_size=3000"],
    "on-policy": ["algo=ppo"],
}


@pytest.mark.parametrize("name", RUNS)
def test_what_is_counted_is_what_is_there(name: str) -> None:
    """Replay to the byte: of the tensors that a run really made."""
    config = compose([*RUNS[name], "replicas=2"])
    task = Task.of(config)
    need = needed(config, task)
    algo, collector = build(config, task.spec()), task.collector()
    rollout = collector.collect(algo, algo.rollout_steps, np.zeros(2, np.int64))
    algo.update(rollout, step=np.zeros(2, np.int64))
    rings = [part for part in memory._replays(algo)]
    made = sum(ring.nbytes for replay in rings for ring in replay._rings.values())
    made += sum(replay._weight.nbytes for replay in rings if hasattr(replay, "_weight"))
    assert need.reserved == made and bool(made) == (name != "on-policy")
    fields = (*rollout.fields().values(), *rollout.extras.values())
    assert need.parts["rollouts"] == sum(leaf.nbytes for leaf in fields)
    weights = sum(leaf.nbytes for leaf in algo.state(("weights", "optimizer")).values())
    assert need.parts["networks"] >= weights


def refused(config: object, there: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said where so much memory is there; nothing where the run fits."""
    monkeypatch.setattr(memory, "available", lambda: Room((there, "a test"), (there * 2, "a test")))
    try:
        prepared(config)  # type: ignore[arg-type]
    except ConfigError as error:
        return error.lines
    return []


@pytest.mark.parametrize("name", RUNS)
def test_what_fits_to_the_byte_is_not_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose([*RUNS[name], "replicas=3"])
    total = needed(config, Task.of(config)).total
    assert refused(config, total, monkeypatch) == []
    lines = refused(config, total - 1, monkeypatch)
    assert size(total) in lines[0] and "a test" in lines[0] and "lower" in lines[-1] and len(lines) <= 3


@pytest.mark.parametrize(
    ("overrides", "part", "key"),
    [
        (["replicas=1000000000"], "replay", "replicas=1000000000"),
        (["algo=bc", "algo.batch_size=1000000000000"], "a minibatch", "algo.batch_size=1000000000000"),
        (
            ["algo=dqn", "num_envs=100000", "algo.buffer_size=2000000000"],
            "replay",
            "algo.buffer_size=2000000000",
        ),
        (["algo=dqn", "model.hidden=[40000,40000]"], "networks", "model.hidden=[40000,40000]"),
        (["algo=dqn", f"model.hidden=[{2**62}]"], "networks", "model.hidden"),
        (["algo=lstm_dqn", "model.hidden_size=1000000"], "networks", "model.hidden_size=1000000"),
        (["algo=ppo", "algo.rollout_steps=1000000000000"], "rollouts", "algo.rollout_steps=1000000000000"),
        (
            ["algo=cem", "algo.n_candidates=1000000000", "algo.horizon=3"],
            "networks",
            "algo.n_candidates=1000000000",
        ),
        (["algo=ppo", "eval.episodes=1000000", "replicas=10000"], "evaluation", "eval.episodes=1000000"),
        (["algo=ppo", "eval.during=1000000", "replicas=10000"], "evaluation", "eval.during=1000000"),
        (
            ["algo=sarsa", "num_envs=100000000000", "algo.learning_rate=1e-12"],
            "environments",
            "num_envs=100000000000",
        ),
    ],
)
def test_what_takes_most_is_named_and_what_to_lower(
    overrides: list[str], part: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = time.process_time()
    lines = refused(compose([*overrides, "total_steps=1000000000000"]), 10**10, monkeypatch)
    assert time.process_time() - began < 10.0
    assert part in lines[1].partition(",")[0] and key in lines[-1]


def test_a_replay_that_is_never_filled_takes_what_is_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose(["algo=dqn", "algo.buffer_size=1000000", "total_steps=1000"])
    need = needed(config, Task.of(config))
    assert need.parts["replay"] * 900 < need.reserved
    assert refused(config, need.reserved // 2 + 1, monkeypatch) == []
    (what, advice) = refused(config, need.reserved // 2 - 1, monkeypatch)
    assert (
        "reserves" in what and "algo.buffer_size=1000000" in advice and size(need.parts["replay"]) in advice
    )


def test_folds_count_as_replicas() -> None:
    trading = ["algo=ppo", "env=trading", "eval=walk_forward", "replicas=2"]
    config = compose(trading)
    task = Task.of(config)
    one = replace(config, replicas=1, num_envs=1)
    assert needed(config, task).total == needed(config, Task.of(one)).total > needed(one, Task.of(one)).total
    assert len(task.evaluation.replicas) > 2


def test_on_cuda_the_device_holds_what_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose(["algo=dqn", "algo.buffer_size=1000000", "total_steps=1000000"])
    need = needed(config, Task.of(config))
    on_device = sum(need.parts[kind] for kind in ("networks", "replay", "acting"))
    config = replace(config, device="cuda:1")
    assert refused(config, on_device // 4, monkeypatch) == []  # of the host's memory
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (on_device - 1, 1))
    assert "free on cuda:1" in refused(config, 1 << 40, monkeypatch)[0]


def test_what_an_environment_cannot_get_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object, **__: object) -> None:
        raise MemoryError("Unable to allocate 7 TiB")

    monkeypatch.setattr(Task, "of", none_left)
    with pytest.raises(ConfigError, match="env=cartpole does not fit into memory\nUnable to allocate 7 TiB"):
        prepared(compose(["algo=dqn"]))


def test_episodes_are_counted_before_they_are_played(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: Room((3200, "a test"), (0, "")))
    require_scores(100, 2)
    with pytest.raises(ConfigError, match="--episodes"):
        require_scores(101, 2)


def test_counting_draws_nothing_and_changes_nothing() -> None:
    config = compose(["algo=dqn", "env=cartpole"])
    task = Task.of(config)
    plain = build(config, task.spec()).state()
    needed(config, task)
    again = build(config, task.spec()).state()
    assert all(bool((plain[name] == leaf).all()) for name, leaf in again.items())
