"""The file of machines that may call."""

from __future__ import annotations

import datetime
import logging
import os
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path

import yaml

from services.adapters.watchedfile import WatchedFiles
from services.core.errors import InvalidInputError, SettingsError
from services.core.machine_token import MachineToken, parse_tokens

LOG = logging.getLogger(__name__)
_MAX_BYTES = 1_000_000


def read_tokens(path: Path) -> tuple[MachineToken, ...]:
    """Read the file.

    Raises:
        SettingsError: If it is not there or breaks a rule.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES:
            raise SettingsError(f"a tokens file must have at most {_MAX_BYTES} bytes, got more in {str(path)!r}")
        return parse_tokens(yaml.safe_load(text))
    except OSError as error:
        raise SettingsError(f"the tokens file must be readable, got {str(path)!r}: {error.strerror}") from error
    except (yaml.YAMLError, InvalidInputError) as error:
        raise SettingsError(f"the tokens file {str(path)!r} is wrong: {error}") from error


def write_tokens(path: Path, tokens: Iterable[MachineToken]) -> None:
    """Replace the file in one step; only its owner may read it."""
    entries = [
        {
            "name": token.name,
            "sha256": token.sha256,
            "scopes": sorted(scope.value for scope in token.scopes),
            "expires": token.expires,
        }
        for token in tokens
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    # mkstemp makes it 0600.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            yaml.safe_dump({"tokens": entries}, file, sort_keys=False)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class TokenFile:
    """The tokens as the file says now; one that became wrong keeps those read last, and the log says so.

    Args:
        path: The file.
        every_s: Looks at the disk at most this often.

    Raises:
        SettingsError: If it cannot be used as it is now.
    """

    def __init__(self, path: Path, *, every_s: float = 1.0) -> None:
        self._path = path
        self._watch = WatchedFiles([path], every_s=every_s)
        self._lock = threading.Lock()
        self._stale = False
        self._tokens = read_tokens(path)

    def current(self) -> tuple[MachineToken, ...]:
        """All tokens, those that expired too."""
        with self._lock:
            # What could not be read is tried again at each call: a token that was revoked must not stay for good.
            if self._watch.changed() or self._stale:
                try:
                    self._tokens = read_tokens(self._path)
                    self._stale = False
                    LOG.info("tokens read anew", extra={"tokens": len(self._tokens)})
                except SettingsError as error:
                    if not self._stale:
                        LOG.error("the tokens read last are kept, revoked ones among them: %s", error)  # noqa: TRY400 - said once, the cause is in it
                    self._stale = True
            return self._tokens


def today_utc() -> datetime.date:
    """The day by which tokens expire."""
    return datetime.datetime.now(datetime.UTC).date()
