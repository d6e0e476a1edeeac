"""`rlrun list` and `rlrun describe`: what there is to choose from."""

from __future__ import annotations

import json
import sys
from collections.abc import Container, Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any

from rlrun.cli.words import columns, verb_parser
from rlrun.config import ConfigError
from rlrun.config.keys import legible, printable
from rlrun.config.run import REGISTERED, place
from rlrun.config.vocabulary import hint

LISTED = (*REGISTERED, "experiment", "tuned")


def listed(arguments: list[str], as_json: bool) -> int:
    from rlrun.config import catalog

    parser = verb_parser("list", "What there is to choose from, each with one line.")
    parser.add_argument("group", nargs="?", help=", ".join(LISTED))
    group = parser.parse_args(arguments).group
    if group not in (None, *LISTED):
        line = f"rlrun describe {group} shows its keys" if catalog.find(group) else hint(group, LISTED)
        raise ConfigError(f"no group {group!r}", line, f"groups: {', '.join(LISTED)}")
    found, broken = {}, {}
    for g in LISTED if group is None else (group,):
        paths = catalog.recipes(g)
        broken[g] = _faults(g, [name for name, path in paths.items() if not catalog.ours(path)])
        found[g] = {name: broken[g].get(name) or catalog.headline(path) for name, path in paths.items()}
    if as_json:
        print(json.dumps(found))
        return 0
    for g, recipes in found.items():
        if recipes:
            print(legible(g))
            lines = {printable(name): printable(line) for name, line in recipes.items()}
            if g == "algo":
                table = _algorithms(lines, broken[g])
            else:
                table = _presets(lines) if g == "tuned" else columns(list(lines.items()))
            print(legible(table))
        elif group:
            nothing = (
                f"no {group} is there beside what every run has; a plug-in brings conf/{group}/NAME.yaml"
            )
            print(legible(nothing))
    print("rlrun describe NAME shows the keys of one; rlrun algo=NAME env=NAME trains", file=sys.stderr)
    return 0


def _faults(group: str, names: Sequence[str]) -> dict[str, str]:
    """What is wrong with recipes that did not come with rlrun, by name: they are composed to see."""
    if not names:
        return {}
    from rlrun.config import compose

    with redirect_stdout(sys.stderr):  # what a plug-in prints is no part of the list
        found = {name: compose.fault(group, name) for name in names}
    return {name: f"CANNOT BE USED: {printable(reason, 160)}" for name, reason in found.items() if reason}


def _algorithms(lines: Mapping[str, str], broken: Container[str]) -> str:
    """The algorithms by family: name, the actions they take, whether memory helps, what they are."""
    from rlrun.config import catalog
    from rlrun.core import FAMILIES

    short = {"discrete": "discrete", "multi_discrete": "multi", "box": "box"}
    families: dict[str, list[tuple[str, ...]]] = {family: [] for family in (*FAMILIES, "other")}
    for name, line in lines.items():
        entry = None if name in broken else catalog.entry("algo", name)
        build = entry.build if entry else None
        actions = [word for kind, word in short.items() if kind in getattr(build, "action_kinds", ())]
        memory = "memory" if getattr(build, "takes_memory", False) else "-"
        row = (f"  {name}", ", ".join(actions), memory, line)
        families[build.family if build and build.family in families else "other"].append(row)
    head = ("", "actions", "models", "")
    groups = [[(family, "", "", ""), *rows] for family, rows in families.items() if rows]
    return columns([head, *(row for group in groups for row in group)])


def _presets(lines: Mapping[str, str]) -> str:
    """The recipes under conf/tuned: name, the algorithm and the task that choose it, why it is as it is."""
    from rlrun.config import catalog

    rows = [("", "applies with", "", "")]
    for name, line in lines.items():
        algo, env = catalog.tuned(name)
        key = "env" if env in catalog.recipes("env") else "env.id"
        rows.append((f"  {name}", f"algo={algo}", f"{key}={env}", line))
    return columns(rows)


