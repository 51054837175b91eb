"""The file of settings, as people write it and as it may come off a disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.core.errors import SettingsError
from services.runtime.settings import ServiceSettings, load_settings


def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes) -> ServiceSettings:
    path = tmp_path / "settings.yaml"
    path.write_bytes(data)
    monkeypatch.setenv("SIGHTLINE_CONFIG", str(path))
    return load_settings(ServiceSettings)


@pytest.mark.parametrize("data", [b"", b"# nothing yet\n", b"ops:\n  port: 0\n"])
def test_a_file_of_settings_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    assert load(tmp_path, monkeypatch, data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"sasl_password: [secret", "one that is none in line 1"),
        (b"kafka:\n  sasl_password: @secret", "one that is none in line 2"),
        (b"secret: \xc6", "UnicodeDecodeError"),
        (b"secret: \x00", "ReaderError"),
        (b"[" * 2_000, "RecursionError"),
        (b"- secret", "names with values"),
        (b"secret", "names with values"),
        (b"1: secret", "names with values"),
    ],
)
def test_a_file_that_is_none_is_told_as_a_mistake_and_never_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, said: str
) -> None:
    with pytest.raises(SettingsError, match="SIGHTLINE_CONFIG must name a YAML file") as told:
        load(tmp_path, monkeypatch, data)
    assert said in str(told.value)
    assert "secret" not in str(told.value)
