"""The verb that shows many runs in TensorBoard."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from rlrun.cli.words import verb_parser
from rlrun.config.keys import legible, printable

_EVERY = 5.0  # seconds between looks for new runs
_SELECTED = 500  # lines that TensorBoard shows without being asked to
_ADVICE = "of {:,} lines TensorBoard shows none by itself: of the means, tick the box above the list"


def board(arguments: list[str], as_json: bool) -> int:
    """Serve until a signal comes."""
    parser = verb_parser("board", "TensorBoard over all runs under the paths, with readable names.")
    parser.add_argument("paths", nargs="*", metavar="PATH", default=["outputs"], help="default: outputs")
    parser.add_argument("--port", type=_port, help="default: 6006, or the next that is free")
    args = parser.parse_args(arguments)
    from rlrun.tools.board import board

    with board([Path(path) for path in args.paths], args.port) as (address, shown):
        if as_json:
            print(json.dumps({"url": address, "logdir": str(shown.folder)}))
        else:
            print(legible(f"TensorBoard is at {address}; Ctrl-C ends it"))
            print(legible(f"means alone are at {address}?runFilter=mean%24#timeseries"))
        if shown.size > _SELECTED:
            print(legible(f"rlrun: {_ADVICE.format(shown.size)}"), file=sys.stderr)
        told: set[Path] = set()
        while True:
            shown.refresh()
            for path in shown.left_out.keys() - told:
                print(legible(f"rlrun: {path} is left out: {shown.left_out[path]}"), file=sys.stderr)
                told.add(path)
            time.sleep(_EVERY)


def _port(text: str) -> int:
    if not text.isdecimal() or len(text) > 5 or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{printable(text, 40)} is not a port: 1 to 65535")
    return int(text)
