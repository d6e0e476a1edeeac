"""rlrun compare: which of several configurations is better, and how surely."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rlrun.cli.runs import can_be_made, run_folder
from rlrun.cli.words import verb_parser
from rlrun.config import ConfigError
from rlrun.config.keys import legible
from rlrun.files import write_atomic, writing

if TYPE_CHECKING:
    from rlrun.report.compare import Comparison

_FORMATS = ("csv", "md", "latex")
_SHOWN = 8  # runs left out that are named


def compare(arguments: list[str], as_json: bool) -> int:
    args = _parser().parse_args(arguments)
    paths = [Path(path) for path in args.paths]
    for path in paths:
        if not os.path.isdir(path):
            run_folder(str(path))  # says what is there instead
    asked = {name: getattr(args, name) for name in _FORMATS if getattr(args, name) is not None}
    alone = [f"--{name}" for name, file in asked.items() if not file] + ["--json"] * as_json
    if len(alone) > 1:
        raise ConfigError(
            f"{' and '.join(alone)} cannot both go to stdout", "name a file for one: --csv scores.csv"
        )
    for name, file in asked.items():
        if file and os.path.isdir(file):
            raise ConfigError(f"--{name} {file} is a folder: it must be a file")
        if file:
            can_be_made(Path(file), f"--{name}")
    pictures = _folder(args.plot, paths)
    from rlrun.report.compare import comparison

    found = comparison(paths, args.by, args.baseline)
    for line in _left_out(found.left_out):
        print(legible(line), file=sys.stderr)
    texts = {"csv": found.to_csv, "md": found.to_markdown, "latex": found.to_latex}
    made = [file for file in asked.values() if file]
    for name, file in asked.items():
        if file:
            write_atomic(Path(file), texts[name]().encode("utf-8", "replace"))
    made += _drawn(found, pictures)
    if as_json:
        print(json.dumps({"runs": found.rows, "left_out": found.left_out, "files": made}))
    elif alone:
        print(legible(texts[alone[0][2:]]()), end="")
    else:
        print(legible("\n".join([*found.lines(), *(f"wrote {file}" for file in made)])))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("compare", "Which configuration is better, and whether the evidence tells.")
    files = " ".join(f"[--{name} [FILE]]" for name in _FORMATS)
    parser.usage = f"rlrun compare PATH... [--by STATISTIC] [--baseline NAME] [--plot [FOLDER]] {files}"
    parser.add_argument("paths", nargs="+", metavar="PATH", help="runs, or folders that hold runs")
    by = "rank by iqm, median, mean or worst; default: iqm"
    parser.add_argument("--by", default="iqm", metavar="STATISTIC", help=by)
    base = "the row to test against; default: the first of its task"
    parser.add_argument("--baseline", metavar="NAME", help=base)
    where = "draw compare-ENV.png in FOLDER; default: the one that holds all of the runs"
    parser.add_argument("--plot", nargs="?", const="", metavar="FOLDER", help=where)
    for name, what in zip(_FORMATS, ("CSV", "Markdown", "LaTeX"), strict=True):
        to = f"{what}, to stdout or a file"
        parser.add_argument(f"--{name}", nargs="?", const="", metavar="FILE", help=to)
    return parser


def _folder(asked: str | None, paths: list[Path]) -> Path | None:
    """Where pictures go, if anywhere: by default the folder that all of the runs are in."""
    if asked is None:
        return None
    from rlrun.runs.folder import RunFolder
    from rlrun.runs.place import require_place

    folder = Path(asked)
    if not asked:
        absolute = any(path.is_absolute() for path in paths)
        folder = Path(
            os.path.commonpath(
                [os.path.abspath(path) if absolute else os.path.normpath(path) for path in paths]
            )
        )
        while RunFolder(folder).exists:
            folder = folder.parent
    require_place(folder, "--plot", folder)
    return folder


def _left_out(problems: list[str]) -> list[str]:
    """What is said of runs that could not be read."""
    lines = [f"rlrun: left out: {problem}" for problem in problems[:_SHOWN]]
    more = len(problems) - _SHOWN
    return lines + [f"rlrun: left out: {more:,} more, which are damaged as well"] * (more > 0)


def _drawn(found: Comparison, folder: Path | None) -> list[str]:
    """The pictures that were made."""
    if folder is None:
        return []
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return [str(path) for path in found.draw(folder)]
