"""What all verbs share: arguments as words, refusals, and columns."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from rlrun.config import ConfigError
from rlrun.config.keys import EnvError, legible, printable, spelled
from rlrun.config.vocabulary import nearest


def refuse(error: ConfigError | EnvError, as_json: bool) -> int:
    """Say an error in its few lines: exit code 2 for what was asked, 1 for an env that failed later."""
    code = 2 if isinstance(error, ConfigError) else 1
    print(legible(f"rlrun: {error}".replace("\n", "\n       ")), file=sys.stderr)
    if as_json:
        print(json.dumps({"error": error.lines, "exit_code": code}))
    return code


def failed(error: Exception, as_json: bool) -> int:
    """Say what ended a command that was right; the exit code."""
    line = printable(str(error))
    print(legible(f"rlrun: {line}"), file=sys.stderr)
    if as_json:
        print(json.dumps({"error": [line], "exit_code": 1}))
    return 1


def verb_parser(verb: str, about: str) -> argparse.ArgumentParser:
    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            known = [option for action in self._actions for option in action.option_strings]
            odd = re.match(r"unrecognized arguments: ([^\s=]+)", message)
            meant = nearest(odd[1], known) if odd else None
            line = f"did you mean {meant}?" if meant else ""
            raise ConfigError(message, line, " ".join(self.format_usage().split()))

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


def override(key: str, value: object) -> str:
    """key=value as a shell hands it to Hydra, and Hydra reads it."""
    return shlex.quote(f"{key}={spelled(str(value))}")


def columns(rows: Sequence[Sequence[str]], indent: str = "  ") -> str:
    """Text in aligned columns, the last one as long as it likes."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(indent + line.rstrip() for line in lines)
