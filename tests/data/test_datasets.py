"""Data sets: what is read is what was recorded, and nothing else is read."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from support import small

from rlrun import cli, envs
from rlrun.config import ConfigError
from rlrun.config.catalog import conf_dir, recipes
from rlrun.config.compose import compose
from rlrun.config.plain import from_dict
from rlrun.data import steps as logged
from rlrun.data.minari import load as load_minari
from rlrun.data.minari import save as save_minari
from rlrun.data.sources import FileConfig, MinariConfig, read, read_minari
from rlrun.runs import record as recording
from rlrun.runs.folder import RunFolder
from rlrun.runs.load import load
from rlrun.runs.policy import Policy
from rlrun.runs.record import _uniform, play, record, replayed
from rlrun.runs.run import evaluate, execute, resume
from rlrun.spaces import Box, Discrete, MultiDiscrete, Space

FIELDS = ("obs", "action", "reward", "terminated", "truncated", "next_obs")


def arrays(steps: int = 6, **changes: Any) -> dict[str, np.ndarray]:
    """Three episodes of two steps: terminated, truncated, and one that is cut off."""
    rng = np.random.default_rng(0)
    values = {
        "obs": rng.normal(size=(steps, 3)).astype(np.float32),
        "next_obs": rng.normal(size=(steps, 3)).astype(np.float32),
        "action": np.arange(steps) % 2,
        "reward": np.arange(steps, dtype=np.float64),
        "terminated": np.arange(steps) == 1,
        "truncated": np.arange(steps) == 3,
    }
    return values | changes


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    saved = arrays()
    logged.save(tmp_path / "set", saved, {"env": "by hand"})
    loaded = logged.load(tmp_path / "set")
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(loaded, name), saved[name])
        assert getattr(loaded, name).dtype == saved[name].dtype
    assert loaded.first.tolist() == [True, False, True, False, True, False]
    about = json.loads((tmp_path / "set" / "dataset.json").read_text())
    assert (about["steps"], about["episodes"], about["env"]) == (6, 3, "by hand")
    with pytest.raises(ConfigError, match="a data set already"):
        logged.save(tmp_path / "set", saved, {})


def test_episodes_are_whole_and_no_more_than_there_are(tmp_path: Path) -> None:
    logged.save(tmp_path / "set", arrays(), {})
    path = str(tmp_path / "set")
    for episodes in (1, 2, 3):
        part = read(FileConfig(path, episodes))
        assert len(part.obs) == len(part.next_obs) == len(part.first) == 2 * episodes
        assert part.first.sum() == episodes
    assert len(read(FileConfig(path, None)).reward) == 6
    with pytest.raises(ConfigError, match=r"data.episodes is 4: .* has 3\n.*data.episodes=null"):
        read(FileConfig(path, 4))


@pytest.mark.parametrize("name", sorted(set(recipes("data")) - {"none", "file", "minari"}))
def test_shipped_data_are_sound(name: str) -> None:
    """They fit the environment that they name, and each step leads to the next one."""
    config = compose([f"data={name}"]).data
    dataset = read(config)
    about = json.loads((logged.SHIPPED / config.path / "dataset.json").read_text())
    env = envs.make(compose([f"env={about['env']}"]).env, 1)
    logged.check(dataset, *envs.spaces(env), name, about["env"])
    assert about["episodes"] == dataset.first.sum() and about["steps"] == len(dataset.first)
    ended = dataset.terminated | dataset.truncated
    assert ended[-1]
    np.testing.assert_array_equal(dataset.next_obs[:-1][~ended[:-1]], dataset.obs[1:][~ended[:-1]])
    assert (dataset.next_obs[:-1][ended[:-1]] != dataset.obs[1:][ended[:-1]]).any(-1).all()  # no reset obs
    returns = np.add.reduceat(dataset.reward, np.flatnonzero(dataset.first))
    assert about["return_mean"] == pytest.approx(returns.mean())


def test_the_expert_is_one() -> None:
    dataset = read(compose(["data=cartpole_expert"]).data)
    assert np.add.reduceat(dataset.reward, np.flatnonzero(dataset.first)).tolist() == [500.0] * 4
    assert dataset.truncated.sum() == 4 and not dataset.terminated.any()


def test_shipped_data_lie_inside_the_package() -> None:
    """So that they travel in the wheel, wherever the working directory is."""
    assert logged.SHIPPED.is_relative_to(Path(logged.__file__).parent)
    assert {path.name for path in logged.SHIPPED.iterdir()} <= set(recipes("data"))


# Refusals


def flip(folder: Path) -> None:
    data = bytearray((folder / "steps.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "steps.safetensors").write_bytes(data)


def rewrite(**changes: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        about = json.loads((folder / "dataset.json").read_text())
        about |= changes
        about = {name: value for name, value in about.items() if value is not None}
        (folder / "dataset.json").write_text(json.dumps(about))

    return damage


def replace_arrays(**changes: Any) -> Callable[[Path], None]:
    """Other arrays, with a checksum that fits them."""

    def damage(folder: Path) -> None:
        import hashlib

        from safetensors.numpy import save

        data = save({name: array for name, array in arrays(**changes).items() if array is not None})
        (folder / "steps.safetensors").write_bytes(data)
        rewrite(size=len(data), sha256=hashlib.sha256(data).hexdigest())(folder)

    return damage


def junk(folder: Path) -> None:
    import hashlib

    data = b"\xff" * 64
    (folder / "steps.safetensors").write_bytes(data)
    rewrite(size=len(data), sha256=hashlib.sha256(data).hexdigest())(folder)


def link(folder: Path) -> None:
    (folder / "steps.safetensors").rename(folder / "elsewhere")
    (folder / "steps.safetensors").symlink_to(folder / "elsewhere")


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a flipped bit": (flip, "does not match its checksum"),
    "a cut file": (lambda f: (f / "steps.safetensors").write_bytes(b"abc"), "does not match its checksum"),
    "a longer file": (lambda f: (f / "steps.safetensors").write_bytes(b"a" * 10**6), "another size"),
    "no safetensors": (junk, "damaged"),
    "a link": (link, "damaged"),
    "no JSON": (lambda f: (f / "dataset.json").write_text("{"), "damaged"),
    "deep JSON": (lambda f: (f / "dataset.json").write_text("[" * 100_000), "damaged"),
    "a list": (lambda f: (f / "dataset.json").write_text("[]"), "damaged"),
    "no size": (rewrite(size=None), "it lacks 'size'"),
    "a newer schema": (rewrite(schema=99), "newer rlrun"),
    "a missing array": (replace_arrays(reward=None), "its arrays are"),
    "unequal lengths": (replace_arrays(reward=np.zeros(5)), "same number of steps"),
    "no steps": (replace_arrays(steps=0), "at least one"),
    "a NaN": (replace_arrays(reward=np.full(6, np.nan)), "not finite"),
    "flags that are numbers": (replace_arrays(terminated=np.zeros(6)), "terminated is float64"),
    "successors of another shape": (
        replace_arrays(next_obs=np.zeros((6, 2), np.float32)),
        "obs and next_obs differ",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    logged.save(folder, arrays(), {})
    damage, words = DAMAGE[name]
    damage(folder)
    with pytest.raises(ConfigError) as refusal:
        logged.load(folder)
    assert words in str(refusal.value) and str(folder) in str(refusal.value)
    assert len(refusal.value.lines) <= 3


@pytest.mark.parametrize("missing", ["folder", "dataset.json", "steps.safetensors"])
def test_what_is_missing_is_named(missing: str, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    logged.save(folder, arrays(), {})
    if missing == "folder":
        shutil.rmtree(folder)
    else:
        (folder / missing).unlink()
    with pytest.raises(ConfigError) as refusal:
        read(FileConfig(str(folder), None))
    found = "there is no such folder" if missing == "folder" else f"it has no {missing}"
    assert found in str(refusal.value) and "cartpole_expert" in str(refusal.value)


def test_a_misspelt_name_is_corrected() -> None:
    with pytest.raises(ConfigError, match="did you mean cartpole_expert"):
        read(FileConfig("cartpole_exprt", None))
    with pytest.raises(ConfigError, match="did you mean cartpole_expert"):
        compose(["algo=bc", "data=cartpole_exprt"])


VECTOR = Box((3,), (-np.inf,) * 3, (np.inf,) * 3)
TORQUE = np.linspace(-1, 1, 6, dtype=np.float32)[:, None]


@pytest.mark.parametrize(
    "changes, obs, action, words",
    [
        ({}, VECTOR, Discrete(2), None),
        ({}, VECTOR, Discrete(1), "integers from 0 to 1, the env's below 1"),
        ({"action": -np.ones(6, np.int64)}, VECTOR, Discrete(2), "integers from -1 to -1"),
        ({}, VECTOR, Box((1,), (-1.0,), (1.0,)), r"actions are int64 \[\], the env's float32 \[1\]"),
        (
            {},
            Box((4,), (0.0,) * 4, (1.0,) * 4),
            Discrete(2),
            r"observations are float32 \[3\], the env's float32 \[4\]",
        ),
        ({}, Discrete(7), Discrete(2), r"observations are float32 \[3\], the env's int64 \[\]"),
        ({"action": TORQUE}, VECTOR, Box((1,), (-1.0,), (1.0,)), None),
        ({"action": TORQUE}, VECTOR, Box((1,), (-1.0,), (0.5,)), "from -1 to 1, the env's from -1 to 0.5"),
        ({"action": TORQUE}, VECTOR, Discrete(2), r"actions are float32 \[1\], the env's int64 \[\]"),
        ({"action": np.ones((6, 2), np.int64)}, VECTOR, MultiDiscrete((2, 3)), None),
        ({"action": np.ones((6, 2), np.int64)}, VECTOR, MultiDiscrete((2, 1)), "integers from 1 to 1"),
    ],
)
def test_spaces_must_agree(
    changes: dict[str, Any], obs: Space, action: Space, words: str | None, tmp_path: Path
) -> None:
    logged.save(tmp_path / "set", arrays(**changes), {})
    dataset = logged.load(tmp_path / "set")
    if words is None:
        logged.check(dataset, obs, action, "mine", "yours")
        return
    with pytest.raises(ConfigError, match=words) as refusal:
        logged.check(dataset, obs, action, "mine", "yours")
    assert "data=mine does not fit env=yours" in str(refusal.value)


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["env=pendulum"], "data=cartpole_expert does not fit env=pendulum"),
        (["data=none"], "algo=bc learns from logged steps, and data=none has none"),
        (["data.episodes=5"], "data.episodes is 5"),
        (["data=file", "data.path=nowhere"], "data.path is nowhere, which is no data set"),
    ],
)
def test_a_refusal_needs_no_torch_and_writes_nothing(
    overrides: list[str], words: str, tmp_path: Path
) -> None:
    """In a process of its own, as from the command line."""
    code = (
        "import sys\nfrom rlrun.cli import main\ncode = main(sys.argv[1:])\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\nsys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "algo=bc", *overrides, "out=runs"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(conf_dir().parent), "PATH": ""},
    )
    assert done.returncode == 2, done.stderr
    assert words in done.stderr and not list(tmp_path.iterdir())


# Recording


@pytest.mark.parametrize("algo", ["dqn", "lstm_dqn", "sac"])
def test_recorded_steps_are_those_of_the_policy(algo: str, tmp_path: Path) -> None:
    """Whole episodes with the env's own rewards; the greedy policy, memory included, acts just so."""
    config = small(algo, total_steps=300)
    config.env.reward.scale = 7.0
    result = execute(config, folder=tmp_path / "run")
    about = record(result.folder, 5, tmp_path / "set")
    assert about["episodes"] == 5
    dataset = read(FileConfig(str(tmp_path / "set"), None))
    logged.check(dataset, *envs.spaces(envs.make(config.env, 1)), "set", "its own")
    if config.choices["env"] == "cartpole":
        assert (dataset.reward == 1.0).all()
    policy = result.policy()
    starts = np.flatnonzero(dataset.first)
    assert len({dataset.obs[i].tobytes() for i in starts}) == 5
    for begin, end in zip(starts, [*starts[1:], len(dataset.first)], strict=True):
        ended = dataset.terminated[begin:end] | dataset.truncated[begin:end]
        assert ended[-1] and ended.sum() == 1
        np.testing.assert_array_equal(dataset.next_obs[begin : end - 1], dataset.obs[begin + 1 : end])
        memory = None
        for i in range(begin, end):
            action, memory = policy.act(dataset.obs[i], memory)
            np.testing.assert_allclose(action, dataset.action[i], rtol=1e-5, atol=1e-5)
    again = record(result.folder, 5, tmp_path / "again")
    assert again["sha256"] == about["sha256"]
    with pytest.raises(ConfigError, match="a data set already"):
        record(result.folder, 5, tmp_path / "set")


