"""What the README says to type works: each command and each code block in a process of its own.

They begin in an empty directory, with small budgets. A new command joins by itself; one of another
program than rlrun must be named in `NOT_RUN`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rlrun
from rlrun.cli.verbs import VERBS

SITE = Path(rlrun.__file__).parent.parent  # where the package is: a checkout or an installed wheel
README = (Path(__file__).parent.parent / "README.md").read_text()
NOT_RUN = {
    "make run": "sets up .venv and trains 50,000 steps",
    "make test": "is what runs this",
    "make faults": "takes half an hour; test_faults.py has a sample",
    'make run PIP_EXTRA="--extra-index-url https://download.pytorch.org/whl/cpu"': "installs from elsewhere",
    "uv run rlrun algo=dqn": "sets up an environment of uv's",
    "uv tool install .": "installs",
    "pip install -c constraints.txt '.[plots,render]'": "installs; test_cli.py installs the wheel",
    "rlrun board": "a server, which does not end",
    "tensorboard --logdir outputs": "a server, which does not end",
}
NEEDS = {
    "env=minigrid_empty": "minigrid",
    "env=pong": "ale_py",
    "env=halfcheetah": "mujoco",
    "minatar:": "minatar",
}
PROGRAMS = ("rlrun", "make", "pip", "pipx", "uv", "uvx", "python", "python3", "tensorboard", "docker", "git")
QUIET = ["log.tensorboard=false", "log.plot=false"]
SHORT = ["total_steps=600", "eval.episodes=2", "eval.during=2", *QUIET]
FOLDS = ["total_steps=100", "eval.n_folds=2", "eval.test_size=200", "eval.stats.n_boot=100", *QUIET]


def found() -> list[str]:
    """Every command, in order: of indented lists, of shell blocks, and between backticks."""
    text = re.sub(r"^```(?!bash|sh|console).*?^```", "", README, flags=re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^(?: {4}|\$ )(.+)$", text, re.MULTILINE)
    lines += re.findall(r"# .*?(rlrun .+)$", "\n".join(lines), re.MULTILINE)
    lines += re.findall(rf"`((?:{'|'.join(PROGRAMS)}) [^`]+)`", text)
    commands: dict[str, None] = {}
    for line in lines:
        first, *others = re.split(r"\s+# ", line)[0].strip().split(" | ")
        program = first.split()[0]
        commands |= dict.fromkeys([first, *(f"{program} {other}" for other in others)])
    return list(commands)


COMMANDS = [command for command in found() if command not in NOT_RUN]
FILES = dict(
    re.findall(r"`(my_\w+\.py|conf/[\w/]+\.yaml)`[^`]*?\n```(?:python|yaml)\n(.*?)```", README, re.DOTALL)
)
BLOCKS = re.findall(r"^```(?:python|yaml)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
SCRIPTS = [block for block in BLOCKS if block not in FILES.values()]


def process(line: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(SITE)}
    done = subprocess.run(
        line, capture_output=True, text=True, env=environment, cwd=folder, timeout=240, check=False
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The `rlrun` that pip installs: unlike `python -m`, it does not search the working directory."""
    file = tmp_path_factory.mktemp("bin") / "rlrun"
    file.write_text("import sys\nfrom rlrun.cli import main\nsys.exit(main())\n")
    return [sys.executable, str(file)]


