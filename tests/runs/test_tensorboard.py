"""What a run writes for TensorBoard, read back with TensorBoard's own reader."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_folders import write_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.util import tensor_util

from rlrun.config.compose import compose
from rlrun.config.plain import to_dict
from rlrun.runs import events
from rlrun.runs.configuration import configuration_hash, hyperparameters
from rlrun.runs.events import EventFile
from rlrun.runs.folder import RunFolder
from rlrun.runs.listener import Followed
from rlrun.runs.tensorboard import TensorBoard, add_image

PPO = ["algo=ppo", "env=cartpole"]


class Follower:
    """A TensorBoard listener and what a session would hold for it."""

    def __init__(self, run: RunFolder, step: int = 0, seconds: Sequence[float] = ()) -> None:
        self.newest: dict[str, np.ndarray] = {}
        self.failed: dict[int, str] = {}
        clock = iter(seconds)
        self.listener = TensorBoard(self.newest, self.failed)
        self.listener.open(Followed(run, run.config(), run.replicas(), lambda: next(clock, 1.0)))
        self.listener.rewind(step, 0)

    def record(self, step: Sequence[int], due: Sequence[bool], values: Mapping[str, Sequence[float]]) -> None:
        given = {tag: np.array(value) for tag, value in values.items()}
        self.listener.record(np.array(step), np.array(due), given)
        for tag, value in given.items():
            before = self.newest.get(tag, np.full(len(due), np.nan))
            self.newest[tag] = np.where(np.array(due) & np.isfinite(value), value, before)


Follow = Callable[..., Follower]


@pytest.fixture
def follow() -> Iterator[Follow]:
    """Makes listeners, which are closed in the end."""
    with ExitStack() as followers:

        def begin(run: RunFolder, **more: Any) -> Follower:
            follower = Follower(run, **more)
            followers.callback(follower.listener.close, None)
            return follower

        yield begin


def read(run: RunFolder, name: str) -> EventAccumulator:
    return EventAccumulator(str(run.tensorboard / name)).Reload()


def scalars(run: RunFolder, name: str, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(run, name).Scalars(tag)]


def about(run: RunFolder, name: str, kind: str) -> Any:
    """What HPARAMS is told in one of its tags."""
    tag = getattr(metadata, f"{kind.upper()}_TAG")
    content = read(run, name).SummaryMetadata(tag).plugin_data.content
    return getattr(metadata, f"parse_{kind}_plugin_data")(content)


def test_a_configuration_is_one_whatever_the_seeds_and_who_watches() -> None:
    config = to_dict(compose(PPO))

    def hashed(data: str | None = None, **changed: Any) -> str:
        return configuration_hash(config | changed, data)

    same = {"seed": 7, "replicas": 4, "out": "elsewhere", "threads": 2, "device": "cuda", "log": {}}
    assert {hashed(**{key: value}) for key, value in same.items()} == {hashed()}
    others = [hashed(total_steps=7), hashed(algo=config["algo"] | {"gamma": 0.9}), hashed(data="sha")]
    assert len({hashed(), *others}) == 4


def test_hyperparameters_are_plain_values_by_the_names_of_the_config() -> None:
    shown = hyperparameters(to_dict(compose([*PPO, "algo.chunk_length=null", "model.hidden=[8,16]"])))
    assert {"algo": "ppo", "env": "cartpole", "model": "mlp", "num_envs": 8.0}.items() <= shown.items()
    assert shown["algo.learning_rate"] == 1e-3 and shown["algo.shared"] is False
    assert shown["model.hidden"] == "8,16" and "algo.chunk_length" not in shown
    assert not {"seed", "replicas", "data", "algo.kind"} & shown.keys()
    gym = hyperparameters(to_dict(compose(["algo=ppo", "env=gym", "env.id=Acrobot-v1"])))
    assert gym["env"] == "Acrobot-v1"


def test_replicas_are_sessions_of_one_group(tmp_path: Path, follow: Follow) -> None:
    run = write_run(tmp_path, [1.0, None, 3.0], *PPO, "replicas=3")
    follower = follow(run)
    follower.record([5, 5, 5], [True] * 3, {"eval/return": [1.0, 2.0, 3.0]})
    follower.listener.close(run.summary())
    starts = [about(run, f"seed={seed}", "session_start_info") for seed in (1, 2, 3)]
    assert len({start.group_name for start in starts}) == 1
    assert starts[0].hparams["algo"].string_value == "ppo"
    assert starts[0].hparams["algo.clip_range"].number_value == pytest.approx(0.2)
    ends = [about(run, f"seed={seed}", "session_end_info").status for seed in (1, 2, 3)]
    assert ends == [api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE, api_pb2.STATUS_SUCCESS]
    assert scalars(run, "seed=3", "eval/final") == [(3000, 3.0)]
    assert scalars(run, "mean", "eval/final") == [(3000, 2.0)]
    assert "eval/final" not in read(run, "seed=2").Tags()["scalars"]
    assert metadata.SESSION_START_INFO_TAG not in read(run, "mean").Tags()["tensors"]  # no row of its own


def test_a_run_that_was_interrupted_has_no_end(tmp_path: Path, follow: Follow) -> None:
    """TensorBoard believes the first end that it reads, and a resume may end otherwise."""
    run = write_run(tmp_path, None, *PPO)
    follower = follow(run)
    follower.listener.close(None)
    assert metadata.SESSION_END_INFO_TAG not in read(run, "seed=1").Tags()["tensors"]


def test_the_mean_has_the_quartiles_beside_it(tmp_path: Path, follow: Follow) -> None:
    run = write_run(tmp_path, [0.0] * 3, *PPO, "replicas=3")
    follow(run).record([9, 9, 9], [True] * 3, {"eval/return": [1.0, 2.0, 6.0], "loss/q": [1.0, 1.0, 4.0]})
    assert scalars(run, "mean", "eval/return") == [(9, 3.0)]
    assert scalars(run, "mean", "quartiles/eval/return/q25") == [(9, 1.5)]
    assert scalars(run, "mean", "quartiles/eval/return/q75") == [(9, 4.0)]
    assert scalars(run, "mean", "loss/q") == [(9, 2.0)]
    assert scalars(run, "seed=3", "eval/return") == [(9, 6.0)]


def test_a_mean_is_over_the_newest_values_and_goes_forward(tmp_path: Path, follow: Follow) -> None:
    """Replicas that record at different updates, and one that failed."""
    run = write_run(tmp_path, [0.0] * 3, *PPO, "replicas=3")
    follower = follow(run)
    follower.record([12, 11, 10], [True] * 3, {"train/return": [1.0, 2.0, 3.0]})
    follower.record([25, 19, 18], [True, False, False], {"train/return": [4.0, np.nan, np.nan]})
    follower.failed[0] = "loss/q is nan"
    follower.record([25, 28, 22], [False, True, True], {"train/return": [np.nan, 4.0, 5.0]})
    assert scalars(run, "mean", "train/return") == [(12, 2.0), (25, 3.0), (28, 4.5)]
    assert scalars(run, "seed=1", "train/return") == [(12, 1.0), (25, 4.0)]


def test_many_replicas_have_quantiles_and_a_mean(tmp_path: Path, follow: Follow) -> None:
    run = write_run(tmp_path, [0.0] * 41, *PPO, "replicas=41")
    follower = follow(run)
    values = np.arange(41.0) ** 2
    follower.record([5] * 41, [True] * 41, {"eval/return": values.tolist()})
    follower.listener.close(run.summary())
    assert {path.name for path in run.tensorboard.iterdir()} == {"mean", "q25", "q50", "q75"}
    assert [scalars(run, f"q{q}", "eval/return") for q in (25, 50, 75)] == [[(5, q**2)] for q in (10, 20, 30)]
    assert scalars(run, "mean", "eval/return") == [(5, pytest.approx(values.mean()))]
    assert about(run, "mean", "session_start_info").hparams["algo"].string_value == "ppo"


def test_a_resumed_run_goes_on_in_the_same_lines(tmp_path: Path, follow: Follow) -> None:
    run = write_run(tmp_path, [0.0, 0.0], *PPO, "replicas=2")
    first = follow(run)
    for step in (10, 20, 30):
        first.record([step] * 2, [True] * 2, {"eval/return": [step, step + 2.0]})
    again = follow(run, step=20)
    again.record([30, 30], [True] * 2, {"eval/return": [7.0, 9.0]})
    assert scalars(run, "seed=1", "eval/return") == [(10, 10.0), (20, 20.0), (30, 7.0)]
    assert scalars(run, "mean", "eval/return") == [(10, 11.0), (20, 21.0), (30, 8.0)]
    assert about(run, "seed=2", "session_start_info").group_name
    assert len(read(run, "mean").Tensors("config")) == 1


def test_files_of_one_second_are_read_in_the_order_in_which_they_were_made(tmp_path: Path) -> None:
    for step in range(12):
        file = EventFile(tmp_path)
        file.add(step, events.scalars({"a": float(step)}))
        file.close()
    assert [event.step for event in EventAccumulator(str(tmp_path)).Reload().Scalars("a")] == list(range(12))


def test_texts_say_what_was_asked_for_and_what_came_of_it(tmp_path: Path, follow: Follow) -> None:
    run = write_run(tmp_path, [0.0, 0.0], *PPO, "replicas=2")
    run.overrides_yaml.write_text("[algo=ppo, 'env=cartpole', 'data.path=my file']")
    follow(run)
    (command,), (config,) = (read(run, "mean").Tensors(tag) for tag in ("command", "config"))
    assert "rlrun algo=ppo env=cartpole 'data.path=my file'" in command.tensor_proto.string_val[0].decode()
    assert "\n  learning_rate: 0.001\n" in config.tensor_proto.string_val[0].decode()


def test_charts_have_a_band_and_every_loss(tmp_path: Path, follow: Follow) -> None:
    run = write_run(tmp_path, [0.0, 0.0], *PPO, "replicas=2")
    follower = follow(run)
    follower.record([5, 5], [True] * 2, {"train/return": [1.0, 2.0]})
    follower.record([6, 6], [True] * 2, {"loss/policy": [1.0, 2.0], "loss/value": [1.0, 2.0]})
    newest = read(run, "mean").Tensors("custom_scalars__config__")[-1]
    layout = layout_pb2.Layout.FromString(newest.tensor_proto.string_val[0])
    charts = {category.title: category.chart for category in layout.category}
    series = charts["returns"][0].margin.series[0]
    assert (series.value, series.lower) == ("eval/return", "quartiles/eval/return/q25")
    assert [chart.title for chart in charts["losses"]] == ["loss/policy", "loss/value"]


def test_speed_is_of_all_replicas_since_the_record_before(tmp_path: Path, follow: Follow) -> None:
    run = write_run(tmp_path, [0.0, 0.0], *PPO, "replicas=2")
    follower = follow(run, seconds=[10.0, 12.0, 13.0])
    for step in (100, 200, 200):  # the last is an evaluation: nothing was trained since
        follower.record([step, step], [True] * 2, {"train/return": [1.0, 1.0]})
    assert scalars(run, "seed=1", "time/fps") == [(200, 100.0)]
    assert [value for _, value in scalars(run, "mean", "time/seconds")] == [10.0, 12.0, 13.0]


def histogram(run: RunFolder, name: str, tag: str) -> np.ndarray:
    """The newest one's buckets: from, to and how many, a row each."""
    (event,) = read(run, name).Tensors(tag)[-1:]
    return tensor_util.make_ndarray(event.tensor_proto)


