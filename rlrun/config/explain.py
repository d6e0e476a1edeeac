"""Every error of Hydra, OmegaConf and YAML as a `ConfigError` of two or three lines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    OmegaConfBaseException,
)

from rlrun.config import catalog
from rlrun.config.keys import ConfigError, hints, integral, meaning, nearest, unknown_key, words
from rlrun.config.run import GROUPS, REGISTERED


@contextmanager
def explained() -> Iterator[None]:
    """Turn whatever composing raises into a ConfigError."""
    try:
        yield
    except ConfigError:
        raise
    except (
        HydraException,
        OmegaConfBaseException,
        yaml.YAMLError,
        OSError,
        ValueError,
        AssertionError,
    ) as error:
        raise explain(error) from error


def explain(error: BaseException) -> ConfigError:
    """An error of Hydra, OmegaConf or YAML as two or three lines with a suggestion."""
    if isinstance(error, ConfigError):
        return error
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override, error.message)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return no_such_option(error.missing_cfg_file, error.options or ())
    text = str(error)
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__ or error.__context__
    file = re.match(r"In '(.+?)'", text)
    where = f"conf/{file[1]}.yaml: " if file else ""
    if isinstance(cause, ConfigError):
        return cause
    if isinstance(cause, (ConfigKeyError, ConfigAttributeError)) and cause.parent_node is not None:
        return _unknown(cause, text, where)
    if isinstance(cause, InterpolationResolutionError):
        refused: BaseException | None = cause
        while refused is not None and not isinstance(refused, ConfigError):
            refused = refused.__cause__ or refused.__context__
        return ConfigError(
            f"{where}{cause.full_key or 'a value'}: cannot resolve it", str(refused or cause).split("\n")[0]
        )
    if isinstance(cause, OmegaConfBaseException):
        return _wrong_value(cause, text, where)
    sweep = re.search(r"(?:Ambiguous value for argument|Sweep parameters) '(.+?)'", text)
    if sweep:
        return ConfigError(
            f"{sweep[1]} asks for several runs: add -m",
            f"for a list write {sweep[1].replace('=', '=[', 1)}]; several seeds in one run are replicas=N",
        )
    key = re.match(r"Could not override '(.+?)'", text)
    if key:
        return _unknown_name(key[1], {}, where)
    return ConfigError(*text.strip().splitlines()[:3] or [type(error).__name__])


def _unreadable(override: str, message: str) -> ConfigError:
    reason = "" if message.startswith("Lexer") else f": {message.splitlines()[0]}"
    if "=" not in override:
        return ConfigError(
            f"cannot read {override!r}: overrides are key=value pairs", "such as algo=dqn or seed=3"
        )
    return ConfigError(
        f"cannot read {override!r}{reason}", "quote what is not a plain value: 'key=\"a, b\"' or 'key=[1, 2]'"
    )


def no_such_option(path: str, options: Sequence[str]) -> ConfigError:
    group, _, name = path.removesuffix(".yaml").partition("/")
    if group == "schema":
        try:
            catalog.load(*name.partition("/")[::2])
        except ConfigError as error:
            return error
    if group not in (*REGISTERED, "experiment", "tuned"):
        return ConfigError(f"there is no config {path}", f"there are {', '.join(options)}" if options else "")
    known = catalog.recipes(group)
    near = nearest(name, known)
    hint = f"did you mean {near}?" if near else ""
    elsewhere = [f"{other}={name}" for other in GROUPS if name in catalog.recipes(other)]
    if elsewhere:
        hint = f"did you mean {' or '.join(elsewhere)}?"
    elif group == "env" and re.search(r"-v\d+$|/", name):
        hint = f"for a Gymnasium id say env=gym env.id={name}"
    names = ", ".join(known)
    if not known:
        return ConfigError(f"there is no {group} {name!r}", f"none is there: a plug-in brings conf/{group}/")
    return ConfigError(
        f"there is no {group} {name!r}",
        hint,
        f"{group} may be {names}" if len(names) < 200 else f"`rlrun list {group}` shows all {len(known)}",
    )


def _tree_keys(cfg: Any) -> dict[str, str]:
    """Every full key of a config, with the name of its own; groups included."""
    found: dict[str, str] = {}

    def walk(node: Any, path: str) -> None:
        for name in node:
            full = f"{path}.{name}" if path else str(name)
            if full == "hydra":
                continue
            found[full] = str(name)
            child = node._get_node(name)
            if has_keys(child):
                walk(child, full)

    walk(cfg, "")
    return found


def _unknown(cause: Any, text: str, where: str) -> ConfigError:
    key = re.match(r"Could not override '(.+?)'", text)
    full = str(cause.full_key or cause.key)
    if key and not full.startswith(key[1] + "."):
        full = key[1]
    root = cause.parent_node._get_root()
    if where:  # a YAML file's key: its section is what the error names
        section = OmegaConf.get_type(cause.parent_node)
        names = (
            [f.name for f in fields(section)]
            if is_dataclass(section)
            else [str(n) for n in cause.parent_node]
        )
        path = full.rpartition(".")[0]
        group = path.partition(".")[0]
        if group in GROUPS and not where.startswith(f"conf/{group}/"):
            return ConfigError(
                f"{where[:-2]} sets {full}, which the chosen {group} does not have",
                f"leave the choice of {group} to it, or choose one that has it; this has {', '.join(names)}",
            )
        return ConfigError(where + str(unknown_key(str(cause.key), path, names)))
    return _unknown_name(full, _tree_keys(root) if isinstance(root, DictConfig) else {}, "")


def _unknown_name(full: str, keys: dict[str, str], where: str) -> ConfigError:
    """Suggest from the whole tree: the likeliest full key, else the same key in another section."""
    keys = keys or {group: group for group in GROUPS}
    path, _, leaf = full.rpartition(".")
    near = nearest(full, keys)
    elsewhere = [k for k, name in keys.items() if name == leaf]
    if elsewhere and (near is None or keys[near] != leaf):
        near = " or ".join(elsewhere[:3])
    if near is None:
        initials = {"".join(part[:1] for part in name.split("_")): name for name in keys.values()}
        same_name = initials.get(leaf) or nearest(leaf, keys.values())
        near = " or ".join([k for k, name in keys.items() if name == same_name][:3]) or None
    section = [name for k, name in keys.items() if k.rpartition(".")[0] == path]
    return ConfigError(
        f"{where}unknown key {full}",
        f"did you mean {near}?" if near else "",
        f"{path or 'the config'} has {', '.join(section)}" if section else "",
    )


def _wrong_value(cause: Any, text: str, where: str) -> ConfigError:
    override = re.match(r"Error merging override (.+)", text)
    full = str(cause.full_key or cause.key or "").split("[")[0]
    name, parent = full.rpartition(".")[2], cause.parent_node
    while isinstance(parent, ListConfig):
        parent = parent._get_parent()
    schema = OmegaConf.get_type(parent) if isinstance(parent, DictConfig) else None
    what = f"{where}{override[1] if override else full}"
    if what.startswith("listener="):  # Hydra knows no group without members
        return no_such_option(f"listener/{what.partition('=')[2].strip('[]')}", ())
    if not is_dataclass(schema) or name not in hints(schema):
        return ConfigError(f"{what}: {str(cause).splitlines()[0]}")
    hint = hints(schema)[name]
    return ConfigError(
        f"{what}: it must be {words(hint)}{integral(cause.value, hint)}", meaning(schema, name, full)
    )


def has_keys(node: Any) -> bool:
    special = isinstance(node, DictConfig) and (
        node._is_none() or node._is_missing() or node._is_interpolation()
    )
    return isinstance(node, DictConfig) and not special
