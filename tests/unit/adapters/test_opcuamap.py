from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.adapters.opcuamap import OUTPUTS, changes, outputs_of, value_of
from services.core.errors import InvalidInputError
from services.core.line_event import Light
from services.core.plc import ErrorCode, PlcOutputs

STATES = st.builds(
    PlcOutputs,
    *(st.booleans(),) * 7,
    st.sampled_from(ErrorCode),
    st.integers(0, 3),
    st.sampled_from(["", "gear"]),
    st.sampled_from(["", "P1", "P2"]),
    st.sampled_from([None, *Light]),
)


def result_of(state: dict[str, Any]) -> tuple[Any, ...]:
    return state["ok"], state["nok"], state["review"], state["part"]


@given(STATES, STATES)
def test_no_step_on_the_way_shows_a_result_ready_that_is_not_the_old_or_the_new_one(
    old: PlcOutputs, new: PlcOutputs
) -> None:
    state = {signal.attribute: value_of(signal, old) for signal in OUTPUTS}
    before = result_of(state)
    after = (new.ok, new.nok, new.review, new.part)
    steps = changes(old, new)
    for signal, value in steps:
        state[signal.attribute] = value
        if state["result_ready"]:
            assert result_of(state) in {before, after}
            assert old.result_ready or new.result_ready
    assert state == {signal.attribute: value_of(signal, new) for signal in OUTPUTS}
    if old == new:
        assert not steps


def test_a_result_that_another_takes_the_place_of_goes_down_between_them() -> None:
    steps = changes(PlcOutputs(result_ready=True, ok=True), PlcOutputs(result_ready=True, nok=True))
    assert [(signal.name, value) for signal, value in steps] == [
        ("ResultReady", False),
        ("Ok", False),
        ("Nok", True),
        ("ResultReady", True),
    ]


@given(STATES)
def test_what_the_inspection_says_is_read_as_it_was_said(state: PlcOutputs) -> None:
    assert outputs_of([value_of(signal, state) for signal in OUTPUTS]) == state


def test_values_that_are_not_known_are_refused() -> None:
    values = [value_of(signal, PlcOutputs()) for signal in OUTPUTS]
    for name in ("light", "error_code"):
        place = next(place for place, signal in enumerate(OUTPUTS) if signal.attribute == name)
        with pytest.raises(InvalidInputError, match="got"):
            outputs_of([*values[:place], 99, *values[place + 1 :]])
