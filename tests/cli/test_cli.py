"""The command as people meet it: its verbs, refusals, exit codes, and what it leaves behind."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import rlrun
from rlrun import cli
from rlrun.cli.choices import LISTED
from rlrun.cli.verbs import VERBS
from rlrun.cli.words import override
from rlrun.config import catalog
from rlrun.config.compose import compose

ROOT = Path(rlrun.__file__).parent.parent
HEAVY = ("torch", "gymnasium", "matplotlib", "tensorboard", "scipy")
TINY = ["algo=dqn", "experiment=quick", "total_steps=1200", "eval.during=1", "log.plot=false"]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*arguments: str, path: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A process of its own, with the package found in `path`."""
    environment = os.environ | {"PYTHONPATH": str(path)}
    line = [sys.executable, "-m", "rlrun", *arguments]
    return subprocess.run(line, capture_output=True, text=True, env=environment, timeout=120, check=False)


def imported_by(*arguments: str) -> tuple[int, list[str]]:
    """The exit code of a command, and which of the slow modules it imported."""
    code = (
        "import sys, json; from rlrun.cli import main; code = main(json.loads(sys.argv[1]))\n"
        "slow = [name for name in json.loads(sys.argv[2]) if name in sys.modules]\n"
        "sys.stderr.write('\\n' + json.dumps([code, slow]))"
    )
    line = [
        sys.executable,
        "-c",
        code,
        json.dumps(arguments),
        json.dumps([*HEAVY, "hydra", "omegaconf", "numpy"]),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, capture_output=True, text=True, env=environment, timeout=120, check=True)
    exit_code, modules = json.loads(done.stderr.splitlines()[-1])
    return exit_code, modules


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list", "env"], ["list", "algo", "--json"], ["--version"], ["lst"]]
)
def test_help_and_list_import_nothing_slow(arguments: list[str]) -> None:
    code, modules = imported_by(*arguments)
    assert code == (2 if arguments == ["lst"] else 0)
    assert modules == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["algo.gama=0.9"],
        ["env=cartpol"],
        ["algo.gamma=2"],
        ["-m", "algo=dqn,dqnn"],
        ["describe", "dqn"],
        ["list", "algo"],
    ],
)
def test_a_refusal_imports_neither_torch_nor_gymnasium(arguments: list[str], empty_folder: Path) -> None:
    code, modules = imported_by(*arguments)
    assert code == (0 if arguments[0] in ("describe", "list") else 2)
    assert not set(modules) & set(HEAVY)
    assert not list(empty_folder.iterdir())


def test_importing_the_package_imports_nothing() -> None:
    code = "import sys, rlrun; print('numpy' in sys.modules, 'hydra' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.split() == ["False", "False"]


