"""Texts that people and cameras write: ids, names, notes, times, shifts, areas, parts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

from tests.fuzz.harness import cut, instrumented, refused, run

with instrumented(__name__):
    from services.adapters.areas import parse_area
    from services.adapters.caseindex_database import parse_url
    from services.adapters.caseindex_parts import part_statement
    from services.adapters.codec_training import loss_from_text, recipe_from_text
    from services.core import access, identity, review
    from services.core.alarm import _validate_note
    from services.core.detectors.features import parse_features
    from services.core.manifest import validate_alias
    from services.core.part_names import PartNames
    from services.core.shift import parse_shift_plan
    from services.core.timespan import parse_window
    from services.ingest.parts import checked_item_name

NAME = "texts"
_NOW_MS = 1_700_000_000_000


def _new_id(text: str) -> None:
    made = identity.id_from_text(text)
    assert identity.validate_id(made) == made


def _window(text: str) -> None:
    since, _, until = text.partition("\n")
    str(parse_window(since, until, _NOW_MS))


def _plan(text: str) -> None:
    shifts, _, zone = text.partition("\n")
    plan = parse_shift_plan(shifts, zone or "Europe/Berlin")
    plan.at(_NOW_MS // 1000)
    assert parse_shift_plan(str(plan), plan.time_zone) == plan


def _name(text: str) -> None:
    access.name_key(access.validate_name(text))


def _item(text: str) -> None:
    assert len(checked_item_name(text).encode("utf-8", "replace")) <= identity.MAX_SOURCE_BYTES


def _part_name(text: str) -> None:
    names = PartNames("line-1")
    assert names.give(text, 1) != names.give(text, 1)


#: New ones go to the end.
READERS: Final[tuple[Callable[[str], Any], ...]] = (
    identity.validate_id,
    identity.validate_frame_id,
    _new_id,
    _window,
    _plan,
    parse_area,
    lambda text: part_statement(text, 10),
    _name,
    access.check_new_password,
    review.validate_review_id,
    review.validate_case_id,
    _validate_note,
    parse_features,
    validate_alias,
    _part_name,
    _item,
    recipe_from_text,
    loss_from_text,
    parse_url,
)


def check(data: bytes) -> None:
    which, body = cut(data, len(READERS))
    # Names of files come with bytes that are no text.
    refused(lambda: READERS[which](body.decode("utf-8", "surrogateescape")))


def seeds() -> dict[str, bytes]:
    written = {
        0: "line-1",
        1: "018bcfe5-6800-7000-8000-000000000001",
        2: "Teil 7/links (ö).png",
        3: "2026-11-25T14:00Z\n2h",
        4: "early 06:00-14:00, late 14:00-22:00, night 22:00-06:00\nEurope/Berlin",
        3 + 2 * 19: "2m\n9999-12-31T23:59:59-23:59",
        3 + 19: "9999-12-31T23:59:59-23:59\n",
        5: "box:0.1,0.1,0.9,0.9",
        6: "part-",
        7: "Ada Lovelace",
        8: "correct horse battery",
        9: "6ba7b810-9dad-41d1-80b4-00c04fd430c8",
        11: "seen\nand mended",
        12: "pca5",
        13: "default",
        14: "part-7",
        15: "/frames/a.jpg",
        16: "head",
        17: "ceod",
        18: "postgresql+psycopg://user:password@db:5432/cases?sslmode=verify-full",
    }
    return {str(index): bytes([index]) + text.encode() for index, text in written.items()}


if __name__ == "__main__":
    sys.exit(run(NAME, check))
