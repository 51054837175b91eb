"""The state of a model alias changes by rules, and never forgets a version on the way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core import alias
from services.core.errors import ConflictError, InvalidInputError, SightlineError
from services.core.types import AliasAction, AliasState

WHO = {"actor": "mira", "at_ns": 17}


def state_with(*, live: int = 0, previous: int = 0, shadow: int = 0, candidates: tuple[int, ...] = ()) -> AliasState:
    return AliasState("default", 5, live, previous, shadow, candidates)


def test_a_new_alias_has_nothing_and_revision_zero() -> None:
    assert alias.new_alias("weld_top-2") == AliasState("weld_top-2", 0, 0)


@pytest.mark.parametrize("name", ["", "Weld", "-weld", "a b", "../x", "a" * 64, "weld\n"])
def test_a_name_that_cannot_be_a_folder_is_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match="alias must be"):
        alias.new_alias(name)


def test_an_added_version_is_a_candidate_and_who_added_it_is_on_record() -> None:
    after = alias.add(alias.new_alias("default"), 1, actor=" mira ", at_ns=17, note="first")
    assert after == AliasState("default", 1, 0, 0, 0, (1,), AliasAction.ADD, "mira", 17, "first")


def test_candidates_stay_in_ascending_order() -> None:
    assert alias.add(state_with(candidates=(2, 9)), 4, **WHO).candidate_versions == (2, 4, 9)


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_a_version_is_added_once_whatever_its_role(version: int) -> None:
    with pytest.raises(ConflictError, match=f"has version {version} as"):
        alias.add(state_with(live=1, previous=2, shadow=3, candidates=(4,)), version, **WHO)


def test_promotion_moves_live_to_previous_and_previous_to_candidate() -> None:
    after = alias.promote(state_with(live=2, previous=1, candidates=(3,)), 3, **WHO)
    assert (after.live_version, after.previous_version, after.candidate_versions) == (3, 2, (1,))
    assert after.revision == 6
    assert after.action is AliasAction.PROMOTE


def test_the_first_promotion_has_no_previous() -> None:
    after = alias.promote(state_with(candidates=(1,)), 1, **WHO)
    assert (after.live_version, after.previous_version, after.candidate_versions) == (1, 0, ())


def test_promoting_the_shadow_ends_the_shadow() -> None:
    after = alias.promote(state_with(live=1, shadow=2), 2, **WHO)
    assert (after.live_version, after.previous_version, after.shadow_version) == (2, 1, 0)


def test_promoting_the_previous_version_keeps_the_shadow() -> None:
    after = alias.promote(state_with(live=2, previous=1, shadow=3), 1, **WHO)
    assert (after.live_version, after.previous_version, after.shadow_version) == (1, 2, 3)


def test_promoting_what_is_live_is_refused() -> None:
    with pytest.raises(ConflictError, match="has 1 live"):
        alias.promote(state_with(live=1), 1, **WHO)


def test_promoting_an_unknown_version_names_those_that_are_known() -> None:
    with pytest.raises(ConflictError, match=r"it has 1, 2\), got 7"):
        alias.promote(state_with(live=1, candidates=(2,)), 7, **WHO)


def test_a_roll_back_twice_gives_the_same_roles() -> None:
    before = state_with(live=2, previous=1, shadow=4, candidates=(3,))
    once = alias.roll_back(before, **WHO)
    assert (once.live_version, once.previous_version) == (1, 2)
    twice = alias.roll_back(once, **WHO)
    assert (twice.live_version, twice.previous_version, twice.shadow_version) == (2, 1, 4)
    assert twice.revision == before.revision + 2


def test_a_roll_back_without_a_previous_version_is_refused() -> None:
    with pytest.raises(ConflictError, match="needs a previous version"):
        alias.roll_back(state_with(live=1), **WHO)


def test_a_new_shadow_sends_the_old_one_back_to_the_candidates() -> None:
    after = alias.shadow(state_with(live=1, shadow=2, candidates=(3,)), 3, **WHO)
    assert (after.shadow_version, after.candidate_versions) == (3, (2,))


def test_shadow_zero_ends_the_shadow() -> None:
    after = alias.shadow(state_with(live=1, shadow=2), 0, **WHO)
    assert (after.shadow_version, after.candidate_versions) == (0, (2,))


@pytest.mark.parametrize(
    ("before", "version", "rule"),
    [
        (state_with(candidates=(1,)), 1, "beside a live version"),
        (state_with(live=1), 1, "as live"),
        (state_with(live=1), 9, "as unknown"),
        (state_with(live=1), 0, "must change"),
    ],
)
def test_a_shadow_that_makes_no_sense_is_refused(before: AliasState, version: int, rule: str) -> None:
    with pytest.raises(ConflictError, match=rule):
        alias.shadow(before, version, **WHO)


@pytest.mark.parametrize("version", [2, 3, 4])
def test_retiring_forgets_a_version_whatever_its_role(version: int) -> None:
    after = alias.retire(state_with(live=1, previous=2, shadow=3, candidates=(4,)), version, **WHO)
    assert alias.known_versions(after) == {1, 2, 3, 4} - {version}


def test_the_live_version_cannot_be_retired() -> None:
    with pytest.raises(ConflictError, match="cannot be retired"):
        alias.retire(state_with(live=1), 1, **WHO)


@pytest.mark.parametrize("change", [alias.add, alias.promote, alias.retire, alias.shadow])
def test_a_negative_version_and_a_nameless_actor_are_refused(change) -> None:
    with pytest.raises(InvalidInputError, match=">= 1, got -1"):
        change(state_with(live=1, candidates=(2,)), -1, **WHO)
    with pytest.raises(InvalidInputError, match="name who makes it"):
        change(state_with(live=1, candidates=(2,)), 2, actor=" ", at_ns=1)


CHANGES = st.lists(st.tuples(st.sampled_from(["add", "promote", "roll_back", "shadow", "retire"]), st.integers(0, 5)))


@given(CHANGES)
def test_after_any_changes_each_version_has_exactly_one_role(changes: list[tuple[str, int]]) -> None:
    state = alias.new_alias("default")
    for name, version in changes:
        before = state
        try:
            if name == "roll_back":
                state = alias.roll_back(state, **WHO)
            else:
                state = getattr(alias, name)(state, version, **WHO)
        except SightlineError:
            assert state is before
            continue
        assert state.revision == before.revision + 1
        roles = [v for v in (state.live_version, state.previous_version, state.shadow_version) if v]
        roles += state.candidate_versions
        assert len(roles) == len(set(roles))
        lost = alias.known_versions(before) - alias.known_versions(state)
        assert lost == ({version} if name == "retire" else set())
