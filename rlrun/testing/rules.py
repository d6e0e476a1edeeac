"""The numbered rules of CONTRIBUTING.md, and what is raised where one is broken."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from rlrun.config import ConfigError

RULES = {
    1: "Replica r of a batch is the lone run of its seed.",
    2: "Only valid steps count.",
    3: "Random numbers come from `rlrun.rng.Stream` alone, and are drawn whether needed or not.",
    4: "Every leaf of every `state()` has R first.",
    5: "A gradient step is a function of tensors with fixed shapes.",
    6: "`saved` names everything that changes.",
    7: "Acting and judging change nothing.",
    8: "Metrics are detached, and one number per replica.",
    9: "A NaN stays in its replica, and is named.",
    10: "A model's rows do not meet.",
    11: "A model draws nothing when it is called.",
    12: "A replica's first weights are a function of its seed.",
    13: "Step after step is the sequence, and `first` clears all memory.",
    14: "Gradients reach every weight.",
    15: "An episode is a function of its seed and its actions.",
    16: "What an environment returns lies in its spaces.",
    17: "`state()` and `load_state()` put an environment back exactly.",
    18: "An environment that ended begins anew as its `autoreset_mode` says.",
    19: "What a mask forbids is never done.",
    20: "A window (a, b) has b - a - 1 steps, and its last row truncates.",
    21: "The score is that of the account, and is reported of every step.",
    22: "Of a table, an episode reads its window, and the lookback before it.",
    23: "A warm-up shows rows, and does nothing.",
    24: "A window is played by seed and actions alone.",
}


class RuleError(AssertionError):
    """A rule of CONTRIBUTING.md is broken; `rule` is its number."""

    def __init__(self, rule: int, subject: str, what: str) -> None:
        self.rule = rule
        super().__init__(f"{subject} breaks rule {rule} of CONTRIBUTING.md: {RULES[rule]}\n{what}")


def require(holds: Any, what: str) -> None:
    """AssertionError with `what`, unless it holds; as an `assert` that -O leaves in."""
    if not holds:
        raise AssertionError(what)


@dataclass(frozen=True)
class Check:
    """One check of one rule, as a function of its subject."""

    rule: int
    run: Callable[[Any], None]
    applies: Callable[[Any], bool]

    def __call__(self, subject: Any) -> None:
        """Raises RuleError, whatever it was that went wrong; a ConfigError passes as it is."""
        try:
            self.run(subject)
        except (ConfigError, RuleError):
            raise
        except Exception as error:
            what = str(error) if type(error) is AssertionError else f"{type(error).__name__}: {error}"
            raise RuleError(self.rule, str(subject), what) from error


class Checks:
    """The checks of one kind of part, in order; each is added by decorating a function."""

    def __init__(self) -> None:
        self.all: dict[str, Check] = {}

    def of(
        self, rule: int, applies: Callable[[Any], bool] = lambda subject: True
    ) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
        """Decorator: the function checks `rule`, of those subjects that it `applies` to."""

        def add(run: Callable[[Any], None]) -> Callable[[Any], None]:
            self.all[run.__name__] = Check(rule, run, applies)
            return run

        return add

    def ready(self, subject: Any, rules: Collection[int] | None = None) -> Mapping[str, Callable[[], None]]:
        """Those that apply to a subject, by name, ready to be called."""
        return {
            name: partial(check, subject)
            for name, check in sorted(self.all.items(), key=lambda item: item[1].rule)
            if (rules is None or check.rule in rules) and check.applies(subject)
        }


ALGORITHMS, MODELS, ENVS, WINDOWED = Checks(), Checks(), Checks(), Checks()