def test_memory_lasts_for_an_episode_and_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that counts its steps, and does 0, 1, 0, 1... from each episode's beginning."""

    class Counter(Policy):
        def __init__(self) -> None:
            pass

        def _act(self, obs: Any, memory: Any, first: Any, mask: Any) -> tuple[np.ndarray, Any]:
            count = np.where(first, 0, 0 if memory is None else memory)
            return count % 2, count + 1

    folder = execute(small("dqn", total_steps=50), folder=tmp_path / "run").folder
    monkeypatch.setattr(recording, "load", lambda folder, replica, mode: Counter())
    record(folder, 6, tmp_path / "set")
    dataset = logged.load(tmp_path / "set")
    starts = [*np.flatnonzero(dataset.first), len(dataset.first)]
    lengths = np.diff(starts)
    assert len(set(lengths)) > 1  # some ended while others went on
    assert dataset.action.tolist() == [t % 2 for length in lengths for t in range(length)]


def test_what_was_recorded_can_be_cloned(tmp_path: Path) -> None:
    config = small("sac", total_steps=100)
    result = execute(config, folder=tmp_path / "run")
    record(result.folder, 2, tmp_path / "set")
    overrides = ["algo=bc", "env=pendulum", "data=file", f"data.path={tmp_path / 'set'}"]
    quiet = [
        "log.tensorboard=false",
        "log.plot=false",
        "eval.episodes=1",
        f"env.max_steps={config.env.max_steps}",
    ]
    clone = execute(compose([*overrides, *quiet, "total_steps=50"]), folder=tmp_path / "clone")
    assert clone.exit_code == 0 and clone.summary["env_steps"] == 0


