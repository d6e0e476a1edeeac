"""From overrides to a checked `RunConfig`, with Hydra in between and nobody noticing.

Hydra composes; `resolve` decides. It refuses what Hydra lets through (keys outside the
schema, values that nobody set, environment variables, values out of bounds) and turns
every error of Hydra, OmegaConf and YAML into a `ConfigError` of two or three lines. All of
this happens before torch is imported and before a file is written.

Schemas are served by a config source of our own, which imports a schema's module only when
a recipe asks for it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.resolvers import oc

from rlrun import registry
from rlrun.config import ConfigError, catalog
from rlrun.config.explain import explained, has_keys, no_such_option, tree_keys
from rlrun.config.keys import meaning, unknown_key
from rlrun.config.plain import from_dict
from rlrun.config.run import GROUPS, REGISTERED, MainKeys, RunConfig, place
from rlrun.config.sources import installed

VERSION_BASE = "1.3"
_KEYS = {"stop.return": "stop.eval_return"}
_MAX_REFERENCES = 24  # such as ${seed}


def compose(overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> RunConfig:
    """The checked config of one run.

    Raises:
        ConfigError: whatever is wrong with the overrides or with a YAML file.
    """
    with composed(overrides, config_dir) as cfg:
        return resolve(cfg, choices(cfg.hydra.runtime.choices))


def pairs(overrides: Sequence[str]) -> dict[str, Any]:
    """Keys and values as the command line says them, for a config that is there already.

    Raises:
        ConfigError: a word is no KEY=VALUE, or asks for more than that.
    """
    found = {}
    with explained(overrides):
        for word in OverridesParser.create().parse_overrides(at_home(overrides)):
            if word.is_add() or word.is_delete() or word.is_sweep_override() or word.package:
                raise ConfigError(f"{word.input_line}: it must be KEY=VALUE", "such as total_steps=200000")
            found[word.key_or_group] = word.value()
    return found


def values(overrides: Sequence[str]) -> dict[str, Any]:
    """Every key of what the overrides choose with its value, sections included."""
    with composed(overrides) as cfg:
        return {key: OmegaConf.select(cfg, key) for key in tree_keys(cfg)}


@contextmanager
def composed(overrides: Sequence[str], config_dir: str | Path | None = None) -> Iterator[DictConfig]:
    """What Hydra makes of the overrides, the `hydra` node included; not yet checked."""
    before, overrides = HydraConfig.instance().cfg, at_home(overrides)
    try:
        with (
            installed(config_dir),
            explained(overrides),
            initialize_config_dir(str(catalog.conf_dir()), "rlrun", VERSION_BASE),
        ):
            check_overrides(overrides)
            cfg = hydra_compose("config", list(overrides), return_hydra_config=True)
            HydraConfig.instance().set_config(cfg)
            if config_dir is not None:
                _refuse_unread(Path(config_dir), choices(cfg.hydra.runtime.choices))
            yield cfg
    finally:
        HydraConfig.instance().cfg = before


def member(group: str, recipe: str) -> tuple[type, dict[str, Any], dict[str, Any]]:
    """A recipe's schema, its values, and the main keys that it sets; the main keys' own for group ''."""
    with composed([f"{group}={recipe}"] if group else []) as cfg:
        node = OmegaConf.select(cfg, place(group, recipe)) if group else cfg
        schema = OmegaConf.get_type(node) if group else MainKeys
        values: Any = OmegaConf.to_container(node, resolve=False)
        assert schema is not None
        if group != "algo":
            return schema, values, {}
        own = OmegaConf.load(catalog.recipes(group)[recipe])
        sets = {name: cfg[name] for name in map(str, own) if name in ("total_steps", "num_envs")}
        return schema, values, sets | {"model": choices(cfg.hydra.runtime.choices)["model"]}


def changes(preset: str) -> dict[str, Any]:
    """The keys that a recipe under conf/tuned sets, with their values, and those it builds on."""
    there = catalog.recipes("tuned")
    cfg = OmegaConf.load(there[preset])
    values = {key: OmegaConf.select(cfg, key) for key in tree_keys(cfg)}
    own: dict[str, Any] = {
        key: OmegaConf.to_container(value) if OmegaConf.is_list(value) else value
        for key, value in values.items()
        if not OmegaConf.is_dict(value)
    }
    bases = [changes(name) for name in own.pop("defaults", []) if isinstance(name, str) and name in there]
    return {key: value for part in (*bases, own) for key, value in part.items()}


def fault(group: str, recipe: str) -> str:
    """Why a recipe cannot be composed, in a line; '' where it can be. Imports what it names."""
    try:
        words = [f"{group}={recipe}"]
        if group == "tuned":  # of keys that its own algorithm and env have
            pairs = zip(("algo", "env"), catalog.tuned(recipe), strict=True)
            words += [f"{part}={name}" for part, name in pairs if name in catalog.recipes(part)]
        with composed(words) as cfg:
            if group in GROUPS:
                _kind(cfg, group, {group: recipe})
            elif group in REGISTERED:
                _kind(cfg[group], recipe, {}, group)
    except ConfigError as error:
        return ": ".join(error.lines[:2])
    return ""


def at_home(overrides: Sequence[str]) -> list[str]:
    """The overrides as Hydra takes them: ~ at the beginning of a value replaced, as some shells do.

    So is `stop.return`, for no field of a dataclass may have Python's word.
    """
    pairs = (word.partition("=") for word in overrides)
    return [
        _KEYS.get(key, key) + sign + (os.path.expanduser(value) if sign else "") for key, sign, value in pairs
    ]


def check_overrides(overrides: Sequence[str]) -> None:
    """Refuse what Hydra would take, and import what `imports=[...]` names: its schemas are needed now."""
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        group, value = override.key_or_group, override.value()
        if group == "imports" and isinstance(value, list):
            catalog.import_modules(map(str, value))
        if group in GROUPS and (
            override.is_delete() or value is None or isinstance(value, (list, dict, bool, float, int))
        ):
            raise ConfigError(f"{override.input_line}: a run has one {group}", f"say {group}=NAME")
        if group in (*REGISTERED, "experiment", "tuned") and isinstance(value, str):
            name = os.path.normpath(value).removesuffix(".yaml")
            if name != value and name in catalog.recipes(group):
                raise ConfigError(f"{group}={value}: a recipe goes by its name", f"say {group}={name}")
        if group in ("tuned", "experiment") and value is None and not override.is_delete():
            raise ConfigError(f"{override.input_line}: say ~{group} to have none")
        if group == "tuned" and isinstance(value, str) and value not in catalog.recipes(group):
            raise no_such_option(f"tuned/{value}", ())  # Hydra would skip it: it is optional


def choices(chosen: Mapping[Any, Any]) -> dict[str, str]:
    """The YAML chosen in each of our groups, of `hydra.runtime.choices`."""
    found = {str(group): name for group, name in chosen.items() if not re.search("[/@]", str(group))}
    if found.get("tuned") not in catalog.recipes("tuned"):
        found.pop("tuned", None)  # optional: most pairs have no deltas
    return {group: name for group, name in sorted(found.items()) if isinstance(name, str)}


def resolve(cfg: DictConfig, choices: dict[str, str]) -> RunConfig:
    """The checked config of a composed one.

    Raises:
        ConfigError: a key outside the schemas, a value that is missing, of the wrong type
            or out of bounds, an interpolation that fails or reads the environment, a group
            member without a registered schema, or settings that contradict each other.
    """
    with explained():
        out = cfg.out  # the only key that may read the environment
    with explained(), _no_environment():
        tree = OmegaConf.masked_copy(cfg, [str(name) for name in cfg if name != "hydra"])
        tree.out = _place(out)
        _refuse_many(OmegaConf.to_container(tree, resolve=False))
        kinds = {group: _kind(tree, group, choices) for group in GROUPS}
        listeners = {
            name: _kind(tree.listener, name, choices, "listener") for name in map(str, tree.listener)
        }
        _refuse_extra(tree, MainKeys, "")
        _refuse_missing(tree)
        data: Any = OmegaConf.to_container(tree, resolve=True)
    for group, kind in kinds.items():
        data[group] = {"kind": kind} | data[group]
    for name, kind in listeners.items():
        data["listener"][name] = {"kind": kind} | data["listener"][name]
    config = from_dict(data | {"choices": choices})
    if hasattr(config.env, "prepare"):  # a plug-in's may be any dataclass
        config.env.prepare()
    return config


def _refuse_unread(folder: Path, choices: Mapping[str, str]) -> None:
    for path, first in catalog.unread(folder, choices).items():
        raise ConfigError(f"{path} is not read: {first} goes first", "give yours a name of its own")


def _place(out: Any) -> Any:
    """Where run folders are made, as a path: a home folder in full.

    Raises:
        ConfigError: it asks for what only a shell knows, or holds what cannot be printed.
    """
    if not isinstance(out, str):
        return out  # its type is refused with all others
    if variable := re.search(r"\$(\w+|\{\w+\})", out):
        name = variable[1].strip("{}")
        instead = out.replace(variable[0], f"${{oc.env:{name}}}")
        raise ConfigError(f"out is {out}: only a shell replaces {variable[0]}", f"say 'out={instead}'")
    if not out.isprintable():
        raise ConfigError(f"out is {out!r}: a folder's name holds what can be printed")
    path = os.path.expanduser(out)
    if path.startswith("~"):
        raise ConfigError(f"out is {out}: there is no such user", "a folder of that name is out=./" + out)
    return path


def _kind(tree: DictConfig, name: str, choices: Mapping[str, str], group: str = "") -> str:
    """The registered kind of a group's member; of a listener, its name and "listener"."""
    group = group or name
    if not has_keys(tree._get_node(name)):
        raise ConfigError(f"{group} is not chosen", f"say {group}=NAME; `rlrun list {group}` shows the names")
    schema = OmegaConf.get_type(tree, name)
    for entry in registry.entries(group):
        if entry.config is schema:
            return entry.kind
    raise ConfigError(
        f"{group}={name if name != group else choices.get(group, '?')} has no schema of the group {group}",
        f"its YAML must begin with defaults: [/schema/{group}/KIND@_here_, _self_]",
    )


