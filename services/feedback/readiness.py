"""Readiness of a service that people wait for: what keeps new cases from coming keeps nobody from reviewing."""

from __future__ import annotations

from services.runtime.lifecycle import Health


class IntakeHealth(Health):
    """What the consuming side is told to report to: it is alive as the service is, and holds nobody back.

    With Kafka away the queue is as it was and answers are taken; with the object store or the index away each call says
    so by itself. Were the service not ready meanwhile, callers would be kept from what still works.

    Args:
        service: The service's own.
    """

    def __init__(self, service: Health) -> None:
        super().__init__()
        self._service = service

    def turned(self) -> None:
        """Record that the consumer's loop turned."""
        super().turned()
        self._service.turned()

    def set_ready(self, ready: bool) -> None:
        """Declare the service ready or not."""
        super().set_ready(ready)
        self._service.set_ready(ready)

    def hold(self, condition: str, why: str) -> None:
        """Note that cases wait for ``condition``."""
        super().hold(f"new cases ({condition})", why)

    def release(self, condition: str) -> None:
        """``condition`` holds again."""
        super().release(f"new cases ({condition})")