@pytest.fixture(scope="module")
def policy_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose policy is stochastic, hardly trained."""
    folder = tmp_path_factory.mktemp("ppo") / "run"
    return execute(small("ppo", total_steps=200, replicas=2), folder=folder).folder


def test_modes_of_recording(policy_run: Path) -> None:
    """The same starts; greedy repeats itself where sampling does not, and random is a fair coin."""
    played = {
        (mode, again): play(policy_run, 40, replica=1, mode=mode)
        for mode in (None, "greedy", "sample", "random")
        for again in (False, True)
    }
    for mode in (None, "greedy", "sample", "random"):
        (one, about), (other, _) = played[mode, False], played[mode, True]
        assert all(np.array_equal(one[name], other[name]) for name in FIELDS)  # a pure function of the seed
        assert about["mode"] == (mode or "greedy") and about["replica"] == 1
    greedy, sample, random = (played[mode, False][0] for mode in ("greedy", "sample", "random"))
    assert all(np.array_equal(greedy[name], played[None, False][0][name]) for name in FIELDS)
    policy = load(policy_run, 1)
    assert (policy.act(greedy["obs"])[0] == greedy["action"]).all()
    agree = (policy.act(sample["obs"])[0] == sample["action"]).mean()
    assert 0.3 < agree < 0.95
    assert played["random", False][1]["algo"] == "random"
    assert abs(random["action"].mean() - 0.5) < 4 * 0.5 / np.sqrt(len(random["action"]))
    assert abs((policy.act(random["obs"])[0] == random["action"]).mean() - 0.5) < 0.08
    np.testing.assert_array_equal(greedy["obs"][0], random["obs"][0])


@pytest.mark.parametrize(
    "space", [Discrete(5), MultiDiscrete((2, 5)), Box((1, 2), (-1.0, 0.0), (3.0, 1.0))], ids=lambda s: s.kind
)
def test_random_actions_are_uniform(space: Space) -> None:
    numbers = np.random.default_rng(0).uniform(size=(4000, *space.shape))
    action = _uniform(space, numbers)
    assert action.shape == numbers.shape and action.dtype == space.dtype
    assert not logged._misfit(action, space, bounded=True)
    expected = {"discrete": 2.0, "multi_discrete": [0.5, 2.0], "box": [[1.0, 0.5]]}[space.kind]
    np.testing.assert_allclose(action.mean(0), expected, atol=0.1)
    with pytest.raises(ConfigError, match="no finite bounds"):
        _uniform(Box((1,), (-np.inf,), (np.inf,)), np.full((3, 1), 0.5))


def test_the_command(policy_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`rlrun record RUN episodes=N` writes into the run folder unless told otherwise."""
    assert cli.main(["record", str(policy_run), "episodes=3", "mode=random", "replica=1"]) == 0
    out = policy_run / "episodes"
    assert f"3 episodes: data=file data.path={out}" in capsys.readouterr().out
    about = json.loads((out / "dataset.json").read_text())
    assert (about["episodes"], about["mode"], about["replica"]) == (3, "random", 1)
    assert cli.main(["record", str(policy_run), "--episodes", "3"]) == 2
    assert "is a data set already" in capsys.readouterr().err
    assert cli.main(["record", str(policy_run), "episode=3"]) == 2
    assert "unrecognized arguments: episode=3" in capsys.readouterr().err
    assert cli.main(["--json", "record", str(policy_run), "mode=sample", f"out={out}-2"]) == 0
    assert json.loads(capsys.readouterr().out)["mode"] == "sample"


