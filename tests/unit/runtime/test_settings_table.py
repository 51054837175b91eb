"""The table of settings: what the code says, whatever the environment says."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field, SecretStr

from services.runtime.settings import ServiceSettings, SettingsGroup
from services.runtime.settings_table import SettingRow, markdown_table, setting_rows


class FileSource(SettingsGroup):
    """A source."""

    kind: Literal["file"]
    path: str


class DrawnSource(SettingsGroup):
    """Another."""

    kind: Literal["drawn"]
    seed: int = Field(default=3, ge=0)


class Camera(SettingsGroup):
    """One of a list."""

    name: str
    source: Annotated[FileSource | DrawnSource, Field(discriminator="kind")]


class Batch(SettingsGroup):
    """A group."""

    max_wait_ms: float = Field(default=4.0, ge=0, le=1_000, description="Longest wait.")
    key: SecretStr = SecretStr("not to be shown")


class Settings(ServiceSettings):
    """A service's."""

    batch: Batch = Batch()
    by_product: dict[str, str] = Field(default_factory=dict)
    cameras: list[Camera] = Field(min_length=1)


def rows() -> dict[str, SettingRow]:
    return {row.variable: row for row in setting_rows(Settings)}


def test_groups_are_unfolded_with_bounds_defaults_and_meaning() -> None:
    row = rows()["SIGHTLINE_BATCH__MAX_WAIT_MS"]
    assert (row.kind, row.default, row.description) == ("number, ≥ 0, ≤ 1000", "4", "Longest wait.")


def test_lists_of_groups_come_with_their_path_in_yaml() -> None:
    found = rows()
    assert found["SIGHTLINE_CAMERAS"].default == "(required)"
    assert found["cameras[].name"].default == "(required)"
    assert found["cameras[].source[kind=file].path"].kind == "text"
    assert found["cameras[].source[kind=drawn].seed"].default == "3"


def test_defaults_come_from_the_code_and_not_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_BATCH__MAX_WAIT_MS", "9")
    assert rows()["SIGHTLINE_BATCH__MAX_WAIT_MS"].default == "4"


def test_a_secret_is_never_shown() -> None:
    assert rows()["SIGHTLINE_BATCH__KEY"].default == "(empty)"
    assert "not to be shown" not in markdown_table(setting_rows(Settings))


def test_the_table_survives_what_markdown_would_break() -> None:
    table = markdown_table([SettingRow("A", "`x` or `y`", "1|2", "one\ntwo")])
    assert table.splitlines()[2] == "| `A` | `x` or `y` | `1\\|2` | one two |"
