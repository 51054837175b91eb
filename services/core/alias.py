"""How the state of a model alias may change.

Each function takes the whole state and gives the next one, with the revision counted up by one. Nothing is forgotten
on the way: what stops being live becomes previous, what stops being previous becomes a candidate again.
"""

from __future__ import annotations

import dataclasses

from services.core.errors import ConflictError, InvalidInputError
from services.core.manifest import validate_alias
from services.core.types import AliasAction, AliasState


def new_alias(alias: str) -> AliasState:
    """The state before the first change: no versions, revision 0. It is never published."""
    return AliasState(alias=validate_alias(alias), revision=0, live_version=0)


def known_versions(state: AliasState) -> frozenset[int]:
    """Every version that the alias has, in whatever role."""
    return frozenset({*state.wanted_versions, *state.candidate_versions})


def add(state: AliasState, version: int, *, actor: str, at_ns: int, note: str = "") -> AliasState:
    """Make a version a candidate.

    Args:
        state: What holds now.
        version: Number of a version whose folder is in the object store, from 1.
        actor: Who asks for it.
        at_ns: Now, nanoseconds since the epoch.
        note: Why, in the actor's words.

    Raises:
        InvalidInputError: When the version is below 1 or nobody is named.
        ConflictError: When the alias has the version already.
    """
    _check(version, actor)
    if version in known_versions(state):
        raise ConflictError(
            f"a version is added once, {state.alias!r} has version {version} as {_role(state, version)}"
        )
    return _next(
        state,
        AliasAction.ADD,
        actor,
        at_ns,
        note,
        candidate_versions=tuple(sorted({*state.candidate_versions, version})),
    )


def promote(state: AliasState, version: int, *, actor: str, at_ns: int, note: str = "") -> AliasState:
    """Make a version live; what was live becomes previous.

    Raises:
        InvalidInputError: When the version is below 1 or nobody is named.
        ConflictError: When the alias does not have the version, or it is live already.
    """
    _check(version, actor)
    _check_known(state, version)
    if version == state.live_version:
        raise ConflictError(f"only a version that is not live can be promoted, {state.alias!r} has {version} live")
    rest = known_versions(state) - {version, state.live_version}
    shadow = state.shadow_version if state.shadow_version in rest else 0
    # An alias without a live version has no previous one to lose.
    previous = state.live_version or state.previous_version
    return _next(
        state,
        AliasAction.PROMOTE,
        actor,
        at_ns,
        note,
        live_version=version,
        previous_version=previous,
        shadow_version=shadow,
        candidate_versions=tuple(sorted(rest - {shadow, previous})),
    )


def roll_back(state: AliasState, *, actor: str, at_ns: int, note: str = "") -> AliasState:
    """Make the previous version live again; the two change places, so that a second call undoes the first.

    Raises:
        InvalidInputError: When nobody is named.
        ConflictError: When there is no previous version.
    """
    _check(1, actor)
    if not state.previous_version:
        raise ConflictError(f"a roll-back needs a previous version, {state.alias!r} has none")
    return _next(
        state,
        AliasAction.ROLL_BACK,
        actor,
        at_ns,
        note,
        live_version=state.previous_version,
        previous_version=state.live_version,
    )


def shadow(state: AliasState, version: int, *, actor: str, at_ns: int, note: str = "") -> AliasState:
    """Let a candidate score beside the live version without effect; 0 ends it.

    A version that was shadow becomes a candidate again.

    Raises:
        InvalidInputError: When the version is negative or nobody is named.
        ConflictError: When nothing is live, the version is no candidate, or there is no shadow to end.
    """
    _check(version or 1, actor)
    if version == state.shadow_version:
        raise ConflictError(f"the shadow must change, {state.alias!r} has {version or 'none'} as shadow already")
    if version and not state.live_version:
        raise ConflictError(f"a shadow runs beside a live version, {state.alias!r} has none")
    if version and version not in state.candidate_versions:
        role = _role(state, version)
        raise ConflictError(f"only a candidate can be shadow, {state.alias!r} has version {version} as {role}")
    candidates = {*state.candidate_versions, state.shadow_version} - {0, version}
    return _next(
        state,
        AliasAction.SHADOW,
        actor,
        at_ns,
        note,
        shadow_version=version,
        candidate_versions=tuple(sorted(candidates)),
    )


def retire(state: AliasState, version: int, *, actor: str, at_ns: int, note: str = "") -> AliasState:
    """Forget a version; its folder in the object store stays.

    Raises:
        InvalidInputError: When the version is below 1 or nobody is named.
        ConflictError: When the alias does not have the version, or it is live.
    """
    _check(version, actor)
    _check_known(state, version)
    if version == state.live_version:
        raise ConflictError(f"the live version cannot be retired, {state.alias!r} has {version} live")
    return _next(
        state,
        AliasAction.RETIRE,
        actor,
        at_ns,
        note,
        previous_version=0 if state.previous_version == version else state.previous_version,
        shadow_version=0 if state.shadow_version == version else state.shadow_version,
        candidate_versions=tuple(other for other in state.candidate_versions if other != version),
    )


def _check(version: int, actor: str) -> None:
    if version < 1:
        raise InvalidInputError(f"a version number must be >= 1, got {version}")
    if not actor.strip():
        raise InvalidInputError(f"a change must name who makes it, got {actor!r}")


def _check_known(state: AliasState, version: int) -> None:
    if version not in known_versions(state):
        have = ", ".join(map(str, sorted(known_versions(state)))) or "none"
        raise ConflictError(f"the version must have been added to {state.alias!r} (it has {have}), got {version}")


def _role(state: AliasState, version: int) -> str:
    if version == state.live_version:
        return "live"
    if version == state.previous_version:
        return "previous"
    if version == state.shadow_version:
        return "shadow"
    return "candidate" if version in state.candidate_versions else "unknown"


def _next(state: AliasState, action: AliasAction, actor: str, at_ns: int, note: str, **changes: object) -> AliasState:
    return dataclasses.replace(
        state,
        revision=state.revision + 1,
        action=action,
        actor=actor.strip(),
        at_ns=at_ns,
        note=note,
        **changes,  # type: ignore[arg-type]  # the callers name fields of the class
    )