# What a run keeps of its data


@pytest.fixture
def cloned(tmp_path: Path) -> Path:
    """A finished run of behaviour cloning on a data set of its own."""
    copy = shutil.copytree(logged.SHIPPED / "cartpole_expert", tmp_path / "set")
    config = small("bc", total_steps=30)
    config.data = FileConfig(str(copy), 1)
    return execute(config, folder=tmp_path / "run").folder


def test_acting_needs_no_data(cloned: Path) -> None:
    """Loading, judging and recording a policy go on without the data set that it learned from."""
    before = evaluate(cloned, 3)
    shutil.rmtree(cloned.parent / "set")
    assert load(cloned).act(np.zeros(4))[0] in (0, 1)
    assert evaluate(cloned, 3) == before
    assert record(cloned, 2, cloned / "again")["episodes"] == 2
    (cloned / "summary.json").unlink()
    with pytest.raises(ConfigError, match="no such folder"):  # learning does need them
        resume(cloned)


def test_resuming_on_changed_data_is_refused(cloned: Path) -> None:
    """One reward of the steps that are used; those of a later episode do not matter."""
    folder = cloned.parent / "set"
    (cloned / "summary.json").unlink()  # as if it had been killed while judging
    recorded = RunFolder(cloned).read()["data_sha256"]
    assert recorded == logged.sha256(read(FileConfig(str(folder), 1)))
    whole = vars(logged.load(folder))
    for changed, refused in ((-1, False), (7, True)):
        values = {name: whole[name].copy() for name in FIELDS}
        values["reward"][changed] += 1.0
        shutil.rmtree(folder)
        logged.save(folder, values, {})
        if refused:
            with pytest.raises(ConfigError, match="have changed"):
                resume(cloned)
        else:
            assert resume(cloned).exit_code == 0
            (cloned / "summary.json").unlink()


