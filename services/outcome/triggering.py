"""Parts that are triggered by a message instead of a PLC's signals: over gRPC, or by an MQTT broker."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from services.core.errors import InvalidInputError
from services.core.identity import line_event_id, validate_id
from services.core.line_event import LineEvent, LineEventKind
from services.core.part_names import PartNames
from services.core.plc import TriggeredPart

_NS_PER_MS: Final = 1_000_000
_LISTEN_S: Final = 0.5


class Triggering:
    """What one line makes, and the names of its parts. Thread-safe.

    Args:
        line_id: The line.
        products: What may be made on it.
        recipes: Product by what is said for it.
        product: What is made until somebody says otherwise.
        cycle_time_ms: The answer is due this long after the trigger.
        ask: Has the part announced and pictures of it taken; returns once the announcement is safe.
        tell: Puts events on record.
        clock_ns: Wall clock.
    """

    def __init__(
        self,
        line_id: str,
        products: Sequence[str],
        recipes: Mapping[str, str],
        product: str,
        cycle_time_ms: int,
        *,
        ask: Callable[[TriggeredPart], None],
        tell: Callable[[Sequence[LineEvent]], None],
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._line_id = line_id
        self._products = frozenset(products)
        self._recipes = recipes
        self._product = product or min(products, default="")
        self._lot = ""
        self._cycle_time_ms = cycle_time_ms
        self._tell = tell
        self._clock_ns = clock_ns
        self._ask = ask
        self._names = PartNames(line_id)
        self._lock = threading.Lock()

    @property
    def product(self) -> str:
        """What is made from the next part on; empty where the line has no product."""
        return self._product

    @property
    def lot(self) -> str:
        """The lot from the next part on."""
        return self._lot

    def trigger(self, connection: str, recipe: str, lot: str, part: str) -> TriggeredPart:
        """Take a trigger.

        Args:
            connection: Where it came from.
            recipe: A product, or what stands for one; empty keeps it.
            lot: Empty keeps it.
            part: The part's own id, which gets a number where it was here a moment ago; empty lets it be named.

        Raises:
            InvalidInputError: If there is no such recipe, or lot or part are no ids; that is on record.
        """
        with self._lock:
            now_ns = self._clock_ns()
            try:
                product = self._product_of(recipe)
                for name, text in (("lot", lot), ("part", part)):
                    if text:
                        validate_id(text, name)
            except InvalidInputError as error:
                self._say(LineEventKind.TRIGGER_REFUSED, connection, now_ns, detail=str(error))
                raise
            self._lot = lot or self._lot
            if product != self._product:
                self._product = product
                self._say(LineEventKind.RECIPE_CHANGED, connection, now_ns)
            deadline_at_ns = now_ns + self._cycle_time_ms * _NS_PER_MS
            taken = TriggeredPart(self._names.give(part, now_ns), product, self._lot, now_ns, deadline_at_ns)
            # First: a part that is announced has its answer, whatever becomes of this process.
            self._ask(taken)
            self._say(LineEventKind.TRIGGERED, connection, now_ns, part_id=taken.part_id)
            return taken

    def note(self, part_id: str) -> None:
        """Remember the name of a part that the line has had an outcome of."""
        with self._lock:
            self._names.note(part_id)

    def _product_of(self, recipe: str) -> str:
        product = self._recipes.get(recipe, recipe) if recipe else self._product
        if product not in self._products:
            known = ", ".join(sorted(self._products)) or "no product"
            raise InvalidInputError(f"recipe must be one of {known}, got {ascii(recipe)[:80]}")
        return product

    def _say(self, kind: LineEventKind, connection: str, at_ns: int, part_id: str = "", detail: str = "") -> None:
        event = LineEvent(
            event_id=line_event_id(self._line_id, connection, f"{kind.value}:{part_id}:{detail[:80]}", at_ns),
            line_id=self._line_id,
            at_ns=at_ns,
            kind=kind,
            connection=connection,
            part_id=part_id,
            product=self._product,
            lot=self._lot,
            detail=detail,
        )
        self._tell((event,))


class Trigger(Protocol):
    """A trigger as a message brings it."""

    @property
    def recipe(self) -> str:
        """A product, or what stands for one; empty keeps it."""
        ...

    @property
    def lot(self) -> str:
        """Empty keeps it."""
        ...

    @property
    def part_id(self) -> str:
        """The part's own id; empty lets it be named."""
        ...


class TriggerSource(Protocol):
    """Where triggers come in as messages."""

    def take_triggers(self, timeout_s: float) -> Sequence[Trigger]:
        """Those that came, or nothing within ``timeout_s``."""
        ...

    def malformed(self) -> Sequence[str]:
        """What came since the last call that is no trigger, in words for people."""
        ...


class TriggerListener:
    """Takes triggers from a source on a thread of its own.

    Args:
        line_id: The line.
        connection: The source, as settings name it.
        source: Where they come in.
        trigger: Takes one: connection, recipe, lot, part.
        tell: Puts events on record.
        clock_ns: Wall clock.
    """

    def __init__(
        self,
        line_id: str,
        connection: str,
        source: TriggerSource,
        trigger: Callable[[str, str, str, str], object],
        *,
        tell: Callable[[Sequence[LineEvent]], None],
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._line_id = line_id
        self._connection = connection
        self._source = source
        self._trigger = trigger
        self._tell = tell
        self._clock_ns = clock_ns
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"triggers-{connection}", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def check(self) -> None:
        """Raise what ended the listening, if anything did."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Listen no more; idempotent."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(2.0)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                for one in self._source.take_triggers(_LISTEN_S):
                    # What breaks a rule is on record; the next one may be right.
                    with contextlib.suppress(InvalidInputError):
                        self._trigger(self._connection, one.recipe, one.lot, one.part_id)
                self._tell_malformed()
        except BaseException as error:  # noqa: BLE001 - carried to the main thread and raised there
            self._failure = error

    def _tell_malformed(self) -> None:
        at_ns = self._clock_ns()
        events = tuple(
            LineEvent(
                event_id=line_event_id(self._line_id, self._connection, f"malformed:{number}", at_ns),
                line_id=self._line_id,
                at_ns=at_ns,
                kind=LineEventKind.MALFORMED,
                connection=self._connection,
                detail=text,
            )
            for number, text in enumerate(self._source.malformed())
        )
        if events:
            self._tell(events)
