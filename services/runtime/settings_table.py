"""Every setting of a service as rows, for people and for the documentation."""

from __future__ import annotations

import enum
import json
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from services.runtime.settings import ServiceSettings

_BOUNDS = {Ge: ("≥", "ge"), Gt: (">", "gt"), Le: ("≤", "le"), Lt: ("<", "lt"), MinLen: ("length ≥", "min_length")}


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting."""

    variable: str
    """Name in the environment."""
    kind: str
    """Type and bounds."""
    default: str
    description: str


def setting_rows(settings_class: type[ServiceSettings]) -> list[SettingRow]:
    """List the settings of a service in the order in which they are declared, groups unfolded.

    What can be said in YAML only (lists of groups) comes with its path instead of a variable.
    """
    return _rows(settings_class, "SIGHTLINE_{}", None)


def _rows(model: type[BaseModel], name_as: str, defaults: BaseModel | None) -> list[SettingRow]:
    """Rows of one group; ``name_as`` holds the place of a field's name."""
    rows: list[SettingRow] = []
    in_yaml = not name_as.startswith("SIGHTLINE_")
    for name, info in model.model_fields.items():
        default = getattr(defaults, name) if defaults is not None else info.get_default(call_default_factory=True)
        shown = name_as.format(name if in_yaml else name.upper())
        groups = _groups(info.annotation)
        if isinstance(default, BaseModel):
            inner = f"{shown}.{{}}" if in_yaml else f"{shown}__{{}}"
            rows += _rows(type(default), inner, default)
        elif groups:
            listed = typing.get_origin(info.annotation) is list
            if listed:
                rows.append(SettingRow(shown, "list, in YAML", _shown(default), info.description or "See below."))
            path = f"{name if not in_yaml else shown}{'[]' if listed else ''}"
            for group in groups:
                # Of several groups, ``kind`` says which one it is.
                told = f"[kind={_name(group.model_fields['kind'].annotation).strip('`')}]" if len(groups) > 1 else ""
                rows += _rows(group, f"{path}{told}.{{}}", None)
        else:
            rows.append(SettingRow(shown, _kind(info), _shown(default), info.description or ""))
    return rows


def _groups(annotation: Any) -> list[type[BaseModel]]:
    """The groups that a field's type is made of, inside lists, unions and annotations."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [group for each in typing.get_args(annotation) for group in _groups(each)]


def _kind(info: FieldInfo) -> str:
    bounds = [
        f"{sign} {getattr(limit, attribute)}"
        for limit in info.metadata
        for kind, (sign, attribute) in _BOUNDS.items()
        if isinstance(limit, kind)
    ]
    bounds += [f"length ≤ {limit.max_length}" for limit in info.metadata if isinstance(limit, MaxLen)]
    return ", ".join([_name(info.annotation), *bounds])


def _name(annotation: Any) -> str:
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_name(each) for each in arguments if each is not types.NoneType)
    if origin is not None:
        inner = ", ".join(_name(each) for each in arguments if each is not Ellipsis)
        return f"{_name(origin)} of {inner}" if inner else _name(origin)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return " or ".join(f"`{each.value}`" for each in annotation)
    words = {
        int: "whole number",
        float: "number",
        str: "text",
        bool: "true or false",
        Path: "path",
        SecretStr: "secret",
    }
    if annotation in words:
        return words[annotation]
    return {dict: "mapping", list: "list", tuple: "list"}.get(
        annotation, getattr(annotation, "__name__", str(annotation))
    )


def _shown(value: Any) -> str:
    if value is PydanticUndefined:
        return "(required)"
    if isinstance(value, SecretStr) or value is None or value in ("", [], (), {}):
        return "(empty)"
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, bool | list | tuple | dict):
        return json.dumps(value, default=lambda item: item.model_dump(mode="json"))
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def markdown_table(rows: list[SettingRow]) -> str:
    """The rows as a Markdown table."""
    lines = ["| Variable | Value | Default | Meaning |", "|---|---|---|---|"]
    for row in rows:
        default = {"(empty)": "", "(required)": "required"}.get(row.default, f"`{row.default}`")
        cells = (f"`{row.variable}`", row.kind, default, row.description)
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines)
