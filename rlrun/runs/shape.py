"""What the JSON files of a run folder must look like before anybody relies on it.

A shape is a type, None, a tuple of shapes of which one must fit, [the shape of every element], or a
mapping of names to shapes: `name?` may be missing, and `*` is any other name. Names that a shape
does not know are left alone, for a later release may write them. Integers have 64 bits, numbers
are finite, and text is not endless.
"""

from __future__ import annotations

import math
from typing import Any

Shape = Any
_TEXT = 4096  # characters

_SCALAR = (float, str, bool, None)
_NUMBER = (float, None)
_WINDOW = [int]

REPLICA = {"replica": int, "seed": int, "fold": (int, None), "variant?": int}
IMPORTS = {  # all of run.json that says what is imported
    "config": {"env": {"id?": (str, None)}, "imports?": [str]},
    "modules?": {"*": {"*": object}},
}
RECORD = {
    "schema": int,
    "config": {
        "env": {"kind": str, "id?": (str, None), "*": object},
        "eval": {"kind": str, "*": object},
        "data": {"kind": str, "*": object},
        "log": {"every": (int, None), "*": object},
        "choices": {"*": str},
        "total_steps": int,
        "replicas": int,
        "seed": int,
        "imports?": [str],
    },
    "obs": {"kind": str},
    "action": {"kind": str},
    "masks?": bool,
    "replicas": [REPLICA],
    "data_sha256": (str, None),
    "config_hash?": str,
    "back?": str,
    "extended?": [int],
    "fork_of?": {"run": str, "step": int, "config_hash?": (str, None)},
}
STATUS = {"status": str, "step": int, "reason": str}
STATE = {  # of a checkpoint
    "updates": int,
    "metrics_bytes": int,
    "marks?": {"*": int},
    "wall_seconds": float,
    "failures": {"*": str},
    "begun?": [str],
    "total_steps?": int,
    "stopped?": {"*": str},
    "ended_at?": [int],
}
SUMMARY = {
    "env_steps": int,
    "updates": int,
    "wall_seconds": float,
    "policy?": str,
    "notes?": [str],
    "replicas": [
        REPLICA
        | {"steps": int, "eval_return": _NUMBER, "eval_return_std?": _NUMBER, "eval_episodes?": (int, None)}
        | {
            "failed?": str,
            "stopped?": str,
            "baselines?": ({"*": _NUMBER}, None),
            "test_rows?": ([int], None),
            "*": _SCALAR,
        }
    ],
    "aggregate": {
        "mean": _NUMBER,
        "median": _NUMBER,
        "iqm": _NUMBER,
        "interval": ([float], None),
        "interval_kind": (str, None),
        "n?": int,
        "over?": str,
    },
}
REPORT = {
    "conclusion": str,
    "baseline?": str,
    "seeds?": [int],
    "folds?": [
        {"fold": int, "agent": float, "agent_std?": _NUMBER, "difference": float, "baselines": {"*": float}}
    ],
    "total?": {"agent": float, "baselines": {"*": float}},
    "paired?": {"mean": float},
}
PLAN = {
    "scheme": str,
    "lookback": int,
    "gap": int,
    "index": [(int, str)],
    "folds": [
        {"fold": int, "fit": _WINDOW, "val?": _WINDOW, "test": _WINDOW, "dates": {"*": [(int, str)]}},
    ],
    "unused": [_WINDOW],
    "baselines": [str],
    "notes?": [str],
    "episodes?": bool,
    "holdout?": _WINDOW,
}


def shaped(value: Any, shape: Shape, where: str = "") -> Any:
    """`value` itself, which has the shape.

    Raises:
        ValueError: it has not; the message says where.
    """
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            raise _misfit(value, "a mapping", where)
        for name, inner in shape.items():
            key = name.removesuffix("?")
            if key in value and key != "*":
                shaped(value[key], inner, f"{where}.{key}" if where else key)
            elif not name.endswith(("?", "*")):
                raise ValueError(f"{where + ' ' if where else 'it '}lacks {name}")
        if shape.get("*", object) is not object:
            for name in value.keys() - {known.removesuffix("?") for known in shape}:
                shaped(value[name], shape["*"], f"{where}.{name}")
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise _misfit(value, "a list", where)
        for i, element in enumerate(value):
            shaped(element, shape[0], f"{where}[{i}]")
    elif isinstance(shape, tuple):
        if not any(_fits(value, each) for each in shape):
            raise _misfit(value, " or ".join(map(_called, shape)), where)
    elif not _fits(value, shape):
        raise _misfit(value, _called(shape), where)
    return value


def _fits(value: Any, shape: Shape) -> bool:
    if isinstance(shape, (dict, list)):
        try:
            shaped(value, shape)
        except ValueError:
            return False
        return True
    if shape is int:
        return type(value) is int and abs(value) < 2**63
    if shape is float:
        return _fits(value, int) or (type(value) is float and math.isfinite(value))
    if shape is str:
        return type(value) is str and len(value) <= _TEXT
    return value is None if shape is None else isinstance(value, shape)


def _called(shape: Shape) -> str:
    if isinstance(shape, (dict, list)):
        return "a mapping" if isinstance(shape, dict) else "a list"
    known = {int: "an integer", float: "a number", str: "a text", bool: "true or false", None: "null"}
    return known[shape]


def _misfit(value: Any, wanted: str, where: str) -> ValueError:
    shown = str(value) if isinstance(value, (int, float)) and abs(value) < 2**63 else type(value).__name__
    return ValueError(f"{where or 'it'} is {shown if value is not None else 'null'}: it must be {wanted}")
