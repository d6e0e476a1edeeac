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
from rlrun.config.keys import ConfigError, hints, meaning, raised_at, rewritten, unknown_key, words
from rlrun.config.run import GROUPS, REGISTERED
from rlrun.config.vocabulary import advice, hint, near

# What OmegaConf says of a key within a list, or of a number without end.
_MISTAKES = (TypeError, LookupError, AttributeError, OverflowError)


@contextmanager
def explained(overrides: Sequence[str] = ()) -> Iterator[None]:
    """Turn whatever composing `overrides` raises into a ConfigError."""
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
        RecursionError,
        *_MISTAKES,
    ) as error:
        raise explain(error, overrides) from error


def explain(error: BaseException, overrides: Sequence[str] = ()) -> ConfigError:
    """An error of Hydra, OmegaConf or YAML as two or three lines with a suggestion."""
    if isinstance(error, ConfigError):
        return error
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override, error.message)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return no_such_option(error.missing_cfg_file, error.options or ())
    if isinstance(error, RecursionError):
        return ConfigError("the defaults of a recipe lead back to itself, or are too deep")
    if isinstance(error, _MISTAKES) and not isinstance(error, OmegaConfBaseException):
        return stumbled(error)
    text = str(error)
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__ or error.__context__
    file = re.match(r"In '(.+?)'", text)
    where = f"conf/{file[1]}.yaml: " if file else ""
    if isinstance(cause, ConfigError):
        return cause
    if isinstance(cause, (ConfigKeyError, ConfigAttributeError)) and cause.parent_node is not None:
        return _unknown(cause, text, where, overrides)
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
        return _several(sweep[1])
    key = re.match(r"Could not override '(.+?)'", text)
    if key:
        return _unknown_name(key[1], [], overrides)
    twice = re.match(r"Multiple values for (\w+)\.", text)
    if twice:
        return ConfigError(f"+{twice[1]}=... adds a second {twice[1]}", f"say {twice[1]}=NAME, without the +")
    return ConfigError(*text.strip().splitlines()[:3]) if text.strip() else stumbled(error)


def stumbled(error: BaseException) -> ConfigError:
    """An error that Hydra does not mean to raise."""
    words = [type(error).__name__, *str(error).splitlines()[:1]]
    place = raised_at(error)
    return ConfigError(f"Hydra cannot do this: {': '.join(words)}", f"raised at {place}" if place else "")


def _unreadable(override: str, message: str) -> ConfigError:
    reason = (
        "" if message.startswith("Lexer") else ": " + message.splitlines()[0].partition(" expecting {")[0]
    )
    if "=" not in override:
        return ConfigError(
            f"cannot read {override!r}: overrides are key=value pairs", "such as algo=dqn or seed=3"
        )
    apart = re.split(r"[,;\s]+(?=[+~]*[\w./@]+=)", override.rstrip(",; ").replace("==", "="))
    if " ".join(apart) != override or apart[1:]:
        return ConfigError(f"cannot read {override!r}", f"did you mean {' '.join(apart)}? spaces separate")
    return ConfigError(
        f"cannot read {override!r}{reason}", "quote what is not a plain value: 'key=\"a, b\"' or 'key=[1, 2]'"
    )


def _several(override: str) -> ConfigError:
    """Commas ask for a sweep; some are meant as part of a number."""
    key, _, value = override.partition("=")
    if re.fullmatch(r"\d{1,3}(,\d{3})+", value):
        number = f"for one number write {key}={value.replace(',', '')}"
        return ConfigError(
            f"{override} asks for several runs", number, "a sweep over several is asked for by -m"
        )
    return ConfigError(
        f"{override} asks for several runs: add -m",
        f"for a list write {key}=[{value}]; several seeds in one run are replicas=N",
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
    elsewhere = [f"{other}={name}" for other in GROUPS if name != "none" and name in catalog.recipes(other)]
    meant = " or ".join(elsewhere or near(name, known)[:1])
    line = f"did you mean {meant}?" if meant else advice(name)
    if not known:
        return ConfigError(f"there is no {group} {name!r}", f"none is there: a plug-in brings conf/{group}/")
    names = ", ".join(known)
    may = f"{group} may be {names}" if len(names) < 200 else f"`rlrun list {group}` shows all {len(known)}"
    if group == "env":
        may += "; env=gym env.id=ID is any of Gymnasium's"
        if catalog.GYM_ID.search(name):
            line += f"{line and ' '}for the Gymnasium id say env=gym env.id={name}"
    if group == "experiment":
        may += f"; your own would be conf/experiment/{name}.yaml"
    return ConfigError(f"there is no {group} {name!r}", line, may)


def tree_keys(cfg: Any) -> list[str]:
    """Every full key of a config, sections included."""
    found: list[str] = []

    def walk(node: Any, path: str) -> None:
        for name in map(str, node):
            full = f"{path}.{name}" if path else name
            if full == "hydra":
                continue
            found.append(full)
            child = node._get_node(name)
            if has_keys(child):
                walk(child, full)

    walk(cfg, "")
    return found


def _unknown(cause: Any, text: str, where: str, overrides: Sequence[str]) -> ConfigError:
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
    return _unknown_name(full, tree_keys(root) if isinstance(root, DictConfig) else [], overrides)


def _unknown_name(full: str, keys: list[str], overrides: Sequence[str]) -> ConfigError:
    """What is meant, looked for in the whole tree; for a group, with what its value means there."""
    if full.startswith("hydra."):
        return ConfigError(f"unknown key {full}", "rlrun --cfg hydra shows those of Hydra itself")
    keys = keys or list(GROUPS)
    line, meant = hint(full, keys), near(full, keys)
    value = dict(each.lstrip("+~").partition("=")[::2] for each in overrides).get(full, "")
    if meant and meant[0] in GROUPS and line.startswith("did you mean"):
        chosen = catalog.option(meant[0], value)
        if full.startswith(f"{meant[0]}."):  # a key that another choice has
            line = f"say {chosen}" if chosen else ""
        else:
            line += f" say {chosen or meant[0] + '=NAME'}"
    section = full.rpartition(".")[0]
    section = section if section in keys else ""
    beside = [key.rpartition(".")[2] for key in keys if key.rpartition(".")[0] == section]
    return ConfigError(f"unknown key {full}", line, f"{section or 'the config'} has {', '.join(beside)}")


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
    kind = hints(schema)[name]
    return ConfigError(
        f"{what}: it must be {words(kind)}{rewritten(cause.value, kind)}",
        meaning(schema, name, full),
        "several seeds in one run: seed=FIRST replicas=NUMBER" if full in ("seed", "replicas") else "",
    )


def has_keys(node: Any) -> bool:
    special = isinstance(node, DictConfig) and (
        node._is_none() or node._is_missing() or node._is_interpolation()
    )
    return isinstance(node, DictConfig) and not special
