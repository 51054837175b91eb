"""The process that compares two versions: ``python -m services.trainer.compare_work FOLDER``.

::

    FOLDER/compare.json     which versions, and how
    FOLDER/report.json      what came of it
    FOLDER/error.json       why they could not be compared

It is started by ``services.trainer.learning_process`` and ends as ``services.trainer.work`` does.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.adapters.objectstore import S3ObjectStore
from services.core.errors import SightlineError
from services.core.selection.snapshot import ContradictionPolicy, Snapshot
from services.runtime.settings import load_settings
from services.trainer import work
from services.trainer.order import LearningOrder, LearningSettings
from services.trainer.pictures import AnsweredPictures, RecordedPictures
from services.trainer.plainfile import from_json, to_json

ORDER: Final = "compare.json"
#: A candidate's number lies above its parent's; of two versions that exist neither is the other's parent.
_NO_NUMBER: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class WrittenComparison:
    """What is to be compared.

    Attributes:
        alias: The alias.
        first: Folder of the version that is as if it were live.
        other: Folder of the other.
        settings: Bounds, threads and device.
    """

    alias: str
    first: str
    other: str
    settings: LearningSettings


def write_comparison(folder: Path, comparison: WrittenComparison) -> None:
    """Leave an order for the process; what remained of another goes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (work.REPORT, work.ERROR):
        (folder / name).unlink(missing_ok=True)
    work.write_whole(folder / ORDER, to_json(comparison))


def compare_versions(folder: Path, pictures: AnsweredPictures) -> int:
    """Compare what a folder asks for; returns the exit code, as ``services.trainer.work`` has it."""
    from services.trainer.live_version import read_live  # noqa: PLC0415 - torch, which who starts this does without
    from services.trainer.proving import compare  # noqa: PLC0415

    try:
        asked = from_json(WrittenComparison, (folder / ORDER).read_bytes(), ORDER)
        nothing = Snapshot((), (), (), ContradictionPolicy.LEAVE_OUT)
        first, other = (
            read_live(LearningOrder(asked.alias, _NO_NUMBER, Path(path), nothing, asked.settings))
            for path in (asked.first, asked.other)
        )
        report = compare(first, other, asked.settings, pictures, _tell)
    except SightlineError as error:
        code = work.UNAVAILABLE if error.retriable else work.REFUSED
        work.write_whole(folder / work.ERROR, to_json(work.WrittenError(error.reason, str(error), code)))
        return code
    work.write_report(folder, report)
    return work.DONE


def _tell(share: float, doing: str) -> None:
    if doing:
        sys.stderr.write(f"{share:.0%} {doing}\n")


def main() -> None:
    """Read the command line and compare."""
    parser = argparse.ArgumentParser(
        prog="python -m services.trainer.compare_work", description="Compares two model versions."
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    store = S3ObjectStore(load_settings(work.WorkSettings).object_store.connection())
    sys.exit(compare_versions(folder, RecordedPictures(store)))


if __name__ == "__main__":
    main()
