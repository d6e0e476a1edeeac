"""`rlrun [overrides]`: check everything, then train; by way of Hydra's own application where a flag asks."""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rlrun.boundary import EnvError
from rlrun.cli.hints import misread
from rlrun.config import ConfigError
from rlrun.config.keys import legible
from rlrun.files import WriteError
from rlrun.runs.process import Failed, fault

if TYPE_CHECKING:
    from omegaconf import DictConfig


def train(arguments: list[str], as_json: bool) -> int:
    """Check everything, then train; by way of Hydra's own application where a flag asks for it."""
    args, flags = _hydra_arguments(arguments)
    from rlrun.config import compose

    if args.cfg or args.info or args.hydra_help or args.shell_completion:
        return _hydra_main(flags, args.overrides, as_json)
    if args.multirun:
        _check_sweep(args.overrides, args.config_dir)
        return _hydra_main(flags, args.overrides, as_json)
    with compose.composed(args.overrides, args.config_dir) as cfg:
        config = compose.resolve(cfg, compose.choices(cfg.hydra.runtime.choices))
        hydra_asked = cfg.hydra.mode is not None or cfg.hydra.overrides.hydra or cfg.hydra.callbacks
    if hydra_asked:
        return _hydra_main(flags, args.overrides, as_json)
    from rlrun.api import train as execute

    result = execute(config, overrides=args.overrides, quiet=as_json)
    if as_json:
        print(json.dumps({"run": str(result.folder)} | result.summary))
    return result.exit_code


def nothing_said(usage: str, as_json: bool) -> int:
    """The help, and what `rlrun train` would do: a first word of nothing starts nothing."""
    from rlrun.config import compose

    config = compose.compose()
    line = " ".join(f"{group}={config.choices[group]}" for group in ("algo", "env", "model"))
    line = f"rlrun {line} total_steps={config.total_steps} seed={config.seed} replicas={config.replicas}"
    if as_json:
        print(json.dumps({"usage": usage, "train": line}))
    else:
        print(legible(f"{usage}\nrlrun train would run\n  {line}"))
    return 0


def _hydra_arguments(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Hydra's flags and the overrides, in whatever order they came; and the flags as words."""
    from hydra._internal.utils import get_args_parser

    def refuse_usage(message: str) -> NoReturn:
        raise ConfigError(message, "rlrun --help shows the flags")

    parser = get_args_parser()
    parser.error = refuse_usage  # type: ignore[method-assign]
    parser.allow_abbrev = False  # --config is not --config-dir
    args, unknown = parser.parse_known_intermixed_args(arguments)
    told = [word for word in arguments if word in unknown or word in args.overrides]
    odd = [word for word in told if word in unknown or ("=" not in word[1:] and word[:1] != "~")]
    if odd:
        options = [option for action in parser._actions for option in action.option_strings]
        known = [word for word in arguments if word not in told]
        raise misread(told, odd[0], known, [*options, "--json"])
    if args.experimental_rerun:
        raise ConfigError(
            "--experimental-rerun loads a pickle, which rlrun never does", "use rlrun resume RUN"
        )
    if args.config_path or args.config_name:
        raise ConfigError(
            "rlrun's main config is its own",
            "a config of your own is conf/experiment/NAME.yaml: say experiment=NAME; or give --config-dir",
        )
    flags = list(arguments)
    for override in args.overrides:
        flags.remove(override)
    return args, flags


def _check_sweep(overrides: list[str], config_dir: str | None) -> None:
    """Refuse a bad sweep before its folder is made: compose a job for every value that it names."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from rlrun.config import compose
    from rlrun.config.explain import explained

    with explained():
        parsed = OverridesParser.create().parse_overrides(overrides)
    fixed = [override.input_line or "" for override in parsed if not override.is_sweep_override()]
    swept = []
    for override in parsed:
        if override.is_discrete_sweep() and "glob(" not in (override.input_line or ""):
            values = [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
            swept.append(values[:100])
    compose.compose(fixed + [values[0] for values in swept], config_dir)
    for index, values in enumerate(swept):
        for value in values[1:]:
            others = [other[0] for i, other in enumerate(swept) if i != index]
            compose.compose([*fixed, *others, value], config_dir)


class _JobFailed(Exception):
    """A job of a sweep ended with exit code 1, which is said at once; the others go on."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        print(legible(f"rlrun: {reason}"), file=sys.stderr)


def _hydra_main(flags: list[str], overrides: list[str], as_json: bool) -> int:
    """Hydra's own application; each job of it is one run."""
    from rlrun.config.sources import installed

    with installed():
        return _application(flags, overrides, as_json)


def _application(flags: list[str], overrides: list[str], as_json: bool) -> int:
    import hydra
    from hydra.core.hydra_config import HydraConfig

    from rlrun.config import catalog, compose
    from rlrun.config.explain import explained

    with explained():
        compose.check_overrides(overrides)
    results: list[dict[str, Any]] = []

    def job(cfg: DictConfig) -> float | None:
        from rlrun.api import train as execute

        hydra_config = HydraConfig.get()
        config = compose.resolve(cfg, compose.choices(hydra_config.runtime.choices))
        output = Path(hydra_config.runtime.output_dir)
        folder = None if output == Path.cwd() else output
        told = list(hydra_config.overrides.task)
        try:
            result = execute(config, folder=folder, overrides=told, quiet=as_json)
        except (EnvError, Failed, WriteError) as error:
            raise _JobFailed(str(error)) from None
        except ConfigError:
            raise
        except Exception as error:  # somebody's mistake; Hydra would keep it to itself until the end
            traceback.print_exc()
            raise _JobFailed(fault(error)) from None
        results.append({"run": str(result.folder)} | result.summary)
        if result.exit_code:
            raise _JobFailed(f"{result.folder} failed")
        return result.summary["aggregate"].get("mean")

    before, sys.argv = sys.argv, ["rlrun", *flags, *overrides]
    code = 0
    try:
        with explained():
            hydra.main(str(catalog.conf_dir()), "config", compose.VERSION_BASE)(job)()
    except _JobFailed:
        code = 1
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    finally:
        sys.argv = before
    if as_json and results:
        print(json.dumps({"runs": results}))
    return code
