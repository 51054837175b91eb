"""Changes a protobuf message field by field, so that it stays one and rules behind the decoding are reached."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

_TEXTS: Final = (
    "",
    "x",
    "..",
    "part-1",
    "018bcfe5-6800-7000-8000-000000000001",
    "6ba7b810-9dad-41d1-80b4-00c04fd430c8",
    "ab" * 32,
    "a" * 300,
    "\0",
    "é\n",
)
_NUMBERS: Final = (0, 1, 2, 3, 7, -1, 2**31 - 1, -(2**31), 2**32 - 1, 2**53, 2**63 - 1, -(2**63), 2**64 - 1)
_FLOATS: Final = (0.0, 0.5, 1.0, -1.0, 1e300, math.inf, -math.inf, math.nan, 5e-324)
_MOST_ITEMS: Final = 4


def mutator(kinds: Sequence[type[Message]]) -> Callable[[bytes, random.Random], bytes]:
    """Give what mutates inputs whose first byte chooses among these kinds of message."""

    def mutate(data: bytes, chance: random.Random) -> bytes:
        first = data[:1] or b"\0"
        message = kinds[first[0] % len(kinds)]()
        try:
            message.ParseFromString(data[1:])
        except DecodeError:
            message.Clear()
        for _ in range(chance.randint(1, 3)):
            _change(message, chance)
        return first + message.SerializeToString()

    return mutate


def _change(message: Message, chance: random.Random) -> None:
    fields = message.DESCRIPTOR.fields
    if not fields:
        return
    field = chance.choice(fields)
    if chance.random() < 0.15:
        message.ClearField(field.name)
    elif field.is_repeated:
        _change_items(getattr(message, field.name), field, chance)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        inner = getattr(message, field.name)
        inner.SetInParent()
        _change(inner, chance)
    else:
        setattr(message, field.name, _value(field, chance))


def _change_items(items: Any, field: FieldDescriptor, chance: random.Random) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return
    if len(items) >= _MOST_ITEMS:
        del items[chance.randrange(len(items))]
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        _change(chance.choice(items) if items and chance.random() < 0.6 else items.add(), chance)
    else:
        items.append(_value(field, chance))


def _value(field: FieldDescriptor, chance: random.Random) -> Any:
    if field.type == FieldDescriptor.TYPE_STRING:
        return chance.choice(_TEXTS)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return chance.randbytes(chance.choice((0, 1, 2, 8, 32, 33)))
    if field.type == FieldDescriptor.TYPE_BOOL:
        return chance.random() < 0.5
    if field.type == FieldDescriptor.TYPE_ENUM:
        return chance.randrange(12)
    if field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
        return chance.choice(_FLOATS)
    return chance.choice([number for number in _NUMBERS if _fits(field, number)])


def _fits(field: FieldDescriptor, number: int) -> bool:
    unsigned = field.cpp_type in (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64)
    wide = field.cpp_type in (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
    bits = 64 if wide else 32
    return 0 <= number < 1 << bits if unsigned else -(1 << bits - 1) <= number < 1 << bits - 1
