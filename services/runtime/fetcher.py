"""A record fetcher that is opened when first needed, and anew after the broker was away."""

from __future__ import annotations

from collections.abc import Callable

from services.adapters.ports import Record, RecordFetcher
from services.core.errors import UnavailableError
from services.core.types import RecordPosition


class ReopeningFetcher:
    """The page must come up while the broker is away, so nothing connects before a picture is asked for.

    Used by one thread at a time, as any fetcher.
    """

    def __init__(self, open_fetcher: Callable[[], RecordFetcher]) -> None:
        self._open = open_fetcher
        self._fetcher: RecordFetcher | None = None

    def fetch(self, position: RecordPosition, timeout_s: float) -> Record:
        """Read one record.

        Raises:
            NotFoundError: When the topic no longer keeps that offset.
            UnavailableError: When it cannot be read within ``timeout_s``; the next call connects anew.
        """
        if self._fetcher is None:
            self._fetcher = self._open()
        try:
            return self._fetcher.fetch(position, timeout_s)
        except UnavailableError:
            self.close()
            raise

    def close(self) -> None:
        """Let go; idempotent."""
        fetcher, self._fetcher = self._fetcher, None
        if fetcher is not None:
            fetcher.close()
