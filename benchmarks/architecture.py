"""The imports of the package, read from its source: what `make map` draws and the tests check.

python benchmarks/architecture.py            # the rooms as text, for docs/architecture.md
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# From the top down. A module imports from its own floor or from lower ones.
FLOORS = (
    ("cli", "__main__", "__init__"),
    ("sweeps", "tools"),
    ("api",),
    ("report",),
    ("runs",),
    ("evals",),
    ("algos", "envs", "trainer"),
    ("collector", "models", "parts", "data"),
    ("nn",),
    ("boundary", "core", "state", "spaces"),
    ("config",),
    ("rng",),
    ("lazy", "files", "registry"),
)


@dataclass(frozen=True)
class Import:
    """One module takes another in."""

    importer: str
    imported: str
    typing: bool  # for type checkers only
    top: bool  # when the importer is imported, not later

    @property
    def ours(self) -> bool:
        return "." in self.importer and self.imported.startswith("rlrun.")


def modules(package: Path) -> dict[str, Path]:
    """Every module of a package, by its full name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = (package.name, *path.relative_to(package).with_suffix("").parts)
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


def room_of(module: str) -> str:
    """The room a module is in: a folder of the package, or the module itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def floor_of(module: str) -> int | None:
    """How high a module is, counted from 0 at the ground; None if it has no floor."""
    heights = {room: len(FLOORS) - 1 - i for i, rooms in enumerate(FLOORS) for room in rooms}
    return heights.get(room_of(module))


def imports(name: str, path: Path, known: Mapping[str, Path]) -> Iterator[Import]:
    """All imports of a module, wherever they stand in it."""

    def walk(node: ast.AST, typing: bool, top: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(name, alias.name, typing, top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module:
                for alias in child.names:
                    inner = f"{child.module}.{alias.name}"
                    yield Import(name, inner if inner in known else child.module, typing, top)
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                for each in child.body:
                    yield from walk(ast.Module([each], []), True, top)
                for each in child.orelse:
                    yield from walk(ast.Module([each], []), typing, top)
            else:
                inside = isinstance(child, (ast.FunctionDef, ast.Lambda))
                yield from walk(child, typing, top and not inside)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), False, True)


def circles(found: Sequence[Import], known: Mapping[str, Path]) -> list[list[str]]:
    """Groups of modules that import each other, directly or on a way round (Tarjan 1972)."""
    arrows: dict[str, set[str]] = {name: set() for name in known}
    for each in found:
        if each.imported in known and each.imported != each.importer:
            arrows[each.importer].add(each.imported)
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(arrows[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            at = stack.index(name)
            groups.append(sorted(stack[at:]))
            del stack[at:]

    for name in known:
        if name not in index:
            visit(name)
    return [group for group in groups if len(group) > 1]


def picture(package: Path) -> str:
    """The floors from the top down, each room with its files, lines, and the rooms that it uses."""
    known = modules(package)
    lines: dict[str, int] = {}
    files: dict[str, int] = {}
    uses: dict[str, set[str]] = {}
    for name, path in known.items():
        room = room_of(name)
        lines[room] = lines.get(room, 0) + len(path.read_text().splitlines())
        files[room] = files.get(room, 0) + 1
        used = {room_of(each.imported) for each in imports(name, path, known) if each.imported in known}
        uses[room] = uses.get(room, set()) | used - {room}
    rows = []
    for rooms in FLOORS:
        for room in rooms:
            if room in lines:
                rows.append(
                    f"{room:<10} {files[room]:>3} files {lines[room]:>5} lines  -> "
                    + ", ".join(sorted(uses[room]))
                )
        rows.append("")
    return "\n".join(rows).rstrip()


def main() -> None:
    """Print the picture, or put it between the marks of the file that is named."""
    drawn = picture(Path(__file__).resolve().parents[1] / "rlrun")
    if len(sys.argv) == 1:
        sys.stdout.write(drawn + "\n")
        return
    path = Path(sys.argv[1])
    begin, end = "<!-- map -->", "<!-- /map -->"
    before, _, rest = path.read_text().partition(begin)
    path.write_text(f"{before}{begin}\n```\n{drawn}\n```\n{end}{rest.partition(end)[2]}")


if __name__ == "__main__":
    main()
