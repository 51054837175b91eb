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
    """List the settings of a service in the order in which they are declared, groups unfolded."""
    return _rows(settings_class, "SIGHTLINE_", settings_class())


def _rows(model: type[BaseModel], prefix: str, defaults: BaseModel) -> list[SettingRow]:
    rows: list[SettingRow] = []
    for name, info in model.model_fields.items():
        variable = f"{prefix}{name.upper()}"
        value = getattr(defaults, name)
        if isinstance(value, BaseModel):
            rows += _rows(type(value), f"{variable}__", value)
        else:
            rows.append(SettingRow(variable, _kind(info), _shown(value), info.description or ""))
    return rows


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
    if value is None or value == "" or isinstance(value, SecretStr):
        return "(empty)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, default=lambda item: item.model_dump(mode="json")) if value else "(empty)"
    return str(value)


def markdown_table(rows: list[SettingRow]) -> str:
    """The rows as a Markdown table."""
    lines = ["| Variable | Value | Default | Meaning |", "|---|---|---|---|"]
    for row in rows:
        cells = (f"`{row.variable}`", row.kind, f"`{row.default}`" if row.default != "(empty)" else "", row.description)
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines)
