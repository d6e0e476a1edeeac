"""Names of configs among each other: as short as tells them apart, and always telling them apart."""

from __future__ import annotations

from typing import Any

import pytest

from rlrun.config.compose import compose
from rlrun.config.naming import abbreviated, differing, names
from rlrun.config.plain import to_dict


def plain(*overrides: str) -> dict[str, Any]:
    return to_dict(compose(overrides))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([["algo=dqn"]], ["dqn"]),
        ([["algo=dqn"], ["algo=ppo"]], ["dqn", "ppo"]),
        (
            [["algo=dqn"], ["algo=dqn", "algo.learning_rate=0.01"], ["algo=ppo"]],
            ["dqn lr=0.001", "dqn lr=0.01", "ppo"],
        ),
        (
            [["algo=dqn", "model=mlp"], ["algo=dqn", "model=lstm"]],
            ["dqn model=mlp", "dqn model=lstm"],
        ),
        (
            [["algo=dqn", "model.hidden=[8]"], ["algo=dqn", "model.hidden=[8,8]"], ["algo=ppo", "seed=3"]],
            ["dqn hidden=[8]", "dqn hidden=[8,8]", "ppo"],
        ),
        (
            [["algo=dqn"], ["algo=double_dqn"], ["algo=double_dqn", "algo.target.tau=0.5"]],
            ["dqn", "double_dqn tau=0.02", "double_dqn tau=0.5"],
        ),
        ([["algo=dqn"], ["algo=dqn", "env=acrobot"]], ["dqn env=cartpole", "dqn env=acrobot"]),
    ],
)
def test_names(overrides: list[list[str]], expected: list[str]) -> None:
    assert names([plain("env=cartpole", "~tuned", *each) for each in overrides]) == expected


def test_what_differs_is_told_by_whole_keys_and_plain_values() -> None:
    configs = [
        {"choices": {"algo": "a"}, "algo": {"x": {"y": [1]}, "z": 1}, "total_steps": 5},
        {"choices": {"algo": "a"}, "algo": {"x": {"y": [2]}, "z": 1}, "total_steps": 5},
        {"choices": {"algo": "b"}, "algo": {"w": None}, "total_steps": 9},
    ]
    assert differing(configs) == [
        {"algo": "a", "algo.x.y": [1]},
        {"algo": "a", "algo.x.y": [2]},
        {"algo": "b"},
    ]


def test_a_key_that_some_lack_and_values_of_another_type() -> None:
    configs = [{"a": {"kind": "m"}}, {"a": {"kind": "m", "n": 1}}, {"a": {"kind": "m", "n": True}}]
    assert differing(configs) == [{}, {"a.n": 1}, {"a.n": True}]
    assert names(configs) == ["run", "run n=1", "run n=true"]


@pytest.mark.parametrize(
    "values, expected",
    [
        ([0.5779439016210807, 0.0123456789012, 1.0], ["0.5779", "0.01235", "1.0"]),
        ([0.12341111111, 0.12342222222], ["0.12341", "0.12342"]),  # as many digits as tell them apart
        ([0.9999999999, 1.0], ["0.9999999999", "1.0"]),
        ([0.1234567, 3e-4, 2], ["0.1234567", "0.0003", "2"]),  # as they were typed
    ],
)
def test_numbers_that_nobody_typed_are_short(values: list[float], expected: list[str]) -> None:
    configs = [{"algo": {"kind": "x", "rate": value}} for value in values]
    assert names(configs) == [f"x rate={each}" for each in expected]


def test_a_preset_is_told_where_not_all_of_its_kind_have_it() -> None:
    words = ("algo=lstm_dqn", "env=recall")
    tuned, plain_one = plain(*words), plain(*words, "~tuned")
    assert tuned["choices"]["tuned"] == "lstm_dqn_recall"
    assert names([tuned, plain("algo=lstm_ppo", "env=recall", "~tuned")]) == ["lstm_dqn", "lstm_ppo"]
    expected = ["lstm_dqn tuned=lstm_dqn_recall total_steps=15000", "lstm_dqn total_steps=50000"]
    assert names([tuned, plain_one]) == expected


def test_names_are_never_the_same() -> None:
    twins = [{"algo": {"kind": "x", "text": "a" * 99 + end}} for end in ("1", "2", "2")]
    found = names(twins)
    assert len(set(found)) == 3 and all(len(name) < 60 for name in found)


def test_a_key_is_cut_as_far_as_it_stays_alone() -> None:
    short = abbreviated(["algo.learning_rate", "model.width", "eval.width", "total_steps"])
    assert list(short.values()) == ["lr", "model.width", "eval.width", "total_steps"]
    assert abbreviated(["algo.learning_rate", "model.lr"]) == {
        "algo.learning_rate": "learning_rate",
        "model.lr": "lr",
    }
    assert abbreviated(["a.b", "b"]) == {"a.b": "a.b", "b": "b"}
