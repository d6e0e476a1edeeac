"""`rlrun [overrides]`: check everything, then train; by way of Hydra's own application where a flag asks."""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rlrun.cli import sweeps
from rlrun.cli.hints import misread
from rlrun.config import ConfigError
from rlrun.config.keys import EnvError, legible
from rlrun.config.vocabulary import hint
from rlrun.files import WriteError
from rlrun.runs.process import Failed, fault

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from rlrun.config.run import RunConfig


def train(arguments: list[str], as_json: bool) -> int:
    """Check everything, then train; by way of Hydra's own application where a flag asks for it."""
    arguments, options = sweeps.options_of(arguments)
    args, flags = _hydra_arguments(arguments)
    from rlrun.config import compose

    overrides = compose.at_home(args.overrides)
    if args.cfg or args.info or args.hydra_help or args.shell_completion:
        return 2 if _hydra_main(flags, overrides, as_json) else 0  # it shows something: nothing is trained
    several, hydra_asked = args.multirun, False
    if not several:
        with compose.composed(overrides, args.config_dir) as cfg:
            config = compose.resolve(cfg, compose.choices(cfg.hydra.runtime.choices))
            several = str(cfg.hydra.mode).endswith("MULTIRUN")
            hydra_asked = cfg.hydra.mode is not None or cfg.hydra.overrides.hydra or cfg.hydra.callbacks
            place = str(cfg.hydra.run.dir)
    if several:
        options = replace(options, config_dir=args.config_dir)
        done = sweeps.begin(overrides, options, as_json)
        return _hydra_main(flags, done, as_json) if isinstance(done, list) else done
    if told := options.told():
        raise ConfigError(f"{told} is a sweep's", "rlrun -m KEY=VALUE,VALUE ... is one")
    if hydra_asked:
        _check_run(config, place)
        return _hydra_main(flags, overrides, as_json)
    from rlrun.api import train as execute

    result = execute(config, overrides=overrides, quiet=as_json)
    if as_json:
        print(json.dumps({"run": str(result.folder)} | result.summary))
    return result.exit_code


def sweep(arguments: list[str], as_json: bool) -> int:
    """`rlrun sweep`: begin one, as -m does, or go on with one."""
    if arguments[:1] == ["resume"]:
        return sweeps.resume(arguments[1:], as_json)
    if not arguments or {"--help", "-h"} & set(arguments):
        print(legible(sweeps.USAGE), end="")
        raise SystemExit(0)
    if line := hint(arguments[0], ["resume"]):
        raise ConfigError(f"rlrun sweep {arguments[0]}: a sweep is begun, or gone on with", line)
    return train(["-m", *arguments], as_json)


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
        raise misread(told, odd[0], known, [*options, "--json", "--yes"])
    if args.experimental_rerun:
        raise ConfigError(
            "--experimental-rerun loads a pickle, which rlrun never does", "use rlrun resume RUN"
        )
    if args.config_dir == "":
        raise ConfigError("--config-dir is empty: it must be a folder of configs")
    if args.config_path or args.config_name:
        raise ConfigError(
            "rlrun's main config is its own",
            "a config of your own is conf/experiment/NAME.yaml: say experiment=NAME; or give --config-dir",
        )
    flags = list(arguments)
    for override in args.overrides:
        flags.remove(override)
    return args, flags


def _check_run(config: RunConfig, place: str) -> None:
    """Refuse a bad run before Hydra makes its folder."""
    from rlrun.runs.place import require_place

    require_place(Path(place), "hydra.run.dir", place)
    _complete(config)


def _complete(config: RunConfig) -> None:
    """ConfigError where a run would not fit into memory, or begins with what is not there."""
    from rlrun.runs.memory import prepared

    prepared(config)
    if config.init_from:
        from rlrun.runs.load import source_of

        source_of(config.init_from)


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
    from rlrun.config.explain import explained, stumbled

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
    except ConfigError:
        raise
    except Exception as error:
        raise stumbled(error) from error
    finally:
        sys.argv = before
    if as_json and results:
        print(json.dumps({"runs": results}))
    return code
