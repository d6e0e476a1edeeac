"""Words of other libraries, parts of names and slips of the finger are answered by the name that is meant."""

from __future__ import annotations

import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
from support import uninstall

from rlrun.cli.verbs import VERBS
from rlrun.config import ConfigError, catalog
from rlrun.config.compose import compose
from rlrun.config.keys import hints, rewritten
from rlrun.config.run import GROUPS, MainKeys
from rlrun.config.vocabulary import ADVICE, SYNONYMS, advice, hint, near, nearest


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names_of(schema: type, path: str) -> list[str]:
    found = []
    for f in fields(schema):
        hint, full = hints(schema)[f.name], f"{path}.{f.name}" if path else f.name
        found += [full, *(names_of(hint, full) if isinstance(hint, type) and is_dataclass(hint) else [])]
        found += map(str, f.metadata.get("choices", ()))
    return found


def test_every_word_of_ours_in_the_table_is_one() -> None:
    ours = [*names_of(MainKeys, ""), *VERBS]
    for group in GROUPS:
        ours += catalog.recipes(group)
        for kind in catalog.kinds(group):
            ours += names_of(catalog.load(group, kind).config, group)
    strangers = [own for own in SYNONYMS if not any(("." + name).endswith("." + own) for name in ours)]
    assert strangers == []


def test_no_word_of_ours_is_taken_for_anothers() -> None:
    words = {word.replace("_", "") for line in ADVICE for word in line.split()}
    main = {name.replace("_", "") for name in names_of(MainKeys, "")}
    assert words & (main - {"evaluate"}) == set()
    for group in GROUPS:
        for name in catalog.recipes(group):
            assert not hint(name, VERBS).startswith("did you mean"), name


