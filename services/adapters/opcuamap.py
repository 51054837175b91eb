"""Where each signal lies in OPC UA: the address space of both sides.

After OPC 40100-1 (Machine Vision) in spirit: one object for the vision system, with what it is told, what it found and
how it is. Namespace ``urn:sightline:vision``; the node of a signal is ``s=<line>.<folder>.<signal>``, and its browse
path ``Objects/VisionSystem/<line>/<folder>/<signal>``.

===========  =============  =======  ============  ==================================================================
folder       signal         type     who writes    meaning
===========  =============  =======  ============  ==================================================================
Inputs       Trigger        Boolean  PLC           a part is before the cameras
Inputs       ResultAck      Boolean  PLC           the result was taken
Inputs       Heartbeat      UInt16   PLC           counts up and around
Inputs       Encoder        UInt32   PLC           position of the belt
Inputs       Recipe         String   PLC           a product, or what settings name as one; empty keeps it
Inputs       Lot            String   PLC           the lot; empty keeps it
Inputs       Part           String   PLC           the part's own id; empty lets the inspection name it
Results      TriggerReady   Boolean  inspection    a trigger may come
Results      Busy           Boolean  inspection    a part is under way
Results      ResultReady    Boolean  inspection    the result stands; rises after it and falls before it
Results      Ok             Boolean  inspection    PASS
Results      Nok            Boolean  inspection    FAIL
Results      Review         Boolean  inspection    REVIEW
Results      Safe           Boolean  inspection    outputs are at the safe level, no result holds
Results      ActivePart     String   inspection    the part that the result, or the work under way, is of
Diagnostics  ErrorCode      Int32    inspection    what is wrong with what the PLC asked for
Diagnostics  Heartbeat      UInt16   inspection    counts up and around
Diagnostics  ActiveRecipe   String   inspection    the product that is made
Diagnostics  Light          Int32    inspection    0 dark, 1 green, 2 amber, 3 red
===========  =============  =======  ============  ==================================================================

Texts are ASCII of at most 32 characters. What one write request carries is seen at once; in several, write the trigger
last. What one read request finds beside *ResultReady* belongs to it; over several, read *ResultReady* first. In a
subscription, take all values of a notification before you look at *ResultReady*: OPC UA promises no order among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from asyncua import ua

from services.core.errors import InvalidInputError
from services.core.line_event import Light
from services.core.plc import ErrorCode, PlcOutputs

NAMESPACE: Final = "urn:sightline:vision"
LIGHTS: Final[dict[Light | None, int]] = {None: 0, Light.GREEN: 1, Light.AMBER: 2, Light.RED: 3}


def text_node(name: str, namespace_index: int) -> ua.NodeId:
    """A node that is called by a text."""
    return ua.NodeId(ua.String(name), ua.Int16(namespace_index))


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal's place in the address space."""

    folder: str
    name: str
    attribute: str
    """Of ``PlcInputs`` or ``PlcOutputs``."""
    type: ua.VariantType

    def node_id(self, line: str, namespace_index: int) -> ua.NodeId:
        """Its node."""
        return text_node(f"{line}.{self.folder}.{self.name}", namespace_index)

    def data(self, value: Any) -> ua.DataValue:
        """A value of it, as it travels."""
        return ua.DataValue(ua.Variant(value, self.type))


INPUTS: Final = (
    Signal("Inputs", "Heartbeat", "heartbeat", ua.VariantType.UInt16),
    Signal("Inputs", "Encoder", "encoder", ua.VariantType.UInt32),
    Signal("Inputs", "Recipe", "recipe", ua.VariantType.String),
    Signal("Inputs", "Lot", "lot", ua.VariantType.String),
    Signal("Inputs", "Part", "part", ua.VariantType.String),
    Signal("Inputs", "Trigger", "trigger", ua.VariantType.Boolean),
    Signal("Inputs", "ResultAck", "result_ack", ua.VariantType.Boolean),
)
_RESULT_READY: Final = Signal("Results", "ResultReady", "result_ready", ua.VariantType.Boolean)
_TRIGGER_READY: Final = Signal("Results", "TriggerReady", "trigger_ready", ua.VariantType.Boolean)
_VALUES: Final = (
    Signal("Results", "Busy", "busy", ua.VariantType.Boolean),
    Signal("Results", "Ok", "ok", ua.VariantType.Boolean),
    Signal("Results", "Nok", "nok", ua.VariantType.Boolean),
    Signal("Results", "Review", "review", ua.VariantType.Boolean),
    Signal("Results", "Safe", "safe", ua.VariantType.Boolean),
    Signal("Results", "ActivePart", "part", ua.VariantType.String),
    Signal("Diagnostics", "ErrorCode", "error_code", ua.VariantType.Int32),
    Signal("Diagnostics", "Heartbeat", "heartbeat", ua.VariantType.UInt16),
    Signal("Diagnostics", "ActiveRecipe", "recipe", ua.VariantType.String),
    Signal("Diagnostics", "Light", "light", ua.VariantType.Int32),
)
OUTPUTS: Final = (_RESULT_READY, _TRIGGER_READY, *_VALUES)
_RESULT_VALUES: Final = frozenset({"ok", "nok", "review", "part"})


def changes(shown: PlcOutputs, wanted: PlcOutputs) -> list[tuple[Signal, Any]]:
    """What to write, in an order in which no reader sees *ResultReady* or *TriggerReady* before what they stand for."""
    changed = {
        signal: value_of(signal, wanted) for signal in OUTPUTS if value_of(signal, wanted) != value_of(signal, shown)
    }
    result_changes = any(signal.attribute in _RESULT_VALUES for signal in changed)
    steps: list[tuple[Signal, Any]] = []
    if shown.result_ready and (not wanted.result_ready or result_changes):
        steps.append((_RESULT_READY, False))
    if shown.trigger_ready and not wanted.trigger_ready:
        steps.append((_TRIGGER_READY, False))
    steps += [(signal, changed[signal]) for signal in _VALUES if signal in changed]
    if wanted.result_ready and (not shown.result_ready or result_changes):
        steps.append((_RESULT_READY, True))
    if wanted.trigger_ready and not shown.trigger_ready:
        steps.append((_TRIGGER_READY, True))
    return steps


def outputs_of(values: Sequence[Any]) -> PlcOutputs:
    """What the inspection says, from the values of ``OUTPUTS``.

    Raises:
        InvalidInputError: If a value is none that this release knows.
    """
    told = {signal.attribute: value for signal, value in zip(OUTPUTS, values, strict=True)}
    lights = {number: light for light, number in LIGHTS.items()}
    if told["light"] not in lights or told["error_code"] not in ErrorCode.__members__.values():
        raise InvalidInputError(
            f"Light and ErrorCode must be known to this release, got {told['light']} and {told['error_code']}"
        )
    return PlcOutputs(**{**told, "light": lights[told["light"]], "error_code": ErrorCode(told["error_code"])})


def value_of(signal: Signal, outputs: PlcOutputs) -> Any:
    """What a signal of the outputs says, as OPC UA says it."""
    if signal.attribute == "light":
        return LIGHTS[outputs.light]
    value = getattr(outputs, signal.attribute)
    return int(value) if signal.attribute == "error_code" else value
