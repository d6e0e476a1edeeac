"""What the pages of docs/ say to type can be typed, what they name is there, and their code runs.

docs/sweeps.md and docs/walk_forward.md have tests of their own.
"""

from __future__ import annotations

import importlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path

import pytest
from test_readme import NEEDS, smaller

import rlrun
from rlrun import cli
from rlrun.cli.sweeps import options_of
from rlrun.cli.verbs import VERBS
from rlrun.config import ConfigError, catalog
from rlrun.config.compose import compose
from rlrun.config.keys import hints
from rlrun.config.run import GROUPS, MainKeys
from rlrun.config.sweep import sweep
from rlrun.config.vocabulary import near
from rlrun.runs.folder import RunFolder
from rlrun.runs.memory import glance

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NAMES = ("index", "quick_start", "metrics", "environments", "coming_from", "classics")
PAGES = {name: (DOCS / f"{name}.md").read_text() for name in NAMES}
REFUSED = {"rlrun lr=1e-3 algo=ppo": "did you mean algo.learning_rate"}

OTHERS_NEED = {"env.id=LunarLander": "Box2D", "env=lunar_lander": "Box2D", "env.id=Hopper": "mujoco"}
NAMED_ALONE = {*VERBS} - {"list", "doctor"}  # `rlrun compare` is a name, and no command
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
QUIET = ["log.tensorboard=false", "log.plot=false"]
TINY = ["total_steps=200", "eval.episodes=2", *QUIET]


def commands_of(page: str) -> list[str]:
    """The indented lines and the words between backticks that begin with `rlrun`, each once."""
    text = FENCED.sub("", page)
    lines = re.findall(r"^ {4,}(rlrun .+)$", text, re.MULTILINE) + re.findall(r"`(rlrun [^`]+)`", text)
    lines = [line for line in lines if line.removeprefix("rlrun ") not in NAMED_ALONE]
    return list(dict.fromkeys(re.split(r"\s+# ", line)[0].strip() for line in lines))


ALL = dict.fromkeys(command for page in PAGES.values() for command in commands_of(page))
COMMANDS = [shlex.split(command) for command in ALL]
SPOKEN = [words for words in COMMANDS if words[1] in VERBS and words[1] != "board"]  # which is a server
SWEPT = [words for words in COMMANDS if words[1] == "-m"]
TRAINED = [words for words in COMMANDS if "=" in words[1]]
FILES = {
    name: text
    for page in PAGES.values()
    for name, text in re.findall(
        r"`(my_\w+\.py|conf/[\w/]+\.yaml)`[^`]*?(?:`[^`\n]+`[^`]*?)?:?\n\n```(?:python|yaml)\n(.*?)```",
        page,
        re.DOTALL,
    )
}
BLOCKS = [
    (name, text) for name, page in PAGES.items() for kind, text in FENCED.findall(page) if kind == "python"
]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What commands take for granted: the pages' own files, a table, and a run."""
    folder = tmp_path_factory.mktemp("docs")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    rows = [f"{day},{50 + i % 7}" for i, day in enumerate(dates(1500))]
    (folder / "my.csv").write_text("date,close\n" + "\n".join(rows) + "\n")
    rlrun.run(["algo=dqn", "env=cartpole", f"out={folder / 'outputs'}", *TINY], quiet=True)
    return folder


def dates(count: int) -> Iterator[str]:
    for day in range(count):
        yield f"{2000 + day // 336}-{day // 28 % 12 + 1:02}-{day % 28 + 1:02}"


