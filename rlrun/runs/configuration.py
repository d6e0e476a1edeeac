"""What tells one configuration from another: a run's config without its seeds, in flat words.

Runs of one configuration are one experiment, whatever watches them and wherever they are:
TensorBoard averages them into a row, and `rlrun board` into a curve.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

Scalar = bool | int | float | str

# What only says which seeds, who watches, how it is saved, and where it runs.
ELSEWHERE = ("seed", "replicas", "out", "choices", "listener", "checkpoint", "threads", "log", "device")
_PROCESSES = ("env.workers", "env.timeout")
_NAMED = ("algo", "env", "model", "eval", "data")  # groups that go by their recipe's name
_SHOWN = ("algo", "env", "model")  # of which the keys are shown as well
_TEXT = 100  # characters of a value that are shown


def lineage(record: Mapping[str, Any]) -> dict[str, Any]:
    """What tells a run that went on from one that began with its config; of a run.json."""
    found = {"extended": record["extended"]} if record.get("extended") else {}
    if source := record.get("fork_of"):
        found["fork_of"] = {name: source.get(name) for name in ("step", "config_hash")}
    return found


def own(config: Mapping[str, Any]) -> dict[str, Any]:
    """run.json's config without what does not make another experiment."""
    return {name: value for name, value in config.items() if name not in ELSEWHERE}


def settings(config: Mapping[str, Any]) -> dict[str, Scalar | None]:
    """The same as dotted keys and plain values."""
    return {name: value for name, value in _flat(own(config)) if name not in _PROCESSES}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Scalar | None]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, ",".join(map(str, value)) if isinstance(value, list) else value


def configuration_hash(config: Mapping[str, Any], data_sha256: str | None) -> str:
    """The same for runs that differ in their seeds alone."""
    text = json.dumps([settings(config), data_sha256], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def recipes(config: Mapping[str, Any]) -> dict[str, str]:
    """What algo, env, model, eval and data go by: their recipes' names, env=gym by its id."""
    names = {group: config["choices"].get(group, config[group]["kind"]) for group in _NAMED}
    return names | {"env": config["env"].get("id") or names["env"]}


def hyperparameters(config: Mapping[str, Any]) -> dict[str, bool | float | str]:
    """What a table of runs is sorted by: the recipes, the main keys, and the keys of algo, env and model."""
    every = settings(config)
    main = {name: value for name, value in every.items() if "." not in name}
    shown = {
        name: value
        for name, value in every.items()
        if name.startswith(tuple(f"{group}." for group in _SHOWN)) and not name.endswith(".kind")
    }
    named = {name: value for name, value in recipes(config).items() if value != "none"}
    return {
        name: value if isinstance(value, bool) else value[:_TEXT] if isinstance(value, str) else float(value)
        for name, value in {**named, **main, **shown}.items()
        if value is not None and value != ""
    }
