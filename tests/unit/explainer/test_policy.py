"""Which case gets which maps, and what a backlog leaves time for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from services.core.preprocessing import Preprocessing
from services.core.types import CaseKind
from services.explainer.policy import Level, Plan, Policy, seed_of
from services.explainer.settings import BudgetSettings, ExplainerSettings, PolicySettings
from services.explainer.versions import Version
from tests.support.explainer_line import make_case, picture

IMAGE = picture()


def policy(**settings: object) -> Policy:
    return Policy(PolicySettings(**settings), BudgetSettings(case_s=4.0, max_passes=400, min_stability=0.8))  # type: ignore[arg-type]


def test_fail_and_review_get_a_masking_map_and_class_activation_maps_by_default() -> None:
    for kind in (CaseKind.FAIL, CaseKind.REVIEW):
        plan = policy().plan(make_case(0, IMAGE, kind=kind), 0)
        assert plan.level is Level.FULL
        assert plan.methods == ("invrise-soft", "hirescam", "gradcam")
    assert policy().plan(make_case(0, IMAGE, kind=CaseKind.AUDIT), 0).methods == ("hirescam",)


def test_an_alias_may_have_methods_of_its_own_for_what_is_flagged() -> None:
    own = policy(by_alias={"odd": ("occlusion",)}, audit=())
    assert own.plan(make_case(0, IMAGE, alias="odd"), 0).methods == ("occlusion",)
    assert own.plan(make_case(0, IMAGE, alias="odd", kind=CaseKind.AUDIT), 0).methods == ()
    assert len(own.plan(make_case(0, IMAGE), 0).methods) == 3


def test_a_growing_backlog_leaves_one_fast_method_and_then_none() -> None:
    told = policy(fast_above_cases=10, none_above_cases=50)
    case = make_case(0, IMAGE)
    assert told.plan(case, 10).level is Level.FULL
    assert told.plan(case, 11) == Plan(Level.FAST, ("hirescam",), 64)
    assert told.plan(case, 50).level is Level.FAST
    assert told.plan(case, 51).level is Level.NONE


def test_where_the_fast_method_cannot_explain_a_model_the_first_other_one_stands_in_for_it() -> None:
    told = policy(fail=("rise", "gradcam"), fast="gradcam", fast_above_cases=1, fast_passes=32)
    case = make_case(0, IMAGE)
    fast = told.plan(case, 5)
    assert told.instead(case, fast, "gradcam") == ("rise",)
    assert told.request("frame", "rise", fast, 0.0).max_passes == 32
    assert told.instead(case, told.plan(case, 0), "gradcam") == (), "a full plan has the other one anyway"


def test_the_fast_method_is_asked_first_and_the_slow_one_has_the_time_that_is_left() -> None:
    told = policy()
    plan = told.plan(make_case(0, IMAGE), 0)
    assert told.order(plan)[0] == "hirescam"
    assert told.request("frame", "hirescam", plan, 0.0).budget_ms == 4000
    assert told.request("frame", plan.methods[0], plan, 1.5).budget_ms == 2500
    assert told.request("frame", plan.methods[0], plan, 99.0).budget_ms == 250, "never nothing, which is no limit"


def version_of(detector: str) -> Version:
    return Version("default", 1, Preprocessing(), ("good", "anomaly"), detector)


def test_a_detector_shows_its_own_map_first_and_is_not_asked_what_only_a_network_can_tell() -> None:
    told = policy()
    plan = told.plan(make_case(0, IMAGE), 0)
    assert told.suited(plan, version_of("patch-knn")).methods == ("anomaly-map", "invrise-soft")
    assert told.suited(plan, version_of("lof")).methods == ("invrise-soft",)
    assert told.suited(plan, version_of("")) == plan
    assert told.order(told.suited(plan, version_of("utrad")))[0] == "anomaly-map"


def test_a_panel_shows_a_map_where_one_of_its_detectors_has_one() -> None:
    told = policy()
    plan = told.plan(make_case(0, IMAGE), 0)
    mixed = replace(version_of("panel"), members=("lof", "patch-knn"))
    assert told.suited(plan, mixed).methods == ("anomaly-map", "invrise-soft")
    blind = replace(version_of("panel"), members=("lof", "iforest"))
    assert told.suited(plan, blind).methods == ("invrise-soft",)


def test_while_cases_pile_up_a_detector_without_a_map_gets_one_of_few_passes() -> None:
    told = policy(fast_above_cases=10)
    plan = told.plan(make_case(0, IMAGE), 11)
    assert told.suited(plan, version_of("utrad")).methods == ("anomaly-map",)
    assert told.suited(plan, version_of("lof")) == Plan(Level.FAST, ("invrise-soft",), 64)


def test_a_case_that_gets_no_map_gets_none_of_a_detector_either() -> None:
    told = policy(audit=())
    plan = told.plan(make_case(0, IMAGE, kind=CaseKind.AUDIT), 0)
    assert told.suited(plan, version_of("patch-knn")).methods == ()


def test_evidence_is_not_paid_for_while_cases_pile_up() -> None:
    told = policy()
    case = make_case(0, IMAGE)
    assert told.request("frame", "hirescam", told.plan(case, 0), 0).evidence
    late = told.request("frame", "hirescam", told.plan(case, 1_000), 0)
    assert not late.evidence
    assert late.spot, "a grade needs it, and it costs five passes"


@pytest.mark.parametrize(("waiting", "passes"), [(0, 400), (1, 400), (6, 200), (10, 64), (1_000, 64)])
def test_maps_get_fewer_passes_with_every_other_case_that_waits(waiting: int, passes: int) -> None:
    told = policy(fast_above_cases=10, fast_passes=64)
    plan = told.plan(make_case(0, IMAGE), waiting)
    assert told.request("frame", "invrise-soft", plan, 0.0).max_passes == passes


def test_the_seed_is_of_frame_and_method() -> None:
    assert seed_of("a", "rise") == seed_of("a", "rise")
    assert len({seed_of("a", "rise"), seed_of("a", "lime"), seed_of("b", "rise")}) == 3
    assert all(0 <= seed_of(str(number), "rise") < 2**63 for number in range(200))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"fail": ("telepathy",)}, "a method must be one of"),
        ({"review": ("rise", "rise")}, "a method must be named once"),
        ({"fast_above_cases": 9, "none_above_cases": 8}, "fast_above_cases must be at most none_above_cases"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(settings: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        PolicySettings(**settings)  # type: ignore[arg-type]


def test_methods_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_POLICY__AUDIT", '["lime"]')
    monkeypatch.setenv("SIGHTLINE_POLICY__BY_ALIAS", '{"odd": ["rise"]}')
    found = ExplainerSettings().policy
    assert found.audit == ("lime",)
    assert found.by_alias == {"odd": ("rise",)}
