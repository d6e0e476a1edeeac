"""A command line in the words of another library is answered by the one that is meant; nothing is written."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from rlrun import cli
from rlrun.config.compose import compose


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("--algo ppo", "algo=ppo"),
        ("--algo=ppo", "algo=ppo"),
        ("-algo ppo", "algo=ppo"),
        ("--algo PPO --env CartPole-v1 -n 50000", "algo=ppo env=cartpole total_steps=50000"),
        ("--replicas=5", "replicas=5"),
        ("--seed 3", "seed=3"),
        ("--seeds 5", "replicas=5"),
        ("--total-timesteps 1e6 --lr 2.5e-4", "total_steps=1000000 algo.learning_rate=2.5e-4"),
        (
            "--algo sac --env-id Pendulum-v1 --policy-lr 1e-3",
            "algo=sac env=pendulum algo.actor_learning_rate=1e-3",
        ),
        (
            "--algo ppo --num-steps 64 --norm-adv",
            "algo=ppo algo.rollout_steps=64 algo.normalize_advantage=true",
        ),
        ("--env Acrobot-v1 --double", "env=acrobot algo.double=true"),
        ("--env MountainCar-v0 --algo dqn", "env=gym env.id=MountainCar-v0 algo=dqn"),
        ("--policy MlpPolicy --algo ppo", "model=mlp algo=ppo"),
        ("--no-cuda seed=3", "device=cpu seed=3"),
        ("ppo", "algo=ppo"),
        ("PPO", "algo=ppo"),
        ("sb3_ppo", "algo=ppo"),
        ("ppo cartpole replicas=5", "algo=ppo env=cartpole replicas=5"),
        ("point ppo", "env=point algo=ppo"),
        ("lstm", "model=lstm"),
        ("quick", "experiment=quick"),
        ("CartPole-v1", "env=cartpole"),
        ("train ppo", "algo=ppo"),
        ("train --algo ppo", "algo=ppo"),
        ("algo=ppo cartpole", "algo=ppo env=cartpole"),
        ("algo ppo", "algo=ppo"),
        ("algo = ppo", "algo=ppo"),
        ("algo= ppo seed =3", "algo=ppo seed=3"),
        ("algo:ppo", "algo=ppo"),
        ("seed 3", "seed=3"),
        ("algo.lr 0.1", "algo.learning_rate=0.1"),
        ("-f logs", "out=logs"),
    ],
)
def test_the_whole_line_is_suggested_and_composes(
    line: str, meant: str, empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(shlex.split(line)) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) <= 3
    assert f"did you mean rlrun {meant}?" in err
    compose(meant.split())
    assert not list(empty_folder.iterdir())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tune algo=ppo", ["rlrun -m"]),
        ("plot", ["did you mean report?"]),
        ("plot outputs/x", ["rlrun report outputs/x"]),
        ("enjoy 'my run'", ["did you mean play?", "rlrun play 'my run'"]),
        ("version", ["rlrun --version"]),
        ("test", ["did you mean evaluate?"]),
        ("eval x --episodes 3", ["did you mean evaluate?", "rlrun evaluate x --episodes 3"]),
        ("desc dqn", ["rlrun describe dqn"]),
        ("ls", ["did you mean list?"]),
        ("continue x", ["rlrun resume x"]),
        ("run algo=ppo", ["training has no verb"]),
        ("tensorboard", ["rlrun board"]),
        ("--config my.yaml", ["conf/experiment/my.yaml", "experiment=my"]),
        ("--config=conf/my.yaml", ["conf/experiment/my.yaml", "experiment=my"]),
        ("my.yaml", ["conf/experiment/my.yaml", "experiment=my"]),
        ("conf/my.yaml", ["conf/experiment/my.yaml", "experiment=my"]),
        ("--config-name my", ["main config", "experiment=NAME"]),
        ("--algo ppo --track", ["did you mean rlrun algo=ppo?", "listener=NAME"]),
        ("--capture-video", ["rlrun play RUN"]),
        ("--algo nope --lr 3", ["no algo 'nope'"]),
        ("--algo ppo --foo 3", ["did you mean rlrun algo=ppo?", "--foo is neither a flag nor a key"]),
        ("--multi seed=1,2", ["did you mean --multirun?"]),
        ("-m algo=ppo --seed 1,2", ["did you mean rlrun -m algo=ppo seed=1,2?"]),
        ("--config-dir more --algo ppo", ["did you mean rlrun --config-dir more algo=ppo?"]),
        ("--foo", ["rlrun --help"]),
        ("foo", ["unknown command 'foo'", "KEY=VALUE"]),
        ("''", ["KEY=VALUE"]),
        ("=ppo", ["KEY=VALUE"]),
        (".", ["rlrun evaluate ."]),
        ("list algos", ["did you mean algo?"]),
        ("list ppo", ["rlrun describe ppo"]),
        ("list environments", ["did you mean env?"]),
        ("describe PPO", ["did you mean ppo?"]),
        ("describe sb3_ppo", ["did you mean ppo?"]),
    ],
)
def test_other_words_are_answered_by_what_there_is(
    line: str, expected: list[str], empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(shlex.split(line)) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) <= 3
    for words in expected:
        assert words in err
    assert not list(empty_folder.iterdir())


def test_without_a_word_the_help_is_shown_and_nothing_is_trained(
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([]) == 0
    out, err = capsys.readouterr()
    assert err == "" and "usage: rlrun" in out
    line = out.splitlines()[-1]
    assert line.strip().startswith("rlrun algo=lstm_dqn env=cartpole model=lstm total_steps=")
    assert cli.main(["--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["train"] == line.strip()
    assert compose(line.split()[1:]) == compose()
    assert not list(empty_folder.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        ["LONG"],
        ["x", "LONG"],
        ["evaluate", "LONG"],
        ["resume", "LONG/LONG"],
        ["compare", "LONG"],
        ["LONG.yaml"],
    ],
)
def test_what_can_be_no_path_is_refused_all_the_same(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main([word.replace("LONG", "a" * 5000) for word in words]) == 2
    assert len(capsys.readouterr().err.splitlines()) <= 3 and not list(tmp_path.iterdir())


def test_two_dashes_say_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["--"]) == 0
    assert "rlrun train would run" in capsys.readouterr().out and not list(tmp_path.iterdir())
