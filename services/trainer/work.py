"""The process that trains: ``python -m services.trainer.work FOLDER``; ``services.trainer.worker`` starts it.

::

    FOLDER/order.json       what is to be made, without the snapshot
    FOLDER/snapshot.json    what people answered
    FOLDER/checkpoint.bin   where a training over epochs stands
    FOLDER/version/         the candidate's version, whole
    FOLDER/report.json      what it proved: once this is there, everything is
    FOLDER/error.json       why it could not be made

Under ``torchrun`` several such processes train over epochs together; the first one does the rest alone, and all need
the folder. What each exits with is then lost on the way, so ``error.json`` has the code too.

Progress goes to stdout, a JSON object a line. Pictures come from the object store, whose settings are read from the
environment as every service does. It ends with

- 0 done, also where it had been done before,
- 3 refused: nothing can be made of this input,
- 4 the loss is no number any more,
- 5 out of memory,
- 6 the object store does not answer: the same call may succeed later,
- 143 SIGTERM, or the end of whoever started it.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import sys
import threading
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

from services.adapters.objectstore import S3ObjectStore
from services.core.errors import DivergedError, SightlineError
from services.core.selection.snapshot import Snapshot
from services.core.training_run import CandidateReport
from services.runtime.settings import ObjectStoreSettings, ServiceSettings, load_settings
from services.trainer.order import LearningOrder, LearningProgress, LearningSettings
from services.trainer.pictures import RecordedPictures
from services.trainer.plainfile import from_json, to_json, to_line

if TYPE_CHECKING:
    from services.core.training.peers import Peers

ORDER: Final = "order.json"
SNAPSHOT: Final = "snapshot.json"
CHECKPOINT: Final = "checkpoint.bin"
VERSION: Final = "version"
REPORT: Final = "report.json"
ERROR: Final = "error.json"

DONE: Final = 0
REFUSED: Final = 3
DIVERGED: Final = 4
OUT_OF_MEMORY: Final = 5
UNAVAILABLE: Final = 6
TERMINATED: Final = 143

#: What torch says where the processor's memory ends; its own error class is for GPUs alone.
_NO_MEMORY: Final = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc")


class WorkSettings(ServiceSettings):
    """What the process reads from the environment."""

    object_store: ObjectStoreSettings = ObjectStoreSettings()


@dataclass(frozen=True, slots=True)
class WrittenOrder:
    """A ``LearningOrder`` without its snapshot, which lies beside it."""

    alias: str
    version: int
    live: str
    settings: LearningSettings


@dataclass(frozen=True, slots=True)
class WrittenError:
    """Why a candidate could not be made."""

    reason: str
    text: str
    code: int
    """That the process exits with."""


def write_order(folder: Path, order: LearningOrder) -> bool:
    """Leave an order for the process; what remained of another order goes.

    Returns:
        Whether it was there already: what was begun can be gone on with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = WrittenOrder(order.alias, order.version, str(order.live.resolve()), order.settings)
    files = {SNAPSHOT: order.snapshot.to_json(), ORDER: to_json(written)}
    if all((folder / name).is_file() and (folder / name).read_bytes() == data for name, data in files.items()):
        return True
    for name in (*files, REPORT, ERROR, CHECKPOINT):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / VERSION, ignore_errors=True)
    for name, data in files.items():
        write_whole(folder / name, data)
    return False


