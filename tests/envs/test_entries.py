"""Dict and Tuple observations: one vector, the picture first; networks, run folders and policies know."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import gymnasium.spaces as gym
import numpy as np
import pytest
import torch
from native_envs import seeds

import rlrun
from rlrun import envs, nn
from rlrun.cli.main import main
from rlrun.config.compose import compose
from rlrun.core import Spec
from rlrun.envs.vector.gym import GymVectorEnv
from rlrun.rng import Stream
from rlrun.runs.spaces import from_dict, to_dict
from rlrun.spaces import Box, Discrete

PICTURE = gym.Box(0, 255, (8, 8, 3), np.uint8)
CASES: dict[str, gym.Space] = {
    "plain": gym.Dict(
        b=gym.Discrete(3, start=2),
        a=gym.Box(-1, 1, (2, 2)),
        c=gym.Tuple([gym.MultiDiscrete([2, 3]), gym.MultiBinary(2)]),
    ),
    "integers": gym.Tuple([gym.Discrete(3), gym.Discrete(2)]),
    "bytes": gym.Dict(x=gym.Box(0, 9, (3,), np.uint8), y=gym.Box(10, 20, (2, 2), np.uint8)),
    "doubles": gym.Dict(x=gym.Box(-1, 1, (2,), np.float64), y=gym.Box(0, 255, (4,), np.uint8)),
    "picture": gym.Dict(
        arm=gym.Box(-2, 2, (3,)),
        cam=gym.Dict(rgb=PICTURE),
        goal=gym.Discrete(4, start=1),
        load=gym.Box(0, 10, (2,), np.uint8),
    ),
    "light": gym.Dict(
        at=gym.Discrete(4), image=PICTURE, load=gym.Box(2, 10, (2,), np.uint8), on=gym.MultiBinary(2)
    ),
    "first": gym.Tuple([gym.Discrete(2), gym.Box(-1.0, 1.0, (2, 8, 8), np.float64)]),
    "two": gym.Dict(depth=gym.Box(0, 5, (8, 8, 1)), rgb=PICTURE),
    "words": gym.Dict(image=PICTURE, mission=gym.Text(5), place=gym.Discrete(2)),
}


class Seen(gymnasium.Env):
    """Shows samples of its space; action 1 pays."""

    action_space = gym.Discrete(2)

    def __init__(self, case: str) -> None:
        self.observation_space = CASES[case]
        self.observation_space.seed(0)
        self.samples = [self.observation_space.sample() for _ in range(16)]

    def _obs(self) -> Any:
        return self.samples[self.np_random.integers(16)]

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self._obs(), {}

    def step(self, action: Any) -> Any:
        return self._obs(), float(action), False, False, {}


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    gymnasium.register("test/Seen-v0", Seen, max_episode_steps=5)
    yield
    del gymnasium.registry["test/Seen-v0"]


def vector(case: str) -> tuple[Any, Box]:
    env = GymVectorEnv("test/Seen-v0", 2, kwargs={"case": case})
    box = envs.spaces(env)[0]
    assert isinstance(box, Box)
    return env, box


def raw(case: str, seed: np.ndarray) -> Any:
    """What the env itself shows at its reset."""
    return Seen(case).reset(seed=int(seed) >> 33)[0]


@pytest.mark.parametrize("case", ["plain", "integers", "bytes", "doubles"])
def test_without_a_picture_it_is_gymnasiums_own_flattening(case: str) -> None:
    env, box = vector(case)
    obs, _ = env.reset(seed=seeds(2))
    space = CASES[case]
    flat = gym.flatten_space(space)
    assert env.single_observation_space == flat and (box.dtype, box.shape) == (flat.dtype.name, flat.shape)
    for i in range(2):
        expected = gym.flatten(space, raw(case, seeds(2)[i]))
        assert obs.dtype == expected.dtype
        np.testing.assert_array_equal(obs[i], expected)
        np.testing.assert_array_equal(box.join(raw(case, seeds(2)[i])), expected)


def test_the_picture_comes_first_and_the_rest_behind_it() -> None:
    env, box = vector("picture")
    obs, _ = env.reset(seed=seeds(2))
    one = raw("picture", seeds(2)[0])
    expected = [*one["cam"]["rgb"].ravel(), *one["arm"], *np.eye(4)[one["goal"] - 1], *one["load"]]
    np.testing.assert_array_equal(obs[0], np.array(expected, np.float32))
    assert (box.picture, box.dtype, [part.name for part in box.parts]) == (
        (8, 8, 3),
        "float32",
        [".cam.rgb", ".arm", ".goal", ".load"],
    )


def test_a_vector_of_bytes_where_all_fits_into_bytes() -> None:
    """One byte a pixel in memory, and not four."""
    env, box = vector("light")
    assert (box.dtype, env.reset(seed=seeds(2))[0].dtype, box.picture) == ("uint8", np.uint8, (8, 8, 3))
    assert vector("first")[1].dtype == "float64" and vector("first")[1].picture == (2, 8, 8)


def test_networks_see_pictures_and_bytes_from_0_to_1_by_their_bounds() -> None:
    for case in ("picture", "light"):
        _, box = vector(case)
        one = raw(case, seeds(1)[0])
        seen = nn.Encoding(box, torch.float64, "cpu")(torch.from_numpy(box.join(one))[None])[0, 0].numpy()
        picture = (one["cam"]["rgb"] if case == "picture" else one["image"]) / 255
        np.testing.assert_allclose(seen[:192], picture.ravel(), rtol=1e-7)
        if case == "picture":
            np.testing.assert_array_equal(seen[192:199], [*one["arm"], *np.eye(4)[one["goal"] - 1]])
            np.testing.assert_allclose(seen[199:], one["load"] / 10, rtol=1e-7)
        else:
            rest = [*np.eye(4)[one["at"]], *((one["load"] - 2.0) / 8), *one["on"]]
            np.testing.assert_allclose(seen[192:], rest, rtol=1e-7)


@pytest.mark.parametrize(("low", "high"), [(0, 255), (0, 10), (5, 15), (7, 7)])
def test_bytes_that_are_no_picture_are_scaled_by_their_bounds(low: int, high: int) -> None:
    box = Box((3,), (low,) * 3, (high,) * 3, "uint8")
    values = np.array([low, (low + high) // 2, high], np.uint8)
    seen = nn.Encoding(box, torch.float32, "cpu")(torch.from_numpy(values)[None, None])[0, 0]
    if (low, high) == (0, 255):
        assert torch.equal(seen, torch.from_numpy(values).float() * (1.0 / 255.0))  # to the bit as ever
    np.testing.assert_allclose(seen, (values - float(low)) / max(high - low, 1), rtol=1e-6)


def test_mixed_bounds_are_kept_apart_and_other_numbers_are_left_alone() -> None:
    box = Box((2,), (0.0, 0.0), (10.0, 255.0), "uint8")
    assert nn.Encoding(box, torch.float64, "cpu")(
        torch.tensor([[[10, 255]]], dtype=torch.uint8)
    ).tolist() == [[[1.0, 1.0]]]
    for dtype in ("float32", "int64"):
        assert Box((2,), (0.0, 0.0), (10.0, 255.0), dtype).scaling is None
    assert vector("doubles")[1].scaling is None and vector("plain")[1].scaling is None


def test_a_cnn_reads_the_picture_and_passes_the_rest_on() -> None:
    _, box = vector("picture")
    config = compose(["algo=dqn", "env=catch", "model=cnn"]).model
    spec = Spec(box, Discrete(2), 2, (1, 2), 100, dtype="float64")
    net = nn.build_network(config, box, [nn.Head(2)], Stream(spec.seeds, "init"), spec)
    conv = next(module for module in net.modules() if isinstance(module, nn.Conv))
    alone = nn.Conv(
        (8, 8, 3),
        192,
        config.convolutions(),
        "relu",
        nn.Init(Stream(spec.seeds, "init"), "orthogonal", torch.float64),
    )
    alone.load_state_dict(conv.state_dict())
    assert conv.out_features == alone.out_features + 9
    x = torch.rand(2, 5, box.size, dtype=torch.float64)
    torch.testing.assert_close(conv(x)[..., :-9], alone(x[..., :192]))
    assert torch.equal(conv(x)[..., -9:], x[..., 192:])


def test_several_pictures_and_words_are_refused_with_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["algo=dqn", "env=gym", "env.id=test/Seen-v0", f"out={tmp_path}/runs", "model=cnn"]
    assert main([*words, "env.kwargs={case: two}"]) == 2
    assert "one picture, and these observations have .depth, .rgb" in capsys.readouterr().err
    assert main([*words, "env.kwargs={case: words}"]) == 2
    err = capsys.readouterr().err
    assert (
        "observation.mission" in err and "{filter_keys: [image, place]}" in err and len(err.splitlines()) <= 3
    )
    assert not (tmp_path / "runs").exists()
    leave = "env.wrappers=[{FilterObservation: {filter_keys: [image, place]}}]"
    assert envs.make(
        compose([*words, "env.kwargs={case: words}", leave]).env, 1
    ).single_observation_space.shape == (194,)


@pytest.mark.parametrize("case", [case for case in CASES if case != "words"])
def test_run_json_keeps_where_the_entries_lie(case: str) -> None:
    _, box = vector(case)
    data = json.loads(json.dumps(to_dict(box)))
    again = from_dict(data)
    assert again == box and [part.space.form for part in again.parts] == [
        part.space.form for part in box.parts
    ]
    if case == "light":
        data["parts"][1]["n"] = 5
        with pytest.raises(ValueError, match="its parts have 201 features, and it has 200"):
            from_dict(data)


@pytest.mark.parametrize(("case", "model"), [("picture", "cnn"), ("light", "cnn_lstm"), ("first", "mlp")])
def test_it_trains_and_its_policy_takes_the_envs_own_observations(
    case: str, model: str, tmp_path: Path
) -> None:
    words = [
        f"algo={'lstm_dqn' if model == 'cnn_lstm' else 'dqn'}",
        f"model={model}",
        "env=gym",
        "env.id=test/Seen-v0",
    ]
    small = ["total_steps=40", "algo.learning_starts=20", "eval.episodes=1", "eval.during=1", "replicas=2"]
    quiet = ["log.tensorboard=false", "log.plot=false", f"out={tmp_path}", "model.normalize_obs=true"]
    result = rlrun.run([*words, f"env.kwargs={{case: {case}}}", *small, *quiet], quiet=True)
    policy = rlrun.load(result.folder, replica=1)
    _, box = vector(case)
    ones = [raw(case, seed) for seed in seeds(3)]
    flat = np.stack([box.join(one) for one in ones])
    space = CASES[case]
    batch = gymnasium.vector.utils.concatenate(
        space, ones, gymnasium.vector.utils.create_empty_array(space, 3)
    )
    for one, row in zip(ones, flat, strict=True):
        np.testing.assert_array_equal(policy.q(one), policy.q(row))
        assert policy.act(one)[0] == policy.act(row)[0]
    np.testing.assert_array_equal(policy.q(batch), policy.q(flat))
    with pytest.raises(ValueError, match="obs has no entry"):
        policy.act({} if isinstance(space, gym.Dict) else ())
    with pytest.raises(ValueError, match="shape"):
        policy.act(flat[:, :-1])
