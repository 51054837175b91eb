from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.adapters import modbusmap
from services.core.errors import InvalidInputError
from services.core.line_event import Light
from services.core.plc import ErrorCode, PlcInputs, PlcOutputs

TEXTS = st.text("abcXYZ019.-_", max_size=32)
BITS = st.booleans()
WORDS = st.integers(0, 65535)


@given(st.builds(PlcInputs, BITS, BITS, WORDS, st.integers(0, 2**32 - 1), TEXTS, TEXTS, TEXTS))
def test_what_a_plc_says_is_read_as_it_was_said(inputs: PlcInputs) -> None:
    registers = modbusmap.pack_inputs(inputs)
    assert len(registers) == modbusmap.INPUT_COUNT
    assert modbusmap.unpack_inputs([inputs.trigger, inputs.result_ack], registers) == inputs


@given(
    st.builds(
        PlcOutputs,
        *(BITS,) * 7,
        st.sampled_from(ErrorCode),
        WORDS,
        TEXTS,
        TEXTS,
        st.sampled_from([None, *Light]),
    )
)
def test_what_the_inspection_says_is_read_as_it_was_said(outputs: PlcOutputs) -> None:
    registers = modbusmap.pack_outputs(outputs)
    assert len(registers) == modbusmap.OUTPUT_COUNT
    assert modbusmap.unpack_outputs(registers) == outputs


def test_the_registers_lie_where_the_wiring_table_says() -> None:
    registers = modbusmap.pack_inputs(PlcInputs(heartbeat=7, encoder=0x0001_0002, recipe="AB", lot="CD", part="EF"))
    at = dict(enumerate(registers, modbusmap.INPUTS))
    assert (at[100], at[101], at[102], at[103]) == (7, 1, 2, 0)
    assert (at[104], at[120], at[136], at[151]) == (0x4142, 0x4344, 0x4546, 0)
    told = modbusmap.pack_outputs(
        PlcOutputs(
            trigger_ready=True, light=Light.GREEN, error_code=ErrorCode.BAD_TEXT, heartbeat=9, recipe="AB", part="CD"
        )
    )
    at = dict(enumerate(told, modbusmap.OUTPUTS))
    assert (at[100], at[101], at[102], at[118], at[134]) == (7, 9, 0x4142, 0x4344, 1 << 9 | 1)


@pytest.mark.parametrize(
    ("number", "text", "recipe"), [(0, "", ""), (7, "", "7"), (7, "gear", "gear"), (0, "gear", "gear")]
)
def test_a_recipes_text_wins_over_its_number(number: int, text: str, recipe: str) -> None:
    registers = list(modbusmap.pack_inputs(PlcInputs(recipe=text)))
    registers[103 - modbusmap.INPUTS] = number
    assert modbusmap.unpack_inputs([False, False], registers).recipe == recipe


def test_outputs_that_are_not_whole_or_not_known_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="35 registers, got 3"):
        modbusmap.unpack_outputs([0, 0, 0])
    with pytest.raises(InvalidInputError, match="got 999"):
        modbusmap.unpack_outputs([999, *[0] * 34])
