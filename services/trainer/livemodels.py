"""Which version of an alias decides, asked and changed from any thread."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Final

from services.adapters.modelregistry import ModelRegistry, Transition
from services.core.errors import NotFoundError, SightlineError
from services.core.types import AliasState

_POLL_S: Final = 0.05

OpenRegistry = Callable[[], tuple[ModelRegistry, Callable[[], None]]]
"""Gives a registry with a writer, and what lets go of that writer."""


class LiveModels:
    """One registry behind a lock, opened when first asked and anew after the broker was away.

    Args:
        open_registry: Opens one.
        poll_s: Longest wait for changes when it is asked.
    """

    def __init__(self, open_registry: OpenRegistry, poll_s: float = _POLL_S) -> None:
        self._poll_s = poll_s
        self._open = open_registry
        self._lock = threading.Lock()
        self._registry: ModelRegistry | None = None
        self._let_go: Callable[[], None] = lambda: None

    def states(self) -> dict[str, AliasState]:
        """The state of every alias now.

        Raises:
            UnavailableError: When the broker does not answer in time.
        """
        with self._opened() as registry:
            registry.poll(self._poll_s)
            return dict(registry.states)

    def state(self, alias: str) -> AliasState:
        """The state of an alias now; raises ``NotFoundError`` too."""
        states = self.states()
        if alias not in states:
            have = ", ".join(sorted(states)) or "none"
            raise NotFoundError(f"the alias must exist (there are: {have}), got {alias!r}")
        return states[alias]

    def change(self, alias: str, transition: Transition) -> AliasState:
        """Change an alias from what it is now; see ``ModelRegistry.change``."""
        with self._opened() as registry:
            return registry.change(alias, transition)

    def close(self) -> None:
        """Let go; idempotent."""
        with self._lock:
            self._forget()

    @contextlib.contextmanager
    def _opened(self) -> Iterator[ModelRegistry]:
        with self._lock:
            try:
                if self._registry is None:
                    self._registry, self._let_go = self._open()
                    self._registry.read_all()
                yield self._registry
            except SightlineError as error:
                if error.retriable:
                    # A reader whose broker went away may have lost its place.
                    self._forget()
                raise

    def _forget(self) -> None:
        registry, self._registry = self._registry, None
        if registry is not None:
            registry.close()
        self._let_go()
        self._let_go = lambda: None