def read_order(folder: Path, batch_size: int = 0) -> LearningOrder:
    """Read what :func:`write_order` left; raises ``InvalidInputError``.

    Args:
        folder: Where.
        batch_size: Takes the place of the order's own; 0 keeps that.
    """
    written = from_json(WrittenOrder, (folder / ORDER).read_bytes(), ORDER)
    settings = written.settings.with_batch_size(batch_size) if batch_size else written.settings
    snapshot = Snapshot.from_json((folder / SNAPSHOT).read_bytes())
    return LearningOrder(written.alias, written.version, Path(written.live), snapshot, settings)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is whole at any moment."""
    # Of this process alone: several that train together may fail alike, and each says so.
    fresh = path.with_name(f"{path.name}.{os.getpid()}.fresh")
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def work(folder: Path, batch_size: int = 0) -> int:
    """Make the candidate that a folder asks for.

    Returns:
        The exit code, as the module's summary has it.
    """
    if (folder / REPORT).is_file() and (folder / VERSION).is_dir():
        return DONE
    # Whoever starts the process reads this module too, and does without torch.
    from services.trainer.torchpeers import started_together  # noqa: PLC0415

    try:
        with started_together() as (peers, device):
            _learn(folder, batch_size, peers, device if peers.size > 1 else "")
    except DivergedError as error:
        return _failed(folder, error, DIVERGED)
    except SightlineError as error:
        return _failed(folder, error, UNAVAILABLE if error.retriable else REFUSED)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(sign in str(error) for sign in _NO_MEMORY):
            raise
        traceback.print_exc()
        write_whole(folder / ERROR, to_json(WrittenError("out_of_memory", str(error)[:2_000], OUT_OF_MEMORY)))
        return OUT_OF_MEMORY
    return DONE


def _learn(folder: Path, batch_size: int, peers: Peers, device: str) -> None:
    from services.trainer.learning import help_to_learn, learn  # noqa: PLC0415 - as above

    order = read_order(folder, batch_size)
    pictures = RecordedPictures(S3ObjectStore(load_settings(WorkSettings).object_store.connection()))
    checkpoint = folder / CHECKPOINT
    if peers.rank:
        help_to_learn(order, pictures, checkpoint, peers, device)
        return
    (folder / ERROR).unlink(missing_ok=True)
    # A version without its report is of a run that ended between the two.
    shutil.rmtree(folder / VERSION, ignore_errors=True)
    out = folder / VERSION
    write_report(folder, learn(order, pictures, out, _tell, checkpoint=checkpoint, peers=peers, device=device))


def write_report(folder: Path, report: CandidateReport) -> None:
    """Leave what a candidate proved."""
    write_whole(folder / REPORT, to_json(report))


def read_report(folder: Path) -> CandidateReport:
    """Read what :func:`write_report` left; raises ``InvalidInputError``."""
    return from_json(CandidateReport, (folder / REPORT).read_bytes(), REPORT)


def read_error(folder: Path) -> WrittenError:
    """Read why a candidate could not be made; raises ``InvalidInputError``."""
    return from_json(WrittenError, (folder / ERROR).read_bytes(), ERROR)


def _failed(folder: Path, error: SightlineError, code: int) -> int:
    write_whole(folder / ERROR, to_json(WrittenError(error.reason, str(error), code)))
    return code


def _tell(progress: LearningProgress) -> None:
    sys.stdout.write(to_line(progress))
    sys.stdout.flush()


def _end(_signal: int, _frame: FrameType | None) -> None:
    # At once: whatever has to be whole is written whole.
    os._exit(TERMINATED)


def _end_with_parent() -> None:
    """Whoever started this holds the other end of stdin; when that goes, so does this."""
    while os.read(0, 1024):
        pass
    os._exit(TERMINATED)


def main() -> None:
    """Read the command line and work."""
    parser = argparse.ArgumentParser(prog="python -m services.trainer.work", description="Makes one candidate version.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch-size", type=int, default=0, help="in place of the order's own")
    parser.add_argument("--memory-bytes", type=int, default=0, help="most memory of its own; 0 for no bound")
    parser.add_argument("--with-parent", action="store_true", help="end when stdin does")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    if arguments.with_parent:
        threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    if arguments.memory_bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (arguments.memory_bytes, arguments.memory_bytes))
    sys.exit(work(arguments.folder, arguments.batch_size))


if __name__ == "__main__":
    main()