@pytest.mark.parametrize(
    ("overrides", "meant"),
    [
        ("lr=0.1", "algo.learning_rate"),
        ("algo.lr=0.1", "algo.learning_rate"),
        ("algo=ddpg algo.lr=0.1", "algo.actor_learning_rate or algo.critic_learning_rate"),
        ("algo=sac algo.learning_rate=0.1", "algo.actor_learning_rate or algo.critic_learning_rate"),
        ("algo=sac algo.policy_lr=0.1", "algo.actor_learning_rate"),
        ("algo=sac algo.q_lr=0.1", "algo.critic_learning_rate"),
        ("algo=ucb algo.lr=0.1", "algo.step_size"),
        ("algo=q_learning env=taxi alpha=0.1", "algo.learning_rate"),
        ("seeds=5", "replicas"),
        ("n_seeds=5", "replicas"),
        ("n_envs=4", "num_envs"),
        ("num_workers=4", "num_envs"),
        ("timesteps=9", "total_steps"),
        ("total_timesteps=9", "total_steps"),
        ("totalTimesteps=9", "total_steps"),
        ("n_threads=2", "threads"),
        ("log_dir=x", "out"),
        ("cuda=true", "device"),
        ("discount=0.9", "algo.gamma"),
        ("algo.buffer=9", "algo.buffer_size"),
        ("algo.memory_size=9", "algo.buffer_size"),
        ("algo.warmup_steps=9", "algo.learning_starts"),
        ("algo.train_freq=9", "algo.train_every"),
        ("algo.polyak=0.1", "algo.target.tau"),
        ("algo.tau=0.1", "algo.target.tau"),
        ("algo.target_update_interval=9", "algo.target.every"),
        ("algo.exploration_final_eps=0.1", "algo.epsilon.end"),
        ("epsilon_start=0.1", "algo.epsilon.start"),
        ("algo.n_steps=9", "algo.n_step"),
        ("algo=ppo algo.n_steps=9", "algo.rollout_steps"),
        ("algo=ppo algo.batch_size=9", "algo.n_minibatches"),
        ("algo=ppo algo.clip_coef=0.1", "algo.clip_range"),
        ("algo=ppo algo.update_epochs=4", "algo.epochs"),
        ("algo=ppo algo.entropy_coef=0.1", "algo.ent_coef"),
        ("algo=sac algo.ent_coef=0.1", "algo.alpha"),
        ("algo=ppo net_arch=9", "model.hidden"),
        ("algo=lstm_ppo net_arch=9", "model.hidden_size"),
        ("env.max_episode_steps=9", "env.max_steps"),
        ("eval_freq=9", "eval.every"),
        ("n_eval_episodes=9", "eval.episodes"),
        ("save_freq=9", "checkpoint.every_steps"),
        ("log_interval=9", "log.every"),
    ],
)
def test_a_key_of_another_library_is_answered_by_ours(overrides: str, meant: str) -> None:
    with pytest.raises(ConfigError) as refused:
        compose(overrides.split())
    assert f"did you mean {meant}?" in refused.value.lines and len(refused.value.lines) <= 3


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ("agent=ppo", "say algo=ppo"),
        ("agent=PPO", "say algo=ppo"),
        ("policy=MlpPolicy", "say model=mlp"),
        ("env_id=CartPole-v1", "say env=cartpole"),
        ("env_name=ALE/Pong-v5", "say env=pong"),
        ("env.id=Hopper-v5", "say env=gym env.id=Hopper-v5"),
        ("model=MlpPolicy", "did you mean mlp?"),
        ("model=MlpLstmPolicy", "did you mean lstm?"),
        ("algo=PPO", "did you mean ppo?"),
        ("algo=sb3_ppo", "did you mean ppo?"),
        ("algo=ppo_continuous_action", "did you mean ppo?"),
        ("algo=RecurrentPPO", "did you mean lstm_ppo?"),
        ("algo=ddqn", "did you mean double_dqn?"),
        ("algo=Q-Learning", "did you mean q_learning?"),
        ("algo=rainbow", "did you mean mini_rainbow?"),
        ("env=CartPole-v1", "env=gym env.id=CartPole-v1"),
        ("env=LunarLander-v2", "did you mean lunar_lander?"),
        ("env=ALE/Pong-v5", "env=gym env.id=ALE/Pong-v5"),
        ("env=atari", "pip install ale-py"),
        ("env=Hopper", "env=gym env.id=ID"),
        ("experiment=my.yaml", "conf/experiment/my.yaml"),
        ("track=true", "listener=NAME"),
        ("+wandb=true", "listener=NAME"),
        ("capture_video=true", "rlrun play RUN"),
        ("algo.verbose=1", "stderr"),
        ("episodes=500", "total_steps"),
        ("algo.optimizer=sgd", "Adam"),
        ("resume=outputs/x", "rlrun resume RUN"),
        ("config=my.yaml", "experiment=NAME"),
        ("device=gpu", "did you mean cuda?"),
        ("device=gpu:1", "did you mean cuda:1?"),
        ("device=auto", "did you mean cpu or cuda?"),
        ("eval.mode=deterministic", "did you mean greedy?"),
        ("dtype=fp64", "did you mean float64?"),
        ("total_steps=100k", "(write 100000)"),
        ("total_steps=1e5", "(write 100000)"),
        ("total_steps=1.5M", "(write 1500000)"),
        ("total_steps=10**6", "(write 1000000)"),
        ("total_steps=1,000,000", "write total_steps=1000000"),
        ("algo.max_grad_norm=None", "(write null)"),
        ("algo=dqn model.hidden=64", "(write [64])"),
        ("algo.gamma=99%", "(write 0.99)"),
        ("algo=ppo,", "did you mean algo=ppo?"),
        ("algo==ppo", "did you mean algo=ppo?"),
        ("algo=ppo;env=cartpole", "did you mean algo=ppo env=cartpole?"),
        ("+algo=ppo", "without the +"),
        ("seed=[1,2,3]", "seed=FIRST replicas=NUMBER"),
        ("device=CUDA", "did you mean cuda?"),
        ("env=my.csv", "env=series env.path="),
        ("env.path=my.csv", "env=series env.path="),
        ("data.path=steps", "data=file data.path="),
        ("stop.timesteps_total=9", "did you mean total_steps?"),
        ("trainer.max_epochs=9", "total_steps"),
        ("eval=false", "say eval=NAME"),
        ("env=gym env.id=LunarLander-v2", "did you mean LunarLander-v3?"),
        ("env=gym env.id=cartpole-v1", "did you mean CartPole-v1?"),
        ("env=gym env.id=CartPol-v1", "did you mean CartPole-v1?"),
    ],
)
def test_a_word_of_another_library_is_answered(overrides: str, expected: str) -> None:
    with pytest.raises(ConfigError) as refused:
        compose(overrides.split())
    assert expected in str(refused.value) and len(refused.value.lines) <= 3
    assert "expecting {" not in str(refused.value)  # of a parser's own


