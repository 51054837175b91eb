"""JSON logs on standard output, one object a line."""

from __future__ import annotations

import datetime
import json
import logging
import sys
from typing import Any

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

# A broker that is away, and whoever sends a PLC's server garbage, would fill the log by themselves.
_TALKATIVE = ("kafka.", "asyncua.", "pymodbus.")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, service, logger, message, what was passed in ``extra``, the traceback."""

    def __init__(self, service: str, version: str) -> None:
        super().__init__()
        self._base = {"service": service, "version": version}

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        at = datetime.datetime.fromtimestamp(record.created, tz=datetime.UTC)
        entry: dict[str, Any] = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            **self._base,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry.update({name: value for name, value in vars(record).items() if name not in _STANDARD})
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)


class RateLimit(logging.Filter):
    """Lets one line of each logger and level through per interval, with the number of those held back.

    For libraries that tell every failed attempt to connect: a broker that is away for an hour is one fact.
    """

    def __init__(self, every_s: float) -> None:
        super().__init__()
        self._every_s = every_s
        self._last_s: dict[tuple[str, int], float] = {}
        self._held_back: dict[tuple[str, int], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is told."""
        # By the second part of the name: ``kafka.net.manager`` and ``kafka.net.connection`` tell of the same failure.
        kind = (".".join(record.name.split(".")[:2]), record.levelno)
        if record.created - self._last_s.get(kind, -self._every_s) < self._every_s:
            self._held_back[kind] = self._held_back.get(kind, 0) + 1
            return False
        self._last_s[kind] = record.created
        record.held_back = self._held_back.pop(kind, 0)
        return True


def configure_logging(service: str, version: str, level: str) -> None:
    """Send all logs to standard output as JSON.

    Args:
        service: Name that every line carries.
        version: Version that every line carries.
        level: ``DEBUG``, ``INFO``, ``WARNING`` or ``ERROR``.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter(service, version))
    limit = RateLimit(10.0)
    handler.addFilter(lambda record: not record.name.startswith(_TALKATIVE) or limit.filter(record))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # kafka-python tells every fetch and heartbeat at INFO, asyncua every connection and service.
    for library in ("kafka", "asyncua"):
        logging.getLogger(library).setLevel(max(logging.WARNING, root.level))


def get_logger(name: str) -> logging.Logger:
    """The logger of a module; pass lazy ``%s`` arguments and context in ``extra``."""
    return logging.getLogger(name)
