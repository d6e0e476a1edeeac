"""Any algorithm that can use memory takes any model that has it; the others say that they cannot."""

from __future__ import annotations

import pytest
import torch
from support import ALGORITHMS, Trial, builder, home, shrunk

from rlrun.config import ConfigError
from rlrun.config.compose import compose
from rlrun.runs.task import Task

MEMORIES = ("lstm", "gru", "nn_lstm")
WITH_MEMORY = [algo for algo in ALGORITHMS if builder(algo).takes_memory]


@pytest.mark.parametrize("model", MEMORIES)
@pytest.mark.parametrize("algo", WITH_MEMORY)
def test_any_algorithm_takes_any_memory(algo: str, model: str) -> None:
    """It trains, memory included: what acts remembers, and the recurrent weights move."""
    overrides = [*home(algo), f"model={model}"]
    recipe = compose(overrides)
    config = compose([*overrides, *shrunk(recipe), f"num_envs={min(recipe.num_envs, 2)}", "replicas=2"])
    trial = Trial.of(config)
    assert trial.algo.initial_memory(3) != ()
    before = {name: leaf.clone() for name, leaf in trial.algo.state(("weights",)).items()}
    trial.train(40)
    after = trial.algo.state(("weights",))
    moved = [name for name, leaf in before.items() if not torch.equal(leaf, after[name])]
    assert any("core" in name for name in moved), moved
    assert all(bool(leaf.isfinite().all()) for leaf in after.values())


@pytest.mark.parametrize("algo", [algo for algo in ALGORITHMS if algo not in WITH_MEMORY])
def test_the_others_refuse_memory(algo: str) -> None:
    with pytest.raises(ConfigError, match=r"has no use for memory, which model=lstm has"):
        Task.of(compose([*home(algo), "model=lstm"]))