@pytest.fixture
def here(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(workshop)
    monkeypatch.syspath_prepend(workshop)
    return workshop


def run_in(folder: Path) -> str:
    return str(min(folder.glob("outputs/dqn-cartpole/*")).relative_to(folder))


def keys_of(schema: type, path: str) -> set[str]:
    """Every key of a schema by its full name, sections included."""
    found = set()
    for f in fields(schema):
        hint, full = hints(schema)[f.name], f"{path}.{f.name}" if path else f.name
        found.add(full)
        if isinstance(hint, type) and is_dataclass(hint):
            found |= keys_of(hint, full)
    return found


@cache
def all_keys() -> set[str]:
    found = keys_of(MainKeys, "")
    for group in GROUPS:
        for kind in catalog.kinds(group):
            found |= keys_of(catalog.load(group, kind).config, group)
    return found


def test_every_command_is_tried() -> None:
    others = [words for words in COMMANDS if words not in (*SPOKEN, *SWEPT, *TRAINED)]
    assert [words for words in others if words[1] not in ("--help", "board")] == []
    assert len(TRAINED) > 50 and len(SWEPT) >= 3 and len(SPOKEN) >= 10


@pytest.mark.parametrize("words", TRAINED, ids=shlex.join)
def test_a_run_can_begin(words: list[str], here: Path) -> None:
    """Its config composes, and its algorithm, env, model, data and evaluation fit each other."""
    for word, module in (NEEDS | OTHERS_NEED).items():
        if word in shlex.join(words):
            pytest.importorskip(
                module
            )  # which minds no warning: Box2D's own end the process where they raise
    if shlex.join(words) in REFUSED:
        with pytest.raises(ConfigError, match=REFUSED[shlex.join(words)]):
            compose(words[1:])
        return
    glance(compose([word.replace("=RUN", f"={run_in(here)}") for word in words[1:]]))


@pytest.mark.parametrize("words", SWEPT, ids=shlex.join)
def test_a_sweep_can_begin(words: list[str]) -> None:
    overrides, _ = options_of(words[2:])
    asked = sweep(overrides)
    assert len(asked) > 1
    for job in asked.probes():
        compose([*asked.fixed, *job])


@pytest.mark.parametrize("words", SPOKEN, ids=shlex.join)
def test_a_verb_does_what_it_is_told(
    words: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = [word for word in words if "=" in word]
    if words[1] in ("resume", "fork") and changes:
        compose(["algo=dqn", *changes])  # it would train for long
        return
    assert cli.main([run_in(here) if word == "RUN" else word for word in words[1:]]) == 0
    assert capsys.readouterr().out


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The tags of small runs of the classics."""
    folder, tags = tmp_path_factory.mktemp("classics"), set()
    judged = [*TINY, "replicas=1", "eval.during=1", "eval.every=100"]
    budgets = {name: judged for name in ("value_iteration", "sarsa", "reinforce", "bc")} | {
        "ucb": [*TINY, "replicas=2"],
        "trading": [*QUIET, "total_steps=200", "replicas=1", "eval.n_folds=2", "eval.test_size=100"],
    }
    for name, budget in budgets.items():
        command = next(words for words in TRAINED if re.search(rf"={name}\b", shlex.join(words)))
        result = rlrun.run([*command[1:], f"out={folder}", *budget], quiet=True)
        tags |= {tag for line in RunFolder(result.folder).read_metrics(None) for tag in line if "/" in tag}
    return tags


def test_every_tag_that_is_named_is_recorded_and_every_one_recorded_is_named(recorded: set[str]) -> None:
    tag = r"\b(?:train|loss|eval|val|test|time)/\w+"
    written = {
        found
        for folder in ("algos", "evals", "runs", "tools")
        for file in (ROOT / "rlrun" / folder).rglob("*.py")
        for found in re.findall(rf'"({tag})"', file.read_text())
    }
    ours = {
        word
        for name in ("metrics", "classics", "quick_start")
        for word in re.findall(rf"`({tag})`", PAGES[name])
    }
    assert ours - recorded - written == set()
    assert (recorded | written) - set(re.findall(rf"`({tag})`", PAGES["metrics"])) == set()


def test_every_key_that_is_named_is_one() -> None:
    sections = "algo|env|eval|model|data|log|checkpoint|stop"
    own = {**PAGES, "coming_from": re.sub(r"^\|[^|]*\|", "|", PAGES["coming_from"], flags=re.MULTILINE)}
    quoted = [word for page in own.values() for word in re.findall(r"`([^`\n]+)`", FENCED.sub("", page))]
    named = {key for word in quoted for key in re.findall(rf"(?:^|[ \[])((?:{sections})(?:\.\w+)+)", word)}
    named |= {key for word in quoted for key in re.findall(r"^(\w+)=[^A-Z\s]\S*$", word)}
    assert len(named) > 60
    assert named - all_keys() - {"experiment", "stop.return"} == set()


ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGES["coming_from"].split("## Keys")[1].split("##")[0].splitlines()
    if line.startswith("| ") and "Tianshou |" not in line
]


def test_words_of_other_libraries_are_answered_by_the_keys_of_the_table() -> None:
    """As the command line answers them; what it does not know at all is no contradiction."""
    schemas = [(group, catalog.load(group, kind).config) for group in GROUPS for kind in catalog.kinds(group)]
    families = [keys_of(MainKeys, ""), *(keys_of(schema, group) for group, schema in schemas)]
    answered, wrong = 0, []
    for *others, own, _ in ROWS:
        own = own.strip("`")
        keys = next(keys for keys in families if own in keys)
        words = {word for cell in others for word in re.findall(r"^`(\w+)`", cell)}
        for word in words - {own.rpartition(".")[2]}:
            found = near(own.rpartition(".")[0] + "." * ("." in own) + word, keys)
            answered += own in found
            wrong += [(word, own, found)] if found and own not in found else []
    assert wrong == []
    assert len(ROWS) >= 30 and answered > 35


@pytest.mark.parametrize(("page", "code"), BLOCKS, ids=lambda value: value.split("\n")[0][:40])
def test_a_block_runs(page: str, code: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Environments are registered by the files that hold them, which other blocks import."""
    names = [Path(name).stem for name, text in FILES.items() if text == code]
    if names:
        importlib.import_module(names[0])
    else:
        exec(compile(smaller(code), f"docs/{page}.md", "exec"), {})


def test_extras_that_are_named_can_be_installed() -> None:
    named = {extra for page in PAGES.values() for extra in re.findall(r"rlrun\[(\w+)\]", page)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert named and named <= set(project["optional-dependencies"])


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", PAGES[name]):
        assert (DOCS / link).exists(), link


def test_every_page_is_in_the_index_and_on_the_site() -> None:
    pages = {path.name for path in DOCS.glob("*.md")}
    assert pages - set(re.findall(r"\((\w+\.md)\)", PAGES["index"])) == {"index.md"}
    assert pages - set(re.findall(r"(\w+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)) == set()