def _refuse_extra(node: Any, schema: type, path: str) -> None:
    """`+algo.foo=1` slips past Hydra: compare every key with its dataclass."""
    names = [f.name for f in fields(schema)]
    for name in map(str, node):
        if name not in names:
            raise unknown_key(name, path, names)
        child = node._get_node(name)
        kind = OmegaConf.get_type(child)
        if has_keys(child) and is_dataclass(kind):
            _refuse_extra(child, kind, f"{path}.{name}" if path else name)


def _refuse_missing(tree: DictConfig) -> None:
    missing = sorted(OmegaConf.missing_keys(tree))
    if missing:
        path, _, name = missing[0].rpartition(".")
        schema = OmegaConf.get_type(OmegaConf.select(tree, path)) if path else MainKeys
        more = f"; so have {', '.join(missing[1:4])}" if missing[1:] else ""
        raise ConfigError(
            f"{missing[0]} has no value{more}: say {missing[0]}=...",
            meaning(schema, name, missing[0]) if is_dataclass(schema) else "",
        )


def _refuse_many(values: Any) -> None:
    """Interpolations of interpolations grow exponentially, as aliases do."""
    count, waiting = 0, [values]
    while waiting:
        value = waiting.pop()
        if isinstance(value, (dict, list)):
            waiting += value.values() if isinstance(value, dict) else value
        elif isinstance(value, str):
            count += value.count("${")
    if count > _MAX_REFERENCES:
        raise ConfigError(f"{count} interpolations are too many for a config ({_MAX_REFERENCES})")


@contextmanager
def _no_environment() -> Iterator[None]:
    """Refuse `${oc.env:...}`: a resumed run would lack the value, and the run folder would hold it."""

    def refuse(name: str, *_: Any) -> None:
        raise ConfigError(
            f"${{oc.env:{name}}} is refused: only `out` may read the environment",
            "a resumed run would lack the value, and the run folder would hold it",
        )

    OmegaConf.register_new_resolver("oc.env", refuse, replace=True)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)
