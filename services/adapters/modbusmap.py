"""Where each signal lies in Modbus: the wiring table of both sides.

Addresses count from 0, as they travel; a PLC program that counts from 1 adds one. Functions 1 to 6, 15, 16, 22 and 23
are understood. A text is 32 ASCII characters, two to a register, the first in the high byte, filled up with NUL or
spaces. The high word comes first.

The PLC writes (and may read back):

=================  ========  =====  ======================================================================
table              address   count  signal
=================  ========  =====  ======================================================================
coil               0         1      trigger
coil               1         1      result_ack
holding register   0         1      control word: bit 0 trigger, bit 1 result_ack; the same as the coils
holding register   100       1      heartbeat, 0 to 65535 and around
holding register   101       2      encoder position, 0 to 4294967295 and around
holding register   103       1      recipe number; 0 = none. Read as the text of that number
holding register   104       16     recipe text; where it is not empty, the number does not count
holding register   120       16     lot text
holding register   136       16     part text
=================  ========  =====  ======================================================================

The inspection writes, and the PLC reads:

=================  ========  =====  ======================================================================
table              address   count  signal
=================  ========  =====  ======================================================================
discrete input     0         1      trigger_ready
discrete input     1         1      busy
discrete input     2         1      result_ready
discrete input     3         1      ok
discrete input     4         1      nok
discrete input     5         1      review
discrete input     6         1      safe: outputs are at the safe level, no result holds
discrete input     7         1      light_red
discrete input     8         1      light_amber
discrete input     9         1      light_green
input register     100       1      error_code
input register     101       1      heartbeat, 0 to 65535 and around
input register     102       16     active recipe text
input register     118       16     part text: of the result, or of the work under way
input register     134       1      status word: the discrete inputs, bit 0 trigger_ready to bit 9 light_green
holding register   10        1      the status word, read-only
holding register   11        34     input registers 100 to 133, read-only
=================  ========  =====  ======================================================================

Each request is answered from one moment: read input registers 100 to 134, or holding registers 10 to 44, in one request
and bits and texts belong together. Over several requests, read *result_ready* first. Write the registers before the
trigger: what stands in them when the trigger is seen is what it is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from services.adapters.processimage import readable_text
from services.core.errors import InvalidInputError
from services.core.line_event import Light
from services.core.plc import MAX_TEXT, ErrorCode, PlcInputs, PlcOutputs

TEXT_REGISTERS: Final = MAX_TEXT // 2

COILS: Final = ("trigger", "result_ack")
#: Holding register with the coils as bits.
CONTROL: Final = 0
#: Holding register with the discrete inputs as bits; the registers of the outputs follow it.
STATUS: Final = 10
#: First holding register of what the PLC says.
INPUTS: Final = 100
#: First input register of what the inspection says.
OUTPUTS: Final = 100

_HEARTBEAT: Final = 0
_ENCODER: Final = 1
_RECIPE_NUMBER: Final = 3
_RECIPE: Final = 4
_LOT: Final = _RECIPE + TEXT_REGISTERS
_PART: Final = _LOT + TEXT_REGISTERS
INPUT_COUNT: Final = _PART + TEXT_REGISTERS

_OUT_ERROR: Final = 0
_OUT_HEARTBEAT: Final = 1
_OUT_RECIPE: Final = 2
_OUT_PART: Final = _OUT_RECIPE + TEXT_REGISTERS
_OUT_STATUS: Final = _OUT_PART + TEXT_REGISTERS
OUTPUT_COUNT: Final = _OUT_STATUS + 1

_LIGHTS: Final = (Light.RED, Light.AMBER, Light.GREEN)
_SIGNALS: Final = ("trigger_ready", "busy", "result_ready", "ok", "nok", "review", "safe")


def word_of(bits: Sequence[bool]) -> int:
    """Bits as a register, the first one lowest."""
    return sum(1 << place for place, bit in enumerate(bits) if bit)


def bits_of(word: int, count: int) -> tuple[bool, ...]:
    """The lowest bits of a register, the lowest first."""
    return tuple(bool(word >> place & 1) for place in range(count))


def pack_text(text: str) -> tuple[int, ...]:
    """A text in registers; what is no ASCII becomes a question mark, what is too long is cut."""
    data = text.encode("ascii", "replace")[:MAX_TEXT].ljust(MAX_TEXT, b"\0")
    return tuple(int.from_bytes(data[place : place + 2], "big") for place in range(0, MAX_TEXT, 2))


def unpack_text(registers: Sequence[int]) -> str:
    """The text in registers, without its padding; see :func:`readable_text`."""
    return readable_text(b"".join(register.to_bytes(2, "big") for register in registers).decode("latin-1"))


# ---- what the PLC says


def pack_inputs(inputs: PlcInputs) -> tuple[int, ...]:
    """Holding registers from ``INPUTS`` on, as a PLC writes them; it sends its recipe as a text."""
    return (
        inputs.heartbeat,
        inputs.encoder >> 16,
        inputs.encoder & 0xFFFF,
        0,
        *pack_text(inputs.recipe),
        *pack_text(inputs.lot),
        *pack_text(inputs.part),
    )


def unpack_inputs(coils: Sequence[bool], registers: Sequence[int]) -> PlcInputs:
    """What the PLC says.

    Args:
        coils: As many as ``COILS``.
        registers: ``INPUT_COUNT`` holding registers from ``INPUTS`` on.
    """
    number = registers[_RECIPE_NUMBER]
    return PlcInputs(
        trigger=coils[0],
        result_ack=coils[1],
        heartbeat=registers[_HEARTBEAT],
        encoder=registers[_ENCODER] << 16 | registers[_ENCODER + 1],
        recipe=unpack_text(registers[_RECIPE:_LOT]) or (str(number) if number else ""),
        lot=unpack_text(registers[_LOT:_PART]),
        part=unpack_text(registers[_PART:INPUT_COUNT]),
    )


# ---- what the inspection says


def output_bits(outputs: PlcOutputs) -> tuple[bool, ...]:
    """Discrete inputs from 0 on."""
    return (
        *(bool(getattr(outputs, signal)) for signal in _SIGNALS),
        *(outputs.light is light for light in _LIGHTS),
    )


def pack_outputs(outputs: PlcOutputs) -> tuple[int, ...]:
    """``OUTPUT_COUNT`` input registers from ``OUTPUTS`` on."""
    return (
        int(outputs.error_code),
        outputs.heartbeat,
        *pack_text(outputs.recipe),
        *pack_text(outputs.part),
        word_of(output_bits(outputs)),
    )


def unpack_outputs(registers: Sequence[int]) -> PlcOutputs:
    """What the inspection says, from the same registers.

    Raises:
        InvalidInputError: If they are not as many, or the error code is none that this release knows.
    """
    if len(registers) != OUTPUT_COUNT:
        raise InvalidInputError(f"the outputs must have {OUTPUT_COUNT} registers, got {len(registers)}")
    error = registers[_OUT_ERROR]
    if error not in ErrorCode.__members__.values():
        raise InvalidInputError(f"error_code must be one that this release knows, got {error}")
    bits = bits_of(registers[_OUT_STATUS], len(_SIGNALS) + len(_LIGHTS))
    lit = [light for light, bit in zip(_LIGHTS, bits[len(_SIGNALS) :], strict=True) if bit]
    return PlcOutputs(
        **dict(zip(_SIGNALS, bits, strict=False)),
        error_code=ErrorCode(error),
        heartbeat=registers[_OUT_HEARTBEAT],
        recipe=unpack_text(registers[_OUT_RECIPE:_OUT_PART]),
        part=unpack_text(registers[_OUT_PART:_OUT_STATUS]),
        light=lit[0] if lit else None,
    )
