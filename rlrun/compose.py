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
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us as exceptions

import hydra._internal.hydra
import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    OmegaConfBaseException,
)
from omegaconf.resolvers import oc

from rlrun import catalog, registry
from rlrun.config import (
    GROUPS,
    ConfigError,
    MainKeys,
    RunConfig,
    from_dict,
    hints,
    integral,
    meaning,
    nearest,
    unknown_key,
    words,
)

VERSION_BASE = "1.3"
_MAX_BYTES, _MAX_ALIASES = 1 << 20, 16


def compose(overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> RunConfig:
    """The checked config of one run.

    Raises:
        ConfigError: whatever is wrong with the overrides or with a YAML file.
    """
    with composed(overrides, config_dir) as cfg:
        return resolve(cfg, choices(cfg.hydra.runtime.choices))


@contextmanager
def composed(overrides: Sequence[str], config_dir: str | Path | None = None) -> Iterator[DictConfig]:
    """What Hydra makes of the overrides, the `hydra` node included; not yet checked."""
    install(config_dir)
    before = HydraConfig.instance().cfg
    try:
        with explained(), initialize_config_dir(str(catalog.conf_dir()), "rlrun", VERSION_BASE):
            check_overrides(overrides)
            cfg = hydra_compose("config", list(overrides), return_hydra_config=True)
            HydraConfig.instance().set_config(cfg)
            yield cfg
    finally:
        HydraConfig.instance().cfg = before


def check_overrides(overrides: Sequence[str]) -> None:
    """Refuse what Hydra would take, and import what `imports=[...]` names: its schemas are needed now."""
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        group, value = override.key_or_group, override.value()
        if group == "imports" and isinstance(value, list):
            catalog.import_modules(map(str, value))
        if group in GROUPS and (override.is_delete() or value is None or isinstance(value, list)):
            raise ConfigError(f"{override.input_line}: a run has one {group}", f"say {group}=NAME")
        if group in ("tuned", "experiment") and value is None and not override.is_delete():
            raise ConfigError(f"{override.input_line}: say ~{group} to have none")
        if group == "tuned" and isinstance(value, str) and value not in catalog.recipes(group):
            raise _no_such_option(f"tuned/{value}", ())  # Hydra would skip it: it is optional


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
        tree.out = out
        kinds = {group: _kind(tree, group, choices) for group in GROUPS}
        _refuse_extra(tree, MainKeys, "")
        _refuse_missing(tree)
        data: Any = OmegaConf.to_container(tree, resolve=True)
    for group, kind in kinds.items():
        data[group] = {"kind": kind} | data[group]
    return from_dict(data | {"choices": choices})


def _kind(tree: DictConfig, group: str, choices: Mapping[str, str]) -> str:
    """The registered kind of a group's member."""
    if not _has_keys(tree._get_node(group)):
        raise ConfigError(f"{group} is not chosen", f"say {group}=NAME; `rlrun list {group}` shows the names")
    schema = OmegaConf.get_type(tree, group)
    for entry in registry.entries(group):
        if entry.config is schema:
            return entry.kind
    raise ConfigError(
        f"{group}={choices.get(group, '?')} has no schema of the group {group}",
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
        if _has_keys(child) and is_dataclass(kind):
            _refuse_extra(child, kind, f"{path}.{name}" if path else name)


def _has_keys(node: Any) -> bool:
    special = isinstance(node, DictConfig) and (
        node._is_none() or node._is_missing() or node._is_interpolation()
    )
    return isinstance(node, DictConfig) and not special


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


# Where configs come from


class SchemaSource(ConfigSource):
    """Serves `schema/run` and `schema/<group>/<kind>` from the registry."""

    @staticmethod
    def scheme() -> str:
        return "rlrun"

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return config_path.strip("/") in ("schema", *(f"schema/{group}" for group in GROUPS))

    def is_config(self, config_path: str) -> bool:
        parts = config_path.removesuffix(".yaml").split("/")
        return parts == ["schema", "run"] or (
            len(parts) == 3 and parts[0] == "schema" and catalog.known(parts[1], parts[2])
        )

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        path = config_path.strip("/")
        if path == "schema":
            return [] if results_filter == ObjectType.CONFIG else list(GROUPS)
        group = path.removeprefix("schema/")
        return [] if results_filter == ObjectType.GROUP or group not in GROUPS else catalog.kinds(group)

    def load_config(self, config_path: str) -> ConfigResult:
        if not self.is_config(config_path):
            raise ConfigLoadError(f"no such schema: {config_path}")
        parts = config_path.removesuffix(".yaml").split("/")
        schema = MainKeys if parts[1] == "run" else catalog.load(parts[1], parts[2]).config
        package = "_global_" if schema is MainKeys else None
        return ConfigResult(self.provider, config_path, OmegaConf.structured(schema), {"package": package})


class YamlSource(FileConfigSource):
    """YAML files inside a folder, never outside it; bounded in size and aliases."""

    model: type | None = None  # the schema of the model that the overrides ask for

    def _inside(self, config_path: str) -> bool:
        parts = re.split(r"[/\\]", config_path)
        return ".." not in parts and config_path.isprintable() and not os.path.isabs(config_path)

    def is_group(self, config_path: str) -> bool:
        return self._inside(config_path) and super().is_group(config_path)

    def is_config(self, config_path: str) -> bool:
        return self._inside(config_path) and super().is_config(config_path)

    def load_config(self, config_path: str) -> ConfigResult:
        if not self._inside(config_path):
            raise ConfigLoadError(f"outside the config folders: {config_path}")
        path = Path(self.path, self._normalize_file_name(config_path))
        try:
            if path.is_file():
                self._check(path)
            result = super().load_config(config_path)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
            raise ConfigError(
                f"{path}{place}: not YAML", getattr(error, "problem", None) or str(error)
            ) from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: not text in UTF-8", str(error)) from error
        if not isinstance(result.config, DictConfig):
            raise ConfigError(f"{path}: it must hold keys and values")
        if config_path.startswith(("algo/", "tuned/")):
            self._fit_model(result.config)
        modules = result.config.get("imports")
        if modules and OmegaConf.is_list(modules):  # before its defaults ask for their schemas
            catalog.import_modules(map(str, modules))
        return result

    def _fit_model(self, config: DictConfig) -> None:
        """Leave out what a recipe sets for a model of its own, where another kind was asked for."""
        settings = config._get_node("model")
        if self.model is not None and isinstance(settings, DictConfig):
            known = {f.name for entry in registry.entries("model") for f in fields(entry.config)}
            for name in (known - {f.name for f in fields(self.model)}) & set(settings):
                del settings[name]

    def _check(self, path: Path) -> None:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{path}: {path.stat().st_size} bytes are too many for a config ({_MAX_BYTES})")
        text = path.read_text(encoding="utf-8")
        if "*" in text:  # nested aliases grow exponentially
            aliases = sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader))
            if aliases > _MAX_ALIASES:
                raise ConfigError(
                    f"{path}: {aliases} YAML aliases are too many for a config ({_MAX_ALIASES})"
                )


