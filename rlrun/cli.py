"""The command line: `rlrun [overrides]` trains, `rlrun VERB ...` does the rest.

Verbs are found by the first word, before Hydra or torch is imported. Hydra itself takes
over only when it is asked to: by a flag of its own or by an override of `hydra.*`.

Progress and refusals go to stderr; stdout holds the result, with --json one JSON object.
Exit codes: 0 done, 1 training failed, 2 bad config or usage, 130 and 143 stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rlrun.config import GROUPS, ConfigError, nearest, printable

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from rlrun.runner import Result

LISTED = (*GROUPS, "experiment")

HELP = """\
usage: rlrun [KEY=VALUE ...]        train
       rlrun VERB ...               do something else; rlrun VERB --help says more

  list [GROUP]     what there is: algo, env, model, eval, data, experiment
  describe NAME    every key of an algo, env or model: type, value, bounds, meaning
  evaluate RUN     judge a trained run on fresh episodes
  play RUN         record a trained run as a GIF
  record RUN       write its episodes as a data set for imitation and offline algorithms
  resume RUN       go on with an interrupted run
  compare PATH...  a table over runs or folders of runs
  doctor           what is installed, and what is missing

main keys: algo, env, model, eval, data, seed (the first), replicas (seeds that train
together), total_steps, num_envs, device, out, algo.learning_rate, eval.episodes, ...

  rlrun algo=lstm_dqn env=cartpole            one run
  rlrun algo=ppo env=cartpole replicas=5      five seeds in one program
  rlrun env=gym env.id=Acrobot-v1             any Gymnasium id
  rlrun -m algo=dqn,ppo algo.gamma=0.95,0.99  a sweep: each combination a run

  --json           print one JSON object on stdout
  --cfg job        show the composed config and stop (a flag of Hydra, as are -m,
                   --config-dir and others: rlrun --hydra-help)
  --version
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. `argv` defaults to the process's."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in arguments
    arguments = [argument for argument in arguments if argument != "--json"]
    try:
        return _dispatch(arguments, as_json)
    except ConfigError as error:
        return _refuse(error, as_json)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `rlrun list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _dispatch(arguments: list[str], as_json: bool) -> int:
    word = arguments[0] if arguments else ""
    if word in VERBS:
        return VERBS[word](arguments[1:], as_json)
    if "--help" in arguments or "-h" in arguments or word == "help":
        print(HELP, end="")
        return 0
    if "--version" in arguments:
        from rlrun import __version__

        print(f"rlrun {__version__}")
        return 0
    if word and word.isidentifier() and word != "train":
        near = nearest(word, VERBS)
        raise ConfigError(
            f"unknown command {word!r}",
            f"did you mean {near}?" if near else "",
            f"commands are {', '.join(VERBS)}; training takes KEY=VALUE, as in rlrun algo=dqn",
        )
    return _train(arguments[1:] if word == "train" else arguments, as_json)


def _refuse(error: ConfigError, as_json: bool) -> int:
    print(f"rlrun: {error}".replace("\n", "\n       "), file=sys.stderr)
    if as_json:
        print(json.dumps({"error": error.lines, "exit_code": 2}))
    return 2


def _parser(verb: str, about: str) -> argparse.ArgumentParser:
    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise ConfigError(message, " ".join(self.format_usage().split()))

        def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
            """`key=value` is `--key=value`, as everywhere else."""
            known = {option for action in self._actions for option in action.option_strings}
            pairs = (word.partition("=") for word in args)
            told = [
                "--" * (sign == "=" and f"--{name}" in known) + name + sign + value
                for name, sign, value in pairs
            ]
            return super().parse_known_args(told, namespace)

    parser = Parser(prog=f"rlrun {verb}".strip(), description=about, allow_abbrev=False)
    parser.epilog = "--json prints one JSON object on stdout"
    return parser


def _columns(rows: Sequence[Sequence[str]], indent: str = "  ") -> str:
    """Text in aligned columns, the last one as long as it likes."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(indent + line.rstrip() for line in lines)


# train


def _train(arguments: list[str], as_json: bool) -> int:
    """Check everything, then train; by way of Hydra's own application where a flag asks for it."""
    args, flags = _hydra_arguments(arguments)
    from rlrun import compose

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
    from rlrun.runner import execute

    result = _stoppable(lambda: execute(config, overrides=args.overrides, quiet=as_json))
    if isinstance(result, int):
        return result
    if as_json:
        print(json.dumps({"run": str(result.folder)} | result.summary))
    return result.exit_code


def _stoppable(train: Callable[[], Result]) -> Result | int:
    """The result of training, or the exit code of a signal that stopped it."""
    from rlrun.session import Stopped

    try:
        return train()
    except Stopped as stop:
        return stop.exit_code


def _hydra_arguments(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Hydra's flags and the overrides, in whatever order they came; and the flags as words."""
    from hydra._internal.utils import get_args_parser

    def refuse(message: str) -> NoReturn:
        known = [option for action in parser._actions for option in action.option_strings]
        wrong = next((a for a in arguments if a.startswith("-") and a.split("=")[0] not in known), "")
        near = nearest(wrong, [*known, "--json"]) if wrong else None
        raise ConfigError(message, f"did you mean {near}?" if near else "", "rlrun --help shows the flags")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    args = parser.parse_intermixed_args(arguments)
    if args.experimental_rerun:
        raise ConfigError(
            "--experimental-rerun loads a pickle, which rlrun never does", "use rlrun resume RUN"
        )
    if args.config_path or args.config_name:
        raise ConfigError("rlrun's main config is its own", "add recipes with --config-dir or a folder conf/")
    flags = list(arguments)
    for override in args.overrides:
        flags.remove(override)
    return args, flags


def _check_sweep(overrides: list[str], config_dir: str | None) -> None:
    """Refuse a bad sweep before its folder is made: compose a job for every value that it names."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from rlrun import compose

    with compose.explained():
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
    """A job of a sweep ended with exit code 1; the others go on."""


def _hydra_main(flags: list[str], overrides: list[str], as_json: bool) -> int:
    """Hydra's own application; each job of it is one run."""
    import hydra
    from hydra.core.hydra_config import HydraConfig

    from rlrun import catalog, compose

    compose.install()
    with compose.explained():
        compose.check_overrides(overrides)
    results: list[dict[str, Any]] = []

    def job(cfg: DictConfig) -> float | None:
        from rlrun.runner import execute

        hydra_config = HydraConfig.get()
        config = compose.resolve(cfg, compose.choices(hydra_config.runtime.choices))
        output = Path(hydra_config.runtime.output_dir)
        folder = None if output == Path.cwd() else output
        told = list(hydra_config.overrides.task)
        result = _stoppable(lambda: execute(config, folder=folder, overrides=told, quiet=as_json))
        if isinstance(result, int):
            raise SystemExit(result)  # a signal ends the whole sweep
        results.append({"run": str(result.folder)} | result.summary)
        if result.exit_code:
            raise _JobFailed(f"{result.folder} failed")
        return result.summary["aggregate"].get("mean")

    before, sys.argv = sys.argv, ["rlrun", *flags, *overrides]
    code = 0
    try:
        with compose.explained():
            hydra.main(str(catalog.conf_dir()), "config", compose.VERSION_BASE)(job)()
    except _JobFailed as failure:
        print(f"rlrun: {failure}", file=sys.stderr)
        code = 1
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    finally:
        sys.argv = before
    if as_json and results:
        print(json.dumps({"runs": results}))
    return code


# what there is


def _list(arguments: list[str], as_json: bool) -> int:
    from rlrun import catalog

    parser = _parser("list", "What there is to choose from, each with one line.")
    parser.add_argument("group", nargs="?", help=", ".join(LISTED))
    group = parser.parse_args(arguments).group
    if group not in (None, *LISTED):
        near = nearest(group, LISTED)
        raise ConfigError(
            f"no group {group!r}", f"did you mean {near}?" if near else "", f"groups: {', '.join(LISTED)}"
        )
    found = {
        g: {name: catalog.headline(path) for name, path in catalog.recipes(g).items()}
        for g in LISTED
        if group in (None, g)
    }
    if as_json:
        print(json.dumps(found))
        return 0
    for g, recipes in found.items():
        if recipes:
            print(g)
            lines = {printable(name): printable(line) for name, line in recipes.items()}
            print(_algorithms(lines) if g == "algo" else _columns(list(lines.items())))
    print("rlrun describe NAME shows the keys of one; rlrun algo=NAME env=NAME trains", file=sys.stderr)
    return 0


def _algorithms(lines: Mapping[str, str]) -> str:
    """The algorithms by family: name, the actions they take, whether memory helps, what they are."""
    from rlrun import catalog
    from rlrun.core import FAMILIES

    short = {"discrete": "discrete", "multi_discrete": "multi", "box": "box"}
    families: dict[str, list[tuple[str, ...]]] = {family: [] for family in (*FAMILIES, "other")}
    for name, line in lines.items():
        entry = catalog.entry("algo", name)
        build = entry.build if entry else None
        actions = [word for kind, word in short.items() if kind in getattr(build, "action_kinds", ())]
        memory = "memory" if getattr(build, "takes_memory", False) else "-"
        row = (f"  {name}", ", ".join(actions), memory, line)
        families[build.family if build and build.family in families else "other"].append(row)
    head = ("", "actions", "models", "")
    groups = [[(family, "", "", ""), *rows] for family, rows in families.items() if rows]
    return _columns([head, *(row for group in groups for row in group)])


def _describe(arguments: list[str], as_json: bool) -> int:
    from rlrun import catalog

    parser = _parser("describe", "Every key of a recipe: its value, type, bounds and meaning.")
    parser.add_argument("name", nargs="?", help="such as dqn or algo/dqn; the main keys if left out")
    name = parser.parse_args(arguments).name
    found = catalog.find(name) if name else [("", "")]
    if not found:
        near = nearest(name, [recipe for group in GROUPS for recipe in catalog.recipes(group)])
        raise ConfigError(
            f"nothing is called {name!r}",
            f"did you mean {near}?" if near else "",
            "rlrun list shows the names",
        )
    described = [_description(group, recipe) for group, recipe in found]
    if as_json:
        print(json.dumps({"recipes": described}))
        return 0
    for recipe in described:
        print(f"{recipe['title']}\n  {recipe['line']}")
        if recipe["sets"]:
            print("  sets " + ", ".join(f"{k}={v}" for k, v in recipe["sets"].items()))
        rows = [("key", "value", "may be", "meaning")]
        rows += [(k["key"], json.dumps(k["value"]), k["allowed"], k["doc"]) for k in recipe["keys"]]
        print(_columns(rows) if recipe["keys"] else "  it has no keys")
    return 0


def _description(group: str, recipe: str) -> dict[str, Any]:
    """A recipe with its keys; those of the run itself for group ''."""
    from omegaconf import OmegaConf

    from rlrun import catalog, compose
    from rlrun.config import MainKeys

    with compose.composed([f"{group}={recipe}"] if group else []) as cfg:
        schema: Any = OmegaConf.get_type(cfg, group) if group else MainKeys
        values: Any = OmegaConf.to_container(cfg[group] if group else cfg, resolve=False)
        chosen = compose.choices(cfg.hydra.runtime.choices)
        path = catalog.recipes(group)[recipe] if group else catalog.conf_dir() / "config.yaml"
        sets = {}
        if group:
            import yaml

            own = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
            sets = (
                {name: cfg[name] for name in own if name in ("total_steps", "num_envs")}
                if group == "algo"
                else {}
            )
            sets |= {"model": chosen["model"]} if group == "algo" else {}
    return {
        "title": f"{group}={recipe}" if group else "the main keys",
        "line": catalog.headline(path),
        "sets": sets,
        "keys": _keys(schema, values, f"{group}." if group else ""),
    }


def _keys(schema: type, values: dict[str, Any], prefix: str) -> list[dict[str, Any]]:
    from dataclasses import fields, is_dataclass

    from rlrun.config import allowed, hints

    rows: list[dict[str, Any]] = []
    for f in fields(schema):
        hint, value = hints(schema)[f.name], values.get(f.name, "???")
        if isinstance(hint, type) and is_dataclass(hint) and isinstance(value, dict):
            rows += _keys(hint, value, f"{prefix}{f.name}.")
        elif f.name not in GROUPS or prefix:
            row = {
                "key": prefix + f.name,
                "value": value,
                "allowed": allowed(f, hint),
                "doc": f.metadata.get("doc", ""),
            }
            rows.append(row)
    return rows


# run folders


def run_folder(path: str) -> Path:
    """The run folder at `path`.

    Raises:
        ConfigError: there is none.
    """
    folder = Path(path)
    if (folder / "run.json").is_file():
        return folder
    inside = (
        sorted(folder.glob("**/run.json"), key=lambda file: file.stat().st_mtime) if folder.is_dir() else []
    )
    if inside:
        raise ConfigError(f"{path} is not a run folder", f"the newest run in it is {inside[-1].parent}")
    what = "is not a run folder: it has no run.json" if folder.exists() else "does not exist"
    siblings = [str(p.parent) for p in folder.parent.glob("*/run.json")] if folder.parent.is_dir() else []
    near = nearest(str(folder), siblings)
    raise ConfigError(
        f"{path} {what}", f"did you mean {near}?" if near else "runs are in outputs/ALGO-ENV/TIME-NAME"
    )


def _allow(folder: Path, allowed: bool) -> None:
    """A run folder is data: what it names is imported only where this command line allows it."""
    from rlrun import catalog
    from rlrun.checkpoint import read_regular

    try:
        config = json.loads(read_regular(folder / "run.json", 1 << 24))["config"]
        names = [name for name in config.get("imports", []) if name not in sys.modules]
        env_id = config["env"].get("id") or ""
        if ":" in env_id:
            names.append(env_id.partition(":")[0])
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise ConfigError(f"{folder / 'run.json'} is damaged: {error}") from None
    if names and not allowed:
        raise ConfigError(
            f"{folder} asks to import {', '.join(map(str, names))}",
            "if you trust that code, add --allow-import",
        )
    catalog.import_modules(map(str, names))


def _run_parser(verb: str, about: str) -> argparse.ArgumentParser:
    parser = _parser(verb, about)
    parser.add_argument("run", metavar="RUN", help="a run folder")
    parser.add_argument("--allow-import", action="store_true", help="import the modules that the run names")
    return parser


def _opened(args: argparse.Namespace) -> Path:
    folder = run_folder(args.run)
    _allow(folder, args.allow_import)
    return folder


def _evaluate(arguments: list[str], as_json: bool) -> int:
    parser = _run_parser("evaluate", "Judge a trained run again, on whole episodes.")
    parser.add_argument(
        "--episodes", type=_positive, help="episodes per replica; default: the run's own number"
    )
    parser.add_argument(
        "--seed", type=int, help="other episodes than those of the run's own final evaluation"
    )
    args = parser.parse_args(arguments)
    folder = _opened(args)
    with _sound(folder):
        from rlrun.runner import evaluate

        summary = evaluate(folder, args.episodes, args.seed)
    if as_json:
        print(json.dumps(summary))
    else:
        from rlrun.report import results_table

        print(results_table(summary, folder))
    return 0


def _play(arguments: list[str], as_json: bool) -> int:
    parser = _run_parser("play", "Record one episode of a trained run as a GIF.")
    parser.add_argument("--out", type=Path, help="the file; default: play.gif in the run folder")
    parser.add_argument("--replica", type=int, default=0, help="whose policy; default: 0")
    args = parser.parse_args(arguments)
    folder = _opened(args)
    out = args.out or folder / "play.gif"
    with _sound(folder):
        from rlrun.play import play

        total = play(folder, out, args.replica)
    print(json.dumps({"gif": str(out), "return": total}) if as_json else f"{out}  (return {total:g})")
    return 0


def _record(arguments: list[str], as_json: bool) -> int:
    parser = _run_parser("record", "Write a trained run's episodes as a data set, for data=file.")
    parser.add_argument("--out", type=Path, help="the data set's folder; default: episodes in the run folder")
    parser.add_argument(
        "--minari", metavar="ID", help="write a data set of Minari's instead, for data=minari"
    )
    parser.add_argument("--episodes", type=_positive, default=10, help="how many; default: 10")
    parser.add_argument("--replica", type=int, default=0, help="whose policy; default: 0")
    parser.add_argument(
        "--mode",
        choices=("greedy", "sample", "random", "replay"),
        help="how to act; default: as the run was judged; random: uniformly, whatever the policy; "
        "replay: not at all, but take the first episodes of its replay buffer",
    )
    args = parser.parse_args(arguments)
    folder = _opened(args)
    out = args.out or (None if args.minari else folder / "episodes")
    with _sound(folder):
        from rlrun.datasets import record

        about = record(folder, args.episodes, out, args.replica, args.mode, args.minari)
    places = {"file data.path": out, "minari data.id": args.minari}
    if as_json:
        print(json.dumps({"path": out and str(out), "minari": args.minari} | about))
    else:
        use = " or ".join(f"data={name}={place}" for name, place in places.items() if place)
        print(f"{about['steps']} steps in {about['episodes']} episodes: {use}")
    return 0


def _resume(arguments: list[str], as_json: bool) -> int:
    args = _run_parser("resume", "Go on with an interrupted run, to the same bits.").parse_args(arguments)
    folder = _opened(args)
    finished = (folder / "summary.json").exists()
    with _sound(folder):
        from rlrun.runner import resume

        result = _stoppable(lambda: resume(folder, quiet=as_json))
    if isinstance(result, int):
        return result
    if as_json:
        print(json.dumps({"run": str(result.folder)} | result.summary))
    elif finished:
        print(f"{folder} had ended already; rlrun evaluate {folder} judges it again", file=sys.stderr)
    return result.exit_code


def _compare(arguments: list[str], as_json: bool) -> int:
    parser = _parser("compare", "A table over runs, or over folders that hold runs.")
    parser.add_argument("paths", nargs="+", metavar="PATH")
    paths = [Path(path) for path in parser.parse_args(arguments).paths]
    for path in paths:
        if not path.is_dir() or next(path.glob("**/run.json"), None) is None:
            run_folder(str(path))
    from rlrun.compare import compare

    return compare(paths, as_json)


class _sound:
    """Turns what a damaged run folder raises into a refusal."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from rlrun.checkpoint import CheckpointError

        if isinstance(error, (CheckpointError, FileNotFoundError)):
            raise ConfigError(f"{self._folder} cannot be used", str(error)) from error


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def _doctor(arguments: list[str], as_json: bool) -> int:
    """Versions, and which extras are there."""
    import importlib.util
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from rlrun import catalog

    _parser("doctor", "What is installed, and what is missing.").parse_args(arguments)
    wanted = {
        "core": (
            "torch",
            "numpy",
            "gymnasium",
            "hydra-core",
            "omegaconf",
            "tensorboard",
            "safetensors",
            "rich",
        ),
        "plots": ("matplotlib",),
        "render": ("pillow", "pygame-ce"),
        "box2d": ("box2d",),
        "minari": ("minari",),
    }
    rows, missing = [("python", platform.python_version(), "")], []
    for extra, packages in wanted.items():
        for package in packages:
            try:
                rows.append((package, version(package), ""))
            except PackageNotFoundError:
                hint = "broken installation" if extra == "core" else f"pip install 'rlrun[{extra}]'"
                rows.append((package, "missing", hint))
                missing.append(package)
    cuda = False
    if importlib.util.find_spec("torch"):
        import torch

        cuda = torch.cuda.is_available()
    rows += [("cpus", str(os.cpu_count()), ""), ("cuda", "yes" if cuda else "no", "")]
    rows += [("recipes", str(folder), "") for folder in catalog.conf_dirs()]
    if as_json:
        print(json.dumps({name: value for name, value, _ in rows} | {"missing": missing}))
    else:
        print(_columns(rows, indent=""))
    return 1 if set(missing) & set(wanted["core"]) else 0


VERBS: dict[str, Callable[[list[str], bool], int]] = {
    "list": _list,
    "describe": _describe,
    "evaluate": _evaluate,
    "play": _play,
    "record": _record,
    "resume": _resume,
    "compare": _compare,
    "doctor": _doctor,
}
