"""What contributors and users expect of a checkout: where outputs go, what is checked before a commit."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent


def said_by(*line: str) -> str:
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_outputs_stand_in_the_tree_and_stay_out_of_git() -> None:
    assert said_by("git", "ls-files", "outputs") == "outputs/.gitignore\n"
    ignored = ("outputs/dqn-cartpole/20250101-000000-abcd/run.json", "outputs/sweeps/x/0/run.json", "uv.lock")
    assert said_by("git", "check-ignore", *ignored).split() == list(ignored)


@pytest.mark.parametrize("target", ["run", "test"])
def test_make_hands_pip_what_it_is_told(target: str) -> None:
    """As PIP_EXTRA, for every set-up; and nothing unless told."""
    told = "--extra-index-url https://example.org/simple"
    with_, without = (
        [line for line in said_by("make", "-nB", target, *more).splitlines() if "-m pip install" in line]
        for more in ([f"PIP_EXTRA={told}"], [])
    )
    assert with_ and all(told in line for line in with_)
    assert not any("index" in line for line in without)


def test_pre_commit_asks_what_make_check_asks() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert all(hook["language"] == "system" for hook in hooks)  # the tools of the environment, pinned there
    checks = [line for line in said_by("make", "-nB", "check").splitlines() if "/bin/" in line]
    asked = [
        line.split("/bin/")[1].removesuffix(" .")
        for line in checks
        if "pytest" not in line and "pip" not in line
    ]
    asked = [line for line in asked if not line.startswith("python")]
    assert [hook["entry"] for hook in hooks] == asked