def test_whole_numbers_may_have_separators() -> None:
    assert compose(["total_steps=1_000_000"]).total_steps == 1_000_000


@pytest.mark.parametrize(
    "overrides",
    [
        "env=gym env.id=Nope-v0",  # not Hopper
        "algo.foo=1",
        "algo=policy_iteration env=taxi lr=1",  # it has no rate
        "algo=qrdqn",
        "algo=ppo algo.clip_vloss=true",  # not clip: that of gradients
        "model=none",
        "model=transformer",
        "zzz=1",
    ],
)
def test_nothing_is_suggested_where_nothing_is_near(overrides: str) -> None:
    with pytest.raises(ConfigError) as refused:
        compose(overrides.split())
    assert "did you mean" not in str(refused.value)


@pytest.mark.parametrize(
    ("env_id", "module", "pip"),
    [
        ("Pong-v4", "ale_py", "'rlrun[atari]'"),
        ("ALE/Pong-v5", "ale_py", "'rlrun[atari]'"),
        ("BreakoutNoFrameskip-v4", "ale_py", "'rlrun[atari]'"),
        ("MiniGrid-Empty-5x5-v0", "minigrid", "'rlrun[minigrid]'"),
        ("FetchReach-v3", "gymnasium_robotics", "gymnasium-robotics"),
    ],
)
def test_an_id_of_a_missing_package_names_its_pip_line(
    env_id: str, module: str, pip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninstall(monkeypatch, module)
    with pytest.raises(ConfigError) as refused:
        compose(["env=gym", f"env.id={env_id}"])
    assert f"pip install {pip}" in str(refused.value) and len(refused.value.lines) <= 3


def test_a_package_that_is_there_needs_no_pip(monkeypatch: pytest.MonkeyPatch, empty_folder: Path) -> None:
    (empty_folder / "ale_py.py").write_text("")
    monkeypatch.syspath_prepend(str(empty_folder))
    with pytest.raises(ConfigError, match=r"env.id=ale_py:ALE/Pong-v5"):
        compose(["env=gym", "env.id=ALE/Pong-v5"])
    sys.modules.pop("ale_py", None)  # others ask whether it is installed


@pytest.mark.parametrize(
    ("name", "names", "meant"),
    [
        ("GAMA", ["gamma", "tau"], ["gamma"]),
        ("zzz", ["gamma"], []),
        ("algo.lr", ["algo.clip", "algo.learning_rate", "algo.loss"], ["algo.learning_rate"]),
        ("algo.lr", ["algo.clip", "algo.loss"], []),
        ("tua", ["tau", "tar"], ["tau"]),  # letters that changed places are one slip
        ("algo.noise", ["env.noise", "algo.target_noise"], ["env.noise"]),
        ("learning", ["learning_rate", "learning_starts", "clip"], ["learning_rate", "learning_starts"]),
        ("my_lstm", ["lstm", "mlp"], ["lstm"]),
        ("algo.epsilonstart", ["algo.epsilon", "algo.epsilon.start"], ["algo.epsilon.start"]),
        ("Nope-v0", ["Hopper-v0", "Hopper-v5"], []),
        ("x", ["xy", "c"], []),
    ],
)
def test_names_near_in_meaning_or_in_spelling(name: str, names: list[str], meant: list[str]) -> None:
    assert near(name, names) == meant
    assert nearest(name, names) == (meant[0] if meant else None)


def test_advice_gives_way_to_a_name_that_is_there() -> None:
    assert "film" in hint("render", ["algo", "algo.gamma"])
    assert hint("render", ["play", "list"]) == "did you mean play?"
    assert advice("gamma") == ""


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("1e5", int, " (write 100000)"),
        ("2.5k", int, " (write 2500)"),
        ("1.5", int, ""),
        ("1e400", int, ""),
        (True, int, ""),
        ("many", int, ""),
        ("none", int | None, " (write null)"),
        ("none", int, ""),
        ("50%", float, " (write 0.5)"),
        (3, list[int], " (write [3])"),
        ([3], int, ""),
    ],
)
def test_how_a_value_is_written(value: object, kind: object, expected: str) -> None:
    assert rewritten(value, kind) == expected
