"""The house keeps its order: arrows one way, no circles, and each thing in the one place for it.

Imports are read from the source, late ones and those for type checkers alike.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from architecture import Import, circles, floor_of, imports, modules, picture

import rlrun
from rlrun.runs.folder import RunFolder, _File

PACKAGE = Path(rlrun.__file__).parent
MODULES = modules(PACKAGE)
IMPORTS = [found for name, path in MODULES.items() for found in imports(name, path, MODULES)]
NO_FLOOR = tuple(name for name in MODULES if name.startswith("rlrun.testing"))  # it may ask anything


def test_every_module_is_on_a_floor() -> None:
    assert [name for name in MODULES if name not in NO_FLOOR and floor_of(name) is None] == []


def test_arrows_go_down() -> None:
    """A module imports from its own floor or from lower ones."""
    upward = [
        f"{found.importer} -> {found.imported}"
        for found in IMPORTS
        if found.imported in MODULES and found.importer not in NO_FLOOR
        if (floor_of(found.importer) or 0) < (floor_of(found.imported) or 0)
    ]
    assert upward == []


def test_there_are_no_circles() -> None:
    assert circles(IMPORTS, MODULES) == []


def test_envs_and_algorithms_never_meet() -> None:
    pairs = {(found.importer.split(".")[1], found.imported.split(".")[1]) for found in IMPORTS if found.ours}
    assert ("algos", "envs") not in pairs and ("envs", "algos") not in pairs


@pytest.mark.parametrize(
    ("package", "homes"),
    [
        ("hydra", ("config.compose", "config.sources", "config.explain", "config.sweep", "cli.train")),
        ("omegaconf", ("config.compose", "config.sources", "config.explain", "config.sweep", "cli.train")),
        ("matplotlib", ("report.plots",)),
    ],
)
def test_a_package_is_known_in_few_places(package: str, homes: tuple[str, ...]) -> None:
    importers = {found.importer for found in IMPORTS if found.imported.split(".")[0] == package}
    assert importers <= {f"rlrun.{home}" for home in homes}


def test_gymnasium_runs_in_envs_alone() -> None:
    running = [f for f in IMPORTS if f.imported.split(".")[0] == "gymnasium" and not f.typing]
    assert {found.importer.split(".")[1] for found in running} <= {"envs"}


def test_torch_is_imported_late_outside_nn() -> None:
    early = [f for f in IMPORTS if f.imported.split(".")[0] == "torch" and f.top and not f.typing]
    assert {found.importer.split(".")[1] for found in early} <= {"nn"}


def _code(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_names_of_a_runs_files_stand_in_one_place() -> None:
    names = {file.name for file in vars(RunFolder).values() if isinstance(file, _File)}
    names -= {"config.yaml", "episodes", "lock"}  # also a config's, a word, and a word
    found = [
        f"{module}: {node.value}"
        for module, path in MODULES.items()
        if module != "rlrun.runs.folder"
        for node in ast.walk(_code(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if node.value in names or any(node.value.endswith("/" + name) for name in names)
    ]
    assert found == []


def test_only_what_talks_to_people_prints() -> None:
    talkers = ("rlrun.cli.", "rlrun.report.", "rlrun.api", "rlrun.runs.log")
    printing = [
        module
        for module, path in MODULES.items()
        if not module.startswith(talkers)
        for node in ast.walk(_code(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert printing == []


def test_all_that_is_printed_is_legible() -> None:
    """What is not JSON passes through one function, which takes out what a terminal would obey."""
    printing = [
        f"{module}:{node.lineno}"
        for module, path in MODULES.items()
        for node in ast.walk(_code(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        if not _harmless(node.args[0])
    ]
    assert printing == []


def _harmless(text: ast.expr) -> bool:
    if isinstance(text, ast.IfExp):
        return _harmless(text.body) and _harmless(text.orelse)
    called = ast.unparse(text.func) if isinstance(text, ast.Call) else ""
    return isinstance(text, ast.Constant) or called in ("legible", "json.dumps")


def _functions(node: ast.AST) -> Iterator[ast.FunctionDef]:
    return (each for each in ast.walk(node) if isinstance(each, ast.FunctionDef))


def test_files_and_functions_are_short() -> None:
    lengths = {module: len(path.read_text().splitlines()) for module, path in MODULES.items()}
    assert {module: length for module, length in lengths.items() if length > 400} == {}
    long = {
        f"{module}.{each.name}": (each.end_lineno or 0) - each.lineno + 1
        for module, path in MODULES.items()
        for each in _functions(_code(path))
    }
    assert {name: length for name, length in long.items() if length > 60} == {}


def test_the_root_is_small() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 13


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("nn", "from rlrun.algos import dqn"),
        ("runs", "def late():\n    from rlrun.report import table"),
        ("evals", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from rlrun.runs import run"),
    ],
)
def test_a_planted_upward_import_is_found(room: str, source: str, tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text(source)
    name = f"rlrun.{room}.planted"
    found = [each for each in imports(name, planted, MODULES) if each.imported in MODULES]
    assert [(floor_of(name) or 0) < (floor_of(each.imported) or 0) for each in found] == [True]


def test_a_planted_circle_and_a_module_without_a_floor_are_found() -> None:
    known = {f"rlrun.{name}": Path() for name in ("nn.a", "nn.b", "nn.c")}
    ring = [("rlrun.nn.a", "rlrun.nn.b"), ("rlrun.nn.b", "rlrun.nn.a"), ("rlrun.nn.c", "rlrun.nn.a")]
    found = [Import(importer, imported, False, True) for importer, imported in ring]
    assert circles(found, known) == [["rlrun.nn.a", "rlrun.nn.b"]]
    assert circles(found[:1], known) == []
    assert floor_of("rlrun.attic.junk") is None


def test_the_picture_is_true() -> None:
    """docs/architecture.md holds what `make map` draws today."""
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    rows = [line.split("->")[-1] for line in picture(PACKAGE).splitlines()]
    assert [row for row in rows if row not in page] == []
