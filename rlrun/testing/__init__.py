"""The contract tests as functions, for parts of one's own: does it keep the rules of CONTRIBUTING.md?

    from rlrun.testing import check_algorithm, check_env, check_model

    check_algorithm("mine")
    check_env("mine")
    check_model("mine")

Each takes the name of a recipe and overrides, trains or plays it small, and raises a `RuleError` that
says which rule is broken and how. For a test of each check, `algorithm_checks("mine")` and its
siblings are a mapping of names to functions without arguments; no test framework is needed.
"""

from __future__ import annotations

from rlrun.testing.algorithms import algorithm_checks as algorithm_checks
from rlrun.testing.algorithms import check_algorithm as check_algorithm
from rlrun.testing.environments import check_env as check_env
from rlrun.testing.environments import env_checks as env_checks
from rlrun.testing.models import check_model as check_model
from rlrun.testing.models import model_checks as model_checks
from rlrun.testing.rules import RULES as RULES
from rlrun.testing.rules import RuleError as RuleError
