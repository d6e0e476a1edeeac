"""Where Hydra finds configs: YAML folders, and schemas straight from the registry.

The one place that knows Hydra's insides. A schema's module is imported only when a recipe
asks for it; a YAML file is bounded in size, and never read from outside the config folders.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import hydra._internal.hydra
import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.core_plugins.importlib_resources_config_source import ImportlibResourcesConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.nodes import ValueNode

from rlrun.config import catalog
from rlrun.config.keys import ConfigError
from rlrun.config.run import REGISTERED, MainKeys

_MAX_BYTES, _MAX_ALIASES = 1 << 20, 16


@lru_cache(maxsize=1024)
def _read(
    kind: type[ConfigSource], provider: str, folder: str, config_path: str, *stamp: int
) -> ConfigResult:
    return kind(provider, folder).load_config(config_path)


def _copy(
    source: ConfigSource, kind: type[ConfigSource], config_path: str, stamp: tuple[int, ...] = ()
) -> ConfigResult:
    """A copy of what a source of a kind of Hydra's reads, once a process; `stamp` changes with the file.

    Reading is a fifth of a composition, and every job of a sweep asks for the same files.
    """
    folder = f"{source.scheme()}://{source.path}"
    return deepcopy(_read(kind, source.provider, folder, config_path, *stamp))


class PackageSource(ImportlibResourcesConfigSource):
    """Files within an installed package, such as Hydra's own, which nobody changes while we run."""

    def load_config(self, config_path: str) -> ConfigResult:
        return _copy(self, ImportlibResourcesConfigSource, config_path)


class SchemaSource(ConfigSource):
    """Serves `schema/run` and `schema/<group>/<kind>` from the registry."""

    @staticmethod
    def scheme() -> str:
        return "rlrun"

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return config_path.strip("/") in ("schema", *(f"schema/{group}" for group in REGISTERED))

    def is_config(self, config_path: str) -> bool:
        parts = config_path.removesuffix(".yaml").split("/")
        return parts == ["schema", "run"] or (
            len(parts) == 3 and parts[0] == "schema" and catalog.known(parts[1], parts[2])
        )

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        path = config_path.strip("/")
        if path == "schema":
            return [] if results_filter == ObjectType.CONFIG else list(REGISTERED)
        group = path.removeprefix("schema/")
        return [] if results_filter == ObjectType.GROUP or group not in REGISTERED else catalog.kinds(group)

    def load_config(self, config_path: str) -> ConfigResult:
        if not self.is_config(config_path):
            raise ConfigLoadError(f"no such schema: {config_path}")
        parts = config_path.removesuffix(".yaml").split("/")
        schema = MainKeys if parts[1] == "run" else catalog.load(parts[1], parts[2]).config
        package = "_global_" if schema is MainKeys else None
        return ConfigResult(self.provider, config_path, OmegaConf.structured(schema), {"package": package})


