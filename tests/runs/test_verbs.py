"""What can be done with a trained run, for every recipe as it stands: judge it again, load it, watch it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import ALGORITHMS, home, small

from rlrun.report.film import film as play
from rlrun.runs.load import restore
from rlrun.runs.run import evaluate, execute


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_a_run_is_judged_again_loaded_and_played(algo: str, tmp_path: Path) -> None:
    assert home(algo) == (f"algo={algo}",), "its own env, model and data must do"
    config = small(algo, replicas=2, out=str(tmp_path), total_steps=600)
    run = execute(config)
    if not algo.startswith("dyna"):  # its own maze has no reward but at the end: see test_scores
        assert run.summary["notes"] == []  # it learned, or plans by known dynamics and has nothing to learn
    again = evaluate(run.folder)
    for before, after in zip(run.summary["replicas"], again["replicas"], strict=True):
        assert np.isfinite(after["eval_return"])
        if before["eval_episodes"]:  # the same episodes, by the same policy
            assert after["eval_return"] == before["eval_return"]
    policy = run.policy(replica=1)
    task = restore(run.folder)[0]
    obs = task.env.reset(seed=3)[0]
    action, _ = policy.act(obs[0])
    assert np.shape(action) == task.action.shape
    pytest.importorskip("pygame")
    total = play(run.folder, tmp_path / "play.gif", replica=1)
    assert np.isfinite(total) and (tmp_path / "play.gif").read_bytes().startswith(b"GIF8")


@pytest.mark.parametrize("algo", ["dqn", "lstm_sac", "q_learning"])
def test_a_run_can_start_from_trained_weights(algo: str, tmp_path: Path) -> None:
    """Before it has learned anything itself, it scores what the other run scored, replica by replica."""
    source = execute(small(algo, replicas=2, total_steps=1200), folder=tmp_path / "source")
    config = small(algo, replicas=2, total_steps=2, init_from=str(source.folder))
    started = execute(config, folder=tmp_path / "started")
    untrained = execute(replace(config, init_from=None), folder=tmp_path / "untrained")
    scores = [[row["eval_return"] for row in run.summary["replicas"]] for run in (source, started, untrained)]
    assert scores[1] == pytest.approx(scores[0], rel=1e-3)  # two steps more move the normaliser a little
    assert scores[0] != pytest.approx(scores[2], rel=1e-3)