def test_a_misspelt_key_is_refused_on_stderr(empty_folder: Path) -> None:
    done = command("algo.gama=0.9")
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean algo.gamma?" in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 3
    assert not list(empty_folder.iterdir())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["lst"], ["unknown command 'lst'", "did you mean list?"]),
        (["evaluat", "RUN"], ["did you mean evaluate?"]),
        (["list", "alg"], ["did you mean algo?"]),
        (["list", "algo", "env"], ["unrecognized arguments"]),
        (["describe", "dqnn"], ["did you mean dqn?"]),
        (["evaluate"], ["RUN"]),
        (["evaluate", "nowhere"], ["nowhere does not exist"]),
        (["evaluate", "nowhere", "--episodes", "0"], ["not a positive integer"]),
        (["evaluate", "nowhere", "--episods", "3"], ["--episods", "did you mean --episodes?"]),
        (["evaluate", "nowhere", "--allow_import"], ["did you mean --allow-import?"]),
        (["record", "nowhere", "minarii=3"], ["did you mean --minari?"]),
        (["evaluate", "nowhere", "--episodes", "9" * 30], ["not a positive integer of 64 bits"]),
        (["algo=./dqn"], ["say algo=dqn"]),
        (["algo=dqn.yaml", "env=cartpole/"], ["say algo=dqn"]),
        (["env=bandit", "env.arms=1000000001"], ["at most 100000"]),
        (["threads=1000000"], ["threads", "at most 1024"]),
        (["algo=lstm_dqn", "model.layers=1000000"], ["model.layers", "at most 100"]),
        (["play", "nowhere"], ["nowhere does not exist"]),
        (["resume", "nowhere"], ["nowhere does not exist"]),
        (["record", "nowhere", "--out", "x"], ["nowhere does not exist"]),
        (["compare", "nowhere"], ["nowhere does not exist"]),
        (["--cfgg", "job"], ["did you mean --cfg?"]),
        (["--cfg", "jo"], ["invalid choice"]),
        (["--config-dir", "nowhere", "algo=dqn"], ["nowhere: no such folder"]),
        (["--config-name", "other"], ["main config"]),
        (["--experimental-rerun", "x.pickle"], ["pickle"]),
        (["algo=dqn", "seed=1,2"], ["add -m"]),
        (["-m", "algo=dqn", "algo.gamma=0.9,1.9"], ["algo.gamma is 1.9"]),
        (["algo.gamma=0.9,x", "-m", "algo=dqn"], ["must be a number"]),
        (["--cfg", "job", "algo.gama=1"], ["did you mean algo.gamma?"]),
        (["algo=dqn", "env=pendulum"], ["algo=dqn", "env=pendulum"]),
        (["algo=dqn", "init_from=nowhere"], ["nowhere"]),
    ],
)
def test_bad_usage_is_refused(
    arguments: list[str], expected: list[str], empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) <= 4
    for words in expected:
        assert words in err
    assert not list(empty_folder.iterdir())


def test_json_is_one_object_even_for_a_refusal(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == set(LISTED)
    assert cli.main(["algo.gama=1", "--json"]) == 2
    refused = json.loads(capsys.readouterr().out)
    assert refused["exit_code"] == 2 and "unknown key algo.gama" in refused["error"]


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {verb} " in text for verb in VERBS)
    assert max(map(len, text.splitlines())) < 100
    for verb in VERBS:
        with pytest.raises(SystemExit) as stop:
            cli.main([verb, "--help"])
        assert stop.value.code == 0
        assert f"rlrun {verb}" in capsys.readouterr().out


def test_list_shows_each_recipe_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "env"]) == 0
    out = capsys.readouterr().out
    for name, path in catalog.recipes("env").items():
        assert f"  {name} " in out and catalog.headline(path) in out


RECIPE = """# @package _global_
# From outside.
imports: [{module}]
defaults:
  - /schema/algo/{kind}@algo
  - _self_
algo:
  gamma: 0.9
"""
CODE = """print("a greeting")
from dataclasses import dataclass
from rlrun.config import key
from rlrun.core import Algorithm
from rlrun.registry import register

@dataclass
class WorksConfig:
    gamma: float = key("discount factor", min=0, max=1)

@register("algo", "works", WorksConfig)
class Works(Algorithm):
    family = "planning"
"""
OUTSIDE = {
    "works.py": CODE,
    "quits.py": "raise SystemExit(3)",
    "conf/algo/works.yaml": RECIPE.format(module="works", kind="works"),
    "conf/algo/missing.yaml": RECIPE.format(module="no_such_module", kind="works"),
    "conf/algo/quits.yaml": RECIPE.format(module="quits", kind="works"),
    "conf/algo/strange.yaml": RECIPE.format(module="works", kind="strange"),
    "conf/algo/itself.yaml": "# Itself.\ndefaults:\n  - itself\n",
    "conf/env/misspelt.yaml": "# Bad.\ndefaults:\n  - cartpole\n  - _self_\nmax_stps: 3\n",
    "conf/env/bare.yaml": "# Bare.\nmax_steps: 3\n",
    "conf/model/broken.yaml": "# Broken.\ndefaults: [\n",
    "conf/experiment/lost.yaml": "# @package _global_\n# Lost.\ndefaults:\n  - override /algo: nowhere\n",
    "conf/env/folder.yaml/x": "",
    "site/plug_in/__init__.py": "import no_such_module",
    "site/plug_in/conf/algo/plugged.yaml": RECIPE.format(module="works", kind="plugged"),
    "site/plug_in-1.dist-info/entry_points.txt": "[rlrun.plugins]\nplug_in = plug_in\n",
    "site/plug_in-1.dist-info/METADATA": "Name: plug-in\nVersion: 1\n",
}
CANNOT = {
    "algo": {
        "missing": "No module named 'no_such_module'",
        "quits": "SystemExit: 3",
        "strange": "algo 'strange' is not registered",
        "itself": "lead back to itself",
        "plugged": "the plug-in plug_in cannot be imported",
    },
    "env": {"misspelt": "unknown key env.max_stps", "bare": "no schema of the group env"},
    "model": {"broken": "not YAML"},
    "experiment": {"lost": "no algo 'nowhere'"},
}