def test_action_values_are_histograms_of_each_replica_and_of_all(tmp_path: Path, follow: Follow) -> None:
    run = write_run(tmp_path, [0.0, 0.0], *PPO, "replicas=2")
    listener, step = follow(run).listener, np.array([100, 100])
    nan = float("nan")
    listener.distribution(step, np.array([True, True]), {"eval/q": np.array([[0.0, 3.0], [1.0, nan]])})
    listener.distribution(2 * step, np.array([False, True]), {"eval/q": np.array([[9.0, 9.0], [5.0, 5.0]])})
    listener.distribution(3 * step, np.array([True, True]), {"eval/q": np.full((2, 2), nan)})  # nothing
    first = histogram(run, "seed=1", "eval/q")
    assert (first[0, 0], first[-1, 1], first[:, 2].sum()) == (0.0, 3.0, 2.0)
    assert histogram(run, "seed=2", "eval/q")[:, 2].sum() == 2.0
    whole = [tensor_util.make_ndarray(e.tensor_proto) for e in read(run, "mean").Tensors("eval/q")]
    assert [each[:, 2].sum() for each in whole] == [3.0, 2.0]
    assert read(run, "mean").SummaryMetadata("eval/q").plugin_data.plugin_name == "histograms"


@pytest.mark.parametrize(
    "values",
    [
        [2.0, 2.0],
        [1.0, 1.0 + 2.3e-16],  # equal but for rounding, as in a table of values
        [1e17, 1e17 + 16.0, 1e17 + 32.0],
        [-1.7e308, 0.0, 1.7e308],
        [5e-324, 0.0],
        [3.4e38, -3.4e38],
    ],
)
def test_a_histogram_of_any_finite_numbers(values: list[float], tmp_path: Path, follow: Follow) -> None:
    run = write_run(tmp_path, [0.0], *PPO)
    follow(run).listener.distribution(np.array([5]), np.array([True]), {"eval/q": np.array([values])})
    buckets = histogram(run, "seed=1", "eval/q")
    assert np.isfinite(buckets).all() and buckets[:, 2].sum() == len(values)
    assert (buckets[0, 0], buckets[-1, 1]) == (min(values), max(values))
    assert (buckets[:-1, 1] == buckets[1:, 0]).all()


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    rows = zlib.compress((b"\0" + b"\0" * width) * height)
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_pictures_are_shown_where_there_are_tensorboard_files(tmp_path: Path, follow: Follow) -> None:
    run = write_run(tmp_path, [1.0], *PPO)
    run.policy.write_bytes(png(7, 3))
    add_image(run, run.policy)
    assert not run.tensorboard.exists()
    follow(run)
    add_image(run, run.policy)
    add_image(run, run.film)  # there is none
    (shown,) = read(run, "seed=1").Images("picture/policy")
    assert (shown.step, shown.width, shown.height) == (3000, 7, 3)
    assert shown.encoded_image_string == png(7, 3)


def test_what_is_planned_is_recorded(tmp_path: Path) -> None:
    """epsilon and a falling learning rate, as functions of the step."""
    from rlrun.core import Spec
    from rlrun.runs.task import Task, build

    def planned(*words: str) -> dict[str, list[float]]:
        config = compose([*words, "total_steps=1000"])
        spec: Spec = replace(Task.of(config).spec(), seeds=(1, 2))
        found = build(config, spec).schedules(np.array([0, 500]))
        return {tag: value.tolist() for tag, value in found.items()}

    eps = ["algo.epsilon.start=1.0", "algo.epsilon.end=0.2", "algo.epsilon.fraction=1.0"]
    shown = planned("algo=dqn", "env=cartpole", *eps, "algo.lr_schedule=constant")
    assert shown == {"train/epsilon": [1.0, pytest.approx(0.6)], "train/replay_size": [0.0, 0.0]}
    falling = planned(*PPO, "algo.learning_rate=0.01", "algo.lr_schedule=linear")
    assert falling == {"train/learning_rate": [0.01, pytest.approx(0.005)]}
    assert planned(*PPO, "algo.lr_schedule=constant") == {}
