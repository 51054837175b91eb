"""Makes versions live and takes them back because a person says so."""

from __future__ import annotations

import time
from collections.abc import Callable

from services.adapters.modelstore import ModelStore
from services.core import alias as transitions
from services.core.errors import ConflictError, InvalidInputError, NotFoundError, PreconditionError
from services.core.manifest import validate_alias
from services.core.review import MAX_NOTE_LENGTH, validate_reviewer
from services.core.training_run import TrainingRun
from services.core.types import AliasState
from services.trainer.livemodels import LiveModels
from services.trainer.runbook import RunBook


class Promoter:
    """Thread-safe. A run whose version goes live sees it and goes on to its watch.

    Args:
        book: Knows what each candidate proved.
        models: Which version decides.
        store: Model versions.
        clock_ns: Wall clock.
    """

    def __init__(
        self, book: RunBook, models: LiveModels, store: ModelStore, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._book = book
        self._models = models
        self._store = store
        self._clock_ns = clock_ns

    def promote(self, alias: str, version: int, actor: str, note: str, *, despite_gates: bool) -> AliasState:
        """Make a version live.

        Args:
            alias: Of which alias.
            version: Which.
            actor: Who asks.
            note: Why.
            despite_gates: Although gates are broken.

        Raises:
            InvalidInputError: For what breaks a rule.
            NotFoundError: If there is no such alias or version.
            PreconditionError: For a candidate whose gates are broken, or where the alias has changed meanwhile.
            UnavailableError: While record, store or broker is away.
        """
        _check(alias, actor, note)
        if version < 1:
            raise InvalidInputError(f"version must be at least 1, got {version}")
        state = self._models.state(alias)
        self._check_gates(self._made_by(alias, version), note, despite_gates=despite_gates)
        is_new = version not in transitions.known_versions(state)
        if is_new and version not in self._store.versions(alias):
            have = ", ".join(map(str, sorted(transitions.known_versions(state)))) or "none"
            raise NotFoundError(f"the version must have been stored for {alias!r} (it has {have}), got {version}")

        def go_live(now: AliasState) -> AliasState:
            return transitions.promote(now, version, actor=actor, at_ns=self._clock_ns(), note=note)

        def add(now: AliasState) -> AliasState:
            return transitions.add(now, version, actor=actor, at_ns=self._clock_ns(), note=note)

        try:
            if is_new:
                self._models.change(alias, add)
            return self._models.change(alias, go_live)
        except ConflictError as error:
            raise PreconditionError(str(error)) from error

    def roll_back(self, alias: str, actor: str, note: str) -> AliasState:
        """Make the previous version live again; raises as :meth:`promote` does."""
        _check(alias, actor, note)
        self._models.state(alias)
        try:
            return self._models.change(
                alias, lambda now: transitions.roll_back(now, actor=actor, at_ns=self._clock_ns(), note=note)
            )
        except ConflictError as error:
            raise PreconditionError(str(error)) from error

    def _made_by(self, alias: str, version: int) -> TrainingRun | None:
        runs = self._book.record.newest(alias)
        return next((run for run in runs if run.candidate_version == version and run.report is not None), None)

    def _check_gates(self, run: TrainingRun | None, note: str, *, despite_gates: bool) -> None:
        broken = run.report.promotion.broken if run is not None and run.report is not None else ()
        if not broken:
            return
        names = ", ".join(gate.name.value for gate in broken)
        if not despite_gates:
            raise PreconditionError(f"a candidate goes live when its gates are kept, broken are: {names}")
        if not note.strip():
            raise InvalidInputError(f"a note must say why a candidate goes live although gates are broken: {names}")


def _check(alias: str, actor: str, note: str) -> None:
    validate_alias(alias)
    validate_reviewer(actor)
    if len(note) > MAX_NOTE_LENGTH:
        raise InvalidInputError(f"note must have at most {MAX_NOTE_LENGTH} characters, got {len(note)}")
