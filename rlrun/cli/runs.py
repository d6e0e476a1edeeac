"""The verbs that take a run folder."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from rlrun.cli.words import override, verb_parser
from rlrun.config import ConfigError
from rlrun.config.keys import legible, printable
from rlrun.config.vocabulary import hint
from rlrun.runs.process import contained


def run_folder(path: str) -> Path:
    """The run folder at `path`.

    Raises:
        ConfigError: there is none.
    """
    from rlrun.runs.folder import RunFolder

    folder = Path(path)
    if RunFolder(folder).exists:
        return folder
    inside = RunFolder.under(folder) if os.path.isdir(folder) else []
    if inside:
        newest = max(inside, key=lambda run: run.record.lstat().st_mtime)
        raise ConfigError(f"{path} is not a run folder", f"the newest run in it is {newest.quoted}")
    what = (
        f"is not a run folder: it has no {RunFolder.record}" if os.path.exists(folder) else "does not exist"
    )
    siblings = [str(run) for run in RunFolder.beside(folder)]
    raise ConfigError(
        f"{path} {what}", hint(str(folder), siblings) or "runs are in outputs/ALGO-ENV/TIME-NAME"
    )


def _allow(folder: Path, allowed: bool) -> None:
    """A run folder is data: what it names is imported where this command line allows it, or one's own did."""
    from rlrun.config import catalog
    from rlrun.runs.folder import RunFolder

    names, doubts = RunFolder(folder).imports()
    if doubts and not allowed:
        raise ConfigError(
            f"{folder} asks to import {', '.join(doubts)}",
            "; ".join(dict.fromkeys(doubts.values())),
            "if you trust that code, add --allow-import",
        )
    catalog.import_modules(names)


def _run_parser(verb: str, about: str) -> argparse.ArgumentParser:
    parser = verb_parser(verb, about)
    parser.add_argument("run", metavar="RUN", help="a run folder")
    parser.add_argument("--allow-import", action="store_true", help="import the modules that the run names")
    return parser


def _opened(args: argparse.Namespace) -> Path:
    folder = run_folder(args.run)
    _allow(folder, args.allow_import)
    return folder


def can_be_made(out: Path, option: str = "--out") -> None:
    """ConfigError where neither a file nor a folder of this path can be made, or changed."""
    from rlrun.runs.place import require_place

    require_place(out.parent if os.path.lexists(out) else out, option, out)


def evaluate(arguments: list[str], as_json: bool) -> int:
    from rlrun.runs.folder import RunFolder

    parser = _run_parser("evaluate", "Judge a trained run again, on whole episodes.")
    parser.add_argument(
        "--episodes", type=positive, help="episodes per replica; default: the run's own number"
    )
    parser.add_argument(
        "--seed", type=int, help="other episodes than those of the run's own final evaluation"
    )
    args = parser.parse_args(arguments)
    folder = _opened(args)
    from rlrun.api import evaluate

    summary = evaluate(folder, args.episodes, args.seed)
    if as_json:
        print(json.dumps(summary))
    else:
        from rlrun.report.pages import shown

        print(legible(shown(RunFolder(folder), summary)))
    return int(all("failed" in row for row in summary["replicas"]))


def play(arguments: list[str], as_json: bool) -> int:
    from rlrun.runs.folder import RunFolder

    parser = _run_parser("play", "Record one episode of a trained run as a GIF.")
    parser.add_argument("--out", type=Path, help="the file; default: play.gif in the run folder")
    parser.add_argument("--replica", type=int, default=0, help="whose policy; default: 0")
    args = parser.parse_args(arguments)
    folder = _opened(args)
    out = args.out or RunFolder(folder).film
    can_be_made(out)
    from rlrun.report.film import film

    with contained():
        total = film(folder, out, args.replica)
    if out == RunFolder(folder).film:
        from rlrun.runs.tensorboard import add_image

        add_image(RunFolder(folder), out)
    told = json.dumps({"gif": str(out), "return": total}) if as_json else f"{out}  (return {total:g})"
    print(legible(told))
    return 0