def test_list_marks_what_cannot_be_used_and_goes_on(empty_folder: Path) -> None:
    for name, text in OUTSIDE.items():
        (empty_folder / name).parent.mkdir(parents=True, exist_ok=True)
        (empty_folder / name).write_text(text)
    path = Path(os.pathsep.join([str(ROOT), str(empty_folder / "site")]))
    listed = command("list", "--json", path=path)
    assert listed.returncode == 0, listed.stderr
    found = json.loads(listed.stdout)
    for group, reasons in CANNOT.items():
        marked = {name for name, line in found[group].items() if line.startswith("CANNOT BE USED: ")}
        assert marked == set(reasons)
        for name, reason in reasons.items():
            assert reason in found[group][name] and len(found[group][name]) < 200
    assert found["algo"]["works"] == "From outside." and "dqn" in found["algo"]

    for arguments in (["list"], ["list", "algo"]):
        shown = command(*arguments, path=path)
        assert shown.returncode == 0 and "a greeting" not in shown.stdout
        (line,) = [line for line in shown.stdout.splitlines() if line.startswith("    missing ")]
        assert "CANNOT BE USED: imports: cannot import 'no_such_module'" in line
        lines = shown.stdout.splitlines()
        assert lines.index("  planning") < [line[:10] for line in lines].index("    works ")
        assert "Traceback" not in shown.stderr


@pytest.mark.parametrize("path", ["mine", "my steps", "it's $HOME", "a,b"])
def test_an_override_survives_the_shell_and_hydra(path: str) -> None:
    (told,) = shlex.split(override("data.path", path))
    assert compose(["algo=bc", "data=file", told]).data.path == path


def test_describe_shows_values_bounds_and_meanings(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["describe", "algo/dqn"]) == 0
    out = capsys.readouterr().out
    assert "algo.gamma" in out and "at least 0, at most 1" in out and "discount factor" in out
    assert cli.main(["describe", "gym", "--json"]) == 0  # a recipe that asks for a value
    keys = {row["key"]: row for row in json.loads(capsys.readouterr().out)["recipes"][0]["keys"]}
    assert keys["env.id"]["value"] == "???"
    assert cli.main(["describe"]) == 0
    assert "total_steps" in capsys.readouterr().out


def test_hydras_own_flags_keep_their_meaning(capsys: pytest.CaptureFixture[str], empty_folder: Path) -> None:
    assert cli.main(["algo=dqn", "--cfg", "job", "algo.gamma=0.5"]) == 0
    assert "gamma: 0.5" in capsys.readouterr().out
    (empty_folder / "more" / "model").mkdir(parents=True)
    wide = "# Wide.\ndefaults:\n  - mlp\n  - _self_\nhidden: [512]\n"
    (empty_folder / "more" / "model" / "wide.yaml").write_text(wide)
    assert cli.main(["--config-dir", "more", "algo=dqn", "model=wide", "--cfg", "job"]) == 0
    assert "512" in capsys.readouterr().out
    assert [path.name for path in empty_folder.iterdir()] == ["more"]


