"""Frozen values as JSON, for the files that a training and whoever started it leave each other.

Field by field as the dataclasses declare them: an enum is its value, a tuple a list, a number that JSON does not have
its name. Read strictly: what is unknown, missing or of another type is refused.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import types
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

from services.core.errors import InvalidInputError

_T = TypeVar("_T")
_NAMED: Final = ("nan", "inf", "-inf")


def to_json(value: Any) -> bytes:
    """Write a dataclass; equal values give equal bytes."""
    return (json.dumps(_plain(value), sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


def to_line(value: Any) -> str:
    """Write a dataclass as one line."""
    return json.dumps(_plain(value), sort_keys=True, allow_nan=False) + "\n"


def from_json(kind: type[_T], data: bytes, name: str) -> _T:
    """Read a dataclass.

    Args:
        kind: Which.
        data: As :func:`to_json` wrote it.
        name: Of the file, for the error message.

    Raises:
        InvalidInputError: If it is not such JSON, or breaks a rule of the value.
    """
    try:
        return _built(kind, json.loads(data), name)
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidInputError(f"{name} must hold a {kind.__name__} as JSON, got {error}") from error


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _built(kind: Any, value: Any, where: str) -> Any:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return _built(next(one for one in get_args(kind) if one is not type(None)), value, where)
    if origin is tuple:
        return _tuple(get_args(kind), value, where)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, where)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(value)
    return _scalar(str if origin is not None else kind, value, where)


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is float and (type(value) is int or value in _NAMED):
        return float(value)
    if type(value) is not kind:
        raise TypeError(f"{where} of type {type(value).__name__}")
    return value


def _tuple(inner: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise TypeError(f"no list at {where}")
    kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
    return tuple(
        _built(one, item, f"{where}[{index}]") for index, (one, item) in enumerate(zip(kinds, value, strict=True))
    )


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    hints = get_type_hints(kind)
    names = {item.name for item in dataclasses.fields(kind)}
    if not isinstance(value, dict) or set(value) != names:
        got = sorted(set(value) ^ names) if isinstance(value, dict) else type(value).__name__
        raise TypeError(f"other fields than those of {kind.__name__} at {where}: {got}")
    return kind(**{name: _built(hints[name], value[name], f"{where}.{name}") for name in sorted(names)})
