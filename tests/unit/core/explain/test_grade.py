import importlib
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import InvalidInputError
from services.core.explain.grade import PIECES, Coefficients, Evidence, estimate_trust, fit_coefficients, grade
from services.core.types import Grade

FIELDS = ("probability", "deletion_auc", "insertion_auc", "random_auc", "stability", "coverage", "agreement")
STRONG = Evidence(0.98, 0.2, 0.9, 0.55, 0.95, 1.0, 0.6, transplant=0.6)
WEAK = Evidence(0.6, 0.55, 0.5, 0.52, 0.4, 0.6, 0.05, transplant=0.0)

BETTER_WHEN_HIGHER = (
    "insertion_auc", "stability", "coverage", "agreement", "probability", "transplant",
)  # fmt: skip

shares = st.floats(0, 1)
maybe = st.one_of(shares, st.just(math.nan))
evidences = st.builds(Evidence, *[maybe] * len(FIELDS), transplant=maybe)


def test_strong_evidence_is_graded_above_weak_evidence():
    plain = Coefficients(-0.8, (6.0, 6.0, 2.0, 3.0, 2.0, 0.5, 1.0), (0.0, 0.0, 0.8, 1.0, 0.1, 0.8, 0.05))
    assert grade(STRONG, plain)[0] is Grade.A
    assert grade(WEAK, plain)[0] is Grade.D
    assert grade(STRONG)[0] is Grade.A
    assert grade(WEAK)[0] is Grade.D


def test_the_same_evidence_is_worth_what_its_method_is():
    by_method = Coefficients(0.0, (0.0,) * len(PIECES), (0.0,) * len(PIECES), (("gradcam", -2.0), ("hirescam", 2.0)))
    trusts = [estimate_trust(replace(STRONG, method=method), by_method) for method in ("gradcam", "", "hirescam")]
    assert trusts == pytest.approx([1 / (1 + math.exp(2)), 0.5, 1 / (1 + math.exp(-2))])


def test_a_fit_finds_what_a_method_is_worth():
    evidence = [Evidence(stability=0.5, method="often" if number % 2 else "seldom") for number in range(400)]
    hits = [number % 4 == 1 or number % 8 == 3 if number % 2 else number % 8 == 0 for number in range(400)]
    fitted = fit_coefficients(evidence, hits, penalty=1e-5)
    assert estimate_trust(evidence[1], fitted) == pytest.approx(0.75, abs=0.01)
    assert estimate_trust(evidence[0], fitted) == pytest.approx(0.25, abs=0.01)


@given(evidences, st.sampled_from(BETTER_WHEN_HIGHER), shares)
def test_better_evidence_never_harms(evidence, field, better):
    if math.isnan(getattr(evidence, field)) or better < getattr(evidence, field):
        return
    assert grade(replace(evidence, **{field: better}))[1] >= grade(evidence)[1]


@given(evidences, shares)
def test_a_deeper_deletion_never_harms(evidence, lower):
    if math.isnan(evidence.deletion_auc) or lower > evidence.deletion_auc:
        return
    assert grade(replace(evidence, deletion_auc=lower))[1] >= grade(evidence)[1]


@given(evidences)
def test_every_evidence_has_a_grade_that_its_trust_stands_for(evidence):
    letter, trust = grade(evidence)
    assert 0 <= trust <= 1
    least = {Grade.A: 0.75, Grade.B: 0.5, Grade.C: 0.25, Grade.D: 0.0}[letter]
    assert least <= trust
    assert letter is Grade.A or trust < {Grade.B: 0.75, Grade.C: 0.5, Grade.D: 0.25}[letter]


def test_a_spot_that_makes_a_good_part_a_defect_is_graded_by_how_far_it_does() -> None:
    others = Evidence(0.9, 0.4, 0.8, 0.6, 0.9, 1.0, 0.5)
    grades = [grade(replace(others, transplant=rise))[0] for rise in (-0.1, 0.05, 0.2, 0.5)]
    assert grades == [Grade.D, Grade.C, Grade.B, Grade.A]


@given(shares)
def test_the_probability_alone_is_no_evidence(probability):
    assert grade(Evidence()) == (Grade.D, 0.0)
    assert grade(Evidence(probability=probability)) == (Grade.D, 0.0)