def test_a_run_can_be_trained_judged_and_named_wrongly(
    capsys: pytest.CaptureFixture[str], empty_folder: Path
) -> None:
    assert cli.main([*TINY, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    run = Path(summary["run"])
    assert summary["replicas"][0]["eval_episodes"] == 10
    assert [path.name for path in empty_folder.iterdir()] == ["outputs"]

    assert cli.main(["evaluate", str(run), "--episodes", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["replicas"][0]["eval_episodes"] == 2
    assert cli.main(["resume", str(run)]) == 0
    assert "ended already" in capsys.readouterr().err
    assert cli.main(["compare", "outputs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["replicas"] == 1

    assert cli.main(["evaluate", "outputs"]) == 2
    assert str(run) in capsys.readouterr().err
    assert cli.main(["evaluate", str(run) + "x"]) == 2
    assert f"did you mean {run}?" in capsys.readouterr().err


def test_python_runs_and_loads() -> None:
    import numpy as np

    result = rlrun.run([*TINY, "log.tensorboard=false"], quiet=True)
    action, memory = rlrun.load(result.folder).act(np.zeros(4, np.float32))
    assert action in (0, 1) and memory == ()


def test_a_sweep_gives_every_job_its_folder(capsys: pytest.CaptureFixture[str], empty_folder: Path) -> None:
    assert cli.main(["-m", *TINY, "log.tensorboard=false", "seed=1,2", "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [Path(run["run"]).name for run in runs] == ["seed-1", "seed-2"]
    assert len({Path(run["run"]).parent for run in runs}) == 1
    assert Path(runs[0]["run"]).resolve().parent.parent == empty_folder / "outputs" / "sweeps"
    assert [run["replicas"][0]["seed"] for run in runs] == [1, 2]
    assert [path.name for path in empty_folder.iterdir()] == ["outputs"]


@pytest.mark.parametrize("verb", ["evaluate", "resume", "play"])
@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"config": 3}', '{"config": {"env": {}}}', "[" * 100_000, "\xff"]
)
def test_a_damaged_run_is_refused(
    verb: str, text: str, empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (empty_folder / "run").mkdir()
    (empty_folder / "run" / "run.json").write_bytes(text.encode("latin-1"))
    assert cli.main([verb, "run"]) == 2
    assert "run" in capsys.readouterr().err
    assert [path.name for path in (empty_folder / "run").iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    "config", [{"imports": ["evil"], "env": {}}, {"imports": [], "env": {"id": "evil:Env-v0"}}]
)
def test_a_run_folder_imports_nothing_by_itself(
    config: dict[str, object], empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (empty_folder / "evil.py").write_text("open('was_here', 'w').close()\n")
    (empty_folder / "run").mkdir()
    (empty_folder / "run" / "run.json").write_text(json.dumps({"config": config}))
    assert cli.main(["evaluate", "run"]) == 2
    assert "--allow-import" in capsys.readouterr().err
    assert not (empty_folder / "was_here").exists()
    assert cli.main(["evaluate", "run", "--allow-import"]) == 2  # allowed, but not a whole run
    assert (empty_folder / "was_here").exists()
    sys.modules.pop("evil")
    sys.path.remove(str(empty_folder))


def test_the_wheel_has_its_conf_and_works_anywhere(empty_folder: Path) -> None:
    build = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(empty_folder),
        str(ROOT),
    ]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    wheel = next(empty_folder.glob("rlrun-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(empty_folder / "site")
    assert (empty_folder / "site/rlrun/conf/config.yaml").is_file()
    listed = command("list", "--json", path=empty_folder / "site")
    assert json.loads(listed.stdout)["algo"]["dqn"]
    shown = command("algo=dqn", "--cfg", "job", path=empty_folder / "site")
    assert shown.returncode == 0 and "gamma" in shown.stdout


def test_doctor_names_versions(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["torch"] and found["hydra-core"]
