"""Sub-envs in processes of their own: the same bits, and who is lost is named and ends its replica alone."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from native_envs import assert_equal_steps, make, random_actions, seeds

from rlrun.api import train
from rlrun.boundary import gym_seed
from rlrun.config.compose import compose
from rlrun.config.keys import EnvError
from rlrun.config.plain import config_hash, from_dict, to_dict
from rlrun.rng import child, keys
from rlrun.runs.folder import RunFolder

ROOT = Path(__file__).parents[2]
ID = "worked/Env-v0"
SMALL = ["num_envs=1", "replicas=2", "total_steps=96", "eval.episodes=2", "log.plot=false"]
PPO = ["algo=ppo", "algo.rollout_steps=8", "algo.epochs=1", "algo.n_minibatches=1", "model.hidden=[4]"]


class Env(gymnasium.Env):
    """An episode of 20 steps, with something in the fifth, but not in this process."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    fifth: Callable[[Env], Any] = staticmethod(lambda env: None)  # type: ignore[assignment]
    parent = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t, self.seeded = 0, seed
        return self.np_random.random(2, np.float32), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        if self.t == 5 and os.getpid() != Env.parent:
            Env.fifth(self)
        obs = self.np_random.random(2, np.float32)
        return obs, float(action), self.t == 20, False, {}


@pytest.fixture
def worked(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Env]]:
    """The env, registered."""
    gymnasium.register(ID, Env, max_episode_steps=100)
    monkeypatch.setattr(Env, "parent", os.getpid())
    yield Env
    gymnasium.registry.pop(ID)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "Taxi-v4"])
def test_who_steps_makes_no_difference(env_id: str) -> None:
    one, three = (make("gym", 4, f"id={env_id}", "max_steps=15", f"workers={n}") for n in (1, 3))
    assert type(three).__name__ == "WorkersEnv" and three.spec.id == one.spec.id
    assert three.single_observation_space == one.single_observation_space
    seed, over = seeds(4), np.zeros(4, bool)
    np.testing.assert_array_equal(one.reset(seed=seed)[0], three.reset(seed=seed)[0])
    for t, action in enumerate(random_actions(one, 40)):
        steps = one.step(action), three.step(action)
        assert_equal_steps(*steps)
        if one.abilities.masks:
            np.testing.assert_array_equal(one.abilities.masks(), three.abilities.masks())
        over = steps[0][2] | steps[0][3]
        if t == 20:
            saved, its = one.state(), three.state()
            assert {name: value.tolist() for name, value in saved.items()} == {
                name: value.tolist() for name, value in its.items()
            }
        if over.any():
            again = [
                env.reset(seed=seed + np.uint64(t << 40), options={"reset_mask": over})
                for env in (one, three)
            ]
            np.testing.assert_array_equal(again[0][0], again[1][0])
    fresh = make("gym", 4, f"id={env_id}", "max_steps=15", "workers=2")
    fresh.load_state(saved)
    one.load_state(saved)
    action = random_actions(one, 1)[0]
    assert_equal_steps(one.step(action), fresh.step(action))
    for env in (one, three, fresh):
        env.close()


def test_a_run_with_workers_has_the_bits_of_one_without(worked: type[Env], tmp_path: Path) -> None:
    """Its checkpoints too, so that either goes on with the other's; and the same hash."""
    sums = {}
    for n in (1, 2):
        config = compose(
            [*PPO, "env=gym", f"env.id={ID}", f"env.workers={n}", *SMALL, f"out={tmp_path / str(n)}"]
        )
        result = train(config, quiet=True)
        assert result.exit_code == 0
        sums[n] = [
            hashlib.sha256((result.folder / name).read_bytes()).hexdigest()
            for name in (
                "metrics.jsonl",
                *(f.relative_to(result.folder) for f in result.folder.rglob("tensors.*")),
            )
        ]
        sums[n].append(config_hash(config))
    assert sums[1] == sums[2]
    old = to_dict(config)
    del old["env"]["workers"], old["env"]["timeout"]  # as it was before there were workers
    assert from_dict(old).env.workers == 1 and config_hash(from_dict(old)) == sums[1][-1]