class Loader(ConfigLoaderImpl):
    """Composes as Hydra does, also each job of a sweep; recipes learn which model was asked for."""

    def load_configuration(
        self, config_name: str | None, overrides: list[str], *args: Any, **kwargs: Any
    ) -> Any:
        parsed = OverridesParser.create().parse_overrides(overrides)
        asked = [str(override.value()) for override in parsed if override.key_or_group == "model"]
        name = asked[-1] if asked and asked[-1] in catalog.recipes("model") else None
        entry = catalog.entry("model", name) if name else None
        YamlSource.model = entry.config if entry else None
        return super().load_configuration(config_name, overrides, *args, **kwargs)


class SearchPath(SearchPathPlugin):
    """Adds the plug-ins' conf folders, one in the working directory, and the schemas."""

    config_dir: str | Path | None = None

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        others = catalog.conf_dirs()[1:]
        if self.config_dir is not None:
            others.insert(0, Path(self.config_dir))
        for folder in others:
            search_path.append("user", f"file://{folder.resolve()}")
        search_path.append("rlrun", "rlrun://")


def install(config_dir: str | Path | None = None) -> None:
    """Teach Hydra where our configs and schemas are. Idempotent."""
    if config_dir is not None and not Path(config_dir).is_dir():
        raise ConfigError(f"--config-dir {config_dir}: no such folder")
    SearchPath.config_dir = config_dir
    setattr(hydra._internal.hydra, "ConfigLoaderImpl", Loader)  # noqa: B010 (mypy knows no such name)
    plugins = Plugins.instance()
    plugins.register(SearchPath)
    plugins.register(SchemaSource)
    SourcesRegistry.instance().types["file"] = YamlSource
    OmegaConf.register_new_resolver("rlrun.unique", unique_name, use_cache=True, replace=True)


def unique_name() -> str:
    """A folder name that two runs never share: the time and four random characters."""
    alphabet = "abcdefghijkmnpqrstuvwxyz23456789"
    return time.strftime("%Y%m%d-%H%M%S-") + "".join(secrets.choice(alphabet) for _ in range(4))


# Errors in words


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
        return _no_such_option(error.missing_cfg_file, error.options or ())
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


def _no_such_option(path: str, options: Sequence[str]) -> ConfigError:
    group, _, name = path.removesuffix(".yaml").partition("/")
    if group == "schema":
        try:
            catalog.load(*name.partition("/")[::2])
        except ConfigError as error:
            return error
    if group not in (*GROUPS, "experiment", "tuned"):
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
            if _has_keys(child):
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
    if not is_dataclass(schema) or name not in hints(schema):
        return ConfigError(f"{what}: {str(cause).splitlines()[0]}")
    hint = hints(schema)[name]
    return ConfigError(
        f"{what}: it must be {words(hint)}{integral(cause.value, hint)}", meaning(schema, name, full)
    )
