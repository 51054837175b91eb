"""JSON logs on standard output, one object a line."""

from __future__ import annotations

import datetime
import json
import logging
import sys
from typing import Any

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


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


def configure_logging(service: str, version: str, level: str) -> None:
    """Send all logs to standard output as JSON.

    Args:
        service: Name that every line carries.
        version: Version that every line carries.
        level: ``DEBUG``, ``INFO``, ``WARNING`` or ``ERROR``.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter(service, version))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # kafka-python tells every fetch and heartbeat at INFO.
    logging.getLogger("kafka").setLevel(max(logging.WARNING, root.level))


def get_logger(name: str) -> logging.Logger:
    """The logger of a module; pass lazy ``%s`` arguments and context in ``extra``."""
    return logging.getLogger(name)