WAYS = {
    "dies": (lambda: os.kill(os.getpid(), 9), "the worker of sub-env 0 died of SIGKILL"),
    "exits": (lambda: os._exit(3), "the worker of sub-env 0 ended by itself, with exit code 3"),
    "sleeps": (lambda: time.sleep(60), "the worker of sub-env 0 has not answered in 0.5 s (env.timeout)"),
    "sys.exit": (lambda: sys.exit(0), "SystemExit: 0"),
    "raises": (lambda: [][1], "in sub-env 0, episode of seed"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("algo", [PPO, ["algo=reinforce", "model.hidden=[4]"]], ids=["ppo", "reinforce"])
def test_a_worker_that_is_lost_ends_its_replica_alone(
    algo: list[str],
    way: str,
    worked: type[Env],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    work, expected = WAYS[way]
    base = [*algo, "env=gym", f"env.id={ID}", "env.workers=2", "env.timeout=0.5", *SMALL]
    right = train(compose([*base, f"out={tmp_path / 'right'}"]), quiet=True)
    zero = np.zeros(1, np.int64)
    first = gym_seed(child(child(keys([compose(base).seed], "env"), zero), zero)[0])
    monkeypatch.setattr(Env, "fifth", staticmethod(lambda env: env.seeded == first and work()))
    result = train(compose([*base, f"out={tmp_path / 'wrong'}"]), quiet=True)
    row, other = result.summary["replicas"]
    assert result.exit_code == 1 and expected in row["failed"] and row["eval_return"] is None
    assert other == right.summary["replicas"][1]
    records = map(json.loads, (result.folder / "metrics.jsonl").read_text().splitlines())
    assert {each["replica"] for each in records if "train/length" in each} == {1}  # it ended no episode
    assert "the others go on" in capsys.readouterr().err
    assert RunFolder(result.folder).status()["status"] == "failed"


def test_workers_may_be_spawned(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a process cannot be forked."""
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    one, two = (make("gym", 2, "id=CartPole-v1", f"workers={n}") for n in (1, 2))
    assert [type(worker.process).__name__ for worker in two._workers] == ["SpawnProcess"] * 2
    np.testing.assert_array_equal(one.reset(seed=seeds(2))[0], two.reset(seed=seeds(2))[0])
    for action in random_actions(one, 5):
        assert_equal_steps(one.step(action), two.step(action))
    two.close()


def test_a_worker_that_is_lost_where_nobody_goes_on_is_an_error(worked: type[Env]) -> None:
    """As in an evaluation: an episode that nobody played has no score."""
    env = make("gym", 2, f"id={ID}", "workers=2")
    env.reset(seed=seeds(2))
    env._workers[1].process.kill()
    with pytest.raises(EnvError, match="the worker of sub-env 1 died of SIGKILL"):
        env.step(np.zeros(2, np.int64))


def test_a_signal_to_all_of_its_processes_stops_a_run_and_loses_nobody(tmp_path: Path) -> None:
    """As schedulers and terminals send it: workers do not leave before the run has saved."""
    words = [*PPO, "env=gym", "env.id=CartPole-v1", "env.workers=2", "num_envs=2", "total_steps=200000"]
    line = [sys.executable, "-m", "rlrun", *words, "eval.episodes=1", "log.plot=false"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.Popen(
        line, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, start_new_session=True
    )
    until = time.monotonic() + 60
    metrics = tmp_path / "outputs"  # beside it stands a folder that is only tried
    while not any(f.stat().st_size for f in metrics.glob("*/*/metrics.jsonl")) and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGTERM)
    _, err = run.communicate(timeout=30)
    assert run.returncode == 143, err
    (folder,) = (path.parent for path in tmp_path.rglob("run.json"))
    assert RunFolder(folder).status()["status"] == "interrupted" and "failed" not in err.decode()


def test_workers_do_not_outlive_the_run(tmp_path: Path) -> None:
    """Whatever ends it, and whatever they do."""
    (tmp_path / "slow_env.py").write_text(
        "import os, time, gymnasium\n"
        "from gymnasium.envs.classic_control.cartpole import CartPoleEnv\n"
        "class Slow(CartPoleEnv):\n"
        "    def step(self, action):\n"
        "        if os.getppid() == int(os.environ['RUN']):\n"
        "            open(f'{os.getpid()}.pid', 'w').close()\n"
        "            time.sleep(60)\n"
        "        return super().step(action)\n"
        "gymnasium.register('Slow-v0', Slow)\n"
    )
    line = "exec env RUN=$$ " + sys.executable + " -m rlrun algo=ppo env=gym env.id=slow_env:Slow-v0"
    line += " env.allow_import=true env.workers=2 num_envs=2 total_steps=100 env.max_steps=20 eval.episodes=1"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.Popen(["bash", "-c", line], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while len(found := list(tmp_path.glob("*.pid"))) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    assert len(found) == 2
    run.kill()
    run.wait()
    until = time.monotonic() + 10
    while (here := [pid for pid in found if _lives(int(pid.stem))]) and time.monotonic() < until:
        time.sleep(0.05)
    assert here == []


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