def describe(arguments: list[str], as_json: bool) -> int:
    from rlrun.config import catalog

    parser = verb_parser("describe", "Every key of a recipe: its value, type, bounds and meaning.")
    parser.add_argument("name", nargs="?", help="such as dqn or algo/dqn; the main keys if left out")
    name = parser.parse_args(arguments).name
    found = catalog.find(name) if name else [("", "")]
    preset = name.removeprefix("tuned/") if name else ""
    if preset in catalog.recipes("tuned") and not found:
        return _describe_preset(preset, as_json)
    if not found:
        raise ConfigError(
            f"nothing is called {name!r}",
            hint(name, [each for group in (*REGISTERED, "tuned") for each in catalog.recipes(group)]),
            "rlrun list shows the names",
        )
    described = [_description(group, recipe) for group, recipe in found]
    if as_json:
        print(json.dumps({"recipes": described}))
        return 0
    for recipe in described:
        print(legible(f"{recipe['title']}\n  {recipe['line']}"))
        if recipe["sets"]:
            print(legible("  sets " + ", ".join(f"{k}={v}" for k, v in recipe["sets"].items())))
        if recipe["tuned"]:
            tuned = ", ".join(recipe["tuned"])
            print(legible(f"  tuned values apply with {tuned}; '~tuned' leaves them out"))
            for other, changes in recipe["tuned"].items():
                print(
                    legible(f"    {other}: " + " ".join(f"{key}={value}" for key, value in changes.items()))
                )
        rows = [("key", "value", "may be", "meaning")]
        rows += [(k["key"], json.dumps(k["value"]), k["allowed"], k["doc"]) for k in recipe["keys"]]
        print(legible(columns(rows) if recipe["keys"] else "  it has no keys"))
    return 0


def _description(group: str, recipe: str) -> dict[str, Any]:
    """A recipe with its keys; those of the run itself for group ''."""
    from rlrun.config import catalog, compose

    schema, values, sets = compose.member(group, recipe)
    path = catalog.recipes(group)[recipe] if group else catalog.main_config()
    return {
        "title": f"{group}={recipe}" if group else "the main keys",
        "line": catalog.headline(path),
        "sets": sets,
        "tuned": _tuned(group, recipe),
        "keys": _keys(schema, values, f"{place(group, recipe)}." if group else ""),
    }


def _describe_preset(name: str, as_json: bool) -> int:
    """What a recipe under conf/tuned changes, and when it applies."""
    from rlrun.config import catalog, compose

    algo, env = catalog.tuned(name)
    line, changes = catalog.headline(catalog.recipes("tuned")[name]), compose.changes(name)
    if as_json:
        print(json.dumps({"tuned": name, "algo": algo, "env": env, "line": line, "sets": changes}))
        return 0
    print(legible(f"tuned={name}\n  {line}"))
    print(legible(f"  applies with algo={algo} on the task {env}, whatever its name; '~tuned' leaves it out"))
    rows = [("key", "value"), *((key, json.dumps(value)) for key, value in changes.items())]
    print(legible(columns(rows)))
    return 0


def _tuned(group: str, recipe: str) -> dict[str, dict[str, Any]]:
    """With what conf/tuned has values for a recipe, and those: it holds ALGO_ENV.yaml for some pairs."""
    from rlrun.config import catalog, compose

    place = {"algo": 0, "env": 1}.get(group)
    if place is None:
        return {}
    pairs = {name: catalog.tuned(name) for name in catalog.recipes("tuned")}
    return {
        f"env={pair[1]}" if group == "algo" else f"algo={pair[0]}": compose.changes(name)
        for name, pair in pairs.items()
        if pair[place] == recipe
    }


def _keys(schema: type, values: dict[str, Any], prefix: str) -> list[dict[str, Any]]:
    from dataclasses import fields, is_dataclass

    from rlrun.config.keys import allowed, hints

    rows: list[dict[str, Any]] = []
    for f in fields(schema):
        hint, value = hints(schema)[f.name], values.get(f.name, "???")
        if isinstance(hint, type) and is_dataclass(hint) and isinstance(value, dict):
            rows += _keys(hint, value, f"{prefix}{f.name}.")
        elif f.name not in REGISTERED or prefix:
            row = {
                "key": prefix + f.name,
                "value": value,
                "allowed": allowed(f, hint),
                "doc": f.metadata.get("doc", ""),
            }
            rows.append(row)
    return rows
