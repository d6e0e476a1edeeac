"""Contrasts of two configurations: scipy's tests, and hand-made counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats as scipy

from rlrun.evals import contrast as made
from rlrun.evals.contrast import Contrast, Scores, contrast, holm, improvement, more_seeds


def scores(values: Sequence[float] | np.ndarray, fold: int | None = None, first: int = 1) -> Scores:
    return {(fold, first + i): float(value) for i, value in enumerate(values)}


def held(x: Scores, y: Scores, family: int = 1) -> Contrast:
    found = contrast(x, y, family)
    assert found is not None
    return found


RNG = np.random.default_rng(0)
TEN = RNG.normal(size=(2, 2, 10)) + np.array([[[0.8], [0.0]], [[0.0], [0.1]]])  # [env, algo, seed]


@pytest.mark.parametrize("env", [0, 1])
def test_two_algorithms_of_ten_seeds_as_scipy_has_it(env: int) -> None:
    x, y = TEN[env]
    found = held(scores(x), scores(y))
    oracle = scipy.permutation_test(
        (x, y), lambda a, b: (a - b).mean(), permutation_type="samples", n_resamples=np.inf
    )
    assert found.paired and found.p == pytest.approx(oracle.pvalue, abs=1e-9)
    assert found.difference == pytest.approx((x - y).mean(), abs=1e-12)
    assert found.error == pytest.approx(scipy.sem(x - y), abs=1e-12)
    assert found.improvement == pytest.approx(scipy.mannwhitneyu(x, y).statistic / 100, abs=1e-12)


@pytest.mark.parametrize("n", [4, 6])
def test_few_or_different_seeds_are_shuffled_as_scipy_shuffles(n: int) -> None:
    x, y = RNG.normal(size=(2, n)) + np.array([[1.0], [0.0]])
    oracle = scipy.permutation_test((x, y), lambda a, b: a.mean() - b.mean(), n_resamples=np.inf)
    same, other = held(scores(x), scores(y)), held(scores(x), scores(y, first=50))
    assert not same.paired and same == other
    assert same.p == pytest.approx(oracle.pvalue, abs=1e-9)


def test_many_scores_are_shuffled_at_random_and_always_alike() -> None:
    x, y = RNG.normal(size=(2, 40)) + np.array([[0.3], [0.0]])
    found = held(scores(x), scores(y, first=90))
    assert found == held(scores(x), scores(y, first=90))
    assert found.p == pytest.approx(scipy.ttest_ind(x, y).pvalue, abs=0.02)
    paired = held(scores(x), scores(y))
    assert paired.paired and paired.p == pytest.approx(scipy.ttest_rel(x, y).pvalue, abs=0.02)


@pytest.mark.parametrize(("n", "first"), [(5, 50), (10, 1), (30, 50)])
def test_the_interval_holds_what_the_test_does_not_reject(n: int, first: int) -> None:
    x, y = RNG.normal(size=(2, n)) ** 3
    found = held(scores(x), scores(y, first=first))
    assert found.interval is not None
    for end, inwards in ((found.interval.low, 1.0), (found.interval.high, -1.0)):
        step = inwards * 1e-6 * found.interval.width
        inside = held(scores(x - end - step), scores(y, first=first)).p
        outside = held(scores(x - end + step), scores(y, first=first)).p
        assert inside is not None and outside is not None and outside <= made.LEVEL < inside


def test_pairs_are_flipped_where_that_is_fine_enough() -> None:
    """The least p value of n signs is 2^(1-n): a fifth of 0.05 asks for eight, of 0.005 for eleven."""
    seven, eight = (held(scores(np.arange(n)), scores(np.ones(n))) for n in (7, 8))
    assert (seven.paired, eight.paired) == (False, True)
    more = [held(scores(np.arange(n)), scores(np.ones(n)), family=10).paired for n in (10, 11)]
    assert more == [False, True]


def test_five_seeds_can_be_told_apart() -> None:
    apart = held(scores([1.0, 2, 3, 4, 5]), scores([11.0, 12, 13, 14, 15]))
    assert apart.p == 2 / 252 and apart.improvement == 0.0
    assert held(scores([1.0, 2]), scores([3.0, 4])).interval is None  # two of six at best
    assert held(scores([1.0, 2]), scores([3.0, 4])).p == pytest.approx(1 / 3)


def test_one_seed_has_no_p_value_and_no_fold_in_common_no_contrast() -> None:
    one = held(scores([1.0]), scores([3.0]))
    assert (one.difference, one.p, one.interval, one.error) == (-2.0, None, None, None)
    assert contrast(scores([1.0], fold=0), scores([1.0], fold=1)) is None
    assert contrast({}, scores([1.0])) is None


def test_the_same_scores_are_no_evidence() -> None:
    found = held(scores([3.0] * 5), scores([3.0] * 5))
    assert (found.p, found.difference, found.improvement) == (1.0, 0.0, 0.5)
    assert found.interval is not None and found.interval.width == 0.0
    assert more_seeds(found) is None


def test_folds_are_compared_within() -> None:
    """What a fold adds to all of its scores changes nothing, though it is a hundred times the difference."""
    noise = RNG.normal(size=(2, 4, 3))

    def crossed(k: int, shift: float, first: int) -> dict[tuple[int | None, int], float]:
        found: dict[tuple[int | None, int], float] = {}
        for fold in range(4):
            found |= scores(noise[k, fold] + fold * shift + k, fold, first)
        return found

    for first in (1, 50):
        plain, shifted = (held(crossed(1, s, first), crossed(0, s, 1)) for s in (0.0, 100.0))
        assert plain.improvement == shifted.improvement and plain.p == pytest.approx(shifted.p, abs=1e-9)
        assert plain.difference == pytest.approx(1 + (noise[1] - noise[0]).mean())
        assert (plain.seeds, plain.folds, plain.paired) == (3, 4, first == 1)


def test_one_seed_a_fold_is_paired_by_fold() -> None:
    x, y = ({(fold, 1): value + fold for fold in range(6)} for value in (1.0, 0.0))
    found = held(x, y)
    assert found.paired and found.p == 2 / 2**6


def test_improvement_by_hand() -> None:
    assert improvement(np.array([1.0, 2.0]), np.array([1.0, 1.5, 3.0])) == (0.5 + 2.0) / 6
    assert improvement(np.array([2.0]), np.array([1.0])) == 1.0


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.01, 0.04], family=6) == pytest.approx([0.06, 0.2])
    assert holm([0.5, 0.6]) == [1.0, 1.0] and holm([]) == []


@pytest.mark.parametrize("family", [1, 3])
def test_so_many_seeds_more_have_a_power_of_four_fifths(family: int) -> None:
    """By the noncentral t, which is exact for normal scores of known spread."""
    found = Contrast(0.5, 1.0 * (2 / 10) ** 0.5, None, 0.5, 0.3, False, 10, 1)
    more = more_seeds(found, family)
    assert more is not None

    def power(n: int) -> float:
        critical = scipy.t.ppf(1 - 0.025 / family, 2 * n - 2)
        return float(scipy.nct.sf(critical, 2 * n - 2, 0.5 * (n / 2) ** 0.5))

    assert power(10 + more - 2) < 0.8 < power(10 + more + 2)


def test_no_more_seeds_than_one_would_train_are_asked_for() -> None:
    tiny = Contrast(1e-3, 1.0, None, 0.5, 0.9, False, 5, 1)
    assert more_seeds(tiny) is None
    huge = Contrast(100.0, 1.0, None, 1.0, 0.1, False, 3, 1)
    assert more_seeds(huge) == 1  # of three against three, none is rarer than 1 in 10
    assert more_seeds(huge, family=45) == 4  # 2 of 924 with six, 2 of 3,432 with seven


@pytest.mark.parametrize("paired", [True, False])
def test_nothing_is_found_more_often_than_the_level_says(paired: bool) -> None:
    rng, found = np.random.default_rng(1), 0
    for _ in range(400):
        x, y = rng.exponential(size=(2, 8))
        p = held(scores(x), scores(y, first=1 if paired else 20)).p
        assert p is not None
        found += p <= made.LEVEL
    assert 8 <= found <= 34