def record(arguments: list[str], as_json: bool) -> int:
    from rlrun.runs.folder import RunFolder

    parser = _run_parser("record", "Write a trained run's episodes as a data set, for data=file.")
    parser.add_argument("--out", type=Path, help="the data set's folder; default: episodes in the run folder")
    parser.add_argument(
        "--minari", metavar="ID", help="write a data set of Minari's instead, for data=minari"
    )
    parser.add_argument("--episodes", type=positive, default=10, help="how many; default: 10")
    parser.add_argument("--replica", type=int, default=0, help="whose policy; default: 0")
    parser.add_argument(
        "--mode",
        choices=("greedy", "sample", "random", "replay"),
        help="how to act; default: as the run was judged; random: uniformly, whatever the policy; "
        "replay: not at all, but take the first episodes of its replay buffer",
    )
    args = parser.parse_args(arguments)
    folder = _opened(args)
    out = args.out or (None if args.minari else RunFolder(folder).episodes)
    if out:
        can_be_made(out)
    from rlrun.runs.record import record

    with contained():
        about = record(folder, args.episodes, out, args.replica, args.mode, args.minari)
    told = [f"data=file {override('data.path', out)}"] if out else []
    told += [f"data=minari {override('data.id', args.minari)}"] if args.minari else []
    if as_json:
        print(json.dumps({"path": out and str(out), "minari": args.minari} | about))
    else:
        print(legible(f"{about['steps']} steps in {about['episodes']} episodes: {' or '.join(told)}"))
    return 0


def resume(arguments: list[str], as_json: bool) -> int:
    from rlrun.runs.folder import RunFolder

    parser = _run_parser(
        "resume", "Go on with an interrupted run, to the same bits; with any to total_steps=N."
    )
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="total_steps, checkpoint.*")
    parser.add_argument(
        "--restart", action="store_true", help="begin again at step 0 if every checkpoint is lost or damaged"
    )
    args = parser.parse_intermixed_args(arguments)
    run, changes = RunFolder(run_folder(args.run)), _changes(args.changes)
    if run.in_use:  # told before anything slow is imported; the lock itself is taken later
        raise run.refusal()
    folder = _opened(args)
    before = run.record.read_bytes() if run.ended else b""
    from rlrun.api import resume

    result = resume(folder, restart=args.restart, quiet=as_json, changes=changes)
    if as_json:
        print(json.dumps({"run": str(result.folder)} | result.summary))
    elif before == run.record.read_bytes():
        more = f"rlrun evaluate {run.quoted} judges it again, total_steps=N trains it further"
        print(legible(f"{folder} had ended already; {more}"), file=sys.stderr)
    return result.exit_code


def fork(arguments: list[str], as_json: bool) -> int:
    parser = _run_parser("fork", "Start a new run from the full state of another, with other values.")
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="such as algo.learning_rate=1e-4")
    parser.add_argument("--step", type=positive, help="the checkpoint's env step; default: the newest")
    args = parser.parse_intermixed_args(arguments)
    folder, changes = _opened(args), _changes(args.changes)
    from rlrun.api import fork

    result = fork(folder, changes, step=args.step, overrides=args.changes, quiet=as_json)
    if as_json:
        print(json.dumps({"run": str(result.folder)} | result.summary))
    return result.exit_code


def _changes(words: list[str]) -> dict[str, Any]:
    """What KEY=VALUE words say; Hydra, which reads them, is not imported for none."""
    if not words:
        return {}
    from rlrun.config.compose import pairs

    return pairs(words)


def report(arguments: list[str], as_json: bool) -> int:
    from rlrun.runs.folder import RunFolder

    parser = _run_parser("report", "Make a run's pictures and its report again, from its files.")
    folder = _opened(parser.parse_args(arguments))
    from rlrun.api import report

    text = report(folder)
    run = RunFolder(folder)
    made = [str(file) for file in (run.curve, run.policy, run.report, run.report_json, run.folds, run.equity)]
    made = [file for file in made if Path(file).exists()]
    print(json.dumps({"run": str(folder), "files": made}) if as_json else legible(text))
    return 0


def positive(text: str) -> int:
    if not text.isdecimal() or len(text) > 18 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{printable(text, 40)} is not a positive integer of 64 bits")
    return int(text)
