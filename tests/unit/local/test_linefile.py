"""The note of a running line: commands in another terminal find its servers, unless they were told otherwise."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from services.local.linefile import (
    CommandSettings,
    read_addresses,
    remove_line_file,
    use_running_line,
    write_line_file,
)
from services.runtime.settings import load_settings

SETTINGS = {
    "KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:17001",
    "OBJECT_STORE__ENDPOINT": "127.0.0.1:17002",
    "OBJECT_STORE__SECRET_KEY": "hidden",
    "OBJECT_STORE__SECURE": "false",
}


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_CONFIG", "")
    for name in [name for name in os.environ if name.startswith("SIGHTLINE_")]:
        monkeypatch.delenv(name)


def test_commands_find_the_servers_of_the_running_line(tmp_path: Path) -> None:
    write_line_file(tmp_path, SETTINGS)
    use_running_line(tmp_path)
    settings = load_settings(CommandSettings)
    assert settings.kafka.bootstrap_servers == "127.0.0.1:17001"
    assert settings.object_store.endpoint == "127.0.0.1:17002"
    assert settings.object_store.secret_key.get_secret_value() == "hidden"
    os.environ.pop("SIGHTLINE_CONFIG")


def test_what_the_environment_says_wins_over_the_running_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_line_file(tmp_path, SETTINGS)
    monkeypatch.setenv("SIGHTLINE_KAFKA__BOOTSTRAP_SERVERS", "kafka:9092")
    use_running_line(tmp_path)
    assert load_settings(CommandSettings).kafka.bootstrap_servers == "kafka:9092"
    assert "SIGHTLINE_CONFIG" not in os.environ


def test_the_note_holds_keys_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = write_line_file(tmp_path, SETTINGS)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_without_a_running_line_nothing_is_found(tmp_path: Path) -> None:
    write_line_file(tmp_path, SETTINGS)
    remove_line_file(tmp_path)
    remove_line_file(tmp_path)
    use_running_line(tmp_path)
    assert "SIGHTLINE_CONFIG" not in os.environ


def test_whoever_looks_while_a_line_starts_finds_the_whole_note_or_none(tmp_path: Path) -> None:
    stop = threading.Event()
    found: set[frozenset[str]] = set()

    def look() -> None:
        while not stop.is_set():
            found.add(frozenset(read_addresses(tmp_path)))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(100):
            write_line_file(tmp_path, {}, {"page": "http://127.0.0.1:1", "detector": "http://127.0.0.1:2"})
    finally:
        stop.set()
        looking.join()
    assert found <= {frozenset(), frozenset({"page", "detector"})}