# Minari


@pytest.fixture
def minari(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return pytest.importorskip("minari")


@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_minari_gives_back_what_it_got(algo: str, minari: Any, tmp_path: Path) -> None:
    """Step for step, with discrete and with continuous actions; and what comes back can be cloned."""
    run = execute(small(algo, total_steps=100), folder=tmp_path / "run").folder
    about = record(run, 4, tmp_path / "set", minari="test/mine-v0")
    ours, theirs = logged.load(tmp_path / "set"), read_minari(MinariConfig("test/mine-v0", None))
    for name in (*FIELDS, "first"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert logged.sha256(ours) == logged.sha256(theirs)
    assert read_minari(MinariConfig("test/mine-v0", 2)).first.sum() == 2
    found = minari.load_dataset("test/mine-v0")
    assert (found.total_episodes, found.total_steps) == (4, about["steps"])
    config = from_dict(RunFolder(run).read()["config"])
    logged.check(theirs, *envs.spaces(envs.make(config.env, 1)), "minari", "its own")
    clone = small("bc", total_steps=10)
    clone.env, clone.data = config.env, MinariConfig("test/mine-v0", None)
    assert execute(clone, folder=tmp_path / "clone").exit_code == 0
    with pytest.raises(ConfigError, match="already exists"):
        record(run, 1, minari="test/mine-v0")


def test_an_episode_that_was_cut_off_is_truncated(minari: Any) -> None:

    values = arrays(6, terminated=np.zeros(6, bool), truncated=np.arange(6) == 5)
    space = gymnasium.spaces.Box(-9.0, 9.0, (3,), np.float32), gymnasium.spaces.Discrete(2)
    save_minari("test/cut-v0", values, *space, {"algo": "nobody"})
    for group in minari.load_dataset("test/cut-v0").iterate_episodes():
        assert group.truncations.tolist() == [False] * 5 + [True]
    file = Path(minari.load_dataset("test/cut-v0").storage.data_path) / "main_data.hdf5"
    with pytest.importorskip("h5py").File(file, "r+") as data:
        data["episode_0/truncations"][-1] = False
    assert load_minari("test/cut-v0")["truncated"].tolist() == [False] * 5 + [True]


def test_what_minari_lacks_is_named(minari: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nobody/nothing-v0: Minari has no such") as refusal:
        read_minari(MinariConfig("nobody/nothing-v0", None))
    assert "minari download" in str(refusal.value) and len(refusal.value.lines) == 3
    nested = gymnasium.spaces.Dict(x=gymnasium.spaces.Box(0.0, 1.0, (1,)))
    buffer = minari.data_collector.EpisodeBuffer(
        id=0,
        observations={"x": np.zeros((3, 1), np.float32)},
        actions=np.zeros(2, np.int64),
        rewards=[0.0, 0.0],
        terminations=[False, True],
        truncations=[False, False],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        minari.create_dataset_from_buffers(
            "test/nested-v0", [buffer], observation_space=nested, action_space=gymnasium.spaces.Discrete(2)
        )
    with pytest.raises(ConfigError, match="nested observations"):
        read_minari(MinariConfig("test/nested-v0", None))


def test_without_minari_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minari", None)  # as if it were not installed
    with pytest.raises(ConfigError, match=r"pip install 'rlrun\[minari\]'"):
        read_minari(MinariConfig("a/b-v0", None))


@pytest.mark.parametrize(
    "total_steps", [200, 900]
)  # a replay buffer of 400 that is half full, or was overwritten
def test_a_replay_buffer_is_a_data_set(total_steps: int, tmp_path: Path) -> None:
    """Each env's steps in order of time, one env after the other, the last episode of each cut off."""
    run = execute(small("dqn", total_steps=total_steps), folder=tmp_path / "run").folder
    whole, _ = replayed(run, 1)
    assert (whole["terminated"] | whole["truncated"]).nonzero()[0].tolist() == [len(whole["reward"]) - 1]
    episodes = 2
    while True:
        try:
            arrays, about = replayed(run, episodes)
        except ConfigError as refusal:
            assert f"has {episodes - 1}" in str(refusal)
            break
        episodes += 1
    assert len(arrays["reward"]) == min(total_steps, 400)
    logged.save(tmp_path / "set", arrays, about)
    dataset = logged.load(tmp_path / "set")
    ended = (dataset.terminated | dataset.truncated)[:-1]
    np.testing.assert_array_equal(dataset.next_obs[:-1][~ended], dataset.obs[1:][~ended])
    assert (dataset.next_obs[:-1][ended] != dataset.obs[1:][ended]).any(-1).all()
    assert about["mode"] == "replay" and about["return_mean"] == pytest.approx(
        dataset.reward.sum() / dataset.first.sum()
    )


def test_steps_that_follow_each_other_are_written_once(tmp_path: Path) -> None:
    """Both ways of writing are read as the same arrays."""
    loose = arrays()
    ended = np.arange(6) % 2 == 1
    chained = loose | {"next_obs": np.where(ended[:, None], loose["next_obs"], np.roll(loose["obs"], -1, 0))}
    for name, saved, stored in (("a", loose, "next_obs"), ("b", chained, "last_obs")):
        logged.save(tmp_path / name, saved, {})
        from safetensors.numpy import load_file

        assert stored in load_file(tmp_path / name / "steps.safetensors")
        loaded = logged.load(tmp_path / name)
        for field in FIELDS:
            np.testing.assert_array_equal(getattr(loaded, field), saved[field])
            assert getattr(loaded, field).dtype == saved[field].dtype
