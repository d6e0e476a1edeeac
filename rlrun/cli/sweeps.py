"""`rlrun -m KEY=VALUE,VALUE ...` and `rlrun sweep`: words of a sweep's own, and what comes of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rlrun.cli.words import verb_parser
from rlrun.config import ConfigError
from rlrun.config.keys import is_name, legible, whole_number
from rlrun.config.vocabulary import hint
from rlrun.sweeps.options import Options

if TYPE_CHECKING:
    from rlrun.sweeps.folder import SweepFolder
    from rlrun.sweeps.sweep import Swept

_IMPORTING = ("imports", "env.allow_import", "hydra.searchpath")  # keys that lead to code
USAGE = """\
usage: rlrun sweep KEY=VALUE,VALUE ...   the same as rlrun -m: each combination is a run
       rlrun sweep resume FOLDER         go on with a sweep; so does the command that began it
                                         (hydra/launcher=NAME: by that launcher)

  jobs=N           jobs at a time; default: as many as there are cores and memory for
  sweep=NAME       the folder, outputs/sweeps/NAME; default: a name made of the keys that vary
  --retry-failed   try jobs again that failed
  --yes            more than 10,000 jobs are meant
  --json           print one JSON object on stdout
"""


def options_of(arguments: Sequence[str]) -> tuple[list[str], Options]:
    """The other arguments, and what those say that are a sweep's own.

    Raises:
        ConfigError: a number or a name that cannot be.
    """
    rest, found = [], Options()
    for word in arguments:
        key, sign, value = word.partition("=")
        if word == "--yes":
            found = replace(found, yes=True)
        elif word == "--retry-failed":
            found = replace(found, retry_failed=True)
        elif sign and key == "jobs":
            number = whole_number(value)
            if not number or number < 1 or number > 1024:
                raise ConfigError(f"jobs is {value}: it must be an integer from 1 to 1024")
            found = replace(found, jobs=number)
        elif sign and key == "sweep":
            if not is_name(value):
                raise ConfigError(
                    f"sweep is {value}: it must be a folder's name, of A-Z, a-z, 0-9, . _ and -"
                )
            found = replace(found, name=value)
        else:
            rest.append(word)
    return rest, found


def begin(overrides: list[str], options: Options, as_json: bool) -> int | list[str]:
    """Do a grid's jobs; where Hydra runs them, for a sweeper, a callback or names of its own, its overrides.

    Raises:
        ConfigError: the sweep cannot be read, or should not be begun.
    """
    from rlrun.config.sweep import DIRECTION, sweep
    from rlrun.sweeps.check import checked
    from rlrun.sweeps.sweep import begin

    asked = sweep(overrides, options.config_dir)
    if not asked.foreign:
        return _told(begin(asked, options), as_json)
    if options.jobs or options.name or options.retry_failed:
        raise ConfigError(f"{options.told()} is of no use where Hydra runs the sweep")
    checked(asked, asked.folder, options.config_dir, yes=options.yes)
    if not asked.turned:
        return overrides
    from rlrun.runs.log import say

    say(f"{DIRECTION}=maximize: scores are better the higher they are")
    return [*overrides, f"{DIRECTION}=maximize"]


def resume(arguments: list[str], as_json: bool) -> int:
    """Go on with a sweep."""
    rest, options = options_of(arguments)
    parser = verb_parser("sweep resume", "Go on with a sweep.")
    parser.add_argument("folder", metavar="FOLDER", help="a sweep's folder, outputs/sweeps/NAME")
    parser.add_argument("launcher", nargs="*", metavar="hydra/launcher=NAME", help="where its jobs run")
    parser.add_argument("--config-dir", help="a folder of configs that its jobs need")
    parser.add_argument("--allow-import", action="store_true", help="import the modules that its jobs name")
    args = parser.parse_args(rest)
    if options.name:
        raise ConfigError("sweep= names a new sweep's folder", USAGE.splitlines()[1].strip())
    from rlrun.config.sweep import of_launcher
    from rlrun.sweeps.folder import SweepFolder
    from rlrun.sweeps.sweep import go_on

    for word in args.launcher:
        if not of_launcher(word):
            raise ConfigError(
                f"{word} changes no sweep that has begun",
                "more jobs join it by the command that began it, with more values",
            )

    folder = SweepFolder.at(Path(args.folder))
    if not folder.jobs:
        raise _no_sweep(args.folder)
    _allow(folder, args.allow_import)
    options = replace(options, config_dir=args.config_dir, launcher=tuple(args.launcher))
    return _told(go_on(folder, options), as_json)


def _no_sweep(path: str) -> ConfigError:
    from rlrun.sweeps.folder import RECORD

    beside, inside = (
        [str(file.parent) for file in sorted(place.glob(f"*/{RECORD}"))]
        for place in (Path(path).parent, Path(path))
    )
    what = f"is no sweep's folder: it has no {RECORD}" if Path(path).exists() else "does not exist"
    line = f"{inside[-1]} is one" if inside else hint(path, beside) or "sweeps are in outputs/sweeps/NAME"
    return ConfigError(f"{path} {what}", line)


def _allow(folder: SweepFolder, allowed: bool) -> None:
    """A sweep's folder is data: what its jobs would import is imported where this command line allows it."""
    words = {word for job in folder.jobs.values() for word in job.words}
    doubtful = sorted(word for word in words if word.lstrip("+").startswith(_IMPORTING))
    if doubtful and not allowed:
        raise ConfigError(
            f"{folder.path} asks to import code: {doubtful[0]}", "if you trust it, add --allow-import"
        )


def _told(swept: Swept, as_json: bool) -> int:
    """Say what came of a sweep; the exit code."""
    print(json.dumps(swept.plain()) if as_json else legible(str(swept)))
    return swept.exit_code