@pytest.fixture(scope="module")
def workshop(script: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands take for granted: a run, a data set, a table, and the README's own files."""
    folder = tmp_path_factory.mktemp("workshop")
    process([*script, "algo=dqn", *SHORT], folder)
    process([*script, "record", str(run_in(folder)), "episodes=4", "out=mine"], folder)
    rows = [
        f"{2000 + day // 336}-{day // 28 % 12 + 1:02}-{day % 28 + 1:02},{50 + day % 7}" for day in range(1500)
    ]
    (folder / "my.csv").write_text("date,close\n" + "\n".join(rows) + "\n")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def run_in(folder: Path) -> Path:
    """The one run folder below `folder`/outputs, as one would type it."""
    (record,) = (folder / "outputs").glob("*/*/run.json")
    return record.parent.relative_to(folder)


def bring(command: str, workshop: Path, folder: Path) -> None:
    """Copy from the workshop what a command names, and nothing else."""
    own = {Path(name).stem for name in FILES}
    wanted = {"outputs": r"\bRUN\b|\boutputs\b", "my.csv": r"\bmy\.csv\b", "mine": r"data\.path=mine\b"}
    wanted |= dict.fromkeys([Path(name).parts[0] for name in FILES], rf"\b({'|'.join(own)})\b")
    for name, words in wanted.items():
        source = workshop / name
        if re.search(words, command):
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)


def arguments(command: str, folder: Path) -> list[str]:
    """A command's words, made small where it trains, and of the run at hand where it asks for one."""
    words = command.split()[1:]
    if not any(word in VERBS or word.startswith("--") for word in words):
        words += FOLDS if "eval=walk_forward" in words else SHORT
    if words[0] in ("resume", "fork"):  # of the run at hand, which has 600 steps
        small = {"total_steps": "total_steps=700", "step": "step=600"}
        words = [small.get(word.partition("=")[0], word) for word in words]
    return [str(run_in(folder)) if word == "RUN" else word for word in words]


def smaller(code: str) -> str:
    """Python code whose calls of `rlrun.run` train little."""
    short = "".join(f', "{word}"' for word in (FOLDS if "eval=walk_forward" in code else SHORT))
    return re.sub(r"(rlrun\.run\(\[[^\]]*)\]", rf"\1{short}]", code)


def test_every_command_is_known() -> None:
    """Either it is one of rlrun, and run below, or it says why it is not."""
    assert [command for command in COMMANDS if not command.startswith("rlrun ")] == []
    assert set(NOT_RUN) <= set(found()), "the README no longer says so"
    assert len(COMMANDS) >= 20 and len(FILES) >= 4 and SCRIPTS


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme(command: str, script: list[str], workshop: Path, tmp_path: Path) -> None:
    for words, module in NEEDS.items():
        if words in command:
            pytest.importorskip(module)
    bring(command, workshop, tmp_path)
    done = process([*script, *arguments(command, tmp_path)], tmp_path)
    assert done.stdout


@pytest.mark.parametrize("text", SCRIPTS)
def test_a_code_block_of_the_readme(text: str, workshop: Path, tmp_path: Path) -> None:
    """As a script; what it trains is made small."""
    bring(text, workshop, tmp_path)
    (tmp_path / "script.py").write_text(smaller(text))
    process([sys.executable, "script.py"], tmp_path)


@pytest.mark.parametrize(
    "command",
    [
        "rlrun algo=random_search",
        "rlrun algo=dqn model=wide imports=[my_model]",
    ],
)
def test_what_the_readme_adds_is_like_any_other(
    command: str, script: list[str], workshop: Path, tmp_path: Path
) -> None:
    """Stopped, resumed, judged and played in processes that have seen nothing of it."""
    bring(command, workshop, tmp_path)
    line = [sys.executable, "-m", "rlrun"]
    process(
        [*line, *arguments(command, tmp_path), "checkpoint.every_steps=200", "env.max_steps=50"], tmp_path
    )
    run = tmp_path / run_in(tmp_path)
    scores = json.loads((run / "summary.json").read_text())["replicas"]
    for name in ("summary.json", "status.json"):
        (run / name).unlink()
    newest = max((run / "ckpt").iterdir())
    shutil.rmtree(newest)
    process([*script, "resume", str(run)], tmp_path)  # the same file: it needs no --allow-import
    for verb in ("evaluate", "play"):
        process([*script, verb, str(run), "--allow-import"], tmp_path)
    assert json.loads((run / "summary.json").read_text())["replicas"] == scores
