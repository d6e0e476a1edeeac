"""Jobs and sweeps are called by what differs, in names that every shell takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rlrun.config.sweep import sweep
from rlrun.sweeps.grid import folder_name, jobs, sweep_name


def test_a_jobs_folder_says_what_differs() -> None:
    asked = sweep(["algo=dqn,ppo", "env=cartpole", "seed=0,5", "algo.learning_rate=1e-3,3e-4", "replicas=5"])
    found = list(jobs(asked))
    assert len(found) == 8
    assert found[0].name == "algo-dqn_lr-0.001_seed-0"
    assert found[-1].label == "ppo lr=0.0003 seed=5"
    assert set(found[0].words) == {
        "env=cartpole",
        "replicas=5",
        "algo=dqn",
        "algo.learning_rate=0.001",
        "seed=0",
    }


def test_values_that_are_written_in_two_ways_are_one_job() -> None:
    assert [job.name for job in jobs(sweep(["algo=dqn", "algo.gamma=0.9,9e-1,0.90"]))] == ["gamma-0.9"]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("[64,64]", "hidden-64x64"),
        ("'a b'", "hidden-a-b"),
        ("{at:250}", "hidden-at-250"),
        ("../../x", "hidden-x"),
        ("-3.5", "hidden-3.5"),
        ("null", "hidden-null"),
        ("=", "hidden-none"),
        ("ALE/Pong-v5", "hidden-ALE-Pong-v5"),
    ],
)
def test_a_name_is_always_pasteable(value: str, name: str) -> None:
    assert folder_name({"hidden": value}) == name


def test_values_that_look_the_same_have_folders_of_their_own() -> None:
    asked = sweep(["algo=dqn", "model.hidden=[6,4],[64]", "env.kwargs={a:1},{a_:1},{a-:1}"])
    names = [job.name for job in jobs(asked)]
    assert len(set(names)) == 6
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,128}", name) for name in names)


def test_long_names_are_cut_and_stay_apart() -> None:
    first, second = (folder_name({"key": "x" * 300 + end}) for end in "ab")
    assert first != second and max(len(first), len(second)) < 128


def test_more_values_lead_to_the_same_sweep_and_another_key_does_not() -> None:
    name = sweep_name(sweep(["algo=dqn,ppo", "env=cartpole", "seed=1"]))
    assert name.startswith("cartpole-algo-")
    assert sweep_name(sweep(["env=cartpole", "seed=1", "algo=dqn,ppo,a2c", "out=elsewhere"])) == name
    assert sweep_name(sweep(["algo=dqn,ppo", "env=cartpole", "seed=2"])) != name
    assert sweep_name(sweep(["algo=dqn,ppo", "env=cartpole", "seed=1,2"])) != name


def test_a_folder_that_is_named_is_kept() -> None:
    asked = sweep(["seed=1,2", "hydra.sweep.dir=some/where"])
    assert asked.named and asked.folder == Path("some/where") and not asked.foreign
    assert sweep(["seed=1,2", "hydra.sweep.subdir=x${hydra:job.num}"]).foreign