class YamlSource(FileConfigSource):
    """YAML files inside a folder, never outside it; bounded in size and aliases."""

    model: str | None = None  # the model that the overrides ask for
    imports: ClassVar[list[str]] = []  # the modules that the files read so far name

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
            stamp: tuple[int, ...] = ()
            if path.is_file():
                self._check(path)
                stat = path.stat()
                stamp = stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size
            result = _copy(self, FileConfigSource, config_path, stamp)
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
        if "/" in config_path:
            self._import(result.config, path)
        if config_path.startswith(("algo/", "tuned/")):
            self._fit_model(result.config)
        if config_path.startswith("listener/") and result.header.get("package") is None:
            result.header["package"] = f"listener.{Path(config_path).stem}"  # each has keys of its own
        return result

    def _import(self, config: DictConfig, path: Path) -> None:
        """Import what a recipe's `imports` names, before its defaults ask for their schemas.

        The key is the run's, in whatever package the recipe is: `Loader` adds it up over all recipes.
        """
        if "imports" not in config:
            return
        modules = config.pop("imports")
        if not OmegaConf.is_list(modules):
            raise ConfigError(
                f"{path}: imports is {modules}: it must be a list of modules", f"say imports: [{modules}]"
            )
        names = list(map(str, modules))
        YamlSource.imports += names
        catalog.import_modules(names)

    def _fit_model(self, config: DictConfig) -> None:
        """Leave out what a recipe sets for a model of its own, where another kind was asked for."""
        settings = config._get_node("model")
        asked = self.model in catalog.recipes("model") and catalog.entry("model", self.model or "")
        if asked and isinstance(settings, DictConfig):
            known = {f.name for entry in catalog.everything("model") for f in fields(entry.config)}
            for name in (known - {f.name for f in fields(asked.config)}) & set(settings):
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
    """Composes as Hydra does, also each job of a sweep, and knows which recipes are asked for.

    What they import is imported first, so that any of them may use what another brings; the composed
    `imports` names it all, so that a run folder does. Recipes learn which model was asked for.
    """

    def load_configuration(
        self, config_name: str | None, overrides: list[str], *args: Any, **kwargs: Any
    ) -> Any:
        YamlSource.model, YamlSource.imports = None, []
        parsed = OverridesParser.create().parse_overrides(overrides)
        for override in parsed:
            group, value = override.key_or_group, override.value()
            names = [str(each) for each in (value if isinstance(value, list) else [value])]
            if group in REGISTERED:
                catalog.import_modules(module for name in names for module in catalog.imports(group, name))
            if group == "model":
                YamlSource.model = names[-1]
        cfg = super().load_configuration(config_name, overrides, *args, **kwargs)
        told = any(override.key_or_group == "tuned" for override in parsed)
        if preset := "" if told else self._preset(cfg):
            cfg = super().load_configuration(config_name, [*overrides, f"tuned={preset}"], *args, **kwargs)
        out = cfg._get_node("out", validate_access=False)
        if isinstance(out, ValueNode) and str(out._value()).startswith("~"):  # hydra.sweep.dir is in it
            cfg.out = os.path.expanduser(str(out._value()))
        imports = cfg._get_node("imports", validate_access=False)
        if isinstance(imports, ListConfig) and not imports._is_interpolation():
            for module in YamlSource.imports:
                if module not in imports:
                    imports.append(module)
        return cfg

    def _preset(self, cfg: DictConfig) -> str:
        """What `conf/tuned` has for a task that is asked for by another name, where nobody chose."""
        chosen = OmegaConf.select(cfg, "hydra.runtime.choices") or {}
        env_id = OmegaConf.select(cfg, "env.id", throw_on_missing=False)
        if chosen.get("tuned") in catalog.recipes("tuned"):
            return ""
        if not isinstance(env_id, str) or OmegaConf.select(cfg, "env.kwargs"):
            env_id = ""  # other arguments make another task
        return catalog.preset(str(chosen.get("algo")), str(chosen.get("env")), env_id)


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


@contextmanager
def installed(config_dir: str | Path | None = None) -> Iterator[None]:
    """Within it, Hydra knows where our configs and schemas are; afterwards it is as it was before.

    The process may be another Hydra application's.

    Raises:
        ConfigError: there is no such folder.
    """
    if config_dir is not None and not Path(config_dir).is_dir():
        raise ConfigError(f"--config-dir {config_dir}: no such folder")
    plugins, sources = Plugins.instance(), SourcesRegistry.instance()
    loader = getattr(hydra._internal.hydra, "ConfigLoaderImpl")  # noqa: B009 (mypy knows no such name)
    classes, types = dict(plugins.class_name_to_class), dict(sources.types)
    kinds = {kind: list(found) for kind, found in plugins.plugin_type_to_subclass_list.items()}
    active = GlobalHydra.instance().hydra  # somebody may be composing around us
    folder, full_error = SearchPath.config_dir, os.environ.get("HYDRA_FULL_ERROR")
    try:
        GlobalHydra.instance().hydra = None
        SearchPath.config_dir = config_dir
        setattr(hydra._internal.hydra, "ConfigLoaderImpl", Loader)  # noqa: B010
        plugins.register(SearchPath)
        plugins.register(SchemaSource)
        sources.types |= {"file": YamlSource, "pkg": PackageSource}
        OmegaConf.register_new_resolver("rlrun.unique", unique_name, use_cache=True, replace=True)
        os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us as exceptions
        yield
    finally:
        GlobalHydra.instance().hydra = active
        SearchPath.config_dir = folder
        setattr(hydra._internal.hydra, "ConfigLoaderImpl", loader)  # noqa: B010
        plugins.class_name_to_class = classes
        for kind, found in plugins.plugin_type_to_subclass_list.items():
            found[:] = kinds.get(kind, [])
        sources.types = types
        if SearchPath not in classes.values():  # else an outer `installed` still needs it
            OmegaConf.clear_resolver("rlrun.unique")
        if full_error is None:
            os.environ.pop("HYDRA_FULL_ERROR", None)
        else:
            os.environ["HYDRA_FULL_ERROR"] = full_error


def unique_name() -> str:
    """A folder name that two runs never share: the time and four random characters."""
    alphabet = "abcdefghijkmnpqrstuvwxyz23456789"
    return time.strftime("%Y%m%d-%H%M%S-") + "".join(secrets.choice(alphabet) for _ in range(4))
