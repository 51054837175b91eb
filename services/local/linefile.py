"""The note that a running line leaves, so that commands in another terminal find its servers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import yaml

from services.runtime.settings import (
    AccountsSettings,
    FeedbackAddressSettings,
    IndexSettings,
    KafkaSettings,
    ObjectStoreSettings,
    ServiceSettings,
    TopicSettings,
    TrainerAddressSettings,
)

DEFAULT_DATA = Path(".sightline")
_NAME = "line.yaml"


class CommandSettings(ServiceSettings):
    """What the commands that a person gives by hand need."""

    kafka: KafkaSettings = KafkaSettings()
    object_store: ObjectStoreSettings = ObjectStoreSettings()
    feedback: FeedbackAddressSettings = FeedbackAddressSettings()
    trainer: TrainerAddressSettings = TrainerAddressSettings()
    index: IndexSettings = IndexSettings()
    accounts: AccountsSettings = AccountsSettings()
    topics: TopicSettings = TopicSettings()


def write_line_file(data: Path, settings: Mapping[str, str], addresses: Mapping[str, str] | None = None) -> Path:
    """Write how to reach a line's servers, readable by its owner alone.

    Args:
        data: The line's data folder.
        settings: By name without the prefix, for example ``KAFKA__BOOTSTRAP_SERVERS``.
        addresses: Further addresses by name, for people and tests; no setting.

    Returns:
        A file that ``SIGHTLINE_CONFIG`` may name.
    """
    nested: dict[str, dict[str, str]] = {"addresses": dict(addresses or {})}
    for name, value in settings.items():
        group, _, field = name.lower().partition("__")
        nested.setdefault(group, {})[field] = value
    path, new = data / _NAME, data / f"{_NAME}.new"
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        yaml.safe_dump(nested, file)
    # In one step: whoever looks meanwhile finds the whole note or none.
    new.replace(path)
    return path


def read_addresses(data: Path) -> dict[str, str]:
    """The addresses of a running line; empty when none runs."""
    try:
        found = yaml.safe_load((data / _NAME).read_text())
    except OSError:
        return {}
    return {str(name): str(value) for name, value in (found.get("addresses") or {}).items()}


def read_setting(data: Path, group: str, field: str) -> str:
    """One of the settings of a running line, for example ``feedback`` and ``address``; empty when none runs."""
    try:
        found = yaml.safe_load((data / _NAME).read_text())
    except OSError:
        return ""
    return str((found.get(group) or {}).get(field, ""))


def remove_line_file(data: Path) -> None:
    """The line is over."""
    (data / _NAME).unlink(missing_ok=True)


def use_running_line(folder: Path = DEFAULT_DATA) -> None:
    """Take the servers of the line that runs here, unless something else was said in the environment."""
    path = folder / _NAME
    said = {"SIGHTLINE_CONFIG", "SIGHTLINE_KAFKA__BOOTSTRAP_SERVERS", "SIGHTLINE_OBJECT_STORE__ENDPOINT"}
    if path.is_file() and not said & set(os.environ):
        os.environ["SIGHTLINE_CONFIG"] = str(path)