def test_a_map_that_the_model_was_not_seen_to_follow_is_no_a():
    certain = Coefficients(10.0, (1.0,) * len(PIECES), (0.0,) * len(PIECES))
    spot_alone = replace(STRONG, deletion_auc=math.nan, insertion_auc=math.nan, random_auc=math.nan)
    unmeasured = replace(spot_alone, transplant=math.nan)
    refuted = replace(STRONG, deletion_auc=0.6, insertion_auc=0.5, random_auc=0.55)
    assert grade(STRONG, certain)[0] is Grade.A
    assert grade(spot_alone, certain)[0] is Grade.A
    assert grade(unmeasured, certain)[0] is Grade.B
    assert grade(refuted, certain)[0] is Grade.B


def test_what_was_not_measured_counts_as_its_reference():
    coefficients = Coefficients(0.0, (1.0,) * len(PIECES), (0.0, 0.0, 0.8, 1.0, 0.1, 0.8, 0.05))
    at_reference = Evidence(0.8, 0.5, 0.5, 0.5, 0.8, 1.0, 0.1, transplant=0.05)
    assert estimate_trust(at_reference, coefficients) == pytest.approx(0.5)
    assert estimate_trust(Evidence(stability=0.8), coefficients) == pytest.approx(0.5)


def test_trust_by_hand():
    coefficients = Coefficients(-1.0, (2.0, 3.0, *(0.0,) * (len(PIECES) - 2)), (0.0,) * len(PIECES))
    evidence = Evidence(deletion_auc=0.25, insertion_auc=0.75, random_auc=0.5)
    # -1 + 2 * 0.25 + 3 * 0.25 = 0.25
    assert estimate_trust(evidence, coefficients) == pytest.approx(1 / (1 + math.exp(-0.25)))


def drawn(count, seed):
    """Maps whose insertion tells of hits, whose deletion tells the contrary, and whose rest tells nothing."""
    random = np.random.default_rng(seed)
    evidence, hits = [], []
    for insertion, deletion, stability in random.uniform(0, 1, (count, 3)):
        evidence.append(Evidence(0.9, deletion, insertion, 0.5, stability, 1.0, math.nan))
        log_odds = 8 * (insertion - 0.5) + 4 * (deletion - 0.5)
        hits.append(bool(random.random() < 1 / (1 + math.exp(-log_odds))))
    return evidence, hits


def test_a_fit_finds_what_tells_and_gives_no_negative_weight():
    evidence, hits = drawn(2000, seed=1)
    fitted = fit_coefficients(evidence, hits, penalty=1e-4)
    by_name = dict(zip(PIECES, fitted.weights, strict=True))
    assert by_name["insertion"] == pytest.approx(8, rel=0.25)
    assert by_name["deletion"] == 0.0
    assert by_name["stability"] < 1.0
    assert by_name["coverage"] == by_name["agreement"] == by_name["probability"] == 0.0


def test_a_fit_is_calibrated_in_the_mean():
    evidence, hits = drawn(1000, seed=2)
    fitted = fit_coefficients(evidence, hits)
    assert np.mean([estimate_trust(one, fitted) for one in evidence]) == pytest.approx(np.mean(hits), abs=0.01)


def test_a_fit_agrees_with_scikit_learn_where_no_weight_would_be_negative():
    linear_model = importlib.import_module("sklearn.linear_model")
    random = np.random.default_rng(5)
    evidence, hits = [], []
    for insertion, stability in random.uniform(0, 1, (1500, 2)):
        evidence.append(Evidence(insertion_auc=insertion, random_auc=0.5, stability=stability))
        hits.append(bool(random.random() < 1 / (1 + math.exp(-(5 * (insertion - 0.5) + 2 * (stability - 0.5))))))
    fitted = fit_coefficients(evidence, hits, penalty=1e-6)
    theirs = linear_model.LogisticRegression(C=1e6).fit([[one.insertion_auc, one.stability] for one in evidence], hits)
    assert fitted.weights[1] == pytest.approx(theirs.coef_[0][0], rel=0.02)
    assert fitted.weights[2] == pytest.approx(theirs.coef_[0][1], rel=0.02)


@pytest.mark.parametrize("hits", [[True, True], [False, False], [True]])
def test_a_fit_needs_hits_and_misses(hits):
    with pytest.raises(InvalidInputError, match="hits and misses, got"):
        fit_coefficients([STRONG, WEAK], hits)


def test_negative_weights_are_refused():
    with pytest.raises(InvalidInputError, match="must not be negative"):
        Coefficients(0.0, (-1.0, *(0.0,) * (len(PIECES) - 1)), (0.0,) * len(PIECES))
    with pytest.raises(InvalidInputError, match=f"{len(PIECES)} weights"):
        Coefficients(0.0, (1.0,), (0.0,))
